"""What a process does beside everything else: tasks that nobody awaits, cancelled together at its end."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["Tasks"]

_log = logging.getLogger(__name__)

_ONCE_MORE_S = 1.0  # until what went wrong is tried again


class Tasks:
    """Tasks that are under way; each is forgotten when it ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, what: "Coroutine[Any, Any, Any]") -> "asyncio.Task[Any]":
        """Have the loop do something."""
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def keep_on(self, what: "Callable[[], Awaitable[None]]", every_s: float) -> None:
        """Have the loop do something again and again; what goes wrong once is said, and does not end it."""
        self.begin(self._keep_on(what, every_s))

    def cancel(self) -> None:
        """Have all of them end."""
        for task in tuple(self._tasks):
            task.cancel()

    async def _keep_on(self, what: "Callable[[], Awaitable[None]]", every_s: float) -> None:
        while True:
            try:
                await what()
            except Exception as error:  # noqa: BLE001 (it is said, and what stands still is noticed by nobody)
                extra = {"event": "BF-SRV-WENT-WRONG", "task": what.__name__.strip("_"), "reason": str(error)}
                _log.exception("something went wrong and is tried again", extra=extra)
                await asyncio.sleep(_ONCE_MORE_S)
            await asyncio.sleep(every_s)
