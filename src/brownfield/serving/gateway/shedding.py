"""Refusals of requests that nobody reads: decided, counted and journalled as any other, for as little as possible."""

import functools

from brownfield.serving.gateway.causes import Unanswered
from brownfield.serving.gateway.deciding import decide
from brownfield.serving.gateway.latency import Split
from brownfield.serving.gateway.messages import Response
from brownfield.serving.gateway.problem import problem, v2_error
from brownfield.serving.gateway.served import Served
from brownfield.types import Decision, Reason

__all__ = ["refuse_unread"]

_NO_ID = "0" * 24
_Headers = tuple[tuple[bytes, bytes], ...]


def refuse_unread(served: Served, split: Split, *, v2: bool) -> tuple[Decision, Response]:
    """Refuse a request whose body is not looked at; this is done tens of thousands of times a second.

    Parameters
    ----------
    served
        The integration that it is for.
    split
        Of the request, up to now: its admission.
    v2
        Whether the refusal is one of the V2 protocol.

    Returns
    -------
    Decision, Response
        The decision is yet to be counted and journalled.
    """
    version = served.champion.name if served.champion is not None else ""
    decision = decide(served, source="none", version=version, reason=Reason.ERROR, cause="overload")
    status, headers, before, after = _text(served.name, version, served.reference, v2)
    identifier = decision.id.encode()
    body = before + identifier + after if after else before
    own = ((b"brownfield-decision", identifier), (b"server-timing", split.header()))
    return decision, Response(status, [*headers, *own], body)


@functools.lru_cache(maxsize=1024)
def _text(name: str, version: str, contract: str, v2: bool) -> tuple[int, _Headers, bytes, bytes]:  # noqa: FBT001 (a key)
    """Give a refusal around the identifier of its decision; equal for all of one integration."""
    decision = Decision(
        id=_NO_ID,
        integration=name,
        source="none",
        version=version,
        reason=Reason.ERROR,
        degraded=True,
        contract=contract,
        cause="overload",
    )
    refused = Unanswered(decision, "more is asked for than can be answered in time", "Try again in a moment.")
    made = v2_error(refused) if v2 else problem(refused)
    before, _, after = made.body.partition(_NO_ID.encode())
    headers = [field for field in made.headers if field[0] != b"brownfield-decision"]
    return made.status, tuple(headers), before, after
