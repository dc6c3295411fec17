"""What a process of ours for foreign bytes may not do: read, write, connect, signal, trace, start programs, or grow.

Comes in: a policy and the folders that must stay readable. Goes out: the facts of what the kernel really enforces.
Nothing is refused unless the policy is strict: what the host lacks becomes a warning. Models run so, and so are
columnar files read. This file uses the standard library alone (ctypes for the system calls that Python does not wrap).

Four layers, each from the kernel and none needing privileges: Landlock (files, TCP, signals and abstract sockets
outside), a seccomp filter (no new sockets of any kind, processes, programs, tracing, namespaces, signals, writing, nor
memory that the limit does not count), no capabilities and no way to gain any, resource limits. The filter closes
whatever an older Landlock leaves open: with any version of it the same holds.
"""

import ctypes
import errno
import functools
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["SandboxPolicy", "apply", "landlock_abi", "readable_by_default"]


@dataclass(frozen=True, slots=True)
class SandboxPolicy:
    """How a process is confined.

    Parameters
    ----------
    enabled
        False sets resource limits only: for debugging a model that one trusts.
    strict
        True refuses to run where the kernel cannot hold all that is promised. An older Landlock beside the seccomp
        filter holds it; a layer that is missing does not.
    readable
        Further files and folders that it may read.
    """

    enabled: bool = True
    strict: bool = False
    readable: tuple[str, ...] = field(default=())


_PR_SET_NO_NEW_PRIVS: Final = 38
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_FILE_RIGHTS_BY_ABI: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_FILE_RIGHTS_NEWEST: Final = (1 << 16) - 1
_TCP_RIGHTS: Final = 0b11
_SCOPES: Final = 0b11
_ABI_WITH_TCP: Final = 4
_ABI_WITH_SCOPES: Final = 6
_CONFINED_SINCE: Final = {3: "emptying files", _ABI_WITH_TCP: "TCP", _ABI_WITH_SCOPES: "signals and abstract sockets"}
_SYSTEM_LIBRARIES: Final = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/urandom",
)

_STACK_BYTES: Final = 8 * 2**20
_TASKS: Final = 16_384  # half of what a host may have where its kernel was told nothing else
_MAPPED_BYTES: Final = 8 * 2**30  # of addresses beside the memory that it may have: libraries, and what is reserved

_LOAD, _AND, _EQUAL, _AT_LEAST, _GIVE = 0x20, 0x54, 0x15, 0x35, 0x06  # of classic BPF
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000
_X32: Final = 0x40000000
_CLONE_OF_A_THREAD: Final = 0x10400  # in this process, with its open files: each table of these has a limit of its own
_UNSHARE: Final = 2
_SOCKET_TYPE: Final = 0xF
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_SHARED_MEMORY: Final = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
_GROWS_DOWN: Final = 0x100
_FCNTL: Final = {
    # Which process gets which signal when something moves in a pipe; O_ASYNC on stdin is how ours ends.
    "F_SETFL": 4,
    "F_SETOWN": 8,
    "F_SETSIG": 10,
    "F_SETOWN_EX": 15,
    # Hold up whoever opens a file for writing; hear of changes in a folder.
    "F_SETLEASE": 1024,
    "F_NOTIFY": 1026,
    # Memory that the kernel holds for this process.
    "F_SETPIPE_SZ": 1031,
}
_IOCTL: Final = {
    # All others are refused: file systems have many that change a file, and take them for one that is only read.
    "TCGETS": 0x5401,
    "TIOCGWINSZ": 0x5413,
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
}
_SOCKET_OPTION: Final = {"SO_SNDBUF": 7, "SO_SNDBUFFORCE": 32}  # as much as a pipe's size, and far larger
_CALLS: Final = {
    # One column per machine: x86_64, aarch64; -1 where the machine has no such call.
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    # They can carry descriptors, which live on in the message: of those that travel a user may have so many at a time.
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "fork": (57, -1),
    "vfork": (58, -1),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "timer_create": (222, 107),  # which signal, SIGKILL perhaps, lies in memory
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # Queues, semaphores and memory of this user's other programs: known by a number that can be guessed.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # Of these the whole host has so many, and databases need them.
    "io_setup": (206, 0),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    # Memory that RLIMIT_DATA does not count, beside the mappings below.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "map_shadow_stack": (453, 453),
    "vmsplice": (278, 75),
    "landlock_create_ruleset": (_LANDLOCK_CREATE_RULESET, _LANDLOCK_CREATE_RULESET),
    # Names of what happens in folders that cannot be listed.
    "inotify_init": (253, -1),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # A second wall, and the only one where Landlock is missing: nothing is made, emptied, renamed or removed.
    "truncate": (76, 45),
    "creat": (85, -1),
    "unlink": (87, -1),
    "unlinkat": (263, 35),
    "rename": (82, -1),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, -1),
    "mkdirat": (258, 34),
    "rmdir": (84, -1),
    "link": (86, -1),
    "linkat": (265, 37),
    "symlink": (88, -1),
    "symlinkat": (266, 36),
    "mknod": (133, -1),
    "mknodat": (259, 33),
    # What Landlock leaves open: modes, owners, times and attributes of any file of this user.
    "chmod": (90, -1),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, -1),
    "fchown": (93, 55),
    "lchown": (94, -1),
    "fchownat": (260, 54),
    "utime": (132, -1),
    "utimes": (235, -1),
    "futimesat": (261, -1),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
_BY_ARGUMENT: Final = {
    "clone": (56, 220),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
    "setrlimit": (160, 164),
    "sched_setaffinity": (203, 122),
    "socketpair": (53, 199),
    "setsockopt": (54, 208),
    "open": (2, -1),
    "openat": (257, 56),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "close": (3, 57),
    "close_range": (436, 436),
    "dup2": (33, -1),
    "dup3": (292, 24),
    "mmap": (9, 222),
    "mremap": (25, 216),
}
# Their arguments lie in memory, where no filter sees them: the C library then uses the older call.
_UNKNOWN: Final = {"clone3": (435, 435), "openat2": (437, 437)}
_MACHINES: Final = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Refuses a call for one argument: what the mask leaves of it is in ``never``, or is not in ``only``.

    The lower 32 bits are compared: the kernel takes no more of these arguments, or knows no flag above. Of an address
    the upper 32 are.
    """

    call: str
    argument: int
    only: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    mask: int = 0xFFFFFFFF
    is_upper: bool = False


def _rules() -> list[_Rule]:
    """Judge what only some arguments make harmful, for the calling process."""
    itself = os.getpid()
    return [
        _Rule("clone", 0, only=(_CLONE_OF_A_THREAD,), mask=_CLONE_OF_A_THREAD),
        _Rule("kill", 0, only=(itself,)),  # 0 would be its group, which may hold others
        _Rule("tgkill", 0, only=(itself,)),
        _Rule("prlimit64", 0, only=(0, itself)),
        # No SIGKILL of its own making: a process that ends by that was killed by others, and is started again.
        _Rule("kill", 1, never=(signal.SIGKILL,)),
        _Rule("tgkill", 2, never=(signal.SIGKILL,)),
        _Rule("prlimit64", 1, never=(resource.RLIMIT_CPU,)),
        _Rule("setrlimit", 0, never=(resource.RLIMIT_CPU,)),
        _Rule("sched_setaffinity", 0, only=(0, itself)),
        _Rule("socketpair", 0, only=(socket.AF_UNIX,)),
        _Rule("socketpair", 1, only=(socket.SOCK_STREAM,), mask=_SOCKET_TYPE),  # datagrams could go to any socket
        _Rule("setsockopt", 2, never=tuple(_SOCKET_OPTION.values())),
        _Rule("open", 1, only=(0,), mask=_WRITING),
        _Rule("openat", 2, only=(0,), mask=_WRITING),
        _Rule("fcntl", 1, never=tuple(_FCNTL.values())),
        _Rule("ioctl", 1, only=tuple(_IOCTL.values())),
        _Rule("close", 0, never=(0,)),  # stdin stays: with the parent's end of it this process ends
        _Rule("close_range", 0, never=(0,)),
        _Rule("close_range", 2, only=(0,), mask=_UNSHARE),
        _Rule("dup2", 1, never=(0,)),
        _Rule("dup3", 1, never=(0,)),
        _Rule("mmap", 3, never=(_SHARED_MEMORY,), mask=_SHARED_MEMORY),
        _Rule("mmap", 3, only=(0,), mask=_GROWS_DOWN),
        _Rule("mremap", 0, never=_upper_halves_of_the_stack(), is_upper=True),  # elsewhere it could grow uncounted
    ]


@functools.cache
def _upper_halves_of_the_stack() -> tuple[int, ...]:
    """Upper halves of the addresses that the first thread's stack has or may grow to (other memory lies far away)."""
    start = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[25])
    return tuple(range((start - _STACK_BYTES) >> 32, ((start + _STACK_BYTES) >> 32) + 1))


def apply(
    policy: SandboxPolicy, readable: Iterable[str | Path], memory_mib: int | None, *, mapped_bytes: int = 0
) -> dict[str, Any]:
    """Confine the calling process, for good. To be called while it has one thread.

    Parameters
    ----------
    policy
        What is wanted.
    readable
        Files and folders that stay readable; everything else is neither readable nor writable.
    memory_mib
        Bound on private writable memory (``RLIMIT_DATA``), or None; other kinds are refused. With it addresses are
        bounded (``RLIMIT_AS``): memory that was written and cannot be written any more counts in no other way.
    mapped_bytes
        Of files that may be mapped into memory, beside libraries.

    Returns
    -------
    dict
        ``layers`` (name to what is enforced) and ``warnings`` (what is open on this host), ready for JSON.

    Raises
    ------
    PermissionError
        When the policy is strict and there is a warning.
    """
    layers: dict[str, str] = {"limits": _limit(memory_mib, mapped_bytes)}
    warnings: list[str] = []
    if not policy.enabled:
        warnings.append("the sandbox is switched off by the declaration")
    else:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _upper_halves_of_the_stack()  # while /proc can be read
        layers["privileges"] = "none to gain"
        for name, layer in (
            ("capabilities", _drop_capabilities),
            ("landlock", lambda: _restrict_files([*readable, *policy.readable])),
            ("seccomp", _filter_calls),  # it refuses the calls of the one before
        ):
            try:
                layers[name] = layer()
            except OSError as error:
                layers[name] = "missing"
                warnings.append(f"{name}: not enforced on this host ({errno.errorcode.get(error.errno or 0, '?')})")
        if layers["landlock"] != "missing" and layers["seccomp"] == "missing":
            warnings += [f"landlock: this kernel does not confine {what}" for what in _left_open(landlock_abi())]
        if policy.strict and warnings:
            raise PermissionError("; ".join(warnings))
    return {"layers": layers, "warnings": warnings}


def landlock_abi() -> int:
    """Version of the kernel's Landlock interface, 0 where there is none.

    Examples
    --------
    >>> landlock_abi() >= 0
    True
    """
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1)))


def readable_by_default() -> list[str]:
    """Files and folders that this interpreter and native libraries need for reading."""
    return [*_SYSTEM_LIBRARIES, sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry)]


def _limit(memory_mib: int | None, mapped_bytes: int) -> str:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _lower(resource.RLIMIT_NPROC, _TASKS)  # of this user together; a thread of native code need not have a stack
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]  # its memory is counted here and nowhere else
    stack = _STACK_BYTES if stack == resource.RLIM_INFINITY else min(stack, _STACK_BYTES)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))
    if memory_mib is None:
        return f"{files} files, no core dump"
    memory_bytes = memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    has = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    _lower(resource.RLIMIT_AS, has + memory_bytes + mapped_bytes + _MAPPED_BYTES)
    return f"{files} files, no core dump, {memory_mib} MiB of private memory"


def _lower(limit: int, most: int) -> None:
    """Set a limit, unless it is lower already."""
    most = min([most, *(each for each in resource.getrlimit(limit) if each != resource.RLIM_INFINITY)])
    resource.setrlimit(limit, (most, most))


def _drop_capabilities() -> str:
    header = struct.pack("<Ii", 0x20080522, 0)
    _check(_libc.capset(header, b"\0" * 24))
    return "none"


def _restrict_files(readable: Iterable[str | Path]) -> str:
    abi = landlock_abi()
    if abi == 0:
        raise OSError(errno.ENOSYS, "no Landlock")
    rights = _FILE_RIGHTS_BY_ABI.get(abi, _FILE_RIGHTS_NEWEST)
    attributes = struct.pack("<Q", rights)
    if abi >= _ABI_WITH_TCP:
        attributes += struct.pack("<Q", _TCP_RIGHTS)
    if abi >= _ABI_WITH_SCOPES:
        attributes += struct.pack("<Q", _SCOPES)
    ruleset = _check(_libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for path in dict.fromkeys(os.path.realpath(entry) for entry in readable):
            _allow_reading(ruleset, path)
        _check(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    scope = "files, TCP, signals" if abi >= _ABI_WITH_SCOPES else "files, TCP" if abi >= _ABI_WITH_TCP else "files only"
    return f"{scope} (ABI {abi})"


def _left_open(abi: int) -> list[str]:
    """Name what this Landlock does not confine; the filter does."""
    return [what for since, what in _CONFINED_SINCE.items() if abi < since]


def _allow_reading(ruleset: int, path: str) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no right
    try:
        rights = _READ_FILE | _READ_DIR if os.path.isdir(path) else _READ_FILE  # noqa: PTH112 (no pathlib needed)
        _check(_libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("<Qi", rights, beneath), 0))
    finally:
        os.close(beneath)


def _filter_calls() -> str:
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, "no table of system calls for this machine")
    column, architecture, seccomp = machine
    program = _program(column, architecture)
    code = ctypes.create_string_buffer(program, len(program))
    bpf = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    speculation_stays_as_it_is = 1 << 2
    _check(_libc.syscall(seccomp, 1, speculation_stays_as_it_is, bpf))
    return "no sockets, processes, programs, tracing"


def _program(column: int, architecture: int) -> bytes:
    """Classic BPF over ``struct seccomp_data``: number at 0, machine at 4, arguments of 8 bytes from 16 on."""
    refuse = (_GIVE, 0, 0, _REFUSE | errno.EPERM)
    unknown = (_GIVE, 0, 0, _REFUSE | errno.ENOSYS)
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), refuse, (_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _X32), refuse]
    for calls, answer in ((_CALLS, refuse), (_UNKNOWN, unknown)):
        for number in (numbers[column] for numbers in calls.values() if numbers[column] >= 0):
            steps += [(_EQUAL, 0, 1, number), answer]
    for rule in _rules():
        number = _BY_ARGUMENT[rule.call][column]
        if number >= 0:
            judged = [*_judged(rule), refuse, (_LOAD, 0, 0, 0)]
            steps += [(_EQUAL, 0, len(judged), number), *judged]
    steps.append((_GIVE, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def _judged(rule: _Rule) -> list[tuple[int, int, int, int]]:
    """Load the argument and compare: on to the next step, a refusal, or over it."""
    steps = [(_LOAD, 0, 0, 16 + 8 * rule.argument + 4 * rule.is_upper), (_AND, 0, 0, rule.mask)]
    steps += [(_EQUAL, left + 1, 0, value) for left, value in _countdown(rule.only)]
    steps += [(_EQUAL, left, left == 0, value) for left, value in _countdown(rule.never)]
    return steps


def _countdown(values: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    return zip(range(len(values) - 1, -1, -1), values, strict=True)


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0) for _ in range(3))))


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
