"""Memory of this process that is of no use any more goes back to the kernel. The standard library alone is used here.

Comes in: nothing. Goes out: how much was given back. Left alone is all that the process has changed.
"""

import ctypes
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["give_back_freed", "give_back_libraries", "keep_large_blocks_apart", "keep_small_pages"]

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[x-]p [0-9a-f]+ \S+ ([1-9]\d*) ")
_MADV_DONTNEED = 4
_PR_SET_THP_DISABLE = 41
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt
_LARGE_BYTES, _MOST_FREE_BYTES = 2**20, 16 * 2**20


def give_back_libraries() -> float:
    """Give back the pages of libraries that are as they are in their files; what is used again is mapped in again.

    Loading a large library reads through it once, and a process that waits uses little of it (measured: 21 of the 25
    MiB that pyarrow takes). A page that the process has written, such as one that the loader relocated, is not touched.

    Returns
    -------
    float
        MiB that are held no longer; 0 where the kernel does not tell.

    Examples
    --------
    >>> give_back_libraries() > 0
    True
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    given_kib = 0
    try:
        with Path("/proc/self/smaps").open(encoding="utf-8", errors="replace") as lines:
            unchanged = list(_unchanged(lines))
    except OSError:
        return 0.0
    for begin, end, resident_kib in unchanged:
        if not libc.madvise(begin, end - begin, _MADV_DONTNEED):
            given_kib += resident_kib
    return given_kib / 1024


def give_back_freed() -> None:
    """Give back what the allocator of glibc keeps of freed blocks, where that is the allocator.

    Before a fork, as each child would hold its own copy (measured: 2 of 138 MiB of a workspace with five models).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def keep_large_blocks_apart() -> None:
    """Have every block of 1 MiB and more go back to the kernel as soon as it is freed, in this process and its forks.

    The allocator of glibc keeps what lies below a block in use, once it has seen larger blocks come and go (measured:
    620 MiB held for 250 MiB of request bodies). Other allocators are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _MOST_FREE_BYTES)


def keep_small_pages() -> None:
    """Have the kernel give this process, and those that it forks, small pages alone.

    A page of 2 MiB for the few bytes of an allocator is memory for nothing (measured: 4 MiB with Arrow's first batch).
    """
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def _unchanged(lines: Iterable[str]) -> Iterator[tuple[int, int, int]]:
    """Give begin, end and resident KiB of each mapping of a file of which this process has changed nothing."""
    place: tuple[int, int] | None = None
    resident_kib = 0
    for line in lines:
        key, _, rest = line.partition(" ")
        if not key.endswith(":"):
            mapping = _MAPPING.match(line)
            place = (int(mapping[1], 16), int(mapping[2], 16)) if mapping else None
        elif key == "Rss:":
            resident_kib = int(rest.split()[0])
        elif key == "Anonymous:" and place is not None and resident_kib and rest.split()[0] == "0":
            yield (*place, resident_kib)
