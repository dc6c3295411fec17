"""The workers of one model version, seen from the gateway: which to ask, whom to ask again, who is hung.

A call goes to the connected worker with the fewest requests in flight. When that worker dies under it, the call is made
once more on a sibling, if there is one. Workers come and go; the pool itself starts and ends nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brownfield.errors import BrownfieldError, DeadlineExceeded, WorkerUnavailable
from brownfield.serving.workers.base import Inference, Tensors

if TYPE_CHECKING:
    from brownfield.model.process import ModelChannel

__all__ = ["WorkerPool"]


@dataclass(eq=False, slots=True)
class _Member:
    channel: "ModelChannel"
    on_silent: Callable[[], None]
    unanswered: Tensors | None = None  # what it was asked when it last kept silent until the deadline


class WorkerPool:
    """A pool over :class:`~brownfield.model.process.ModelChannel` connections."""

    def __init__(self) -> None:
        self._members: list[_Member] = []

    @property
    def ready(self) -> bool:
        """Whether a worker is connected."""
        return bool(self._members)

    def join(self, channel: "ModelChannel", on_silent: Callable[[], None] = lambda: None) -> None:
        """Ask this worker too, from now on; ``on_silent`` is called when it keeps silent until a deadline."""
        self._members.append(_Member(channel, on_silent))

    def leave(self, channel: "ModelChannel") -> None:
        """Ask this worker no more."""
        self._members = [member for member in self._members if member.channel is not channel]

    async def infer(self, tensors: Tensors, rows: int, deadline_ns: int) -> Inference:  # noqa: ARG002 (frames carry the rows)
        """Ask the least busy worker; see :meth:`brownfield.serving.workers.base.Pool.infer`."""
        member = self._choice(None)
        if member is None:
            raise WorkerUnavailable("no model process is running")
        try:
            return await _ask(member, tensors, deadline_ns)
        except WorkerUnavailable:
            sibling = self._choice(member)
            if sibling is None:
                raise
            return await _ask(sibling, tensors, deadline_ns)

    async def hung(self, channel: "ModelChannel", *, patience_ns: int, now_ns: int) -> bool:
        """Whether a worker that kept silent keeps silent still: it is asked the same again, with patience.

        A slow worker answers that in the end; a stopped or looping one does not, and should be replaced.
        """
        member = next((each for each in self._members if each.channel is channel), None)
        if member is None or member.unanswered is None:
            return False
        tensors, member.unanswered = member.unanswered, None
        try:
            await channel.infer(tensors, now_ns + patience_ns)
        except DeadlineExceeded:
            return True
        except BrownfieldError:
            return False  # an error is an answer, and a death is noticed elsewhere
        return False

    def _choice(self, but: _Member | None) -> _Member | None:
        """Give the least busy worker that is not ``but``."""
        choice = None
        for member in self._members:
            if member is not but and (choice is None or member.channel.in_flight < choice.channel.in_flight):
                choice = member
        return choice


async def _ask(member: _Member, tensors: Tensors, deadline_ns: int) -> Inference:
    try:
        reply = await member.channel.infer(tensors, deadline_ns)
    except DeadlineExceeded:
        member.unanswered = tensors
        member.on_silent()
        raise
    member.unanswered = None
    return Inference(reply, reply.run_us * 1000)
