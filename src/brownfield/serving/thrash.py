"""Whether models evict each other again and again: the alarm of a workspace with less memory than its models need."""

from collections import deque

__all__ = ["WITHIN_S", "Thrash"]

WITHIN_S = 60.0
"""A model that comes back so soon after it was evicted counts, and so long it counts."""

_COUNT = 3
_LONG_WAIT_S = WITHIN_S / _COUNT


class Thrash:
    """Counts models that came back soon after they were evicted, or had to wait for memory.

    Examples
    --------
    >>> thrash = Thrash()
    >>> [thrash.note(now_s) for now_s in (1.0, 2.0, 3.0, 4.0)]
    [False, False, True, False]
    >>> thrash.is_so(60.0), thrash.is_so(64.0)
    (True, False)
    """

    def __init__(self) -> None:
        self._at_s: deque[float] = deque(maxlen=_COUNT)

    def is_so(self, now_s: float) -> bool:
        """Whether there were several within the last minute."""
        return len(self._at_s) == _COUNT and now_s - self._at_s[0] <= WITHIN_S

    def note(self, now_s: float, *, waits_s: float = 0.0) -> bool:
        """Count one that has so long to wait, if at all: a long wait is as bad as several. Whether the alarm begins."""
        was_so = self.is_so(now_s)
        self._at_s.extend([now_s] * (_COUNT if waits_s >= _LONG_WAIT_S else 1))
        return self.is_so(now_s) and not was_so
