"""What the sinks for tables of each server are tried with alike, their connection cut by a proxy."""

import socket

import pyarrow as pa
import pytest

from brownfield.data.sinks import Found
from brownfield.errors import SinkUnavailable

ROWS = pa.record_batch({"basket": [1, 2], "label": ["a", "b"], "score": [0.1, 0.2]})
WHOLE = [(1, "a", 0.1), (2, "b", 0.2)]
SCORES = "SELECT basket, label, score FROM scores ORDER BY basket"


def cut_at(place, proxy, statement: bytes, *, delivers: bool) -> None:
    """Cut at a statement, delivered or not: the effect is there whole or not at all, and once when repeated."""
    with place.sink(port=proxy.port) as sink:
        proxy.delivers, proxy.cut_at = delivers, statement
        try:
            first = sink.apply("e1", ROWS, {"after": [2]})
        except SinkUnavailable:
            first = None
        assert proxy.cut_at == b"", "the statement passed"
        found = place.rows(SCORES)
        assert found in ([], WHOLE)
        if first is not None:
            assert found == WHOLE
        assert sink.apply("e1", ROWS, {"after": [2]}).rows == 2
        assert (sink.find("e1"), sink.position()) == (Found.DONE, {"after": [2]})
    assert place.rows(SCORES) == WHOLE
    assert place.rows("SELECT effect_id, row_count FROM brownfield_effect") == [("e1", 2)]


def lose_the_answer(place, proxy) -> None:
    """Let COMMIT come through and its answer not: apply says what is there instead of failing."""
    with place.sink(port=proxy.port) as sink:
        proxy.cut_at = b"COMMIT"
        assert sink.apply("e1", ROWS).rows == 2
    assert place.rows(SCORES) == WHOLE


def ask_a_closed_port(place) -> None:
    """Ask where nobody listens: the sink is unavailable."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        sink = place.sink(port=free.getsockname()[1])
        with pytest.raises(SinkUnavailable):
            sink.find("e1")
