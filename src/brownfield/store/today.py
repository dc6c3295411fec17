"""The time of day as far as it is believed by who deletes what is too old: a clock that was set ahead has to prove it.

What is deleted is gone, so one wrong clock must not make all of it old at once. Monotonic time tells that a clock was
set; one set back is believed at once, as nothing is old by it; one set ahead when it has stood by that for a day.
"""

from datetime import datetime, timedelta

from brownfield.clock import Clock

__all__ = ["Today"]

_LEAST = timedelta(seconds=30)  # what a clock that is only corrected does not do between two looks
_PROVEN = timedelta(days=1)


class Today:
    """A time of day that goes by monotonic time where somebody set the clock ahead.

    Parameters
    ----------
    clock
        Whose time it is; what it says now is believed.

    Examples
    --------
    >>> from brownfield.testing import FakeClock
    >>> clock = FakeClock()
    >>> today = Today(clock)
    >>> clock.jump(40 * 86_400)
    >>> clock.advance(3600)
    >>> today.now_utc().isoformat()
    '2026-01-01T01:00:00+00:00'
    >>> clock.advance(86_400)
    >>> today.now_utc().isoformat()
    '2026-02-11T01:00:00+00:00'
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_utc = clock.now_utc() - self._passed()
        self._doubted: tuple[datetime, timedelta] | None = None  # when it would have begun, and since when it is said

    def now_utc(self) -> datetime:
        """Aware time of day, never ahead of what the clock says."""
        passed = self._passed()
        began_utc = self._clock.now_utc() - passed
        if began_utc - self._began_utc <= _LEAST:
            self._began_utc, self._doubted = began_utc, None
        elif self._doubted is None or abs(began_utc - self._doubted[0]) > _LEAST:
            self._doubted = began_utc, passed
        elif passed - self._doubted[1] >= _PROVEN:
            self._began_utc, self._doubted = began_utc, None
        else:
            self._doubted = began_utc, self._doubted[1]
        return self._began_utc + passed

    def _passed(self) -> timedelta:
        return timedelta(microseconds=self._clock.monotonic_ns() // 1000)
