"""The legacy side of each broker: a queue made by its owner, messages sent by a producer, and what lies in it.

``Legacy.place`` is what a declaration says of the queue and ``Legacy.connection`` of its connection; all else in the
tests is the same for the four brokers.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import nats
import paho.mqtt.client as paho
import pika
import redis
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from brownfield.data.brokers import Broker, BrokerAddress, Mqtt, Nats, Rabbitmq, Redis
from harness.brokers import HERE, Server

__all__ = ["Legacy", "LegacyMqtt", "LegacyNats", "LegacyRabbitmq", "LegacyRedis"]


class Legacy:
    """One queue of a broker.

    Parameters
    ----------
    server
        The broker, already started.
    """

    kind = ""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.queue = f"till{uuid.uuid4().hex[:12]}"
        self.consumer = f"reader-{self.queue}"
        self.make()

    @property
    def address(self) -> BrokerAddress:
        """Where the broker is, as our side is told."""
        return BrokerAddress(HERE, self.server.port, (HERE,), tls="off")

    def broker(self, port: int | None = None) -> Broker:
        """Our side's reader of the queue."""
        raise NotImplementedError

    def writer(self) -> Broker:
        """Our side's writer of the queue."""
        raise NotImplementedError

    def make(self) -> None:
        """Make the queue, as its owner."""

    def send(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Send messages with their identifiers, and wait until the broker has them."""
        raise NotImplementedError

    def take(self) -> list[tuple[str, bytes]]:
        """Take everything that lies in the queue as a consumer of its own: identifier and body."""
        raise NotImplementedError


class LegacyRabbitmq(Legacy):
    """A durable classic queue."""

    kind = "rabbitmq"

    def channel(self) -> Any:
        """Open a channel."""
        self._connection = pika.BlockingConnection(pika.ConnectionParameters(HERE, self.server.port))
        return self._connection.channel()

    def make(self) -> None:
        """Make the queue, as its owner."""
        self.channel().queue_declare(self.queue, durable=True)
        self._connection.close()

    def broker(self, port: int | None = None) -> Broker:
        """Our side's reader of the queue."""
        address = BrokerAddress(HERE, port or self.server.port, (HERE,), tls="off")
        return Rabbitmq(address, self.queue, "id")

    def writer(self) -> Broker:
        """Our side's writer of the queue."""
        return Rabbitmq(self.address, self.queue)

    def send(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Send messages, and wait until the broker has them."""
        channel = self.channel()
        for name, body in messages:
            channel.basic_publish("", self.queue, body, pika.BasicProperties(headers={"id": name}, delivery_mode=2))
        channel.queue_declare(self.queue, passive=True)  # answered behind all that was sent
        self._connection.close()

    def take(self) -> list[tuple[str, bytes]]:
        """Take everything that lies in the queue."""
        channel = self.channel()
        taken = []
        while (got := channel.basic_get(self.queue, auto_ack=True))[0] is not None:
            taken.append((got[1].message_id, got[2]))
        self._connection.close()
        return taken


class LegacyMqtt(Legacy):
    """A topic, with the session of a subscriber."""

    kind = "mqtt"

    def make(self) -> None:
        """Make the queue, as its owner."""
        self.broker().depth()  # the session is made by whoever subscribes first
        self._sink_reader = Mqtt(self.address, f"{self.queue}/out", f"sink-{self.queue}")
        self._sink_reader.depth()
        self._sink_reader.close()

    def broker(self, port: int | None = None) -> Broker:
        """Our side's reader of the queue."""
        address = BrokerAddress(HERE, port or self.server.port, (HERE,), tls="off")
        return Mqtt(address, self.queue, self.consumer, "id")

    def writer(self) -> Broker:
        """Our side's writer of the queue."""
        return Mqtt(self.address, f"{self.queue}/out")

    def send(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Send messages, and wait until the broker has them."""
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.connect(HERE, self.server.port)
        client.loop_start()
        sent = []
        for name, body in messages:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = [("id", name)]
            sent.append(client.publish(self.queue, body, qos=1, properties=properties))
        for each in sent:
            each.wait_for_publish(30)
        client.disconnect()
        client.loop_stop()

    def take(self) -> list[tuple[str, bytes]]:
        """Take everything that lies in the queue."""
        found = self._sink_reader.receive(10**6, 0.5)
        self._sink_reader.confirm([each.tag for each in found])
        self._sink_reader.close()
        return [(str(each.identifier), each.body or b"") for each in found]


class LegacyNats(Legacy):
    """A stream with a durable pull consumer."""

    kind = "nats"

    def call(self, work: Callable[[Any, Any], Any]) -> Any:
        """Do something with a connection of the legacy side's own."""

        async def done() -> Any:
            client = await nats.connect(f"nats://{HERE}:{self.server.port}")
            try:
                return await work(client, client.jetstream())
            finally:
                await client.close()

        return asyncio.run(done())

    def make(self) -> None:
        """Make the queue, as its owner."""

        async def made(_client: Any, stream: Any) -> None:
            from nats.js.api import AckPolicy, ConsumerConfig

            await stream.add_stream(name=self.queue, subjects=[self.queue])
            await stream.add_consumer(
                self.queue,
                ConsumerConfig(
                    durable_name=self.consumer, ack_policy=AckPolicy.EXPLICIT, ack_wait=1, max_ack_pending=100_000
                ),
            )

        self.call(made)

    def broker(self, port: int | None = None) -> Broker:
        """Our side's reader of the queue."""
        address = BrokerAddress(HERE, port or self.server.port, (HERE,), tls="off")
        return Nats(address, self.queue, self.consumer, "id")

    def writer(self) -> Broker:
        """Our side's writer of the queue."""
        return Nats(self.address, self.queue)

    def send(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Send messages, and wait until the broker has them."""

        async def sent(_client: Any, stream: Any) -> None:
            for name, body in messages:
                await stream.publish(self.queue, body, headers={"id": name})

        self.call(sent)

    def take(self) -> list[tuple[str, bytes]]:
        """Take everything that lies in the queue."""

        async def taken(_client: Any, stream: Any) -> list[tuple[str, bytes]]:
            last = (await stream.stream_info(self.queue)).state
            found = [await stream.get_msg(self.queue, seq) for seq in range(last.first_seq or 1, last.last_seq + 1)]
            return [(each.headers["Nats-Msg-Id"], each.data) for each in found]

        return list(self.call(taken))


class LegacyRedis(Legacy):
    """A stream with a consumer group."""

    kind = "redis"

    def make(self) -> None:
        """Make the queue, as its owner."""
        self.client = redis.Redis(HERE, self.server.port)
        self.client.xgroup_create(self.queue, self.consumer, "0", mkstream=True)

    def broker(self, port: int | None = None) -> Broker:
        """Our side's reader of the queue."""
        address = BrokerAddress(HERE, port or self.server.port, (HERE,), tls="off")
        return Redis(address, self.queue, self.consumer, "id")

    def writer(self) -> Broker:
        """Our side's writer of the queue."""
        return Redis(self.address, self.queue)

    def send(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Send messages, and wait until the broker has them."""
        pipeline = self.client.pipeline(transaction=False)
        for name, body in messages:
            pipeline.xadd(self.queue, {"id": name, "body": body})
        pipeline.execute()

    def take(self) -> list[tuple[str, bytes]]:
        """Take everything that lies in the queue."""
        return [(fields[b"bf-record-id"].decode(), fields[b"body"]) for _, fields in self.client.xrange(self.queue)]


def left(legacy: Legacy, wait_s: float = 5.0) -> int:
    """Messages that the broker still holds for our reader, once it has taken note of the last acknowledgement."""
    deadline = time.monotonic() + wait_s
    while True:
        broker = legacy.broker()
        depth = broker.depth()
        waiting = len(broker.receive(10**6, 0.3)) if depth is None else depth
        broker.close()
        if waiting == 0 or time.monotonic() > deadline:
            return waiting
        time.sleep(0.1)
