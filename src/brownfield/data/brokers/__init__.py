"""Message brokers: one queue of each, by its own protocol, under the same five verbs."""

from brownfield.data.brokers.base import (
    Allowance,
    Broker,
    BrokerAddress,
    BrokerRefused,
    Incoming,
    Outgoing,
    Unreachable,
)
from brownfield.data.brokers.mqtt import Mqtt
from brownfield.data.brokers.nats import Nats
from brownfield.data.brokers.rabbitmq import Rabbitmq
from brownfield.data.brokers.redis import Redis

__all__ = [
    "Allowance",
    "Broker",
    "BrokerAddress",
    "BrokerRefused",
    "Incoming",
    "Mqtt",
    "Nats",
    "Outgoing",
    "Rabbitmq",
    "Redis",
    "Unreachable",
]
