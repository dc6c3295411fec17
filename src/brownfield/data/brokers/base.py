"""What the brokers have in common: an address, messages in and out, and five verbs.

Sources and sinks stand above; each broker's own protocol is known in one file beside this one.
"""

import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, Protocol

from brownfield.data.tls import client_context
from brownfield.errors import BrownfieldError

__all__ = [
    "ACCOUNT",
    "RECORD_ID",
    "Allowance",
    "Broker",
    "BrokerAddress",
    "BrokerRefused",
    "Incoming",
    "Outgoing",
    "Unreachable",
    "driver",
]

RECORD_ID = "bf-record-id"
"""Header that names a message of ours wherever a broker has no place of its own for an identifier."""

_CONNECT_TIMEOUT_S = 10.0
_DEEPEST = 8
_OF_ANOTHER_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
ACCOUNT = "Look at user and password of the connection, and ask the owner of the broker."
"""What to do about an account that is not admitted."""


class Unreachable(Exception):
    """The broker is out of reach, or the connection was lost; what was not confirmed may be there or not."""


class BrokerRefused(Exception):
    """The broker does not admit what was asked; asking again would not help.

    Parameters
    ----------
    expected, got
        The two sides of the disagreement.
    next_step
        What its owner can do.
    """

    def __init__(self, expected: str, got: str, next_step: str | None = None) -> None:
        super().__init__(expected, got, next_step)
        self.expected = expected
        self.got = got
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message that a broker handed out and still holds.

    Parameters
    ----------
    identifier
        What the producer or the stream calls it; None where neither named it.
    body
        Its bytes; None where the broker has lost them and says so.
    tag
        By which the broker is told that the message is safe.
    """

    identifier: str | None
    body: bytes | None
    tag: Any


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way out.

    Parameters
    ----------
    identifier
        The same on every attempt.
    body
        Its bytes.
    headers
        Texts beside it, without the identifier.
    """

    identifier: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is and who asks.

    Parameters
    ----------
    host, port
        Its name, against which its certificate is held, and port.
    addresses
        What the name stands for; only these are used.
    user, password
        Of the account; empty where none is asked.
    tls
        ``verify``, ``encrypt`` (not checked) or ``off``.
    ca_file
        Certificates that vouch for it; the system's own when None.
    space
        Virtual host (rabbitmq) or number of the database (redis).
    """

    host: str
    port: int
    addresses: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    tls: Literal["verify", "encrypt", "off"] = "verify"
    ca_file: str | None = None
    space: str = ""

    def context(self) -> ssl.SSLContext | None:
        """Make what encrypts the way; None where it is in clear."""
        return client_context(self.tls, self.ca_file)

    def open_socket(self) -> socket.socket:
        """Connect to the first of the addresses that answers, encrypted as declared.

        Raises
        ------
        OSError
            When none does; of the last one.
        BrokerRefused
            When its certificate is not vouched for: asking again would not help.
        """
        failed = OSError("no address")
        context = self.context()
        if context is not None:
            context.sslsocket_class = _EncryptedSocket
        for address in self.addresses:
            try:
                plain = socket.create_connection((address, self.port), _CONNECT_TIMEOUT_S)
            except OSError as error:
                failed = error
                continue
            if context is None:
                return plain
            try:
                return context.wrap_socket(plain, server_hostname=self.host)
            except ssl.SSLCertVerificationError as error:
                plain.close()
                raise self._not_vouched_for(error) from error
            except BaseException:
                plain.close()
                raise
        raise failed

    def failed(self, error: BaseException) -> "Unreachable | BrokerRefused":
        """Say of a driver's error where it was and what the system below had to say; never what the broker did."""
        found = _innermost(error)
        if isinstance(found, ssl.SSLCertVerificationError):
            return self._not_vouched_for(found)
        why = type(found).__name__
        refusal = (found.reason or "") if isinstance(found, ssl.SSLError) else ""
        if "ALERT" in refusal and "CERTIFICATE" in refusal:
            return BrokerRefused(
                "a broker that lets us in by user and password",
                f"one that asks for a client's certificate ({refusal})",
                "Brownfield has none: ask the owner of the broker for a listener without.",
            )
        if "ALERT" in refusal:
            why = f"it does not take our way of encrypting ({refusal})"
        elif isinstance(found, ssl.SSLError):
            why = "it does not answer encrypted; if that is so, declare tls: {mode: off}"
        elif isinstance(found, TimeoutError):
            why = "it did not answer in time"
        elif isinstance(found, OSError) and found.errno:
            why = os.strerror(found.errno)
        elif isinstance(found, ConnectionError):
            why = "it ended the connection; if it does each time, look whether it encrypts as tls says"
        return Unreachable(f"{self.host}:{self.port}: {why}")

    def _not_vouched_for(self, error: ssl.SSLCertVerificationError) -> "BrokerRefused":
        step = "Name the file of its issuer's certificates: tls: {ca_file: ...}."
        if error.verify_code in _OF_ANOTHER_NAME:
            step = "Give the host by the name that its certificate has."
        expected = f"a certificate for {self.host} that is vouched for"
        return BrokerRefused(expected, f"one that is not ({error.verify_message})", step)


def _innermost(error: BaseException) -> BaseException:
    """Find the error of the system in what a driver made of it; the driver's own where there is none."""
    found: BaseException | None = error
    for _ in range(_DEEPEST):
        if found is None or isinstance(found, OSError):
            break
        inner = [each for each in (*found.args, getattr(found, "exception", None)) if isinstance(each, BaseException)]
        found = found.__cause__ or found.__context__ or (inner[0] if inner else None)
    return found or error


class _EncryptedSocket(ssl.SSLSocket):
    """What the broker said before it ended the connection counts, not that writing failed then.

    With TLS 1.3 it may ask for a client's certificate after all, when the handshake is over on this side.
    """

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (ssl.SSLEOFError, ConnectionError):
            with suppress(ssl.SSLWantReadError):
                self.recv(1)
            raise


class Allowance(Protocol):
    """What a broker can bear: a :class:`brownfield.data.sources.Budget`, whose rows are messages."""

    @property
    def page_rows(self) -> int:
        """Most messages that may be asked for together."""
        ...

    def rows(self, rows: int) -> AbstractContextManager[None]:
        """Wait until so many messages may pass."""
        ...

    def connection(self) -> AbstractContextManager[None]:
        """Hold one of the connections."""
        ...

    def attempt(self) -> AbstractContextManager[None]:
        """Try to connect."""
        ...


class Broker(Protocol):
    """One queue of one broker; connects on first use.

    Every verb raises :class:`Unreachable` when the broker cannot be reached, and :class:`BrokerRefused` for what is
    not there or not allowed.
    """

    def depth(self) -> int | None:
        """Look whether the queue is there; give the messages that wait in it, None where the broker does not tell."""
        ...

    def receive(self, limit: int, wait_s: float) -> Sequence[Incoming]:
        """Take up to so many messages; fewer only when none came for the time given. They stay the broker's."""
        ...

    def confirm(self, tags: Sequence[Any]) -> None:
        """Tell the broker that these messages are safe."""
        ...

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Hand messages over; the broker has every one of them when this returns."""
        ...

    def close(self) -> None:
        """Let go of the connection; what was taken and not confirmed goes back to the broker. Never raises."""
        ...


def driver(name: str) -> ModuleType:
    """Import a broker's library.

    Raises
    ------
    BrownfieldError
        With what to install.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise BrownfieldError(
            f"the library {name} is not installed", next_step="Install it: pip install 'brownfield[queues]'."
        ) from error
