# It attacks with the plainest calls, and prints what came of it.
# ruff: noqa: PTH101, S103, PTH108, PTH123, PTH208, S108, S606, T201
"""What a hostile model would try; runs inside the sandbox and prints, per attempt, how it was answered.

Arguments: folder of the ``sandbox`` module, the policy's ``enabled``, a key file, a folder to write into, the parent.
"""

import ctypes
import importlib.util
import json
import os
import resource
import signal
import socket
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


def attempts(key_file: str, outside: str, parent: int) -> dict[str, Callable[[], object]]:
    return {
        "read a key file": lambda: read(key_file),
        "read the password file": lambda: read("/etc/passwd"),
        "read the parent's environment": lambda: read(f"/proc/{parent}/environ"),
        "list a foreign folder": lambda: os.listdir(outside),
        "write outside": lambda: write(outside + "/written"),
        "write a temporary file": lambda: write("/tmp/brownfield-hostile"),
        "remove a file": lambda: os.unlink(key_file),
        "open a file to everybody": lambda: os.chmod(key_file, 0o666),
        "give a file away": lambda: os.chown(key_file, os.getuid(), os.getgid()),
        "change a file's time": lambda: os.utime(key_file, (0, 0)),
        "mark a file": lambda: os.setxattr(key_file, "user.mark", b"x"),
        "open TCP": open_tcp,
        "send UDP": send_udp,
        "connect to a local service": connect_unix,
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
        "share memory": lambda: system_call(libc.shmget(0, 4096, 0o1600)),
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
    one.send(b"x")
    other.recv(1)
    os.kill(os.getpid(), 0)


def main(module_path: str, enabled: str, key_file: str, outside: str, parent: str) -> None:
    """Confine this process, try everything, report."""
    spec = importlib.util.spec_from_file_location("sandbox", module_path)
    sandbox = importlib.util.module_from_spec(spec)
    sys.modules["sandbox"] = sandbox
    spec.loader.exec_module(sandbox)
    policy = sandbox.SandboxPolicy(enabled=enabled == "yes")
    facts = sandbox.apply(policy, [*sandbox.readable_by_default(), __file__], None)
    answers = {}
    for name, attempt in attempts(key_file, outside, int(parent)).items() if policy.enabled else ():
        try:
            attempt()
            answers[name] = "done"
        except OSError as error:
            answers[name] = type(error).__name__
    harmless()
    print(json.dumps({"facts": facts, "answers": answers}))


if __name__ == "__main__":
    main(*sys.argv[1:6])
