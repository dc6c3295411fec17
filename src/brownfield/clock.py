"""Time that tests can move: every room that waits or stamps takes a Clock instead of asking the system."""

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the platform needs to know about time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds from an arbitrary start, never going back: for deadlines and durations."""
        ...

    def now_utc(self) -> datetime:
        """Aware time of day in UTC: for stamps, never for deadlines."""
        ...


class SystemClock:
    """The machine's own clocks.

    Examples
    --------
    >>> clock = SystemClock()
    >>> clock.monotonic_ns() <= clock.monotonic_ns()
    True
    >>> clock.now_utc().tzname()
    'UTC'
    """

    monotonic_ns = staticmethod(time.monotonic_ns)  # the function itself: it is asked several times for each request

    def now_utc(self) -> datetime:
        """Return the time of day in UTC."""
        return datetime.now(UTC)
