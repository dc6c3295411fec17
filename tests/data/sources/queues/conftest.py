"""The brokers, one after the other behind the same fixture, and a workspace that reads a queue of each."""

from collections.abc import Iterator

import pytest

from harness.brokers import HERE, mosquitto, nats, rabbitmq, redis_server
from harness.proxy import Proxy
from harness.queue_shop import LEGACY, SERVERS, Shop
from harness.queues import Legacy

__all__ = ["mosquitto", "nats", "rabbitmq", "redis_server"]


@pytest.fixture(params=sorted(LEGACY))
def legacy(request) -> Legacy:
    """A queue of each broker in turn."""
    return LEGACY[request.param](request.getfixturevalue(SERVERS[request.param]))


@pytest.fixture
def shop(tmp_path, legacy, monkeypatch) -> Iterator[Shop]:
    """The workspace."""
    monkeypatch.setenv("QUEUE_HOST", HERE)
    monkeypatch.setenv("QUEUE_PORT", str(legacy.server.port))
    return Shop(tmp_path, legacy)


@pytest.fixture
def proxy(legacy) -> Iterator[Proxy]:
    """A proxy before the broker."""
    between = Proxy(HERE, legacy.server.port)
    yield between
    between.close()
