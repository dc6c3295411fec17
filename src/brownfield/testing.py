"""Fakes for tests of Brownfield and of plug-ins: a clock that is moved instead of waited for."""

from datetime import UTC, datetime, timedelta

__all__ = ["FakeClock"]


class FakeClock:
    """A clock that stands still until it is moved; its two times move together unless the wall clock jumps.

    Parameters
    ----------
    start_utc
        Aware time of day at the beginning.

    Examples
    --------
    >>> clock = FakeClock()
    >>> clock.advance(1.5)
    >>> clock.monotonic_ns(), clock.now_utc().isoformat()
    (1500000000, '2026-01-01T00:00:01.500000+00:00')
    >>> clock.jump(-3600)
    >>> clock.monotonic_ns(), clock.now_utc().isoformat()
    (1500000000, '2025-12-31T23:00:01.500000+00:00')
    """

    def __init__(self, start_utc: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now_utc = start_utc
        self._monotonic_ns = 0

    def monotonic_ns(self) -> int:
        """Nanoseconds by which the clock was advanced."""
        return self._monotonic_ns

    def now_utc(self) -> datetime:
        """Aware time of day."""
        return self._now_utc

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self._monotonic_ns += round(seconds * 1e9)
        self._now_utc += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or a time server does."""
        self._now_utc += timedelta(seconds=seconds)
