"""Message brokers: one queue of each, by its own protocol, under the same five verbs."""

from brownfield.data.brokers.base import Broker, BrokerAddress, BrokerRefused, Incoming, Outgoing, Unreachable
from brownfield.data.brokers.rabbitmq import Rabbitmq

__all__ = [
    "Broker",
    "BrokerAddress",
    "BrokerRefused",
    "Incoming",
    "Outgoing",
    "Rabbitmq",
    "Unreachable",
]
