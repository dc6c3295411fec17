"""How a candidate's time falls with threads: measured as far as this machine goes, then said by Amdahl's law.

In: median and 99th percentile by threads. Out: a :class:`Scaling` that predicts both for any number, and says whether
that number was measured.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

__all__ = ["Scaling", "ThreadPoint", "scaling_of"]

MOST_THREADS = 256


class ThreadPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one row with so many threads, in milliseconds."""

    threads: int
    p50_ms: float
    p99_ms: float
    mean_ms: float


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """Times by threads.

    Parameters
    ----------
    points
        Measured, fewest threads first.
    serial_share
        Share of the time with one thread that more threads do not shorten, in [0, 1]; 1 where one point is all.
    """

    points: tuple[ThreadPoint, ...]
    serial_share: float

    def at(self, threads: int) -> ThreadPoint:
        """Say the times with so many threads: measured where they were, else the law's.

        Examples
        --------
        >>> one = ThreadPoint(threads=1, p50_ms=8, p99_ms=10, mean_ms=8)
        >>> Scaling(points=(one,), serial_share=0.5).at(2).p99_ms
        7.5
        """
        for point in self.points:
            if point.threads == threads:
                return point
        return self.law(threads)

    def law(self, threads: int) -> ThreadPoint:
        """Say the times by the law alone; the widest measured tail is taken for each number of threads."""
        first = self.points[0]
        tail = max(point.p99_ms / point.p50_ms for point in self.points)
        share = self.serial_share + (1 - self.serial_share) / threads
        p50_ms = first.p50_ms * share
        return ThreadPoint(threads=threads, p50_ms=p50_ms, p99_ms=p50_ms * tail, mean_ms=first.mean_ms * share)

    def measured(self, threads: int) -> bool:
        """Whether so many threads were tried."""
        return any(point.threads == threads for point in self.points)

    def fewest(self, p99_ms: float) -> int | None:
        """Fewest threads that keep a limit; None when no number does.

        Examples
        --------
        >>> one = ThreadPoint(threads=1, p50_ms=8, p99_ms=10, mean_ms=8)
        >>> Scaling(points=(one,), serial_share=0.5).fewest(6), Scaling(points=(one,), serial_share=0.5).fewest(4)
        (5, None)
        """
        return next((n for n in range(1, MOST_THREADS + 1) if self.at(n).p99_ms <= p99_ms), None)


def scaling_of(points: Sequence[ThreadPoint]) -> Scaling:
    """Fit Amdahl's law to measured medians, by least squares of the times relative to one thread.

    Parameters
    ----------
    points
        The first with one thread; in ascending order.

    Examples
    --------
    >>> times = [ThreadPoint(threads=n, p50_ms=2 + 8 / n, p99_ms=1, mean_ms=1) for n in (1, 2, 4)]
    >>> round(scaling_of(times).serial_share, 6)
    0.2
    """
    ordered = tuple(sorted(points, key=lambda point: point.threads))
    more = [point for point in ordered if point.threads > 1]
    if not more or ordered[0].threads != 1:
        return Scaling(points=ordered, serial_share=1.0)
    # t(n)/t(1) - 1/n = s (1 - 1/n)
    weight = np.array([1 - 1 / point.threads for point in more])
    excess = np.array([point.p50_ms / ordered[0].p50_ms - 1 / point.threads for point in more])
    return Scaling(points=ordered, serial_share=float(np.clip((weight @ excess) / (weight @ weight), 0.0, 1.0)))
