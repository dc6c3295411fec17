"""The brokers."""

from harness.brokers import mosquitto, nats, rabbitmq, redis_server

__all__ = ["mosquitto", "nats", "rabbitmq", "redis_server"]
