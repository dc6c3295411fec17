# It attacks with the plainest calls, and prints what came of it.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH123, PTH208, PTH211, S103, S108, S606, T201
"""What a hostile model would try; runs inside the sandbox and prints, per attempt, how it was answered.

Arguments: the file of the ``sandbox`` module, how (``yes``, ``no`` or ``strict``), a key file, a foreign folder, the
parent, and the numbers of a queue, a semaphore and shared memory (a named queue has the parent's). In the folder lie an
empty folder, a socket that takes datagrams, and a file of the model's own.
"""

import array
import asyncio
import contextlib
import ctypes
import fcntl
import importlib.util
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)


def system_call(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read()


def write(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"x")


def send_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"secret", ("127.0.0.1", 9))


def open_tcp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.connect_ex(("127.0.0.1", 9))


def connect_unix() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix:
        unix.connect_ex("/run/docker.sock")


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def empty_by_opening(path: str) -> None:
    """For reading, as an old Landlock allows it for a file of the model's own."""
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))


def change_attributes(path: str) -> None:
    """Not to be dumped: the first of its attributes, where the filter lets them be read."""
    descriptor = os.open(path, os.O_RDONLY)
    flags = array.array("l", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, 0x80086601, flags)
    flags[0] ^= 0x40
    fcntl.ioctl(descriptor, 0x40086602, flags)


def change_generation(path: str) -> None:
    """Of a file that it may only read: what tells it from an older one of the same number."""
    fcntl.ioctl(os.open(path, os.O_RDONLY), 0x40087602, array.array("l", [7]))


def by_number(x86_64: int, aarch64: int, *arguments: object) -> None:
    """Ask the kernel directly, as native code does."""
    number = (x86_64, aarch64)[os.uname().machine == "aarch64"]
    whole = [ctypes.c_ulong(each % 2**64) if isinstance(each, int) else each for each in (number, *arguments)]
    system_call(libc.syscall(*whole))


def keep_by_sending() -> None:
    """A descriptor in a message that nobody takes: it stays open, and no process counts it."""
    one, _ = socket.socketpair()
    socket.send_fds(one, [b"x"], [0])


def give_pages_to_a_pipe() -> None:
    page = ctypes.create_string_buffer(4096)
    piece = (ctypes.c_size_t * 2)(ctypes.addressof(page), 4096)
    by_number(278, 75, os.pipe()[1], piece, 1, 0)


def copy_its_files() -> None:
    """Into a table of a thread's own, which has a limit of its own."""
    refused: list[OSError] = []

    def alone() -> None:
        try:
            by_number(436, 436, 900, 901, 2)
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=alone)
    thread.start()
    thread.join()
    if refused:
        raise refused[0]


def send_datagram(path: str) -> None:
    """Through a pair that is its own, to a socket that is not."""
    with socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0] as one:
        one.sendto(b"secret", path)


def take_name() -> None:
    with socket.socketpair()[0] as one:
        one.bind("\0brownfield-hostile")


def signal_by_pipe(command: int, owner: int | bytes) -> None:
    """Let the kernel send a signal for a pipe that changes; this one does nothing to those who do not wait for it."""
    reader, writer = os.pipe()
    fcntl.fcntl(reader, command, owner)
    fcntl.fcntl(reader, 10, signal.SIGURG)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writer, b"x")


def signal_by_socket(pid: int) -> None:
    one, other = socket.socketpair()
    fcntl.ioctl(one, 0x8901, struct.pack("i", pid))
    fcntl.fcntl(one, 10, signal.SIGURG)
    fcntl.ioctl(one, 0x5452, struct.pack("i", 1))
    other.send(b"x")


def signal_by_high_half(pid: int) -> None:
    """The kernel takes the lower half of a command: the filter must not be led astray by the upper one."""
    reader, _ = os.pipe()
    number, whole = (72, 25)[os.uname().machine == "aarch64"], ctypes.c_ulong
    system_call(libc.syscall(whole(number), whole(reader), whole(1 << 32 | fcntl.F_SETOWN), whole(pid)))


def map_memory(flags: int) -> None:
    mmap.mmap(-1, 2**20, flags=flags | mmap.MAP_ANONYMOUS)[0] = 1


def resize_stack(at: int) -> None:
    """Move a page of the first thread's stack away and let it grow: the kernel counts it as stack."""
    libc.mremap.restype, failed = ctypes.c_void_p, ctypes.c_void_p(-1).value
    if libc.mremap(ctypes.c_void_p(at), ctypes.c_size_t(4096), ctypes.c_size_t(2**24), 1, None) == failed:
        raise OSError(ctypes.get_errno(), "refused")


def deepen_stack() -> None:
    resource.setrlimit(resource.RLIMIT_STACK, (2**30, resource.getrlimit(resource.RLIMIT_STACK)[1]))


def watch(folder: str) -> None:
    descriptor = libc.inotify_init1(0)
    system_call(descriptor)
    system_call(libc.inotify_add_watch(descriptor, folder.encode(), 0xFFF))


def lowest_stack_page() -> int:
    with open("/proc/self/maps", encoding="ascii") as maps:
        return next(int(line.partition("-")[0], 16) for line in maps if "[stack]" in line)


def message() -> ctypes.Array[ctypes.c_long]:
    return (ctypes.c_long * 2)(1, 0)


def attempts(
    key_file: str, outside: str, parent: int, stack: int, shared: list[int]
) -> dict[str, Callable[[], object]]:
    queue, semaphore, memory = shared
    return {
        "read a key file": lambda: read(key_file),
        "read the password file": lambda: read("/etc/passwd"),
        "read the parent's environment": lambda: read(f"/proc/{parent}/environ"),
        "list a foreign folder": lambda: os.listdir(outside),
        "write outside": lambda: write(outside + "/written"),
        "write a temporary file": lambda: write("/tmp/brownfield-hostile"),
        "open the parent's memory": lambda: os.close(os.open(f"/proc/{parent}/mem", os.O_WRONLY)),
        "empty a file": lambda: os.truncate(key_file, 0),
        "empty a file by opening it": lambda: empty_by_opening(key_file),
        "empty its own file": lambda: empty_by_opening(outside + "/weights"),
        "make a folder": lambda: os.mkdir(outside + "/made"),
        "make a pipe": lambda: os.mkfifo(outside + "/pipe"),
        "link a file": lambda: os.link(outside + "/weights", outside + "/link"),
        "make a symbolic link": lambda: os.symlink("/etc", outside + "/symlink"),
        "rename a file": lambda: os.rename(outside + "/weights", outside + "/renamed"),
        "remove a folder": lambda: os.rmdir(outside + "/empty"),
        "remove a file": lambda: os.unlink(key_file),
        "watch a folder": lambda: watch(outside),
        "change a file's attributes": lambda: change_attributes(outside + "/weights"),
        "change a file's generation": lambda: change_generation(outside + "/weights"),
        "lease a file": lambda: fcntl.fcntl(
            os.open(outside + "/weights", os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK
        ),
        "open a file to everybody": lambda: os.chmod(key_file, 0o666),
        "give a file away": lambda: os.chown(key_file, os.getuid(), os.getgid()),
        "change a file's time": lambda: os.utime(key_file, (0, 0)),
        "mark a file": lambda: os.setxattr(key_file, "user.mark", b"x"),
        "open TCP": open_tcp,
        "send UDP": send_udp,
        "connect to a local service": connect_unix,
        "send a datagram": lambda: send_datagram(outside + "/service"),
        "take a name": take_name,
        "signal its group": lambda: os.kill(0, 0),
        "signal the parent by a pipe": lambda: signal_by_pipe(fcntl.F_SETOWN, parent),
        "signal it as owner": lambda: signal_by_pipe(15, struct.pack("ii", 1, parent)),
        "signal it by a socket": lambda: signal_by_socket(parent),
        "signal it by half a command": lambda: signal_by_high_half(parent),
        "signal the parent": lambda: os.kill(parent, 0),
        "kill every process": lambda: os.kill(-1, 0),
        "queue a signal for the parent": lambda: system_call(libc.sigqueue(parent, signal.SIGUSR1, 0)),
        "trace the parent": lambda: system_call(libc.ptrace(16, parent, None, None)),
        "read the parent's memory": lambda: system_call(libc.process_vm_readv(parent, None, 0, None, 0, 0)),
        "choke the parent": lambda: resource.prlimit(parent, resource.RLIMIT_CPU, (1, 1)),
        "slow the parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
        "pin the parent": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(0)),
        "start a process": fork,
        "start a program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "become another program": lambda: os.execv(sys.executable, [sys.executable, "-c", "print('{}')"]),
        "open namespaces": lambda: system_call(libc.unshare(0x10000000)),
        "map shared memory": lambda: map_memory(mmap.MAP_SHARED),
        "map a stack": lambda: map_memory(mmap.MAP_PRIVATE | 0x100),
        "keep memory as a file": lambda: os.close(os.memfd_create("hostile")),
        "resize its stack": lambda: resize_stack(stack),
        "deepen its stack": deepen_stack,
        "widen a pipe": lambda: fcntl.fcntl(os.pipe()[0], 1031, 2**20),
        "widen a socket": lambda: socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20),
        "close its stdin": lambda: os.close(0),
        "close all from stdin": lambda: system_call(libc.close_range(0, 0, 0)),
        "replace its stdin": lambda: os.dup2(2, 0),
        "replace it by number": lambda: system_call(libc.dup3(2, 0, os.O_CLOEXEC)),
        "silence its stdin": lambda: fcntl.fcntl(0, fcntl.F_SETFL, 0),
        "share memory": lambda: system_call(libc.shmget(0, 4096, 0o1600)),
        "send through a queue": lambda: system_call(libc.msgsnd(queue, message(), 8, 0o4000)),
        "take from a queue": lambda: system_call(libc.msgrcv(queue, message(), 8, 0, 0o4000)),
        "change a semaphore": lambda: system_call(libc.semop(semaphore, (ctypes.c_short * 3)(0, 1, 0o4000), 1)),
        "remove a queue": lambda: system_call(libc.msgctl(queue, 0, None)),
        "remove a semaphore": lambda: system_call(libc.semctl(semaphore, 0, 0)),
        "remove shared memory": lambda: system_call(libc.shmctl(memory, 0, None)),
        "remove a named queue": lambda: system_call(libc.mq_unlink(f"/brownfield-{parent}".encode())),
        "use up the host's requests to disks": lambda: by_number(206, 0, 64, ctypes.byref(ctypes.c_ulong(0))),
        "keep a descriptor in a message": keep_by_sending,
        "keep its files in a table of a thread": copy_its_files,
        "give memory to a pipe": give_pages_to_a_pipe,
        "keep rules in the kernel": lambda: by_number(444, 444, struct.pack("<Q", 4), 8, 0),
        "mount": lambda: system_call(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
        "gain privileges": lambda: system_call(libc.setuid(0) if os.getuid() else libc.sethostname(b"x", 1)),
    }


def harmless() -> None:
    """What a model must go on doing: compute with threads, read its own files, speak on its own sockets."""
    thread = threading.Thread(target=lambda: sum(range(1000)))
    thread.start()
    thread.join()
    import decimal  # noqa: F401 (a module that was not loaded before)

    read(__file__)
    one, other = socket.socketpair()
    one.setblocking(False)
    one.send(b"x")
    other.recv(1)
    os.kill(os.getpid(), 0)
    os.close(os.dup(0))
    with open(__file__, "rb") as file:
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ).close()
    mmap.mmap(-1, 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).resize(2**22)
    bytearray(2**24).extend(bytes(2**26))  # the C library lets it grow in place
    asyncio.run(asyncio.sleep(0))


def main(module_path: str, enabled: str, key_file: str, outside: str, parent: str, shared: str) -> None:
    """Confine this process, try everything, report."""
    spec = importlib.util.spec_from_file_location("sandbox", module_path)
    sandbox = importlib.util.module_from_spec(spec)
    sys.modules["sandbox"] = sandbox
    spec.loader.exec_module(sandbox)
    policy = sandbox.SandboxPolicy(enabled=enabled != "no", strict=enabled == "strict")
    stack = lowest_stack_page()
    facts = sandbox.apply(policy, [*sandbox.readable_by_default(), __file__, outside + "/weights"], None)
    answers = {}
    for name, attempt in (
        attempts(key_file, outside, int(parent), stack, json.loads(shared)).items() if policy.enabled else ()
    ):
        try:
            attempt()
            answers[name] = "done"
        except (OSError, ValueError) as error:  # a limit that is too high is a value that is wrong
            answers[name] = type(error).__name__
    harmless()
    print(json.dumps({"facts": facts, "answers": answers}))


if __name__ == "__main__":
    main(*sys.argv[1:7])
