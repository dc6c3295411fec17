"""The brokers, one after the other behind the same fixture."""

import pytest

from harness.brokers import mosquitto, nats, rabbitmq, redis_server
from harness.queue_shop import LEGACY, SERVERS
from harness.queues import Legacy

__all__ = ["mosquitto", "nats", "rabbitmq", "redis_server"]


@pytest.fixture(params=sorted(LEGACY))
def legacy(request) -> Legacy:
    """A queue of each broker in turn."""
    return LEGACY[request.param](request.getfixturevalue(SERVERS[request.param]))
