"""One opened request on its way to its answer, as the handler keeps it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from brownfield.serving.gateway.messages import Response

if TYPE_CHECKING:
    from brownfield.serving.gateway.asks import Ask
    from brownfield.serving.gateway.latency import Split
    from brownfield.serving.gateway.openings import Opening
    from brownfield.serving.gateway.v2 import InferRequest
    from brownfield.serving.gateway.wishes import Caller

__all__ = ["Call", "Reply"]

Reply: TypeAlias = Callable[[Response], None]
"""Told the answer of a call."""


class Call:
    """One opened request: what its head means, for which integration, its latency split, who is told the answer.

    Attributes
    ----------
    shed
        Whether the fallbacks are to answer, because the gateway has too much to do.
    """

    __slots__ = ("ask", "caller", "opening", "reply", "request", "served", "shed", "split")

    def __init__(self, opening: "Opening", split: "Split", caller: "Caller | None") -> None:
        self.caller = caller
        self.opening = opening
        self.served = opening.bound.served
        self.split = split
        self.reply: Reply
        self.request: InferRequest | None = None
        self.ask: Ask | None = None
        self.shed = False

    def cancel(self) -> bool:
        """Give up: nobody is told, and the model is not asked when it has not been; whether that ends the call."""
        self.reply = _nobody
        ask, self.ask = self.ask, None
        if ask is not None:
            ask.cancel()
        return ask is not None


def _nobody(_: Response) -> None:
    pass
