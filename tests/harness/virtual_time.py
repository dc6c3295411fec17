"""An event loop in which time passes only while everybody waits: a minute of load is over in a moment, and repeats."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

__all__ = ["VirtualClock", "run_virtually"]


class VirtualClock:
    """The clock of such a loop."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_ns(self) -> int:
        """Give the loop's time."""
        return round(self.now_s * 1e9)

    def now_utc(self) -> datetime:
        """Give it as a moment."""
        return datetime.fromtimestamp(self.now_s, UTC)


class _Selector(selectors.DefaultSelector):
    """Skips every wait."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        """Look at what is ready, and let the time pass that would have been waited."""
        if timeout is None:
            raise AssertionError("everybody waits for something that never comes")
        self._clock.now_s += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._virtual.now_s


def run_virtually(main: Coroutine[Any, Any, Any], clock: VirtualClock) -> Any:
    """Run a coroutine in a loop that goes by this clock."""
    with asyncio.Runner(loop_factory=lambda: _Loop(clock)) as runner:
        return runner.run(main)
