"""RabbitMQ by AMQP 0-9-1 (pika): a queue that is there, taken with explicit acknowledgement, written with confirms."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from brownfield.data.brokers.base import (
    ACCOUNT,
    RECORD_ID,
    BrokerAddress,
    BrokerRefused,
    Incoming,
    Outgoing,
    Unreachable,
    driver,
)

__all__ = ["Rabbitmq"]

_HEARTBEAT_S = 600
_PERSISTENT = 2
_NOT_FOUND = 404


class Rabbitmq:
    """One queue; it is never declared by us.

    Parameters
    ----------
    address
        Where the broker is.
    queue
        Name of the queue.
    id_header
        Header that holds the producer's identifier; the property ``message_id`` unless given.
    most
        Messages that may be taken and not confirmed.
    """

    def __init__(self, address: BrokerAddress, queue: str, id_header: str | None = None, most: int = 5_000) -> None:
        self._pika = driver("pika")
        self._address = address
        self._queue = queue
        self._id_header = id_header
        self._most = most
        self._connection: Any = None
        self._channel: Any = None
        self._confirms = False

    def depth(self) -> int | None:
        """Give the messages that wait (:class:`Broker`)."""
        with self._errors():
            found = self._opened().queue_declare(self._queue, passive=True)
            return int(found.method.message_count)

    def receive(self, limit: int, wait_s: float) -> Sequence[Incoming]:
        """Take messages (:class:`Broker`)."""
        taken: list[Incoming] = []
        with self._errors():
            for method, properties, body in self._opened().consume(self._queue, inactivity_timeout=wait_s):
                if method is None:
                    break
                taken.append(Incoming(self._identifier(properties), body, method.delivery_tag))
                if len(taken) == limit:
                    break
        return taken

    def confirm(self, tags: Sequence[Any]) -> None:
        """Acknowledge messages one by one, for others of the channel may not be safe (:class:`Broker`)."""
        with self._errors():
            for tag in tags:
                self._channel.basic_ack(tag)
            self._connection.process_data_events()

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish persistent messages, each confirmed (:class:`Broker`)."""
        with self._errors():
            channel = self._opened()
            if not self._confirms:
                channel.confirm_delivery()
                self._confirms = True
            for message in messages:
                properties = self._pika.BasicProperties(
                    message_id=message.identifier,
                    headers={RECORD_ID: message.identifier, **message.headers},
                    delivery_mode=_PERSISTENT,
                )
                channel.basic_publish("", self._queue, message.body, properties, mandatory=True)

    def close(self) -> None:
        """Let go of the connection (:class:`Broker`)."""
        connection, self._connection, self._channel, self._confirms = self._connection, None, None, False
        if connection is not None:
            with suppress(Exception):  # it is given up either way
                connection.close()

    def _identifier(self, properties: Any) -> str | None:
        headers = properties.headers or {}
        found = properties.message_id if self._id_header is None else headers.get(self._id_header)
        return None if found is None else str(found)

    def _opened(self) -> Any:
        if self._channel is None:
            pika, address = self._pika, self._address
            context = address.context()
            account = pika.PlainCredentials(address.user or "guest", address.password or "guest")
            tries = [
                pika.ConnectionParameters(
                    host=each,
                    port=address.port,
                    virtual_host=address.space or "/",
                    credentials=account,
                    heartbeat=_HEARTBEAT_S,
                    ssl_options=None if context is None else pika.SSLOptions(context, address.host),
                    socket_timeout=10,
                    blocked_connection_timeout=30,
                )
                for each in address.addresses
            ]
            self._connection = pika.BlockingConnection(tries)
            self._channel = self._connection.channel()
            self._channel.basic_qos(prefetch_count=self._most)
        return self._channel

    @contextmanager
    def _errors(self) -> Iterator[None]:
        wrong = self._pika.exceptions
        try:
            yield
        except wrong.UnroutableError as error:
            raise BrokerRefused("the queue", "none of this name", "Its owner creates it.") from error
        except wrong.ChannelClosedByBroker as error:
            self.close()
            if error.reply_code == _NOT_FOUND:
                made = f"Its owner runs: rabbitmqadmin declare queue name={self._queue} durable=true."
                raise BrokerRefused(f"a queue {self._queue}", "none of this name", made) from error
            raise BrokerRefused("the queue, and leave to use it", f"reply {error.reply_code} of the broker") from error
        except (wrong.ProbableAuthenticationError, wrong.ProbableAccessDeniedError) as error:
            self.close()
            raise BrokerRefused("an account that the broker admits", "one that it does not", ACCOUNT) from error
        except wrong.NackError as error:
            raise Unreachable("it did not take the messages") from error
        except (wrong.AMQPError, OSError) as error:
            self.close()
            raise self._address.failed(error) from error
