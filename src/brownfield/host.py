"""What this machine can do: usable cores, memory, instructions, kernel features, within the limits of a container.

Comes in: nothing but the kernel's own files. Goes out: frozen facts. Whatever might end or confine a process is tried
in a child of its own. What the machine does not tell is None or 0, never an error.
"""

import contextlib
import json
import math
import os
import platform
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HostFacts", "available_mib", "data_mib", "give_way", "oom_kills", "pss_mib", "read_host", "readable_within"]

_GIVEN_WAY = 10  # niceness
_MIB = 2**20
_FLAGS = frozenset(
    {
        *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni"),
        *("avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"),
        *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
    }
)
_NO_LIMIT_BYTES = 2**60
_KERNEL_PROBE = """
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
landlock = max(0, libc.syscall(444, None, 0, 1))
libc.prctl(22, 2, 0, 0, 0)
seccomp = ctypes.get_errno() == errno.EFAULT
namespaces = libc.unshare(0x10000000 | 0x40000000) == 0
print(json.dumps([landlock, seccomp, namespaces]))
"""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One machine as this process may use it.

    Parameters
    ----------
    cores
        Whole cores that this process can use, ``>= 1``: affinity and quota taken together.
    affinity_cores
        Cores on which the scheduler may put this process.
    quota_cores
        Cores' worth of time that the control group grants; None without a quota.
    memory_mib
        Memory that this process and its children can use: the machine's, or the control group's limit if lower.
    available_mib
        Of it, not in use just now.
    machine
        ``x86_64`` or ``aarch64``.
    cpu_model
        As the processor calls itself.
    cpu_flags
        Those of the kernel's names that matter to models, such as ``avx2`` or ``avx512_vnni``.
    kernel
        Release of the kernel.
    glibc
        Version of the C library; empty where it is another one.
    landlock_abi
        Version of the kernel's Landlock interface, 0 without.
    seccomp
        Whether system calls can be filtered.
    user_namespaces
        Whether this user may open a user namespace with a network of its own.

    Examples
    --------
    >>> facts = read_host()
    >>> facts.cores >= 1 and facts.memory_mib > 0
    True
    """

    cores: int
    affinity_cores: int
    quota_cores: float | None
    memory_mib: int
    available_mib: int
    machine: str
    cpu_model: str
    cpu_flags: frozenset[str]
    kernel: str
    glibc: str
    landlock_abi: int
    seccomp: bool
    user_namespaces: bool


def give_way() -> None:
    """Let everybody else on this host go first, from now on: for what can wait, such as reading feeds.

    Where the kernel shares cores among sessions (autogroups, see ``sched(7)``) a niceness counts within one alone, so a
    process that leads its session says the same of that.
    """
    os.nice(_GIVEN_WAY)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # there are no autogroups here
            Path("/proc/self/autogroup").write_text(str(_GIVEN_WAY), encoding="ascii")


def read_host(root: Path = Path("/")) -> HostFacts:
    """Read the facts of this machine; takes some 30 ms, most of it the child that tries the kernel.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are found: for tests.
    """
    affinity = len(os.sched_getaffinity(0))
    quota = _quota_cores(root)
    total, available = _memory(root)
    model, flags = _processor(root)
    landlock, seccomp, namespaces = _try_kernel()
    library, version = platform.libc_ver()
    return HostFacts(
        cores=max(1, affinity if quota is None else min(affinity, math.floor(quota))),
        affinity_cores=affinity,
        quota_cores=quota,
        memory_mib=total // _MIB,
        available_mib=available // _MIB,
        machine=platform.machine(),
        cpu_model=model,
        cpu_flags=flags,
        kernel=platform.release(),
        glibc=version if library == "glibc" else "",
        landlock_abi=landlock,
        seccomp=seccomp,
        user_namespaces=namespaces,
    )


def available_mib(root: Path = Path("/")) -> float:
    """Memory that is not in use just now, in MiB, within the control group's limit.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are found: for tests.
    """
    return _memory(root)[1] / _MIB


def pss_mib(pid: int, root: Path = Path("/")) -> float:
    """Proportional set size of a process in MiB: its own memory, and its share of what others map too.

    Parameters
    ----------
    pid
        Of this user; 0.0 is given for one that has gone or may not be looked at.
    root
        Where ``proc`` is found: for tests.

    Examples
    --------
    >>> pss_mib(os.getpid()) > 1
    True
    """
    return _line_mib(root / f"proc/{pid}/smaps_rollup", "Pss:")


def data_mib(pid: int, root: Path = Path("/")) -> float:
    """Writable memory of a process in MiB; 0.0 when it has gone.

    Its private memory as ``RLIMIT_DATA`` counts it or, where that is more, what it holds in RAM, private and shared:
    that limit sees no shared memory.

    Parameters
    ----------
    pid, root
        As in :func:`pss_mib`.

    Examples
    --------
    >>> data_mib(os.getpid()) > 1
    True
    """
    status = root / f"proc/{pid}/status"
    return max(_line_mib(status, "VmData:"), _line_mib(status, "RssAnon:") + _line_mib(status, "RssShmem:"))


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many processes the kernel has ended for want of memory since it began; None where it does not tell.

    Examples
    --------
    >>> oom_kills(Path("/nowhere")) is None
    True
    """
    for line in _text(root / "proc/vmstat").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


def _line_mib(path: Path, label: str) -> float:
    """Give a line's figure, which stands there in KiB; 0.0 where there is none."""
    for line in _text(path).splitlines():
        if line.startswith(label):
            return int(line.split()[1]) / 1024
    return 0.0


def _quota_cores(root: Path) -> float | None:
    granted: list[list[str]] = []
    for folder in _groups(root, "cpu"):
        granted.append(_words(folder / "cpu.max"))
        granted.append(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))
    quotas = [int(words[0]) / int(words[1]) for words in granted if words[1:] and words[0] not in {"max", "-1"}]
    return min(quotas, default=None)


def _memory(root: Path) -> tuple[int, int]:
    """Bytes that can be used, and bytes that are free."""
    lines = _text(root / "proc/meminfo").splitlines()
    stated = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    total, available = stated.get("MemTotal", 0), stated.get("MemAvailable", 0)
    for folder in _groups(root, "memory"):
        for limit_file, used_file, idle in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _words(folder / limit_file)
            if limit and limit[0] != "max" and int(limit[0]) < _NO_LIMIT_BYTES:
                total = min(total, int(limit[0]))
                used = _words(folder / used_file)
                in_use = max(0, int(used[0]) - _idle_bytes(folder, idle)) if used else 0
                available = min(available, max(0, int(limit[0]) - in_use))
    return total, available


def _idle_bytes(folder: Path, key: str) -> int:
    """Page cache of a control group that nobody has used lately: the kernel drops it as soon as memory is wanted.

    It is left out of what is in use, as the kubelet does: one large file that was read would fill a container else.
    """
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isascii() and value.isdigit():
            return int(value)
    return 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and of all above it, in both versions of the interface."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mounts = [f"sys/fs/cgroup/{controllers}", f"sys/fs/cgroup/{controller}"] if controllers else ["sys/fs/cgroup"]
        top = next((root / mount for mount in mounts if (root / mount).is_dir()), None)
        if top is not None:
            folder = top / path.strip("/")
            yield from (folder, *(above for above in folder.parents if above.is_relative_to(top)))


def readable_within(descriptor: int, timeout_s: float | None) -> bool:
    """Whether there is something to read in time; of any descriptor (``select`` takes those below 1024 alone).

    Parameters
    ----------
    descriptor
        Of a pipe, a socket or a process.
    timeout_s
        Longest wait in seconds; None for as long as it takes.

    Examples
    --------
    >>> reader, writer = os.pipe()
    >>> readable_within(reader, 0.0), os.write(writer, b"x"), readable_within(reader, None)
    (False, 1, True)
    """
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))


def _processor(root: Path) -> tuple[str, frozenset[str]]:
    stated: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        stated.setdefault(key.strip().lower(), value.strip())
    flags = stated.get("flags") or stated.get("features") or ""
    return stated.get("model name", ""), _FLAGS & set(flags.split())


def _try_kernel() -> tuple[int, bool, bool]:
    command = [sys.executable, "-I", "-S", "-c", _KERNEL_PROBE]
    try:
        tried = subprocess.run(command, capture_output=True, check=True, timeout=5, env={})  # noqa: S603 (our own text)
        landlock, seccomp, namespaces = json.loads(tried.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0, False, False
    return int(landlock), bool(seccomp), bool(namespaces)


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
