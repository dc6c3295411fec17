"""A process that a supervisor keeps running: what it does, whether it was heard, and when it may be started again."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Child"]

_QUICK_S = 5.0
_PAUSES_S = (0.0, 0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)  # by quick ends in a row; the last one from then on
_SILENT_LOOKS = 15  # in a row, in which a child said nothing: half a minute, but not one for which nobody ran at all


@dataclass(eq=False)
class Child:
    """One kept process: its program, and when it may be started again."""

    name: str
    main: Callable[[], int]
    pid: int = 0
    start_at_s: float = 0.0
    ready: bool = False  # of the manager: all is loaded, and reloads are heard
    reloads: int = 0  # of the manager: that it has taken, and neither made nor refused yet
    _began_s: float = 0.0
    _quick_ends: int = 0
    _heard: bool = False
    _silent_looks: int = 0

    def begin(self) -> None:
        """Forget what was known of the process before: it is about to be started."""
        self._began_s = time.monotonic()
        self._heard, self.ready, self._silent_looks, self.reloads = False, False, 0, 0

    def put_off(self) -> None:
        """Start it again at once, or after a pause that grows with each quick end in a row."""
        now_s = time.monotonic()
        self._quick_ends = self._quick_ends + 1 if now_s - self._began_s < _QUICK_S else 0
        self.start_at_s = now_s + _PAUSES_S[min(self._quick_ends, len(_PAUSES_S) - 1)]

    def hear(self) -> None:
        """Take note that it told that its loop turns."""
        self._heard, self._silent_looks = True, 0

    def hangs(self) -> bool:
        """Whether it told once that its loop turns, and has not for long; to be asked at equal distances of time.

        Looks are counted and not seconds: after a pause of the whole machine a child has all of them to tell again.
        """
        if not (self.pid and self._heard):
            return False
        self._silent_looks += 1
        if self._silent_looks <= _SILENT_LOOKS:
            return False
        self._silent_looks = 0  # to say it again after as long
        return True

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, where it runs."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
