"""Sees that the clock of the machine was set: time of day against monotonic time, looked at now and then.

Deadlines, breakers and pauses go by monotonic time and do not notice. What is stamped or expires by time of day does,
so a jump is told and entered: whoever reads the stamps later can know.
"""

from datetime import datetime

from brownfield.clock import Clock

__all__ = ["ClockJumps"]

_LEAST_S = 30.0  # what a clock that is only corrected does not do between two looks


class ClockJumps:
    """Compares the two clocks from one look to the next.

    Parameters
    ----------
    clock
        Whose time it is.

    Examples
    --------
    >>> from brownfield.testing import FakeClock
    >>> clock = FakeClock()
    >>> jumps = ClockJumps(clock)
    >>> clock.advance(3600)
    >>> jumps.look()
    0.0
    >>> clock.jump(-7200)
    >>> jumps.look(), jumps.look()
    (-7200.0, 0.0)
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = self._now()

    def look(self) -> float:
        """Seconds by which the clock was set since the last look, back when negative; 0.0 when it was not."""
        at, monotonic_ns = now = self._now()
        passed_s = (monotonic_ns - self._last[1]) / 1e9
        set_s = (at - self._last[0]).total_seconds() - passed_s
        self._last = now
        return set_s if abs(set_s) >= _LEAST_S else 0.0

    def _now(self) -> tuple[datetime, int]:
        return self._clock.now_utc(), self._clock.monotonic_ns()
