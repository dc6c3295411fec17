"""The requests in the bytes of one connection."""

import pytest

from brownfield.serving.gateway import Dataplane, Handler, Snapshot
from brownfield.serving.gateway.http import Door
from brownfield.serving.gateway.http_requests import RequestReader


@pytest.fixture
def reader():
    """One of a door that serves nothing."""
    return RequestReader(Door(Handler(Dataplane(Snapshot({})))))


def test_what_is_refused_while_an_error_is_handled_is_refused_once(reader, caplog):
    """A pipelined request is read when the one before it is answered: by its fallback, where the model failed."""
    try:
        int("no number")
    except ValueError:
        reader.feed(b"POST /v1/risk/predict HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
    assert [refusal.status for refusal, *_ in reader.queue] == [400]
    assert reader.final
    assert not caplog.records
