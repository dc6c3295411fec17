"""What a model's process answers: held to what it announced before anything is unpacked.

In: a frame, and the names and types of the greeting. Out: tensors by output name, or one typed error.
"""

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brownfield.errors import DeadlineExceeded, ModelFailed
from brownfield.model.process.frames import ERROR, RESPONSE, TYPES, Frame

if TYPE_CHECKING:
    from brownfield.model.process.frames import Layout
    from brownfield.model.process.spawn import Hello

__all__ = ["Reply", "RunFailed", "Types", "announced", "reply_of", "times_of"]

Types: TypeAlias = tuple[np.dtype[Any] | None, ...]
"""Of the tensors that an answer is to hold, as a :class:`Layout` has them."""

_MAX_TEXTS = 2**18  # of one answer: 26 for each of 10,000 records, the most of one request; takes 70 ms of the loop
_NO_TYPE = np.dtype(object)
_OTHER_TENSORS = "the model process answered with other tensors than it announced"


class Reply(dict[str, NDArray[Any]]):
    """Output tensors by name (read-only views), and where the time went in the model's process.

    Attributes
    ----------
    queue_us
        Microseconds between arrival and the start of the call.
    run_us
        Microseconds in the engine, for the whole batch.
    call_rows
        Rows of that batch, those of other requests included; 0 where the model takes no batches.
    """

    __slots__ = ("call_rows", "queue_us", "run_us")

    queue_us: int
    run_us: int
    call_rows: int


class RunFailed(ModelFailed):
    """The model's process answered with an error, or cannot be asked so much at once.

    Parameters
    ----------
    what
        In words, without a value.
    cause
        ``run`` the engine raised, ``memory`` the limit was reached, or request or answer is more than can travel,
        ``output`` it made something that cannot travel, ``frame`` the request's strings are malformed.
    """

    def __init__(self, what: str, *, cause: str) -> None:
        self.cause = cause
        super().__init__(what)


def announced(hello: "Hello") -> tuple[tuple[str, ...], Types]:
    """Names and types of the tensors that answers are to hold."""
    names = tuple(tensor.name for tensor in hello.outputs)
    return names, tuple(TYPES.get(str(tensor.dtype), _NO_TYPE) for tensor in hello.outputs)


def reply_of(frame: Frame, names: tuple[str, ...], types: Types) -> Reply:
    """Give what a frame answers.

    Raises
    ------
    DeadlineExceeded, RunFailed, ModelFailed
        It is a refusal, or another answer than was announced.
    FrameError
        Its texts are malformed.
    """
    if frame.kind == ERROR:
        refusal = frame.message()
        code, message = str(refusal.get("code")), str(refusal.get("message"))
        if code == "deadline":
            raise DeadlineExceeded(message)
        raise RunFailed(f"the model answered with an error: {message}", cause=code)
    layout = frame.layout
    if not layout.is_known:
        _check(layout, types)
        layout.is_known = True
    if frame.kind != RESPONSE:
        raise ModelFailed(_OTHER_TENSORS)
    return _timed(Reply(zip(names, frame.tensors(), strict=True)), frame)


def times_of(frame: Frame) -> Reply:
    """Give what an answer says of its times, without its tensors; they are 0 for a refusal."""
    if frame.kind == RESPONSE:
        return _timed(Reply(), frame)
    reply = Reply()
    reply.queue_us = reply.run_us = reply.call_rows = 0
    return reply


def _timed(reply: Reply, frame: Frame) -> Reply:
    reply.queue_us, reply.run_us, reply.call_rows = frame.stamp >> 32, frame.stamp & 0xFFFFFFFF, frame.call_rows
    return reply


def _check(layout: "Layout", types: Types) -> None:
    """Refuse an answer before its texts are unpacked: of other types than announced, or of too many texts.

    Sizes are left to the output check: an engine answers in others than a graph names, and numbers cost nothing here.
    """
    texts = 0
    if len(layout.tensors) != len(types):
        raise ModelFailed(_OTHER_TENSORS)
    for (dtype, shape, _, _), announced in zip(layout.tensors, types, strict=True):
        if dtype is not announced:
            raise ModelFailed(_OTHER_TENSORS)
        if dtype is None:
            texts += math.prod(shape)
    if texts > _MAX_TEXTS:
        raise RunFailed(f"the model process answered with more than {_MAX_TEXTS:,} texts", cause="memory")
