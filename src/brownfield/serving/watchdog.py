"""Says where the event loop of a process is stuck: a thread looks whether it still turns, and logs its stack if not.

Files, lines and functions are logged, never a value. One line for each time that it is stuck, while it is, so that the
cause can be found also where it never ends. A process that was stopped as a whole is not stuck.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

__all__ = ["Watchdog"]

_log = logging.getLogger(__name__)

_FRAMES = 12


class Watchdog:
    """Watches one event loop.

    Parameters
    ----------
    patience_s
        How long the loop may take for one turn.
    now_s
        Monotonic time in seconds.

    Examples
    --------
    >>> now = iter([0.0, 0.5, 1.0, 1.5, 2.0])
    >>> dog = Watchdog(patience_s=1.0, now_s=lambda: next(now))
    >>> [dog.looks_stuck() for _ in range(4)]
    [False, False, True, False]
    """

    def __init__(self, patience_s: float = 1.0, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._every_s = patience_s / 4
        self._now_s = now_s
        self._turned_s = self._looked_s = now_s()
        self._said = False
        self._over = threading.Event()

    def watch(self) -> None:
        """Begin to watch the running loop, from a thread that ends with the process."""
        loop, thread = asyncio.get_running_loop(), threading.get_ident()

        def turned() -> None:
            self._turned_s, self._said = self._now_s(), False
            loop.call_later(self._every_s, turned)

        turned()
        threading.Thread(target=self._look_on, args=(thread,), name="bf-watchdog", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def looks_stuck(self) -> bool:
        """Whether the loop has not turned for too long, which is said once; called every quarter of that time."""
        now_s = self._now_s()
        asleep = now_s - self._looked_s > self._patience_s  # this thread was late as well: the process did not run
        self._looked_s = now_s
        if asleep:
            self._turned_s = now_s
        if self._said or now_s - self._turned_s <= self._patience_s:
            return False
        self._said = True
        return True

    def _look_on(self, thread: int) -> None:
        while not self._over.wait(self._every_s):
            if self.looks_stuck():
                extra = {"event": "BF-SRV-LOOP-STUCK", "stack": _stack(thread)}
                _log.error("the event loop is stuck; what it does now is in stack", extra=extra)


def _stack(thread: int) -> list[str]:
    """Give the innermost frames of a thread, as files, lines and functions."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 (the documented way to another thread's stack)
    frames = traceback.extract_stack(frame)[-_FRAMES:] if frame is not None else []
    return [f"{Path(each.filename).name}:{each.lineno} {each.name}" for each in frames]
