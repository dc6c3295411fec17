"""The workers of one model version, seen from a gateway: which to ask, whom to ask again, and whom to wait for.

A call goes to the connected worker with the fewest requests in flight; one that lately let a deadline pass, or does not
read, only when its siblings are no better. When that worker dies under it, the call is made once more on a sibling, if
there is one, before the deadline, and as the budget of retries allows. Workers come and go;
the pool itself starts and ends nothing. Where none is loaded and one may be, a call has it loaded and waits for it, as
far as its deadline allows. A version that gives rows in another order than it took them is suspended: nobody asks it
any more.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from brownfield.errors import DeadlineExceeded, Overloaded, WorkerUnavailable
from brownfield.serving.workers.base import Inference, Tensors
from brownfield.serving.workers.budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from brownfield.model.process import Reply
    from brownfield.serving.workers.sentinel import Sentinel

__all__ = ["Channel", "WorkerPool"]

_log = logging.getLogger(__name__)

_AVOIDED_NS = 1_000_000_000  # a worker that keeps silent: so long it has to be found out whether it hangs


class Channel(Protocol):
    """What a pool needs of a connection to a worker."""

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers."""
        ...

    def look(self) -> None:
        """Send and take in; see :meth:`brownfield.model.process.ModelChannel.look`."""
        ...

    def infer(self, tensors: Tensors, deadline_ns: int | None = None) -> "Awaitable[Reply]":
        """Ask once; see :meth:`brownfield.model.process.ModelChannel.infer`."""
        ...


@dataclass(eq=False, slots=True)
class _Member:
    channel: Channel
    on_silent: Callable[[], None]
    avoided_until_ns: int = 0


class WorkerPool:
    """A pool over :class:`~brownfield.model.process.ModelChannel` connections.

    Parameters
    ----------
    retries
        How often a call may be made again; a budget of its own by default.
    sentinel
        A record whose answer is known and that travels along now and then; None where calls are not shared.
    label
        For log lines, such as the version.

    Attributes
    ----------
    suspended
        Whether it gave rows in another order than it took them.
    on_demand
        Has a worker loaded; None where nobody may be waited for.
    load_s
        How long loading takes, as far as is known.
    """

    def __init__(
        self, retries: RetryBudget | None = None, *, sentinel: "Sentinel | None" = None, label: str = ""
    ) -> None:
        self.suspended = False
        self._sentinel = sentinel
        self._label = label
        self.on_demand: Callable[[], None] | None = None
        self.load_s = 0.0
        self._members: list[_Member] = []
        self._arrival: asyncio.Future[None] | None = None
        self._retries = retries or RetryBudget()

    @property
    def ready(self) -> bool:
        """Whether a worker is connected, or will be when it is asked for."""
        return not self.suspended and (bool(self._members) or self.on_demand is not None)

    @property
    def workers(self) -> int:
        """How many are connected."""
        return len(self._members)

    def join(self, channel: Channel, on_silent: Callable[[], None] = lambda: None) -> None:
        """Ask this worker too, from now on; ``on_silent`` is called when it keeps silent until a deadline."""
        self._members.append(_Member(channel, on_silent))
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        self._arrival = None

    def leave(self, channel: Channel) -> None:
        """Ask this worker no more."""
        self._members = [member for member in self._members if member.channel is not channel]

    def look(self) -> None:
        """Send and take in; see :meth:`brownfield.serving.workers.base.Pool.look`."""
        for member in self._members:
            member.channel.look()

    async def infer(self, tensors: Tensors, rows: int, deadline_ns: int) -> Inference:
        """Ask the least busy worker; see :meth:`brownfield.serving.workers.base.Pool.infer`."""
        if not self._members and self.on_demand is not None:
            await self._until_loaded(self.on_demand, deadline_ns)
        self._retries.earn()
        member = self._choice(None)
        if member is None:
            raise WorkerUnavailable("no model process is running")
        sentinel, place = self._sentinel, -1
        if sentinel is not None and sentinel.is_due(rows):
            tensors, place = sentinel.added(tensors, rows)
        try:
            inference = await _ask(member, tensors, deadline_ns)
        except (WorkerUnavailable, Overloaded):
            sibling = self._choice(member)
            if sibling is None or time.monotonic_ns() >= deadline_ns or not self._retries.spend():
                raise
            inference = await _ask(sibling, tensors, deadline_ns)
        return inference if sentinel is None or place < 0 else self._own_rows(sentinel, inference, place)

    def _own_rows(self, sentinel: "Sentinel", inference: Inference, place: int) -> Inference:
        """Give the callers' rows where the golden record came back at its place; else nobody asks this version more."""
        if sentinel.is_misplaced(inference.outputs, place):
            self.suspended = True
            extra = {"event": "BF-WRK-ROWS-MIXED", "version": self._label}
            _log.error("a model gives rows in another order than it took them and is asked no more", extra=extra)
            raise WorkerUnavailable("the answer's rows are not in the order of the question's")
        return inference._replace(outputs=sentinel.taken_out(inference.outputs, place))

    async def _until_loaded(self, load: Callable[[], None], deadline_ns: int) -> None:
        """Have a worker loaded and wait for it; not at all when the deadline is sooner than that can be."""
        if self._arrival is None:
            self._arrival = asyncio.get_running_loop().create_future()
            load()
        left_s = (deadline_ns - time.monotonic_ns()) / 1e9
        if left_s < self.load_s:
            raise WorkerUnavailable("the model is being loaded, which takes longer than there is time")
        await asyncio.wait([self._arrival], timeout=left_s)

    def load_again(self) -> None:
        """Have a worker loaded for those who wait for one: none was when it was already running."""
        if self._arrival is not None and self.on_demand is not None:
            self.on_demand()

    def fail_arrival(self) -> None:
        """Let those who wait for a worker go on without one: it could not be loaded."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        self._arrival = None

    def _choice(self, but: _Member | None) -> _Member | None:
        """Give the least busy worker that is not ``but``; what it kept silent about is in flight no more."""
        if len(self._members) == 1:
            only = self._members[0]
            return only if only is not but else None
        now_ns = time.monotonic_ns()
        others = [member for member in self._members if member is not but]
        return min(others, key=lambda each: (each.avoided_until_ns > now_ns, each.channel.in_flight), default=None)


async def _ask(member: _Member, tensors: Tensors, deadline_ns: int) -> Inference:
    try:
        reply = await member.channel.infer(tensors, deadline_ns)
    except DeadlineExceeded:
        member.avoided_until_ns = time.monotonic_ns() + _AVOIDED_NS
        member.on_silent()
        raise
    except Overloaded:
        member.avoided_until_ns = time.monotonic_ns() + _AVOIDED_NS
        raise
    return Inference(reply, reply.run_us * 1000, reply.call_rows)
