"""MQTT 5 (paho-mqtt): a session that the broker keeps, QoS 1 both ways, every acknowledgement by us.

The client's loop runs inside our calls alone: no thread, and nothing is acknowledged behind our back.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
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

__all__ = ["Mqtt"]

_KEEP_ALIVE_S = 600
_ANSWER_S = 10.0
_FOREVER = 0xFFFFFFFF
_MOST_IN_FLIGHT = 65_535
_FAILED = 0x80
_NOBODY = 0x10
_ACCESS = (0x84, 0x85, 0x86, 0x87, 0x8A)
_TOGETHER = 500


class Mqtt:
    """One topic filter with the session of one client, or one topic that is written.

    Parameters
    ----------
    address
        Where the broker is.
    topic
        Topic filter, or topic.
    client
        Identifier of the client, by which the broker keeps the session; None for one without a session, which writes.
    id_header
        User property that holds the producer's identifier.
    most
        Messages that may be taken and not confirmed.
    """

    def __init__(
        self, address: BrokerAddress, topic: str, client: str | None = None, id_header: str | None = None,
        most: int = 5_000,
    ) -> None:  # fmt: skip
        self._paho = driver("paho.mqtt.client")
        self._address = address
        self._topic = topic
        self._id = client
        self._id_header = id_header or RECORD_ID
        self._most = min(most, _MOST_IN_FLIGHT)
        self._client: Any = None
        self._waiting: deque[Incoming] = deque()
        self._answer: Any = None
        self._unconfirmed: dict[int, None] = {}
        self._refused = 0

    def depth(self) -> int | None:
        """Open the session; a broker does not tell how much waits in it (:class:`Broker`)."""
        with self._errors():
            self._opened()
        return None

    def receive(self, limit: int, wait_s: float) -> Sequence[Incoming]:
        """Take messages (:class:`Broker`)."""
        taken: list[Incoming] = []
        with self._errors():
            self._opened()
            while len(taken) < limit and self._until(lambda: bool(self._waiting), wait_s):
                taken.append(self._waiting.popleft())
        return taken

    def confirm(self, tags: Sequence[Any]) -> None:
        """Acknowledge messages in the order in which they came (:class:`Broker`)."""
        with self._errors():
            for mid, qos in tags:
                self._client.ack(mid, qos)
            self._until(lambda: not self._client.want_write(), _ANSWER_S)

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish with QoS 1 and wait for each acknowledgement (:class:`Broker`)."""
        with self._errors():
            self._opened()
            for start in range(0, len(messages), _TOGETHER):
                self._refused = 0
                for message in messages[start : start + _TOGETHER]:
                    self._unconfirmed[self._sent(message)] = None
                if not self._until(lambda: not self._unconfirmed, _ANSWER_S):
                    raise TimeoutError("no acknowledgement")
                self._check_published()

    def close(self) -> None:
        """Let go of the connection; the session stays with the broker (:class:`Broker`)."""
        client, self._client = self._client, None
        self._waiting.clear()
        self._unconfirmed.clear()
        if client is not None:
            with suppress(Exception):  # it is given up either way
                client.disconnect()
                client.loop(0.1)

    def _sent(self, message: Outgoing) -> int:
        properties = self._properties("PUBLISH")
        properties.UserProperty = [(RECORD_ID, message.identifier), *message.headers.items()]
        return int(self._client.publish(self._topic, message.body, qos=1, properties=properties).mid)

    def _check_published(self) -> None:
        if self._refused == _NOBODY:
            raise Unreachable("nobody has subscribed to the topic, so that the broker would drop the messages")
        if self._refused >= _FAILED:
            raise BrokerRefused("leave to publish to the topic", f"reason code {self._refused} of the broker")

    def _opened(self) -> Any:
        if self._client is None:
            client = self._made()
            self._client = client
            properties = self._properties("CONNECT")
            if self._id is not None:
                properties.SessionExpiryInterval = _FOREVER
                properties.ReceiveMaximum = self._most
            client.connect(self._address.host, self._address.port, _KEEP_ALIVE_S, clean_start=self._id is None,
                           properties=properties)  # fmt: skip
            self._check(self._asked("an account that the broker admits"))
            if self._id is not None:
                options = self._paho.SubscribeOptions(
                    qos=1, retainHandling=self._paho.SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
                )
                client.subscribe(self._topic, options=options)
                self._check(self._asked("leave to subscribe"))
        return self._client

    def _made(self) -> Any:
        paho, address = self._paho, self._address

        class Client(paho.Client):  # type: ignore[name-defined,misc]  # the library is loaded when it is needed
            def _create_socket(self) -> Any:
                return address.open_socket()

        client = Client(paho.CallbackAPIVersion.VERSION2, self._id or "", protocol=paho.MQTTv5, manual_ack=True)
        client.max_inflight_messages_set(_TOGETHER)
        if address.user:
            client.username_pw_set(address.user, address.password)
        client.on_connect = lambda _client, _data, _flags, code, _more: self._answered(code.value)
        client.on_subscribe = lambda _client, _data, _mid, codes, _more: self._answered(codes[0].value)
        client.on_message = lambda _client, _data, message: self._came(message)
        client.on_publish = lambda _client, _data, mid, code, _more: self._published(mid, code.value)
        return client

    def _came(self, message: Any) -> None:
        named = dict(getattr(message.properties, "UserProperty", ()))
        self._waiting.append(Incoming(named.get(self._id_header), message.payload, (message.mid, message.qos)))

    def _published(self, mid: int, code: int) -> None:
        self._refused = max(self._refused, code)
        self._unconfirmed.pop(mid, None)

    def _answered(self, code: int) -> None:
        self._answer = code

    def _asked(self, what: str) -> tuple[str, int]:
        """Wait for the broker's answer."""
        self._answer = None
        if not self._until(lambda: self._answer is not None, _ANSWER_S):
            raise TimeoutError("no answer")
        return what, int(self._answer)

    def _check(self, answer: tuple[str, int]) -> None:
        what, code = answer
        if code in _ACCESS:
            raise BrokerRefused(what, f"reason code {code} of the broker", ACCOUNT)
        if code >= _FAILED:
            raise Unreachable(f"reason code {code} of the broker")

    def _until(self, done: Callable[[], bool], wait_s: float) -> bool:
        """Let the client work until something is so; False when it is not within the time."""
        deadline = time.monotonic() + wait_s
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            code = self._client.loop(min(left, 0.1))
            if code != self._paho.MQTT_ERR_SUCCESS and not done():  # a refusal is an answer, and ends the connection
                raise ConnectionError(self._paho.error_string(code))
        return True

    def _properties(self, packet: str) -> Any:
        properties = driver("paho.mqtt.properties")
        types = driver("paho.mqtt.packettypes")
        return properties.Properties(getattr(types.PacketTypes, packet))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (BrokerRefused, Unreachable):
            self.close()
            raise
        except (OSError, ValueError) as error:
            self.close()
            raise self._address.failed(error) from error
