"""One service over HTTP: asked at an address that was checked, within its budget, and before a deadline.

The host's name is resolved once for each connection; every address that it stands for must be of the declared class,
and the connection goes to that very address. No redirect is followed, nothing is tried twice, no proxy of the
environment is used, and an answer is read up to its cap alone.
"""

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from brownfield.data.sources.budget import Budget, BudgetSpent
from brownfield.data.tls import client_context
from brownfield.errors import DeclarationError, SourceUnavailable
from brownfield.integration import check_address, check_url

__all__ = ["Ask", "HttpClient", "Reply", "Site"]

Network = Literal["public", "private", "this_machine"]

_IDLE_S = 15.0
_OK = range(200, 300)
_SENDABLE = re.compile("[\t\x20-\x7e\xa0-\xff]*")
_REDIRECTS = range(300, 400)
_UNAUTHORIZED = (401, 403, 407)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a service is now and who we are there; read anew for every connection.

    Parameters
    ----------
    base_url
        Such as ``https://host:port/api``, without a query.
    network
        What its host's name may stand for.
    headers
        That let us in.
    tls, ca_file
        As declared: ``verify``, ``encrypt`` or ``off``.
    """

    base_url: str
    network: Network = "public"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: str = "verify"
    ca_file: str | None = None

    def check(self) -> None:
        """Refuse a base URL that may not be asked.

        Raises
        ------
        DeclarationError
            Without the URL in its message.
        """
        scheme = "http" if self.tls == "off" else "https"
        check_url(self.base_url, schemes=(scheme,), loopback=self.network == "this_machine")
        if urlsplit(self.base_url).query:
            raise DeclarationError(expected="a base URL without a query", got="one with it")
        if not all(_SENDABLE.fullmatch(value) for value in self.headers.values()):
            raise DeclarationError(
                expected="a credential of one line that a header can carry",
                got="another text",
                next_step="Look at the reference in auth.value.",
            )


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: ``path`` and ``query`` are percent-encoded already."""

    method: str
    path: str
    query: str = ""
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status, the media type in lower case, and the whole body."""

    status: int
    media_type: str
    body: bytes = field(repr=False)


@dataclass
class HttpClient:
    """Asks one service.

    Parameters
    ----------
    resolve
        Gives the service's present place.
    budget
        What it can bear; ``rows_per_s`` counts requests.
    timeout_s
        Longest time for one request, from the wait for a connection to the last byte.
    max_bytes
        Longest answer.
    name
        Of the connection, for messages.
    keep_open
        Whether a connection is kept for the next request, and with it a place in the budget.
    """

    resolve: Callable[[], Site]
    budget: Budget
    timeout_s: float = 10.0
    max_bytes: int = 1 << 24
    name: str = "http"
    keep_open: bool = False
    _idle: "list[_Line]" = field(default_factory=list, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _places: threading.BoundedSemaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._places = threading.BoundedSemaphore(self.budget.max_connections)

    def ask(self, ask: Ask, timeout_s: float | None = None) -> Reply:
        """Send one request and read its answer.

        Raises
        ------
        SourceUnavailable
            When it is out of reach, late, or answers with what is not read: a redirect, a body that is too long or
            packed, an error of its own. As :class:`BudgetSpent` when our budget for it is used up.
        DeclarationError
            When its place may not be asked.
        """
        until = time.monotonic() + min(self.timeout_s, timeout_s or self.timeout_s)
        patient = self._patient(until)
        with self._place(until), patient.rows(1):
            line = self._kept()
            if line is not None:
                reply = self._exchange(line, ask, until)
            else:
                with self._opened(patient) as held, patient.attempt():  # its first answer is part of the try
                    line = self._connect(until, held)
                    reply = self._exchange(line, ask, until)
            if self.keep_open:
                with self._lock:
                    self._idle.append(line)
            else:
                line.close()
        return reply

    def reach(self, timeout_s: float | None = None) -> None:
        """Look whether a connection can be made; raises as :meth:`ask`."""
        until = time.monotonic() + min(self.timeout_s, timeout_s or self.timeout_s)
        patient = self._patient(until)
        with self._opened(patient) as held, patient.attempt():
            self._connect(until, held).close()

    def close(self) -> None:
        """End the connections that are kept open."""
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    @contextmanager
    def _place(self, until: float) -> Iterator[None]:
        """Wait for one of our own connections: another thread's that is kept is as good as a new one."""
        if not self._places.acquire(timeout=max(until - time.monotonic(), 0.0)):
            raise BudgetSpent(
                "all connections of its budget are in use",
                where=f"connection {self.name}",
                next_step="Wait longer, or raise budget.max_connections with the system's owner.",
            )
        try:
            yield
        finally:
            self._places.release()

    def _patient(self, until: float) -> Budget:
        """Give the budget as it waits for us: never longer than the caller would."""
        return replace(self.budget, patience_s=lambda: until - time.monotonic())

    def _kept(self) -> "_Line | None":
        while True:
            with self._lock:
                line = self._idle.pop() if self._idle else None
            if line is None or line.is_usable():
                return line
            line.close()

    @contextmanager
    def _opened(self, budget: Budget) -> Iterator[ExitStack]:
        """Hold a place among the connections; a line that is kept takes it over."""
        with ExitStack() as held:
            held.enter_context(budget.connection())
            yield held

    def _connect(self, until: float, held: ExitStack) -> "_Line":
        try:
            site = self.resolve()
            site.check()
            sock = _reach(site, until)
        except DeclarationError as error:
            error.where = error.where or f"connection {self.name}"
            raise
        except (OSError, UnicodeError) as error:
            raise self._unavailable(f"it is out of reach ({_kind(error)})", _step(error)) from error
        return _Line(site, sock, held.pop_all())

    def _exchange(self, line: "_Line", ask: Ask, until: float) -> Reply:
        try:
            return line.exchange(ask, until, self.max_bytes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            line.close()
            late = time.monotonic() >= until
            why = f"no answer within {self.timeout_s:g} s" if late else f"the connection failed ({_kind(error)})"
            raise self._unavailable(why, _step(error)) from error
        except SourceUnavailable as error:
            line.close()
            error.where = f"connection {self.name}"
            raise
        except BaseException:
            line.close()
            raise

    def _unavailable(self, why: str, next_step: str) -> SourceUnavailable:
        return SourceUnavailable(why, where=f"connection {self.name}", next_step=next_step)


class _Line:
    """One open connection, and the place in the budget that it holds."""

    def __init__(self, site: Site, sock: socket.socket, held: ExitStack) -> None:
        parts = urlsplit(site.base_url)
        self._site = site
        self._base = parts.path.rstrip("/")
        self._http = http.client.HTTPConnection(parts.hostname or "", parts.port or (443 if site.tls != "off" else 80))
        self._http.default_port = 443 if site.tls != "off" else 80
        self._http.sock = sock
        self._http.auto_open = 0
        self._sock = sock
        self._held = held
        self._used_at = time.monotonic()

    def is_usable(self) -> bool:
        """Whether it was used a moment ago and nothing came since."""
        if self._http.sock is None or time.monotonic() - self._used_at > _IDLE_S:
            return False
        self._sock.setblocking(False)
        try:
            self._sock.recv(1)  # the end, or bytes out of turn
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def exchange(self, ask: Ask, until: float, max_bytes: int) -> Reply:
        """Send a request and read the answer; the socket is shut when the time is over, whatever it waits for."""
        with _shut_at(self._sock, until):
            target = f"{self._base}{ask.path}" or "/"
            headers = {"Accept-Encoding": "identity", "User-Agent": "brownfield", **ask.headers, **self._site.headers}
            query = f"?{ask.query}" if ask.query else ""
            self._http.request(ask.method, target + query, ask.body, headers)
            response = self._http.getresponse()
            body = response.read(max_bytes + 1)
            if len(body) > max_bytes:
                raise SourceUnavailable(
                    f"its answer is longer than {max_bytes} bytes",
                    next_step="Ask for less, or raise budget.max_answer_kib.",
                )
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        _check_reply(response)
        self._used_at = time.monotonic()
        media_type = (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        return Reply(response.status, media_type, body)

    def close(self) -> None:
        """End it and give its place back."""
        self._http.close()
        with suppress(OSError):
            self._sock.close()
        self._held.close()


def _check_reply(response: http.client.HTTPResponse) -> None:
    """Refuse what is not read; the text of an answer never stands in a message."""
    status = response.status
    if status in _REDIRECTS:
        raise SourceUnavailable(
            "it answers with a redirect, which is never followed",
            next_step="Give base_url and path of the place itself.",
        )
    if status in _UNAUTHORIZED:
        raise SourceUnavailable(
            f"it does not let us in ({status})", next_step="Look at the credential in auth, and ask its owner."
        )
    packed = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    if packed != "identity":
        raise SourceUnavailable(
            "its answer is packed, which was not asked for", next_step="Ask its owner for answers as they are."
        )


def _reach(site: Site, until: float) -> socket.socket:
    """Connect to the first address that answers; all that the name stands for must be admitted."""
    parts = urlsplit(site.base_url)
    host, port = parts.hostname or "", parts.port or (443 if site.tls != "off" else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for address in addresses:
        _check_class(address, site.network)
    failed: OSError | None = None
    for address in addresses:
        try:
            sock = socket.create_connection((address, port), max(until - time.monotonic(), 0.001))
        except OSError as error:
            failed = error
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _encrypted(sock, site, host)
    raise failed or OSError("the host has no address")


def _check_class(address: str, network: Network) -> None:
    """Hold an address against the declared network; the address itself never stands in a message."""
    check_address(address, loopback=network == "this_machine")
    plain = ip_address(address)
    fits = {
        "public": plain.is_global,
        "private": plain.is_private and not plain.is_loopback,
        "this_machine": plain.is_loopback,
    }[network]
    if not fits:
        raise DeclarationError(
            path="network", expected=f"a host in the declared network ({network})", got="one in another",
            next_step="Declare network: private for a system of the site's own, after asking who answers there.",
        )  # fmt: skip


def _encrypted(sock: socket.socket, site: Site, host: str) -> socket.socket:
    try:
        context = client_context(site.tls, site.ca_file)
        return sock if context is None else context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


@contextmanager
def _shut_at(sock: socket.socket, until: float) -> Iterator[None]:
    """Shut a socket at a moment: a peer that sends a byte now and then would outlast any time-out between bytes."""
    left = max(until - time.monotonic(), 0.001)
    sock.settimeout(left)

    def shut() -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(left, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kind(error: BaseException) -> str:
    """Name an error by its kind: its text may hold what the service sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not vouched for: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no agreement on encryption: {error.reason or 'it ended the handshake'}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it ended without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return "its answer ends too early"
    if isinstance(error, http.client.HTTPException):
        return "its answer is no HTTP"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _step(error: BaseException) -> str:
    """Say what to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "Name the host as its certificate does, and its issuer's certificates: tls: {ca_file: ...}."
    if isinstance(error, ssl.SSLError):
        return "Look whether it encrypts there, and whether it asks for a client's certificate: Brownfield has none."
    return "Look whether it runs, and whether its address still holds."
