"""From a declared queue to one that can be read or written: address, secrets, encryption and budget are put together.

The references are read for every binding, so that a new address or password holds without a restart.
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.data.brokers import Broker, BrokerAddress, Mqtt, Nats, Rabbitmq, Redis
from brownfield.data.pipeline.servers import ca_file_of, reach, value_of
from brownfield.data.sources import Budget, QueueSource, Quiet, Taking
from brownfield.errors import DeclarationError
from brownfield.integration import (
    BrokerConnection,
    MessagesSpec,
    MqttConnection,
    NatsConnection,
    RabbitmqConnection,
    RedisConnection,
)
from brownfield.security import resolve_secret

if TYPE_CHECKING:
    from brownfield.data.sources.queue import Decode
    from brownfield.integration import Location
    from brownfield.store import Store

__all__ = ["bind_broker", "bind_queue", "broker_address", "broker_budget"]


def bind_queue(
    options: BrokerConnection,
    workspace: Path,
    place: "Location",
    owner: tuple[str, str],
    decode: "Decode",
    store: "Store | None",
) -> QueueSource:
    """Make a source of a queue.

    Parameters
    ----------
    options
        Of the declared connection.
    workspace
        Its folder.
    place
        The declared place, with its queue.
    owner
        Names of integration and source.
    decode
        Of the format of a message.
    store
        Remembers which messages were committed.

    Raises
    ------
    DeclarationError
        When a reference cannot be read, the host is one that is refused, or there is no store.
    SourceUnavailable
        When the host's name stands for nothing.
    """
    if store is None:
        raise DeclarationError(expected="a store beside a queue", got="none", where=".".join(owner))
    messages = place.messages or MessagesSpec()
    taking = Taking(
        messages.identity == "content",
        messages.max_messages,
        messages.idle_ms / 1000,
        messages.max_message_bytes,
        messages.max_attempts,
        timedelta(days=messages.remember_d),
    )
    address = broker_address(options, workspace)
    consumer = messages.consumer or f"brownfield-{owner[0]}-{owner[1]}"
    queue = place.queue or ""
    broker = bind_broker(options, address, queue, consumer, messages.id_header, messages.max_messages)
    return QueueSource(
        broker,
        queue,
        decode,
        budget=broker_budget(options, address, workspace),
        inbox=store.inbox,
        owner=owner,
        taking=taking,
    )


def bind_broker(
    options: BrokerConnection,
    address: BrokerAddress,
    queue: str,
    consumer: str | None = None,
    id_header: str | None = None,
    most: int = 5_000,
) -> Broker:
    """Make one queue of a broker, to be read under the name of a consumer, or, without one, to be written."""
    if isinstance(options, MqttConnection):
        return Mqtt(address, queue, consumer, id_header, most)
    if isinstance(options, NatsConnection):
        return Nats(address, queue, consumer, id_header)
    if isinstance(options, RedisConnection):
        return Redis(address, queue, consumer, id_header)
    return Rabbitmq(address, queue, id_header, most)


def broker_budget(options: BrokerConnection, address: BrokerAddress, workspace: Path) -> Budget:
    """Make what a broker can bear; all connections to one broker share it."""
    quiet = options.budget.quiet_hours
    return Budget(
        workspace / "var" / "budgets",
        f"{address.host}-{address.port}",
        options.budget.max_connections,
        options.budget.messages_per_s,
        None if quiet is None else Quiet.parse(quiet.zone, quiet.windows),
    )


def broker_address(options: BrokerConnection, workspace: Path) -> BrokerAddress:
    """Read where a broker is now; raises as :func:`bind_queue`."""
    host, port, addresses = reach(options.host, options.port, workspace)
    space = ""
    if isinstance(options, RabbitmqConnection):
        space = options.virtual_host
    elif isinstance(options, RedisConnection):
        space = str(options.database)
    return BrokerAddress(
        host=host,
        port=port,
        addresses=addresses,
        user="" if options.user is None else value_of(options.user, workspace),
        password="" if options.password is None else resolve_secret(options.password, workspace).reveal(),
        tls=options.tls.mode,
        ca_file=ca_file_of(options.tls, workspace),
        space=space,
    )
