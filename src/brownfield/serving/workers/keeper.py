"""Keeps one model process running for as long as it is wanted, and says where it listens.

A process that ends is replaced, after a pause that doubles with each quick death; after five restarts without a rest
it is quarantined: not started again until it is asked for anew. One that somebody else killed is no reason to give the
model up, however often: it is replaced after a short pause. A process that hangs is ended and replaced: each is asked
for a greeting every other second, and at once when a gateway finds it silent.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from brownfield.clock import Clock, SystemClock
from brownfield.errors import BrownfieldError, WorkerUnavailable
from brownfield.host import oom_kills
from brownfield.model.process import ModelChannel, ModelProcess, StartFailed

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["Keeper", "WorkerState"]

_log = logging.getLogger(__name__)

MAX_QUICK_DEATHS = 5
_QUICK_S = 30.0
_KILLS_COUNTED = 3  # as quick deaths: those beyond lengthen the pause no more, and never lead into quarantine
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_HEARTBEAT_S = 2.0
_LAST_BREATH_S = 0.5  # for a process whose connection broke off to be gone
_PATIENCE_S = 1.0  # with a process that kept silent until a request's deadline
_GRACE_S, _LONGEST_GRACE_S = 5.0, 30.0  # for the call that a process is ended in


class WorkerState(StrEnum):
    """Where a kept process stands."""

    STARTING = "starting"
    READY = "ready"
    PAUSING = "pausing"
    QUARANTINED = "quarantined"
    STOPPED = "stopped"


class Keeper:
    """One kept process; it may begin again after its end.

    Parameters
    ----------
    start
        Starts the process, warms it up and waits until it is ready; blocking, called in a thread.
    label
        For log lines, such as ``store-recommendations 3``.
    on_change
        Called each time the process has become ready or has gone.
    starts
        Gives what is held while a process starts: bounds how many start at a time.
    patience_s
        How long the process may leave a heartbeat unanswered, if none of its calls may take longer.

    Attributes
    ----------
    longest_call_s
        How long a call may take: so long the process hears nothing else, and does not hang.
    process
        The one that runs or ran last; None again once it was ended.
    load_s
        Seconds until it was ready when it was last started; before that, what is known otherwise.
    restarts
        How often it was replaced.
    starting
        Whether a process is being started, in a thread that ends no sooner than that.
    """

    def __init__(
        self,
        start: Callable[[], ModelProcess],
        *,
        label: str,
        on_change: Callable[[], None] = lambda: None,
        starts: "Callable[[], AbstractAsyncContextManager[Any]] | None" = None,
        patience_s: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self.state = WorkerState.STOPPED
        self.process: ModelProcess | None = None
        self.load_s = 0.0
        self.restarts = 0
        self.longest_call_s = 0.0
        self.starting = False
        self._start = start
        self._label = label
        self._on_change = on_change
        self._starts = starts or contextlib.nullcontext
        self._patience_s = patience_s
        self._now_ns = (clock or SystemClock()).monotonic_ns
        self._channel: ModelChannel | None = None
        self._wake = asyncio.Event()
        self._suspected = False
        self._turn = asyncio.Lock()  # to begin, be renewed or be ended: what begins meanwhile would be left running
        self._task: asyncio.Task[None] | None = None

    @property
    def socket(self) -> str:
        """Name of the socket on which the ready process listens; empty while none does."""
        ready = self.state is WorkerState.READY and self.process is not None
        return self.process.socket_path.name if ready and self.process is not None else ""

    async def begin(self) -> None:
        """Start the process once and keep it from then on.

        Raises
        ------
        WorkerUnavailable, BundleRefused
            The first start failed; nothing is kept.
        """
        async with self._turn:
            try:
                await self._bring_up()
            except BaseException:
                self.state = WorkerState.STOPPED
                raise
            self._task = asyncio.create_task(self._keep())

    async def renew(self, told: Callable[[], Awaitable[None]]) -> None:
        """Start another process beside the one that runs, and end that as soon as nobody is sent to it any more.

        Parameters
        ----------
        told
            Tells all who ask where the process listens now, and waits until they know.

        Raises
        ------
        WorkerUnavailable, BundleRefused
            The other one did not start; the one that runs is kept.
        """
        async with self._turn:
            old, channel = self.process, self._channel
            await self._stop_keeping()
            try:
                async with self._starts():
                    fresh = await self._started()
                try:
                    self._channel = await ModelChannel.connect(fresh.socket_path, on_lost=self._wake.set)
                except WorkerUnavailable:
                    await asyncio.to_thread(fresh.kill)
                    raise
                self.process, self.state = fresh, WorkerState.READY
                self.restarts += 1
            finally:
                self._task = asyncio.create_task(self._keep())
            await told()
            if channel is not None:
                channel.close()
            if old is not None:
                await asyncio.to_thread(old.stop, self._grace_s)

    def retire(self) -> None:
        """Name no socket any more: the process is about to be ended."""
        self.state = WorkerState.STOPPED

    async def end(self, grace_s: float | None = None) -> None:
        """End the process; what it was asked before is still answered, in ``grace_s`` seconds where that is given."""
        async with self._turn:
            await self._stop_keeping()
            self.state = WorkerState.STOPPED
            if self.process is not None:
                await asyncio.to_thread(self.process.stop, self._grace_s if grace_s is None else grace_s)
                self.process = None
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    @property
    def _grace_s(self) -> float:
        return min(max(_GRACE_S, self.longest_call_s), _LONGEST_GRACE_S)

    async def _stop_keeping(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def suspect(self) -> None:
        """Look now whether the process still answers: a request was left without an answer."""
        self._suspected = True
        self._wake.set()

    async def _bring_up(self) -> None:
        self.state = WorkerState.STARTING
        async with self._starts():
            began_ns = self._now_ns()
            self.process = await self._started()
            self.load_s = (self._now_ns() - began_ns) / 1e9
        self._wake.clear()
        try:
            self._channel = await ModelChannel.connect(self.process.socket_path, on_lost=self._wake.set)
        except WorkerUnavailable:
            await asyncio.to_thread(self.process.kill)
            self.process = None
            raise
        self.state = WorkerState.READY
        self._on_change()

    async def _started(self) -> ModelProcess:
        """Start a process in a thread; when nobody waits for it any more it is ended as soon as it is there."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._start))
        self.starting = True
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await asyncio.to_thread((await starting).kill)
            raise
        except BrownfieldError:
            raise
        except Exception as error:  # what the host has too little of just now is no reason to give the model up
            raise WorkerUnavailable(f"its process could not be started: {error or type(error).__name__}") from error
        finally:
            self.starting = False

    async def _keep(self) -> None:
        """Replace the process each time it ends, until there are too many quick deaths."""
        quick_deaths = 0
        while True:
            if self.state is WorkerState.READY:
                up_since_ns = self._now_ns()
                was_killed = await self._until_lost()
                lived_s = (self._now_ns() - up_since_ns) / 1e9
                more = quick_deaths + 1 if lived_s < _QUICK_S else 1
                quick_deaths = min(more, max(quick_deaths, _KILLS_COUNTED)) if was_killed else more
            else:
                quick_deaths += 1  # it did not even start
            if quick_deaths > MAX_QUICK_DEATHS:
                break
            self.state = WorkerState.PAUSING
            self._on_change()
            if quick_deaths > 1:
                await asyncio.sleep(min(_FIRST_PAUSE_S * 2 ** (quick_deaths - 2), _LONGEST_PAUSE_S))
            self.restarts += 1
            try:
                await self._bring_up()
            except BrownfieldError as error:
                extra = {"event": "BF-WRK-NOT-STARTED", "worker": self._label, "reason": error.code}
                if isinstance(error, StartFailed):  # its words may be the model's own, which are never logged
                    extra |= {"cause": error.cause, "ended": error.ended}
                _log.error("a model process did not start", extra=extra)
        self.state = WorkerState.QUARANTINED
        self._on_change()
        _log.error(
            "a model process is quarantined after quick deaths in a row",
            extra={"event": "BF-WRK-QUARANTINED", "worker": self._label},
        )

    async def _until_lost(self) -> bool:
        """Wait for the end of the process, end it when it hangs; whether somebody else killed it."""
        channel, process = self._channel, self.process
        if channel is None or process is None:
            return False
        hung, killed_before = False, oom_kills()
        while channel.connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_S):  # wait_for would lose a cancellation of the same moment
                    await self._wake.wait()
            self._wake.clear()
            if channel.connected and not await self._answers(process):
                _log.error(
                    "a model process hangs and is replaced", extra={"event": "BF-WRK-HUNG", "worker": self._label}
                )
                hung = True
                break
        self.state = WorkerState.PAUSING
        channel.close()
        ended, by_itself = await asyncio.to_thread(_end, process, 0.0 if hung else _LAST_BREATH_S)
        # The kernel kills with this signal as well, where there is no memory left, and says so.
        was_killed = by_itself and ended == "SIGKILL" and killed_before is not None and oom_kills() == killed_before
        extra = {"event": "BF-WRK-ENDED", "worker": self._label, "ended": ended, "killed_from_outside": was_killed}
        _log.warning("a model process ended", extra=extra)
        return was_killed

    async def _answers(self, process: ModelProcess) -> bool:
        """Whether the process greets in time; True as well when it is to be asked anew, with less patience.

        Where that would be no less, for a call may take as long as that, a suspicion does not begin the wait again.
        """
        suspected, self._suspected = self._suspected, False
        patience_s = max(_PATIENCE_S if suspected else self._patience_s, self.longest_call_s)
        asked, woken = asyncio.ensure_future(_greets(process, patience_s)), asyncio.ensure_future(self._wake.wait())
        try:
            anew = patience_s > max(_PATIENCE_S, self.longest_call_s)
            await asyncio.wait({asked, woken} if anew else {asked}, return_when=asyncio.FIRST_COMPLETED)
            return not asked.done() or asked.result()
        finally:
            for each in (asked, woken):
                each.cancel()
            await asyncio.gather(asked, woken, return_exceptions=True)


def _end(process: ModelProcess, grace_s: float) -> tuple[str, bool]:
    """Take note of the end of a process, or end it; how it ended, and whether that was without us."""
    try:
        return process.wait(grace_s), True
    except TimeoutError:
        return process.kill(), False


async def _greets(process: ModelProcess, patience_s: float) -> bool:
    """Whether a process greets a new connection in time; asked again when this loop itself was late to listen."""
    for _ in range(2):
        began_s = time.monotonic()
        try:
            channel = await ModelChannel.connect(process.socket_path, timeout_s=patience_s)
        except WorkerUnavailable:
            if time.monotonic() - began_s < 1.5 * patience_s:
                return False
        else:
            channel.close()
            return True
    return False
