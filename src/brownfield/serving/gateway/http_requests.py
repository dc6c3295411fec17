"""The requests in the bytes of one HTTP/1.1 connection, in their order: read, or refused where they break the rules.

llhttp does all the parsing. What is refused while a part of it is unread ends the reading: nothing after it counts.
"""

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import httptools

from brownfield.errors import BrownfieldError
from brownfield.serving.gateway.http_heads import (
    METHODS,
    check_head,
    length_of,
    path_of,
    told_malformed,
    without_upgrade,
)
from brownfield.serving.gateway.http_limits import SINGLE_FIELDS, joined, most_chunks
from brownfield.serving.gateway.messages import Response
from brownfield.serving.gateway.problem import HttpFault

if TYPE_CHECKING:
    from brownfield.serving.gateway.http import Door
    from brownfield.serving.gateway.messages import DoorHandler, Opened

__all__ = ["CONNECTION_FAILED", "SLICE_BYTES", "RequestReader"]

CONNECTION_FAILED: Final = {"event": "BF-GTW-CONNECTION-FAILED"}
"""Further fields of the log's line."""

SLICE_BYTES: Final = 4096
"""Fed at a time: bounds how many pipelined requests are parsed ahead."""

_log = logging.getLogger(__name__)

_SMALL_BODY_BYTES: Final = 64 * 1024  # of a refused request: read and forgotten, so that the connection can be kept
_CHUNK_LINE_BYTES: Final = 20  # its size in digits, and two ends of lines

_NEW: Final = 0
_IDLE: Final = 1
_HEAD: Final = 2
_BODY: Final = 3
_NONE: Final = Response(204, [], b"")
_LONG_HEAD: Final = HttpFault("Send a shorter head, with fewer fields.")
_LONG_REST: Final = HttpFault("Send fewer trailers and chunk extensions, or none.", rule="http.trailers")


class _Final(Exception):
    """Raised through the parser: nothing after this request is read."""


class RequestReader:
    """Reads the requests of one connection; its parser calls the methods whose names begin with ``on_``.

    Parameters
    ----------
    door
        Whose limits, handler and known heads there are.

    Attributes
    ----------
    queue
        What was read and is to be answered: each request as the handler opened it, or its refusal; its body; whether
        the connection is kept after it; whether its answer is to have no body; and whether it came in HTTP/1.0.
    final
        Whether nothing more is read.
    since
        When the caller began with what it does now, in ticks of the door.
    whole
        The bytes that came in one piece while nothing was under way; empty where there are none such.
    peer
        Address of the caller.
    owes_continue
        Whether the caller waits to be told to go on.
    """

    __slots__ = (
        "_body", "_chunks", "_door", "_fields", "_handler", "_headers", "_left", "_opened", "_parser", "_parsing",
        "_received", "_repeated", "_replay", "_started_ns", "_target", "_version", "_wire_bytes", "final",
        "owes_continue", "peer", "queue", "since", "whole",
    )  # fmt: skip

    def __init__(self, door: "Door") -> None:
        self._door = door
        self._handler: DoorHandler = door.handler
        self._parser: Any = httptools.HttpRequestParser(self)
        self._body: bytes | bytearray = b""
        self._opened: Opened | Response
        self._left = self._received = self._wire_bytes = self._chunks = self._started_ns = 0
        self._target = self._replay = self.whole = b""
        self._headers: dict[bytes, bytes] = {}
        self._parsing = _NEW
        self.since = door.ticks
        self.queue: deque[tuple[Opened | Response, bytes, bool, bool, bool]] = deque()
        self.final = self.owes_continue = False
        self.peer: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether no request came yet, not even a part of one."""
        return self._parsing == _NEW

    @property
    def is_between(self) -> bool:
        """Whether no part of a request was read whose rest is to come."""
        return self._parsing <= _IDLE

    @property
    def is_in_body(self) -> bool:
        """Whether a body is to come, or the rest of one."""
        return self._parsing == _BODY

    @property
    def body_bytes(self) -> int:
        """How much is kept of a body whose rest is to come."""
        return len(self._body)

    @property
    def expected_bytes(self) -> int:
        """How much of a body is still to come, by what its head said; 0 where nothing is known of that."""
        return max(0, self._left - self._received) if self._parsing == _BODY else 0

    @property
    def waits_for_continue(self) -> bool:
        """Whether the caller waits to be told to go on, and has not gone on by itself."""
        return self.owes_continue and not self._received

    def begin_known(self) -> None:
        """Take note of a request that is read elsewhere, for its head was parsed before."""
        self._parsing = _IDLE
        self.since = self._door.ticks

    def forget(self) -> None:
        """Keep nothing: the connection has gone."""
        self.final = True
        self._parser = None  # it refers to this reader
        self._opened = _NONE  # so does a call to its connection: nothing may be left for the collector of cycles
        self.queue.clear()

    def patience_s(self) -> float:
        """How long the caller may take for what it does now, where that is sending."""
        limits = self._door.limits
        if self._parsing <= _IDLE:
            return limits.idle_s
        if self._parsing == _BODY:
            return limits.body_s + self._received / limits.slowest_bytes_per_s
        return limits.header_s

    def feed(self, data: bytes) -> None:
        """Read on."""
        before, at, size = self._parsing, 0, len(data)
        while not self.final:
            try:
                self._parser.feed_data(data[at:] if at else data)
            except httptools.HttpParserUpgrade as upgrade:  # not taken up; what follows is the next request
                at += upgrade.args[0]
                if self._replay:
                    data, at, self._replay = self._replay + data[at:], 0, b""
                    self._parser = httptools.HttpRequestParser(self)
                if at < len(data):
                    continue
            except httptools.HttpParserCallbackError as error:
                if not self.final:  # its context is no sign: where an error is being handled, that is its context
                    cause = error.__context__ or error
                    _log.error("a connection failed", exc_info=cause, extra=CONNECTION_FAILED)
                    self.end_with(BrownfieldError(type(cause).__name__))
            except httptools.HttpParserError as error:
                self._malformed(error, data if before <= _IDLE and not self.queue else b"")
            break
        if self._parsing > _IDLE and not self.final:
            self._started_ns = self._started_ns or self._handler.now_ns()  # else it begins when it is opened
            self._wire_bytes += size
            body = self._received + _CHUNK_LINE_BYTES * self._chunks if self._parsing == _BODY else 0
            if self._wire_bytes - body > self._door.limits.head_bytes + SLICE_BYTES:
                self.end_with(_LONG_HEAD if self._parsing == _HEAD else _LONG_REST)

    def _malformed(self, error: httptools.HttpParserError, start: bytes) -> None:
        """Refuse what is no HTTP, after the requests before it; what follows a last request is left unread."""
        last = self.queue[-1] if self.queue else None
        if last is not None and not last[2]:
            self.final = True
        else:
            self.end_with(told_malformed(error, start))

    def end_with(self, error: BrownfieldError | Response) -> None:
        """Refuse, and read nothing more from this connection."""
        if isinstance(error, BrownfieldError):
            error = self._handler.refuse(error, path_of(self._target) if self._parsing >= _HEAD else b"")
        head_only = self._parsing == _BODY and bool(self._parser.get_method() == b"HEAD")
        self.final = True
        self._parsing = _IDLE
        self._body = b""
        self.queue.append((error, b"", False, head_only, False))

    def _stop(self, error: BrownfieldError | Response) -> None:
        """End with a refusal from within the parser."""
        self.end_with(error)
        raise _Final

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        self._parsing = _HEAD
        self.since = self._door.ticks
        self._started_ns = 0
        self._target = b""
        self._headers = {}
        self._repeated = False
        self._fields = 0
        self._wire_bytes = 0
        self._received = 0
        self._body = b""

    def on_url(self, part: bytes) -> None:
        """Take the target, or a part of it."""
        self._target += part
        self._received += len(part)
        if len(self._target) > self._door.limits.target_bytes:
            self._stop(HttpFault("Send a shorter request target.", rule="http.target"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field; trailers are counted and forgotten."""
        self._fields += 1
        if self._parsing == _BODY:
            if self._fields > self._door.limits.fields:
                self._stop(_LONG_REST)
            return
        self._received += len(name) + len(value) + 4
        name, value = name.lower(), value.rstrip(b" \t")
        if name in self._headers:
            value = joined(name, self._headers[name], value)
            self._repeated = self._repeated or name in SINGLE_FIELDS
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Admit or refuse the request by its head."""
        headers, parser = self._headers, self._parser
        self._parsing = _BODY
        self.since = self._door.ticks
        method = parser.get_method()
        self._version = version = parser.get_http_version()
        limits = self._door.limits
        if self._received > limits.head_bytes or self._fields > limits.fields:
            self._stop(_LONG_HEAD)
        chunked = b"transfer-encoding" in headers
        expects = b"expect" in headers
        if self._repeated or chunked or expects or version != "1.1" or b"host" not in headers or method == b"CONNECT":
            broken = check_head(method, version, headers, repeated=self._repeated)
            if broken is not None:
                self._stop(broken)
        length = headers.get(b"content-length")
        if b"upgrade" in headers and (chunked or length is not None) and parser.should_upgrade():
            self._replay = without_upgrade(method, self._target, version, headers)
            return
        try:
            self._left = length_of(length) if length is not None else 0
        except HttpFault as fault:
            self._stop(fault)
        self._received = 0
        self._chunks = 0
        verb, path = METHODS.get(method) or method.decode(), path_of(self._target)
        self._opened = opened = self._handler.open(verb, path, headers, peer=self.peer, started_ns=self._started_ns)
        expects = expects and version == "1.1" and (chunked or self._left > 0)
        if isinstance(opened, Response) and (
            chunked or expects or self._left > min(_SMALL_BODY_BYTES, self._handler.limits.body_bytes)
        ):
            self._stop(opened)
        self.owes_continue = expects

    def on_chunk_header(self) -> None:
        """Count the chunks."""
        self._chunks += 1
        if self._chunks > most_chunks(self._handler.limits.body_bytes):
            self._stop(HttpFault("Send the body in fewer chunks.", rule="http.chunks"))

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body, up to the cap; of a refused request nothing is kept."""
        self._received += len(data)
        opened = self._opened
        if isinstance(opened, Response):
            return
        if self._received > self._handler.limits.body_bytes:
            self._stop(self._handler.too_large(opened))
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body + data)

    def on_message_complete(self) -> None:
        """Queue the request behind those before it."""
        if self._replay:
            return
        body = self._body
        parser = self._parser
        self._parsing = _IDLE
        self.owes_continue = False
        self._body = b""
        keep, head_only, old = parser.should_keep_alive(), parser.get_method() == b"HEAD", self._version == "1.0"
        if self.whole and keep and not (head_only or old or isinstance(self._opened, Response)):
            self._door.heads.learn(self.whole, parser.get_method(), self._target, self._headers, self._left)
        self.queue.append((self._opened, bytes(body) if isinstance(body, bytearray) else body, keep, head_only, old))
