"""What a caller may wish, and that a wish only ever lowers."""

import asyncio
from types import SimpleNamespace

import pytest

from brownfield.serving.gateway.priority import Priority

pytestmark = pytest.mark.inside


def asked(client, served, body, monkeypatch, **headers):
    """Ask the till once; the ask as the data plane saw it, and the status."""
    seen = []
    plane = client.handler.dataplane
    ask = plane.ask
    monkeypatch.setattr(plane, "ask", lambda one: (seen.append(one), ask(one)))
    path = "/v2/models/till/infer" if "inputs" in body else "/v1/till/predict"
    status = asyncio.run(client.ask("POST", path, body, **headers)).status
    return (seen[0] if seen else None), status


RECORD = {"store_id": 1, "items": ["MILK"]}
V2 = {
    "inputs": [
        {"name": "store_id", "datatype": "INT64", "shape": [1], "data": [1]},
        {"name": "items", "datatype": "BYTES", "shape": [1, 1], "data": ["MILK"]},
    ]
}


@pytest.mark.parametrize(
    ("body", "headers", "timeout_ms"),
    [
        pytest.param(RECORD, {"brownfield_timeout_ms": "15"}, 15, id="header"),
        pytest.param(RECORD, {"brownfield_timeout_ms": "0.5"}, 0.5, id="a fraction"),
        pytest.param(V2 | {"parameters": {"timeout": 7000}}, {}, 7, id="V2, microseconds"),
        pytest.param(V2 | {"parameters": {"timeout": 7000}}, {"brownfield_timeout_ms": "3"}, 3, id="the sooner"),
        pytest.param(RECORD, {"brownfield_timeout_ms": "60000"}, 1000, id="never beyond the declaration"),
        pytest.param(RECORD, {}, 1000, id="the declaration"),
    ],
)
def test_the_deadline_is_the_soonest_of_all(client, served, monkeypatch, body, headers, timeout_ms):
    """Header, V2 parameter and declaration count from the first byte."""
    ask, _ = asked(client, served, body, monkeypatch, **headers)
    assert ask.deadline_ns - ask.split.started_ns == round(timeout_ms * 1e6)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param((0, "interactive", None, 0), Priority.INTERACTIVE, id="nothing said"),
        pytest.param((0, "interactive", "batch", 0), Priority.BATCH, id="header"),
        pytest.param((0, "interactive", None, 1), Priority.INTERACTIVE, id="V2: the highest"),
        pytest.param((0, "interactive", None, 2), Priority.BATCH, id="V2: lower"),
        pytest.param((0, "interactive", None, 99), Priority.SHADOW, id="V2: the lowest"),
        pytest.param((1, "interactive", "interactive", 1), Priority.BATCH, id="no higher than the door"),
        pytest.param((0, "shadow", "batch", 1), Priority.SHADOW, id="no higher than the token"),
    ],
)
def test_the_priority_is_the_lowest_of_all(make_client, served, monkeypatch, said, expected):
    """Door, token, header and V2 parameter."""
    door, token, header, number = said
    served.priority = Priority(door)
    caller = SimpleNamespace(name="till", priority=token)
    client = make_client(served, authorize=lambda *_, **__: caller)
    body = V2 | ({"parameters": {"priority": number}} if number else {})
    ask, status = asked(client, served, body, monkeypatch, **({"brownfield_priority": header} if header else {}))
    assert status == 200
    assert (ask.priority, ask.caller) == (expected, "till")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(RECORD, {"brownfield_timeout_ms": "soon"}, id="no number"),
        pytest.param(RECORD, {"brownfield_timeout_ms": "0"}, id="no time"),
        pytest.param(RECORD, {"brownfield_timeout_ms": "1_0"}, id="as Python writes it"),
        pytest.param(RECORD, {"brownfield_timeout_ms": "1e1"}, id="an exponent"),
        pytest.param(RECORD, {"brownfield_timeout_ms": "-1"}, id="negative"),
        pytest.param(RECORD, {"brownfield_timeout_ms": "nan"}, id="not a number"),
        pytest.param(RECORD, {"brownfield_timeout_ms": "1e999"}, id="infinite"),
        pytest.param(RECORD, {"brownfield_priority": "urgent"}, id="unknown priority"),
        pytest.param(V2 | {"parameters": {"priority": -1}}, {}, id="negative priority"),
        pytest.param(V2 | {"parameters": {"priority": True}}, {}, id="no priority"),
        pytest.param(V2 | {"parameters": {"timeout": 1.5}}, {}, id="no whole microseconds"),
    ],
)
def test_a_wish_that_cannot_be_read_is_refused(client, served, monkeypatch, body, headers):
    """With 400, before any worker hears of it."""
    ask, status = asked(client, served, body, monkeypatch, **headers)
    assert (ask, status) == (None, 400)
