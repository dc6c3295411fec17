"""Decisions: who answered, why and under which contract, each with an identifier of its own."""

import os
from typing import TYPE_CHECKING, Final

from brownfield.types import Decision, Reason

if TYPE_CHECKING:
    from brownfield.serving.gateway.served import Served

__all__ = ["decide"]

_ID_BYTES: Final = 12
_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)


def decide(served: "Served", *, source: str, version: str, reason: Reason, cause: str = "") -> Decision:
    """Make the decision of one answer; what is not the model's own is degraded."""
    return Decision(
        id=_ids.pop() if _ids else _next_id(),
        integration=served.name,
        source=source,
        version=version,
        reason=reason,
        degraded=source != "model",
        contract=served.reference,
        cause=cause,
    )


def _next_id() -> str:
    """Give 96 random bits in hexadecimal; the system is asked for many at a time."""
    text = os.urandom(_ID_BYTES * 256).hex()
    _ids.extend(text[at : at + 2 * _ID_BYTES] for at in range(0, len(text), 2 * _ID_BYTES))
    return _ids.pop()
