"""Keeps one model process running and its connection in the pool, for as long as it is wanted.

A process that ends is replaced, after a pause that doubles with each quick death; after five restarts without a rest
it is quarantined: not started again until it is asked for anew. A process that hangs is ended and replaced.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from brownfield.clock import Clock, SystemClock
from brownfield.errors import WorkerUnavailable
from brownfield.model.process import ModelChannel, ModelProcess

if TYPE_CHECKING:
    from brownfield.serving.workers.pool import WorkerPool

__all__ = ["Keeper", "WorkerState"]

_log = logging.getLogger(__name__)

MAX_QUICK_DEATHS = 5
_QUICK_S = 30.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_PATIENCE_S = 1.0


class WorkerState(StrEnum):
    """Where a kept process stands."""

    STARTING = "starting"
    READY = "ready"
    PAUSING = "pausing"
    QUARANTINED = "quarantined"
    STOPPED = "stopped"


class Keeper:
    """One kept process.

    Parameters
    ----------
    start
        Starts the process and waits until it is ready; blocking, called in a thread.
    pool
        Where its connection joins.
    label
        For log lines, such as ``store-recommendations 3``.
    on_ready
        Called each time a process has joined.
    starts
        Held while a process starts, so that many keepers start one after another.
    """

    def __init__(
        self,
        start: Callable[[], ModelProcess],
        pool: "WorkerPool",
        *,
        label: str,
        on_ready: Callable[[], None] = lambda: None,
        starts: asyncio.Lock | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.state = WorkerState.STARTING
        self.process: ModelProcess | None = None
        self.restarts = 0
        self._start = start
        self._pool = pool
        self._label = label
        self._on_ready = on_ready
        self._starts = starts or asyncio.Lock()
        self._now_ns = (clock or SystemClock()).monotonic_ns
        self._channel: ModelChannel | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start the process once and keep it from then on.

        Raises
        ------
        WorkerUnavailable
            The first start failed; nothing is kept.
        """
        await self._bring_up()
        self._task = asyncio.create_task(self._keep())

    async def end(self) -> None:
        """Take the process out of the pool and end it; what it was asked before is still answered."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.state = WorkerState.STOPPED
        if self._channel is not None:
            self._pool.leave(self._channel)
        if self.process is not None:
            await asyncio.to_thread(self.process.stop)
        if self._channel is not None:
            self._channel.close()

    async def _bring_up(self) -> None:
        self.state = WorkerState.STARTING
        async with self._starts:
            self.process = await asyncio.to_thread(self._start)
        self._wake.clear()
        try:
            self._channel = await ModelChannel.connect(self.process.socket_path, on_lost=self._wake.set)
        except WorkerUnavailable:
            await asyncio.to_thread(self.process.kill)
            raise
        self._pool.join(self._channel, self._wake.set)
        self.state = WorkerState.READY
        self._on_ready()

    async def _keep(self) -> None:
        """Replace the process each time it ends, until there are too many quick deaths."""
        quick_deaths = 0
        while True:
            if self.state is WorkerState.READY:
                up_since_ns = self._now_ns()
                await self._until_lost()
                lived_s = (self._now_ns() - up_since_ns) / 1e9
                quick_deaths = quick_deaths + 1 if lived_s < _QUICK_S else 1
            else:
                quick_deaths += 1  # it did not even start
            if quick_deaths > MAX_QUICK_DEATHS:
                break
            self.state = WorkerState.PAUSING
            if quick_deaths > 1:
                await asyncio.sleep(min(_FIRST_PAUSE_S * 2 ** (quick_deaths - 2), _LONGEST_PAUSE_S))
            self.restarts += 1
            try:
                await self._bring_up()
            except WorkerUnavailable as error:
                extra = {"event": "BF-WRK-NOT-STARTED", "worker": self._label, "reason": error.code}
                _log.error("a model process did not start", extra=extra)
        self.state = WorkerState.QUARANTINED
        _log.error(
            "a model process is quarantined after quick deaths in a row",
            extra={"event": "BF-WRK-QUARANTINED", "worker": self._label},
        )

    async def _until_lost(self) -> None:
        """Wait for the end of the process; end it when it hangs."""
        channel, process = self._channel, self.process
        if channel is None or process is None:
            return
        while channel.connected:
            await self._wake.wait()
            self._wake.clear()
            patience_ns = round(_PATIENCE_S * 1e9)
            if await self._pool.hung(channel, patience_ns=patience_ns, now_ns=self._now_ns()):
                _log.error(
                    "a model process hangs and is replaced", extra={"event": "BF-WRK-HUNG", "worker": self._label}
                )
                await asyncio.to_thread(process.kill)
                break
        self._pool.leave(channel)
        channel.close()
        ended = await asyncio.to_thread(process.kill)
        _log.warning("a model process ended", extra={"event": "BF-WRK-ENDED", "worker": self._label, "ended": ended})
