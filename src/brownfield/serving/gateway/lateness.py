"""Calls whose callers have all given up: until the model has answered it is busy, and what it took is learned.

What is only known to take too long teaches next to nothing. A model that has become slower than it was thought to be,
such as one that a crowd asks in its first second, would get one call after another that it cannot answer in time.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from brownfield.serving.gateway.suspects import suspect
from brownfield.serving.workers.base import Inference

if TYPE_CHECKING:
    from brownfield.model.process import AnswerLate, Reply
    from brownfield.serving.gateway.admission import Admission
    from brownfield.serving.gateway.asks import ModelCall
    from brownfield.serving.gateway.served import Version

__all__ = ["grace_ns", "late_answer"]

_GRACE_SHARE: Final = 0.5  # of the deadline
_LONGEST_GRACE_NS: Final = 500_000_000


def grace_ns(deadline_ns: int) -> int:
    """Give how long a model may say nothing behind a deadline until it is asked for others again.

    Examples
    --------
    >>> grace_ns(150_000_000), grace_ns(60_000_000_000)
    (75000000, 500000000)
    """
    return min(round(_GRACE_SHARE * deadline_ns), _LONGEST_GRACE_NS)


async def late_answer(version: "Version", call: "ModelCall", error: "AnswerLate") -> "tuple[Inference | None, bool]":
    """Wait for the answer that nobody wants any more, as long as the model goes on giving answers.

    Parameters
    ----------
    version
        That was asked, of one worker; its costs learn what the call took.
    call
        Whose deadline has passed.
    error
        Brings the answer when there is one.

    Returns
    -------
    Inference or None
        Without tensors; None when it was not computed.
    bool
        Whether nothing was heard of it.
    """
    later, poison = error.later, version.poison
    _give_up_later(later, version.admission, grace_ns(call.asks[0].served.deadline_ns))
    reply = await later
    if reply is None:
        return None, True
    if not reply.run_us:  # an error, or a refusal because the process came to it too late: nothing was timed
        poison.late_calls.clear()
        return None, False
    if poison.watching or poison.late_calls:
        suspect(version, call, None, 0)
    inference = Inference(reply, reply.run_us * 1000, reply.call_rows)
    if version.costs is not None:
        version.costs.late(reply.call_rows or call.rows, inference.infer_ns)
    return inference, False


def _give_up_later(later: "asyncio.Future[Reply | None]", admission: "Admission", after_ns: int) -> None:
    timer = asyncio.get_running_loop().call_later(
        after_ns / 1e9, _give_up, later, admission, after_ns, admission.last_answer_ns
    )
    later.add_done_callback(lambda _: timer.cancel())


def _give_up(later: "asyncio.Future[Reply | None]", admission: "Admission", after_ns: int, answered_ns: int) -> None:
    """Wait no longer, unless the model has given answers meanwhile."""
    if admission.last_answer_ns > answered_ns:
        _give_up_later(later, admission, after_ns)
    elif not later.done():
        later.set_result(None)
