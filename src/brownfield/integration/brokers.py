"""The options of connections to message brokers, and of reading a queue: what is safe stands as the default.

As for databases the address and the secrets are references, the way is encrypted unless declared otherwise, and the
budget says what the broker can bear.
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from brownfield.integration.databases import QuietHours, TcpPort, TlsSpec
from brownfield.integration.delivery import SinkFlags, SourceFlags
from brownfield.integration.kinds import FieldName
from brownfield.integration.reader import Spec
from brownfield.integration.references import Reference

__all__ = [
    "BrokerBudgetSpec",
    "BrokerConnection",
    "MessagesSpec",
    "MqttConnection",
    "NatsConnection",
    "QueueName",
    "RabbitmqConnection",
    "RedisConnection",
]

QueueName = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f]{1,255}$",
        description="Queue (rabbitmq), topic filter (mqtt), stream (nats) or stream key (redis).",
        extra={"words": "the name of a queue, in one line of up to 255 characters"},
    ),
]


class BrokerBudgetSpec(Spec, frozen=True, kw_only=True):
    """What one broker can bear from us; kept in every second, across processes and restarts."""

    max_connections: Annotated[int, Meta(ge=1, le=100, description="Connections at one time.")] = 2
    messages_per_s: Annotated[int, Meta(ge=20, le=10_000_000, description="Messages in any one second.")] = 20_000
    quiet_hours: Annotated[QuietHours, Meta(description="When the broker is left alone.")] | None = None


class BrokerConnection(Spec, frozen=True, kw_only=True):
    """What all brokers share."""

    holds: ClassVar[Literal["queue"]] = "queue"
    gives: ClassVar[SourceFlags] = SourceFlags()
    takes: ClassVar[SinkFlags] = SinkFlags()

    host: Annotated[Reference, Meta(description="Name or address of the broker: by reference, never written here.")]
    user: (
        Annotated[FieldName | Reference, Meta(description="Name of the account; none where none is asked.")] | None
    ) = None
    password: Annotated[Reference, Meta(description="Where the password stands.")] | None = None
    port: Annotated[TcpPort | Reference, Meta(description="Port of the broker.")]
    tls: Annotated[TlsSpec, Meta(description="Encryption.")] = TlsSpec()
    budget: Annotated[BrokerBudgetSpec, Meta(description="What the broker can bear.")] = BrokerBudgetSpec()


class RabbitmqConnection(BrokerConnection, frozen=True, kw_only=True):
    """A RabbitMQ broker, by AMQP 0-9-1."""

    port: Annotated[TcpPort | Reference, Meta(description="Port of the broker.")] = 5671
    virtual_host: Annotated[FieldName, Meta(description="Virtual host of the queues.")] = "/"


class MqttConnection(BrokerConnection, frozen=True, kw_only=True):
    """An MQTT 5 broker such as Mosquitto, by a session that the broker keeps."""

    port: Annotated[TcpPort | Reference, Meta(description="Port of the broker.")] = 8883


class NatsConnection(BrokerConnection, frozen=True, kw_only=True):
    """A NATS server with JetStream."""

    takes: ClassVar[SinkFlags] = SinkFlags(dedupes_by_id=True)

    port: Annotated[TcpPort | Reference, Meta(description="Port of the broker.")] = 4222


class RedisConnection(BrokerConnection, frozen=True, kw_only=True):
    """A Redis server, for its streams."""

    takes: ClassVar[SinkFlags] = SinkFlags(dedupes_by_id=True)

    port: Annotated[TcpPort | Reference, Meta(description="Port of the broker.")] = 6379
    database: Annotated[int, Meta(ge=0, le=1_000_000, description="Number of the database.")] = 0


class MessagesSpec(Spec, frozen=True, kw_only=True):
    """How the messages of a queue are taken and told apart."""

    identity: Annotated[
        Literal["producer", "content"],
        Meta(
            description="What makes two messages the same one: the identifier that the producer (or the stream) gave, "
            "or their content; then equal messages count once."
        ),
    ] = "producer"
    id_header: (
        Annotated[FieldName, Meta(description="Header, user property or field that holds the producer's identifier.")]
        | None
    ) = None
    consumer: (
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z0-9_-]{1,64}$",
                description="Durable consumer (nats), group (redis) or client identifier (mqtt); "
                "brownfield-<integration>-<source> unless declared.",
                extra={"words": "a name of letters, digits, _ and -, up to 64 characters"},
            ),
        ]
        | None
    ) = None
    max_messages: Annotated[int, Meta(ge=1, le=50_000, description="Messages that one run takes.")] = 5_000
    idle_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="Milliseconds without a message after which a queue counts as empty.")
    ] = 1_000
    max_message_bytes: Annotated[
        int, Meta(ge=1, le=16_777_216, description="Longest message; a longer one is refused.")
    ] = 1_048_576
    max_attempts: Annotated[
        int, Meta(ge=2, le=100, description="Failed runs, the last with this message alone, after which it is refused.")
    ] = 5
    remember_d: Annotated[
        int, Meta(ge=1, le=3_650, description="Days for which a message that comes again is recognised.")
    ] = 14
