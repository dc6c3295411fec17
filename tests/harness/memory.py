"""What a process keeps of something that is done again and again."""

import tracemalloc
from collections.abc import Callable

__all__ = ["kept_bytes", "peak_bytes"]


def kept_bytes(measure: Callable[[], int], act: Callable[[], object], below: int, windows: int = 4) -> int:
    """Bytes by which memory grows while something is done, in the first of several windows in which it is few.

    Memory moves for many reasons; what is kept for good is seen in every window.
    """
    grown = []
    while len(grown) < windows and (not grown or grown[-1] >= below):
        before = measure()
        act()
        grown.append(measure() - before)
    return min(grown)


def peak_bytes(act: Callable[[], object]) -> int:
    """Most bytes of Python's objects that stood beside those from before while something was done."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        act()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
