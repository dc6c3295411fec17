"""Calls whose callers have all given up: until the model has answered it is busy, and what it took is learned.

What is only known to take too long teaches next to nothing. A model that has become slower than it was thought to be,
such as one that a crowd asks in its first second, would get one call after another that it cannot answer in time.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from brownfield.serving.gateway.suspects import suspect
from brownfield.serving.workers.base import Inference

if TYPE_CHECKING:
    from brownfield.model.process import AnswerLate
    from brownfield.serving.gateway.asks import ModelCall
    from brownfield.serving.gateway.served import Version

__all__ = ["late_answer"]

_GRACE_SHARE: Final = 0.5  # of the deadline, in which nothing comes from the model


async def late_answer(version: "Version", call: "ModelCall", error: "AnswerLate") -> "Inference | None":
    """Wait for the answer that nobody wants any more, as long as the model answers anything; None without one.

    Parameters
    ----------
    version
        That was asked; its costs learn what the call took.
    call
        Whose deadline has passed.
    error
        Brings the answer when there is one.

    Returns
    -------
    Inference or None
        Without tensors.
    """
    later, admission, loop = error.later, version.admission, asyncio.get_running_loop()
    grace_s = _GRACE_SHARE * call.asks[0].served.deadline_ns / 1e9

    def look(answered_ns: int) -> None:
        if later.done():
            return
        if admission.last_answer_ns > answered_ns:
            loop.call_later(grace_s, look, admission.last_answer_ns)
        else:
            later.set_result(None)

    loop.call_later(grace_s, look, admission.last_answer_ns)
    reply = await later
    if reply is None:
        return None
    inference = Inference(reply, reply.run_us * 1000, reply.call_rows)
    if version.poison.watching or version.poison.late_calls:
        suspect(version, call, None, 0)
    if version.costs is not None:
        version.costs.late(reply.call_rows or call.rows, inference.infer_ns)
    return inference
