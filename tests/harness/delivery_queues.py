"""The queues of the delivery matrix: each broker's own client puts messages in and takes them out, as others do."""
# ruff: noqa: D102 (what a method does stands in the base class)

import asyncio
import json
import os
import random
import time

from harness.delivery import Sink, Source, amount_of


class QueuePlace:
    """A queue of a broker, by a name of its own."""

    server = ""
    account = ""
    side = ""

    def open(self):
        self.broker = self.request.getfixturevalue(self.server)
        self.name = f"soak-{random.getrandbits(48):012x}"
        prefix = f"SOAK_{self.kind}_{self.side}"
        values = {"HOST": "127.0.0.1", "PORT": str(self.broker.port), "PASSWORD": "guest"}
        os.environ.update({f"{prefix}_{key}": value for key, value in values.items()})
        self.prefix = prefix
        self.prepare()

    def connection(self):
        where = f"host: {{env: {self.prefix}_HOST}}, port: {{env: {self.prefix}_PORT}}"
        account = f", user: {self.account}, password: {{env: {self.prefix}_PASSWORD}}" if self.account else ""
        budget = "budget: {max_connections: 8, messages_per_s: 1000000}"
        return f"{{kind: {self.kind}, {where}{account}, tls: {{mode: off}}, {budget}}}"


class QueueSource(QueuePlace, Source):
    """A queue into which the legacy side puts one message for each record."""

    side = "IN"

    def place(self):
        return f"queue: {self.name}, messages: {{idle_ms: 20, max_attempts: 100}}"

    def make(self, lines):
        self.put([(f"sale-{line}", json.dumps({"line_id": line, "amount": amount_of(line)})) for line in lines])


class QueueSink(QueuePlace, Sink):
    """A queue from which the legacy side takes everything; a message that comes twice has the same identifier."""

    side = "OUT"
    at_least_once = True

    def place(self):
        return f"queue: {self.name}"

    def taken(self):
        found = [(identifier, json.loads(body)) for identifier, body in self.everything()]
        return [(identifier, record["line_id"], record["amount"]) for identifier, record in found]


class Rabbitmq:
    """RabbitMQ, by pika."""

    kind = "rabbitmq"
    server = "rabbitmq"
    account = "guest"

    def prepare(self):
        import pika

        parameters = pika.ConnectionParameters("127.0.0.1", self.broker.port, heartbeat=0)
        self.client = pika.BlockingConnection(parameters)
        self.channel = self.client.channel()
        self.channel.confirm_delivery()
        self.channel.queue_declare(self.name, durable=True)

    def put(self, messages):
        import pika

        for identifier, body in messages:
            properties = pika.BasicProperties(message_id=identifier, delivery_mode=2)
            self.channel.basic_publish("", self.name, body, properties, mandatory=True)

    def everything(self):
        while True:
            method, properties, body = self.channel.basic_get(self.name, auto_ack=True)
            if method is None:
                return
            yield properties.message_id, body

    def close(self):
        self.channel.queue_delete(self.name)
        self.client.close()


class Mqtt:
    """Mosquitto, by paho, which listens in a thread of its own."""

    kind = "mqtt"
    server = "mosquitto"

    def prepare(self):
        from paho.mqtt import client as paho

        self.found = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, self.name, protocol=paho.MQTTv5)
        self.client.on_message = lambda _client, _data, message: self.found.append(
            (dict(message.properties.UserProperty)["bf-record-id"], message.payload)
        )
        self.client.connect("127.0.0.1", self.broker.port)
        self.client.loop_start()
        if self.side == "OUT":
            self.client.subscribe(self.name, qos=1)

    def put(self, messages):
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        sent = []
        for identifier, body in messages:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = ("bf-record-id", identifier)
            sent.append(self.client.publish(self.name, body, qos=1, properties=properties))
        for each in sent:
            each.wait_for_publish(30)

    def everything(self):
        quiet_s, seen = 0.0, -1
        while quiet_s < 1 or seen != len(self.found):
            quiet_s = quiet_s + 0.1 if seen == len(self.found) else 0.0
            seen = len(self.found)
            time.sleep(0.1)
        return self.found

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Nats:
    """NATS JetStream, by nats-py."""

    kind = "nats"
    server = "nats"

    def prepare(self):
        import nats

        self.loop = asyncio.new_event_loop()
        self.client = self.do(nats.connect(f"nats://127.0.0.1:{self.broker.port}"))
        self.stream = self.client.jetstream()
        self.do(self.stream.add_stream(name=self.name, subjects=[self.name]))
        if self.side == "IN":
            from nats.js.api import AckPolicy, ConsumerConfig

            durable = ConsumerConfig(
                durable_name="brownfield-soak-sales", ack_policy=AckPolicy.EXPLICIT, ack_wait=5, max_ack_pending=10_000
            )
            self.do(self.stream.add_consumer(self.name, durable))

    def do(self, what):
        return self.loop.run_until_complete(what)

    def put(self, messages):
        async def publish():
            for identifier, body in messages:
                await self.stream.publish(self.name, body.encode(), headers={"Nats-Msg-Id": identifier})

        self.do(publish())

    def everything(self):
        last = self.do(self.stream.stream_info(self.name)).state.last_seq
        for sequence in range(1, last + 1):
            message = self.do(self.stream.get_msg(self.name, sequence))
            yield message.headers["Nats-Msg-Id"], message.data

    def close(self):
        self.do(self.stream.delete_stream(self.name))
        self.do(self.client.close())
        self.loop.close()


class Redis:
    """A Redis stream, by redis-py."""

    kind = "redis"
    server = "redis_server"

    def prepare(self):
        import redis

        self.client = redis.Redis("127.0.0.1", self.broker.port)
        if self.side == "IN":
            self.client.xgroup_create(self.name, "brownfield-soak-sales", id="0", mkstream=True)

    def put(self, messages):
        with self.client.pipeline() as pipeline:
            for identifier, body in messages:
                pipeline.xadd(self.name, {"bf-record-id": identifier, "body": body})
            pipeline.execute()

    def everything(self):
        for _, fields in self.client.xrange(self.name):
            yield fields[b"bf-record-id"].decode(), fields[b"body"]

    def close(self):
        self.client.delete(self.name)
        self.client.close()


BROKERS = (Rabbitmq, Mqtt, Nats, Redis)
QUEUE_SOURCES = {each.kind: type(f"{each.__name__}Source", (each, QueueSource), {}) for each in BROKERS}
QUEUE_SINKS = {each.kind: type(f"{each.__name__}Sink", (each, QueueSink), {}) for each in BROKERS}
