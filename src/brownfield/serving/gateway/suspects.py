"""Poison on the prediction path: which asks are suspected of ending workers, by the digests of their inputs.

What is decided is decided by :class:`~brownfield.serving.workers.poison.Poison`; a digest is made only while there is
something to look up. It covers the contract and the checked values, never the request's bytes or its identifier.
"""

from typing import TYPE_CHECKING

from brownfield.errors import DeadlineExceeded, Overloaded, WorkerUnavailable
from brownfield.model.process import WorkerDied
from brownfield.serving.gateway.cache import input_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.serving.gateway.asks import Ask, ModelCall
    from brownfield.serving.gateway.served import Version

__all__ = ["is_blocked", "parted", "suspect"]


def is_blocked(version: "Version", ask: "Ask", now_ns: int) -> bool:
    """Whether an ask is refused because its like ended workers."""
    return version.poison.is_blocked(_digest(ask), now_ns)


def parted(version: "Version", asks: "Sequence[Ask]") -> "tuple[list[Ask], list[Ask]]":
    """Part asks into those that are to be asked alone, and the others."""
    suspects: list[Ask] = []
    others: list[Ask] = []
    for ask in asks:
        (suspects if version.poison.is_suspect(_digest(ask)) else others).append(ask)
    return suspects, others


def suspect(version: "Version", call: "ModelCall", error: Exception | None, now_ns: int) -> None:
    """Note whom a call was for when its worker ended or kept silent, and clear who got an answer of whatever kind."""
    poison = version.poison

    def digests() -> list[bytes]:
        return [_digest(ask) for ask in call.asks]

    if isinstance(error, WorkerDied):
        poison.lost(digests(), now_ns, alone=call.alone)
    elif isinstance(error, DeadlineExceeded):
        poison.late(digests, now_ns, alone=call.alone)
    elif not isinstance(error, WorkerUnavailable | Overloaded):
        poison.late_calls.clear()
        if poison.watching:
            poison.answered(digests())


def _digest(ask: "Ask") -> bytes:
    return input_digest(ask.served, ask.known)
