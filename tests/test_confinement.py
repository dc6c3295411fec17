import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from brownfield import confinement as sandbox
from brownfield.confinement import SandboxPolicy, landlock_abi

HOSTILE = Path(__file__).parent / "model/process/hostile.py"


READING = {"read a key file", "read the password file", "read the parent's environment", "list a foreign folder"}
ATTEMPTS = 74


def _attack(tmp_path: Path, *, how: str = "yes", module: str = sandbox.__file__) -> dict:
    """What the process said of itself and of each attempt; nothing may have come of any, whatever it said."""
    foreign = tmp_path / "foreign"
    (foreign / "empty").mkdir(parents=True)
    key_file = foreign / "signing.key"
    key_file.write_text("a secret")
    (foreign / "weights").write_text("its own")
    before = {path.name for path in foreign.iterdir()} | {"service"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service:
        service.bind(str(foreign / "service"))
        service.setblocking(False)
        with _others_queues() as shared:
            arguments = [module, how, str(key_file), str(foreign), str(os.getpid()), json.dumps(shared)]
            done = subprocess.run(
                [sys.executable, "-I", str(HOSTILE), *arguments],
                stdin=subprocess.PIPE, capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with pytest.raises(BlockingIOError):
            service.recv(1)
    assert {path.name for path in foreign.iterdir()} == before
    assert (key_file.read_text(), (foreign / "weights").read_text()) == ("a secret", "its own")
    return json.loads(done.stdout)


@contextlib.contextmanager
def _others_queues() -> Iterator[list[int]]:
    """A queue with a message, a semaphore, shared memory and a named queue, as other programs of this user have."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = 0o600
    shared = [libc.msgget(0, mode), libc.semget(0, 1, mode), libc.shmget(0, 4096, mode)]
    name = f"/brownfield-{os.getpid()}".encode()
    named = libc.mq_open(name, os.O_RDWR | os.O_CREAT, mode, None)
    assert min(*shared, named) >= 0
    assert libc.msgsnd(shared[0], (ctypes.c_long * 2)(1, 7), 8, 0) == 0
    taken = (ctypes.c_long * 2)()
    try:
        yield shared
        assert libc.msgrcv(shared[0], taken, 8, 0, 0o4000) == 8
        assert (taken[1], libc.semctl(shared[1], 0, 12)) == (7, 0)
    finally:
        os.close(named)
        removed = libc.msgctl(shared[0], 0, None), libc.semctl(shared[1], 0, 0), libc.shmctl(shared[2], 0, None)
        named = libc.mq_unlink(name)
    assert (*removed, named) == (0, 0, 0, 0)


def _module(tmp_path: Path, *, abi: int | None = None, seccomp: bool = True) -> str:
    """The module as it runs on a kernel with another Landlock, or without seccomp."""
    lines = [Path(sandbox.__file__).read_text()]
    if abi is not None:
        lines.append(f"def landlock_abi():\n    return {abi}\n")
    if not seccomp:
        lines.append("def _filter_calls():\n    raise OSError(errno.ENOSYS, 'no seccomp')\n")
    (tmp_path / "sandbox.py").write_text("\n".join(lines))
    return str(tmp_path / "sandbox.py")


def _done(told: dict) -> set[str]:
    assert len(told["answers"]) == ATTEMPTS
    return {name for name, answer in told["answers"].items() if answer == "done"}


def test_s10_a_hostile_model_gets_nowhere(tmp_path) -> None:
    """S-10: reading keys, writing, TCP, UDP, Unix sockets, signals, tracing, new processes and privileges all fail."""
    if landlock_abi() == 0:
        pytest.skip("this kernel lacks Landlock: its facts say so")
    told = _attack(tmp_path)
    assert told["facts"]["warnings"] == []
    assert _done(told) == set()


@pytest.mark.parametrize("abi", range(1, 8))
def test_s10_an_older_landlock_holds_the_same_beside_seccomp(tmp_path, abi) -> None:
    """S-10: what Landlock learned later seccomp refuses: no way out with any version, so that a strict policy runs."""
    if landlock_abi() < abi:
        pytest.skip("this kernel's Landlock is older still")
    told = _attack(tmp_path, how="strict", module=_module(tmp_path, abi=abi))
    assert f"(ABI {abi})" in told["facts"]["layers"]["landlock"]
    assert told["facts"]["warnings"] == []
    assert _done(told) == set()


def test_s10_seccomp_alone_stops_all_but_reading(tmp_path) -> None:
    """S-10: on a kernel without Landlock files can be read and no more, and the facts say that Landlock is missing."""
    told = _attack(tmp_path, module=_module(tmp_path, abi=0))
    assert told["facts"]["layers"]["landlock"] == "missing"
    assert told["facts"]["warnings"] == ["landlock: not enforced on this host (ENOSYS)"]
    assert _done(told) <= READING


@pytest.mark.parametrize(
    ("abi", "open_then"),
    [
        (2, ["emptying files", "TCP", "signals and abstract sockets"]),
        (3, ["TCP", "signals and abstract sockets"]),
        (5, ["signals and abstract sockets"]),
        (6, []),
    ],
)
def test_an_older_landlock_without_seccomp_says_what_is_open(monkeypatch, abi, open_then) -> None:
    """Where no filter closes what a Landlock leaves open each such thing is a warning (nothing is applied here)."""

    def missing() -> str:
        raise OSError(errno.ENOSYS, "no seccomp")

    monkeypatch.setattr(sandbox, "landlock_abi", lambda: abi)
    monkeypatch.setattr(sandbox, "_filter_calls", missing)
    monkeypatch.setattr(sandbox, "_limit", lambda *_: "none")
    for layer in ("_restrict_files", "_prctl", "_drop_capabilities"):
        monkeypatch.setattr(sandbox, layer, lambda *_: "kept")
    warnings = sandbox.apply(SandboxPolicy(), [], None)["warnings"]
    assert warnings[0] == "seccomp: not enforced on this host (ENOSYS)"
    assert warnings[1:] == [f"landlock: this kernel does not confine {what}" for what in open_then]
    with pytest.raises(PermissionError, match="seccomp: not enforced"):
        sandbox.apply(SandboxPolicy(strict=True), [], None)


LOADED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("sandbox", sys.argv[1])
sandbox = importlib.util.module_from_spec(spec)
sys.modules["sandbox"] = sandbox
spec.loader.exec_module(sandbox)
"""
EATER = (
    LOADED
    + """
import ctypes, mmap, os, resource
libc = ctypes.CDLL(None, use_errno=True)
libc.mremap.restype = libc.mmap.restype = ctypes.c_void_p
failed = ctypes.c_void_p(-1).value
with open("/proc/self/maps") as maps:
    stack = next(int(line.partition("-")[0], 16) for line in maps if "[stack]" in line)
sandbox.apply(sandbox.SandboxPolicy(), sandbox.readable_by_default(), 200)
size = 2**30
def eat(at):
    for page in range(at, at + size, 4096):
        ctypes.memset(page, 1, 1)
def mapped(flags):
    memory = mmap.mmap(-1, size, flags=flags | mmap.MAP_ANONYMOUS)
    eat(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
def file():
    os.ftruncate(os.memfd_create("x"), size)
def moved_stack():
    at = libc.mremap(ctypes.c_void_p(stack), ctypes.c_size_t(4096), ctypes.c_size_t(size), 1, None)
    if at == failed:
        raise OSError
    eat(at)
def unwritable(whole, piece, writes):
    for _ in range(whole // piece):
        at = libc.mmap(None, ctypes.c_size_t(piece), 3 if writes else 1, 0x22, -1, 0)
        if at == failed:
            raise OSError
        libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(piece), 1)
how = {
    "private": lambda: mapped(mmap.MAP_PRIVATE),
    "shared": lambda: mapped(mmap.MAP_SHARED),
    "grows down": lambda: mapped(mmap.MAP_PRIVATE | 0x100),
    "file": file,
    "moved stack": moved_stack,
    "unwritable": lambda: unwritable(2**34, 2**26, True),
    "read alone": lambda: unwritable(2**34, 2**34, False),
}
try:
    how[sys.argv[2]]()
    print("done")
except (OSError, MemoryError):
    print("refused")
"""
)


@pytest.mark.parametrize("how", ["private", "shared", "grows down", "file", "moved stack", "unwritable", "read alone"])
def test_f12_no_kind_of_memory_escapes_the_limit(how) -> None:
    """F-12: a process of 200 MiB gets no 1 GiB of it, whether the kernel counts it as private, shared or stack.

    What can only be read (any more) counts as addresses alone: no 16 GiB of it.
    """
    command = [sys.executable, "-I", "-c", EATER, sandbox.__file__, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "refused\n"


KEEPER = (
    LOADED
    + """
import fcntl, os, signal, threading
fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())  # as child/start.py does it
fcntl.fcntl(0, 10, signal.SIGKILL)
fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
sandbox.apply(sandbox.SandboxPolicy(), sandbox.readable_by_default(), None)
signal.signal(signal.SIGIO, signal.SIG_IGN)
copy = os.dup(0)
for attempt in (
    lambda: os.close(0), lambda: os.dup2(1, 0), lambda: os.closerange(0, 1),
    lambda: fcntl.fcntl(copy, fcntl.F_SETFL, 0), lambda: fcntl.fcntl(copy, fcntl.F_SETOWN, 0),
    lambda: fcntl.fcntl(copy, 10, 0), lambda: fcntl.ioctl(copy, 0x5452, b"\\0\\0\\0\\0"),
):
    try:
        attempt()
    except OSError:
        pass
print("ready", flush=True)
threading.Event().wait(20)
print("outlived it")
"""
)


def test_f15_a_model_cannot_outlive_its_parent() -> None:
    """F-15: a process that ignores the signal, and closes, replaces and silences its stdin, ends when that ends."""
    with subprocess.Popen(
        [sys.executable, "-I", "-c", KEEPER, sandbox.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(10) == -signal.SIGKILL


KILLS_ITSELF = (
    LOADED
    + """
import ctypes, os, resource, signal, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
sandbox.apply(sandbox.SandboxPolicy(), sandbox.readable_by_default(), None)
def called(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError
def timed():
    kind, timer = struct.pack("Qii48x", 0, signal.SIGKILL, 0), ctypes.c_int()
    called(222, 1, kind, ctypes.byref(timer))
    called(223, timer, 0, struct.pack("qqqq", 0, 0, 0, 1), None)
    threading.Event().wait(1)
refused = 0
for attempt in (
    lambda: os.kill(os.getpid(), signal.SIGKILL),
    lambda: signal.raise_signal(signal.SIGKILL),
    lambda: signal.pthread_kill(threading.get_ident(), signal.SIGKILL),
    lambda: called(200, threading.get_native_id(), signal.SIGKILL),
    lambda: resource.setrlimit(resource.RLIMIT_CPU, (0, 0)),
    lambda: called(160, 0, struct.pack("QQ", 0, 0)),
    timed,
):
    try:
        attempt()
    except (OSError, ValueError):  # setrlimit() says EPERM so
        refused += 1
print(refused, flush=True)
os.abort()
"""
)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls")
def test_f04_a_model_does_not_kill_itself() -> None:
    """F-04: SIGKILL comes from others alone, so who ends by it is started again; a crash is told apart."""
    command = [sys.executable, "-I", "-c", KILLS_ITSELF, sandbox.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("7\n", -signal.SIGABRT)


BOMB = (
    LOADED
    + """
import threading
sandbox.apply(sandbox.SandboxPolicy(), sandbox.readable_by_default(), 200)
threading.stack_size(int(sys.argv[2]))
never = threading.Event()
started = 0
try:
    for started in range(5000):
        threading.Thread(target=never.wait, daemon=True).start()
except RuntimeError:
    print(started)
"""
)


@pytest.mark.parametrize(("stack", "most"), [(0, 100), (256 * 1024, 1000)], ids=["usual", "small"])
def test_f13_a_thread_bomb_ends_at_the_memory_limit(stack, most) -> None:
    """F-13: stacks count as memory at their full size: 200 MiB are some dozens of threads, thousands of small ones."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BOMB, sandbox.__file__, str(stack)],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert 0 < int(done.stdout) < most


NATIVE_BOMB = (
    LOADED
    + """
import ctypes, encodings.ascii, mmap, os
sandbox._TASKS = 300
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sandbox.apply(sandbox.SandboxPolicy(), sandbox.readable_by_default(), 200)
code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
flags = (0x10F00).to_bytes(4, "little")  # clone() with the stack of its own; in the thread, pause() for ever
code.write(bytes.fromhex("b838000000bf") + flags)
code.write(bytes.fromhex("31f631d24d31d24d31c00f0585c07401c3b8220000000f05ebf7"))
start = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
print(next((started for started in range(1000) if start() < 0), 1000), flush=True)
os._exit(0)
"""
)


@pytest.mark.skipif(os.getuid() != 0 or os.uname().machine != "x86_64", reason="becomes another user; machine code")
def test_f13_threads_without_stacks_end_at_the_limit_of_their_user() -> None:
    """F-13: native code starts threads that need no memory; they leave the host numbers for other processes."""
    command = [sys.executable, "-I", "-c", NATIVE_BOMB, sandbox.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert 0 < int(done.stdout) < 300


def test_a_sandbox_that_is_switched_off_says_so(tmp_path) -> None:
    """Without the sandbox only the limits are set, and a warning stands in the facts."""
    told = _attack(tmp_path, how="no")
    assert set(told["facts"]["layers"]) == {"limits"}
    assert told["facts"]["warnings"] == ["the sandbox is switched off by the declaration"]


def test_a_strict_policy_refuses_a_host_that_lacks_a_layer(monkeypatch) -> None:
    """A strict policy ends in an error when a layer cannot be enforced (nothing is applied to this process here)."""

    def missing(*_: object) -> str:
        raise OSError(errno.ENOSYS, "missing")

    for layer in ("_restrict_files", "_filter_calls", "_drop_capabilities"):
        monkeypatch.setattr(sandbox, layer, missing)
    monkeypatch.setattr(sandbox, "_limit", lambda *_: "none")
    monkeypatch.setattr(sandbox, "_prctl", lambda *_: None)
    with pytest.raises(PermissionError, match="landlock: not enforced on this host"):
        sandbox.apply(SandboxPolicy(strict=True), [], None)
    facts = sandbox.apply(SandboxPolicy(), [], None)
    assert len(facts["warnings"]) == 3


def test_the_filter_has_a_table_for_both_machines() -> None:
    """The program for x86-64 and arm64 is well formed: whole, within the kernel's bound, all jumps inside."""
    for column, architecture, _ in sandbox._MACHINES.values():
        program = sandbox._program(column, architecture)
        count, rest = divmod(len(program), 8)
        assert rest == 0
        assert count < 4096
        for at, (code, if_true, if_false, _) in enumerate(struct.iter_unpack("<HBBI", program)):
            if code in {0x15, 0x35, 0x45}:
                assert at + 1 + max(if_true, if_false) < count


def _judge(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: the error's number, or 0."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    steps, at, held = list(struct.iter_unpack("<HBBI", program)), 0, 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        if code == 0x20:
            (held,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            held &= value
        elif code in {0x15, 0x35}:
            at += if_true if (held == value if code == 0x15 else held >= value) else if_false
        else:
            assert code == 0x06
            return 0 if value == 0x7FFF0000 else value & 0xFFFF


UPPER = 1 << 32
FLAGS = {"stream": 1 | 0o2000000, "datagram": 2 | 0o4000}
JUDGED = [
    ("fcntl", (3, 3), 0),
    ("fcntl", (3, 8), errno.EPERM),
    ("fcntl", (3, 8 | UPPER), errno.EPERM),
    ("ioctl", (3, 0x5421), 0),
    ("ioctl", (3, 0x8901 | UPPER), errno.EPERM),
    ("ioctl", (3, 0x40087602), errno.EPERM),
    ("socketpair", (1, FLAGS["stream"]), 0),
    ("socketpair", (1, FLAGS["datagram"]), errno.EPERM),
    ("socketpair", (2, FLAGS["stream"]), errno.EPERM),
    ("setsockopt", (3, 1, 2), 0),
    ("setsockopt", (3, 1, 7), errno.EPERM),
    ("mmap", (0, 4096, 3, 0x22), 0),
    ("mmap", (0, 4096, 3, 0x20022), 0),
    ("mmap", (0, 4096, 1, 0x01), 0),
    ("mmap", (0, 4096, 3, 0x21), errno.EPERM),
    ("mmap", (0, 4096, 3, 0x23 | UPPER), errno.EPERM),
    ("mmap", (0, 4096, 3, 0x122), errno.EPERM),
    ("openat", (0xFFFFFF9C, 0, os.O_RDONLY | os.O_CLOEXEC), 0),
    ("openat", (0xFFFFFF9C, 0, os.O_TRUNC), errno.EPERM),
    ("openat", (0xFFFFFF9C, 0, os.O_WRONLY | UPPER), errno.EPERM),
    ("close", (3,), 0),
    ("close", (0,), errno.EPERM),
    ("close", (UPPER,), errno.EPERM),
    ("close_range", (3, 9), 0),
    ("close_range", (0, 9), errno.EPERM),
    ("close_range", (3, 9, 4), 0),
    ("close_range", (3, 9, 2), errno.EPERM),
    ("dup3", (0, 3), 0),
    ("dup3", (3, 0), errno.EPERM),
    ("kill", (os.getpid(),), 0),
    ("kill", (os.getpid(), 15), 0),
    ("kill", (os.getpid(), 9), errno.EPERM),
    ("kill", (0,), errno.EPERM),
    ("tgkill", (os.getpid(), 1, 15), 0),
    ("tgkill", (os.getpid(), 1, 9 | UPPER), errno.EPERM),
    ("prlimit64", (0, 2), 0),
    ("prlimit64", (0, 0), errno.EPERM),
    ("prlimit64", (1, 2), errno.EPERM),
    ("setrlimit", (2,), 0),
    ("setrlimit", (0,), errno.EPERM),
    ("clone", (0x3D0F00,), 0),
    ("clone", (0x3D0B00,), errno.EPERM),
    ("clone", (17,), errno.EPERM),
]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_judges_alike_on_both_machines(machine) -> None:
    """The upper half of an argument leads no rule astray; another architecture and the x32 numbers are refused."""
    column, architecture, _ = sandbox._MACHINES[machine]
    program = sandbox._program(column, architecture)
    for name, arguments, answer in JUDGED:
        number = sandbox._BY_ARGUMENT[name][column]
        assert _judge(program, architecture, number, *arguments) == answer, (name, arguments)
    for name, numbers in sandbox._CALLS.items():
        if numbers[column] >= 0:
            assert _judge(program, architecture, numbers[column]) == errno.EPERM, name
    for name, numbers in sandbox._UNKNOWN.items():
        assert _judge(program, architecture, numbers[column]) == errno.ENOSYS, name
    read = {"x86_64": 0, "aarch64": 63}[machine]
    assert _judge(program, architecture, read) == 0
    assert _judge(program, architecture ^ 1, read) == errno.EPERM
    assert _judge(program, architecture, read | 0x40000000) == errno.EPERM
