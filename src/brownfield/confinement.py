"""What a process of ours for foreign bytes may not do: read, write, connect, signal, trace, start programs, or grow.

Comes in: a policy and the folders that must stay readable. Goes out: the facts of what the kernel really enforces.
Nothing is refused unless the policy is strict: what the host lacks becomes a warning. Models run so, and so are
columnar files read. This file uses the standard library alone (ctypes for the system calls that Python does not wrap).

Four layers, each from the kernel and none needing privileges: Landlock (files, TCP, signals and abstract sockets
outside), a seccomp filter (no new sockets of any kind, no new processes or programs, no tracing, no namespaces),
no capabilities and no way to gain any, resource limits.
"""

import ctypes
import errno
import os
import platform
import resource
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
        True refuses to run where the kernel cannot enforce every layer.
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

_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000
_CLONE_THREAD: Final = 0x00010000
_X32: Final = 0x40000000
_CALLS: Final = {
    # One column per machine: x86_64, aarch64; -1 where the machine has no such call.
    "socket": (41, 198),
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
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
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
_ONLY_ITSELF: Final = {
    "kill": (62, 129),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
}
_CLONE: Final = (56, 220)
_CLONE3: Final = 435
_MACHINES: Final = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}

_libc = ctypes.CDLL(None, use_errno=True)


def apply(policy: SandboxPolicy, readable: Iterable[str | Path], memory_mib: int | None) -> dict[str, Any]:
    """Confine the calling process, for good. To be called while it has one thread.

    Parameters
    ----------
    policy
        What is wanted.
    readable
        Files and folders that stay readable; everything else is neither readable nor writable.
    memory_mib
        Bound on private writable memory (``RLIMIT_DATA``), or None.

    Returns
    -------
    dict
        ``layers`` (name to what is enforced) and ``warnings`` (what the host lacks), ready for JSON.

    Raises
    ------
    PermissionError
        When the policy is strict and a layer is missing.
    """
    layers: dict[str, str] = {"limits": _limit(memory_mib)}
    warnings: list[str] = []
    if not policy.enabled:
        warnings.append("the sandbox is switched off by the declaration")
    else:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        layers["privileges"] = "none to gain"
        for name, layer in (
            ("capabilities", _drop_capabilities),
            ("landlock", lambda: _restrict_files([*readable, *policy.readable])),
            ("seccomp", _filter_calls),
        ):
            try:
                layers[name] = layer()
            except OSError as error:
                layers[name] = "missing"
                warnings.append(f"{name}: not enforced on this host ({errno.errorcode.get(error.errno or 0, '?')})")
        if layers["landlock"].startswith("files only"):
            warnings.append("landlock: this kernel does not confine signals and abstract sockets")
        if policy.strict and "missing" in layers.values():
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


def _limit(memory_mib: int | None) -> str:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if memory_mib is None:
        return f"{files} files, no core dump"
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mib * 2**20, memory_mib * 2**20))
    return f"{files} files, no core dump, {memory_mib} MiB of private memory"


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
    """Classic BPF over ``struct seccomp_data``: number at 0, machine at 4, first argument at 16."""
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    refuse = (give, 0, 0, _REFUSE | errno.EPERM)
    allow = (give, 0, 0, _ALLOW)
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), refuse, (load, 0, 0, 0), (at_least, 0, 1, _X32), refuse]
    for number in (numbers[column] for numbers in _CALLS.values() if numbers[column] >= 0):
        steps += [(equal, 0, 1, number), refuse]
    steps += [(equal, 0, 1, _CLONE3), (give, 0, 0, _REFUSE | errno.ENOSYS)]  # the C library then uses clone
    steps += [(equal, 0, 4, _CLONE[column]), (load, 0, 0, 16), (any_bit, 0, 1, _CLONE_THREAD), allow, refuse]
    for numbers in _ONLY_ITSELF.values():
        steps += [
            (equal, 0, 5, numbers[column]),
            (load, 0, 0, 16),
            (equal, 2, 0, 0),
            (equal, 1, 0, os.getpid()),
            refuse,
        ]
        steps += [allow]
    steps += [allow]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0) for _ in range(3))))


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
