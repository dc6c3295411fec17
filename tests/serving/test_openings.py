"""What the head of a request means is kept for the next one with the same head, and for nothing else."""

import asyncio
from types import SimpleNamespace

import pytest

from brownfield.errors import Unauthenticated
from brownfield.serving.gateway import Response, Snapshot
from brownfield.serving.gateway.calls import Call
from brownfield.serving.gateway.priority import Priority

PATH = b"/v1/till/predict"


class Head:
    """Stands for a head."""


@pytest.fixture
def reopen():
    """Opens a request with a head that was opened before, within a loop."""

    def opened(handler, head, headers=None):
        async def run():
            return handler.open("POST", PATH, headers or {}, head=head)

        return asyncio.run(run())

    return opened


def test_who_asks_is_looked_at_anew(make_handler, served, reopen):
    """A token that expires between two requests with the same head lets the second one in no more."""
    seen = []

    def authorize(authorization, permission, *, peer):
        seen.append((authorization, permission, peer))
        if len(seen) > 1:
            raise Unauthenticated("the token is not valid")

    handler, head = make_handler(served, authorize=authorize), Head()
    headers = {b"authorization": b"Bearer bf_0123456789abcdefghij"}
    assert isinstance(reopen(handler, head, headers), Call)
    refused = reopen(handler, head, headers)
    assert isinstance(refused, Response)
    assert refused.status == 401
    assert seen == [(headers[b"authorization"], "predict", None)] * 2


def test_another_caller_has_a_priority_of_its_own(make_handler, served, reopen):
    """The same head under a token whose principal was declared anew is of the new principal's priority."""
    callers = iter([SimpleNamespace(name="a", priority="interactive"), SimpleNamespace(name="a", priority="shadow")])
    handler, head = make_handler(served, authorize=lambda *_, **__: next(callers)), Head()
    calls = [reopen(handler, head) for _ in range(2)]
    priorities = [call.opening.priority(served, call.caller) for call in calls]
    assert priorities == [Priority.INTERACTIVE, Priority.SHADOW]


def test_what_is_served_is_looked_at_anew(make_handler, served, reopen):
    """A head that led to an integration leads nowhere when it is gone, and nothing of it is held."""
    handler, head = make_handler(served), Head()
    assert isinstance(reopen(handler, head), Call)
    assert [each.bound.served for each in handler._openings.values()] == [served]
    handler.publish(Snapshot({}))
    assert handler._openings == {}
    assert reopen(handler, head).status == 404


def test_refused_heads_are_not_kept(make_handler, served, reopen):
    """A head that is refused by itself is refused as itself each time."""
    handler, head = make_handler(served), Head()
    assert [reopen(handler, head, {b"content-encoding": b"gzip"}).status for _ in range(2)] == [415, 415]
    assert handler._openings == {}


def test_many_heads_are_not_many_openings(make_handler, served, reopen):
    """Heads that never come again do not fill the memory."""
    handler = make_handler(served)
    for _ in range(3000):
        reopen(handler, Head())
    assert 0 < len(handler._openings) <= 1024
