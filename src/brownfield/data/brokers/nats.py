"""NATS JetStream (nats-py): a durable pull consumer that is there, and publishing with an identifier.

The library is asynchronous; its loop is private to one object and runs inside our calls alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from brownfield.data.brokers.base import (
    ACCOUNT,
    RECORD_ID,
    BrokerAddress,
    BrokerRefused,
    Incoming,
    Outgoing,
    driver,
)

__all__ = ["Nats"]

_MESSAGE_ID = "Nats-Msg-Id"
_CONNECT_S = 10
_ANSWER_S = 10.0
_TOGETHER = 256
_UNAUTHORIZED = "Authorization Violation"
_Answer = TypeVar("_Answer")


class Nats:
    """One stream with its durable consumer, or one subject that is written.

    Parameters
    ----------
    address
        Where the server is.
    name
        Name of the stream that is read, or subject that is written.
    consumer
        Durable pull consumer with explicit acknowledgement, made by the stream's owner; None to write.
    id_header
        Header that holds the producer's identifier; unless given ``Nats-Msg-Id``, or the sequence in the stream where
        a message has none.
    """

    def __init__(
        self, address: BrokerAddress, name: str, consumer: str | None = None, id_header: str | None = None
    ) -> None:
        self._nats = driver("nats")
        self._address = address
        self._name = name
        self._consumer = consumer
        self._id_header = id_header
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._stream: Any = None
        self._pulled: Any = None
        self._held: dict[int, Any] = {}
        self._last: Exception | None = None
        logging.getLogger("asyncio").addFilter(_is_told)  # the same one is added once

    def depth(self) -> int | None:
        """Give the messages that wait for the consumer (:class:`Broker`)."""
        with self._errors():
            self._open()
            if self._consumer is None:
                self._run(self._stream.account_info)
                return None
            found = self._run(lambda: self._stream.consumer_info(self._name, self._consumer))
            return int(found.num_pending + found.num_ack_pending)

    def receive(self, limit: int, wait_s: float) -> Sequence[Incoming]:
        """Take messages (:class:`Broker`)."""
        taken: list[Incoming] = []
        with self._errors():
            self._open()
            while len(taken) < limit:
                some = min(limit - len(taken), _TOGETHER)
                try:
                    found = self._run(lambda some=some: self._pulled.fetch(some, timeout=wait_s))  # type: ignore[misc]
                except TimeoutError:
                    self._check_connected()
                    break
                for message in found:
                    sequence = message.metadata.sequence
                    named = (message.headers or {}).get(self._id_header or _MESSAGE_ID)
                    identifier = named if named or self._id_header else f"sequence-{sequence.stream}"
                    self._held[sequence.consumer] = message
                    taken.append(Incoming(identifier, message.data, sequence.consumer))
        return taken

    def confirm(self, tags: Sequence[Any]) -> None:
        """Acknowledge messages (:class:`Broker`)."""

        async def told() -> None:
            for tag in tags:
                if tag in self._held:
                    await self._held.pop(tag).ack()
            await self._client.flush(_ANSWER_S)

        with self._errors():
            self._run(told)

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish, each message with its identifier, and wait until the stream has them (:class:`Broker`)."""

        async def sent(some: Sequence[Outgoing]) -> None:
            await asyncio.gather(*(self._published(each) for each in some))

        with self._errors():
            self._open()
            for start in range(0, len(messages), _TOGETHER):
                self._run(lambda start=start: sent(messages[start : start + _TOGETHER]))  # type: ignore[misc]

    def close(self) -> None:
        """Give back what was not acknowledged, and let go of the connection (:class:`Broker`)."""
        client, self._client = self._client, None
        held, self._held = self._held, {}

        async def given_back() -> None:
            for message in held.values():
                await message.nak()
            await client.flush(1)
            await client.close()

        if client is not None and self._loop is not None:
            with suppress(Exception):  # it is given up either way
                self._loop.run_until_complete(asyncio.wait_for(given_back(), 3))
            if not client.is_closed:
                with suppress(Exception):
                    self._loop.run_until_complete(asyncio.wait_for(client.close(), 1))
        if self._loop is not None:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:  # gathering nothing would leave another loop behind
                with suppress(Exception):
                    self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()
            self._loop = None

    async def _published(self, message: Outgoing) -> None:
        headers = {_MESSAGE_ID: message.identifier, RECORD_ID: message.identifier, **message.headers}
        await self._stream.publish(self._name, message.body, timeout=_ANSWER_S, headers=headers)

    def _open(self) -> None:
        if self._client is not None:
            self._check_connected()
            return
        self._loop = asyncio.new_event_loop()
        self._client = client = self._nats.NATS()
        context = self._address.context()
        account: dict[str, Any] = {}
        if self._address.user or self._address.password:
            account = {"user": self._name_of(client, context), "password": self._address.password}
        servers = [f"nats://{f'[{each}]' if ':' in each else each}:{self._address.port}" for each in
                   self._address.addresses]  # fmt: skip
        secured = {} if context is None else {"tls": context, "tls_hostname": self._address.host}
        options = {**account, **secured, "connect_timeout": _CONNECT_S, "error_cb": self._note}
        once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1}
        self._run(lambda: client.connect(servers, **options, **once))
        self._check_encrypted(client, context)
        self._stream = client.jetstream(timeout=_ANSWER_S)
        if self._consumer is not None:
            self._pulled = self._run(lambda: self._stream.pull_subscribe_bind(self._consumer, stream=self._name))

    def _check_connected(self) -> None:
        if not self._client.is_connected:
            raise ConnectionError("the connection was lost")

    def _name_of(self, client: Any, context: Any) -> Callable[[], str]:
        """Give the account's name when it is asked for: after the greeting and before anything secret is sent."""

        def name() -> str:
            self._check_encrypted(client, context)
            return self._address.user

        return name

    def _check_encrypted(self, client: Any, context: Any) -> None:
        """Refuse a server that does not ask for encryption: the library would go on in clear."""
        greeting = client._server_info  # noqa: SLF001 (the library shows it nowhere else before the account is sent)
        if context is not None and not greeting.get("tls_required"):
            raise BrokerRefused(
                "a server that encrypts", "one that does not", "Declare tls: {mode: off} if that is so."
            )

    def _run(self, work: Callable[[], Awaitable[_Answer]]) -> _Answer:
        assert self._loop is not None  # noqa: S101 (opened before)

        async def worked() -> _Answer:
            return await work()

        return self._loop.run_until_complete(worked())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        wrong, stream = self._nats.errors, self._nats.js.errors
        try:
            yield
        except BrokerRefused:
            self.close()
            raise
        except stream.NotFoundError as error:
            self.close()
            raise BrokerRefused(
                f"a stream {self._name} with a durable consumer {self._consumer}",
                "none of this name",
                f"Its owner runs: nats consumer add {self._name} {self._consumer} --pull --ack explicit.",
            ) from error
        except stream.NoStreamResponseError as error:
            raise BrokerRefused("a stream that takes the subject", "none") from error
        except wrong.AuthorizationError as error:
            self.close()
            raise BrokerRefused("an account that the server admits", "one that it does not", ACCOUNT) from error
        except (TimeoutError, wrong.Error, OSError) as error:
            self.close()
            if _UNAUTHORIZED in str(error):  # said while it connects, it has no class of its own
                raise BrokerRefused("an account that the server admits", "one that it does not", ACCOUNT) from error
            found = self._last if isinstance(error, wrong.NoServersError) and self._last is not None else error
            raise self._address.failed(found) from error

    async def _note(self, error: Exception) -> None:
        """Keep the last error: one is raised where it matters, but for why no server was reached."""
        self._last = error


def _is_told(record: logging.LogRecord) -> bool:
    """Whether a warning of asyncio's is worth a line: the library makes this one for each encrypted connection."""
    return "eof_received" not in str(record.msg)
