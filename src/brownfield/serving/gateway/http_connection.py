"""One HTTP/1.1 connection of the door: bytes in, answers of the handler out, in the order of the requests.

llhttp does all the parsing. Bytes that come while a request is being answered are held unparsed, so what a caller
can make us keep is bounded by bytes. The handler answers now (refusals, fallbacks, pages) or later, by calling back.
A refusal that leaves the rest of a request unread ends the connection, after a moment in which that rest is discarded,
so that the caller sees the refusal and not a reset.
"""

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from brownfield.errors import BrownfieldError, Unavailable
from brownfield.serving.gateway.http_heads import (
    METHODS,
    begun_answer,
    check_head,
    length_of,
    path_of,
    told_malformed,
    without_upgrade,
)
from brownfield.serving.gateway.http_limits import SINGLE_FIELDS, joined, most_chunks
from brownfield.serving.gateway.messages import Opened, Response
from brownfield.serving.gateway.problem import HttpFault

if TYPE_CHECKING:
    from brownfield.serving.gateway.http import Door
    from brownfield.serving.gateway.http_heads import Head
    from brownfield.serving.gateway.messages import DoorHandler

__all__ = ["Connection"]

_log = logging.getLogger(__name__)

_SLICE_BYTES: Final = 4096  # fed to the parser at a time: bounds how many pipelined requests are parsed ahead
_HELD_BYTES: Final = 64 * 1024  # unparsed bytes beyond which the socket is not read
_SMALL_BODY_BYTES: Final = 64 * 1024  # of a refused request: read and forgotten, so that the connection can be kept
_JOIN_BYTES: Final = 64 * 1024  # longest body that is copied behind its head to go out in one piece
_CHUNK_LINE_BYTES: Final = 20  # its size in digits, and two ends of lines
_IN_A_ROW: Final = 32  # answers to one caller that never waited, before others get their turn
_LINGER_S: Final = 2.0
_HALF_CLOSED_S: Final = 1.0

_NEW: Final = 0
_IDLE: Final = 1
_HEAD: Final = 2
_BODY: Final = 3
_NONE: Final = Response(204, [], b"")
_FAILED: Final = {"event": "BF-GTW-CONNECTION-FAILED"}
_LONG_HEAD: Final = HttpFault("Send a shorter head, with fewer fields.")
_CROWDED: Final = Unavailable("requests half sent take too much memory", next_step="Send it again in a moment.")
_LONG_REST: Final = HttpFault("Send fewer trailers and chunk extensions, or none.", rule="http.trailers")


class _Final(Exception):
    """Raised through the parser: nothing after this request is read."""


class Connection(asyncio.Protocol):
    """One connection; made and kept by the :class:`~brownfield.serving.gateway.http.Door`."""

    __slots__ = (
        "_body", "_call", "_chunks", "_door", "_ending", "_eof", "_fields", "_final", "_handler", "_head_only",
        "_headers", "_held", "_keep", "_known", "_left", "_old", "_opened", "_owes_continue", "_parser", "_parsing",
        "_peer", "_pumping", "_queue", "_reading", "_received", "_repeated", "_replay", "_since", "_started_ns",
        "_stuck_bytes", "_target", "_transport", "_unseen_bytes", "_unwritable", "_version", "_whole", "_wire_bytes",
        "_yielding",
    )  # fmt: skip

    def __init__(self, door: "Door") -> None:
        self._door = door
        self._handler: DoorHandler = door.handler
        self._parser: Any = httptools.HttpRequestParser(self)
        self._body: bytes | bytearray = b""
        self._opened: Opened | Response
        self._left = self._received = self._wire_bytes = self._chunks = self._started_ns = 0
        self._unseen_bytes = self._stuck_bytes = 0
        self._target = self._replay = self._whole = b""
        self._headers: dict[bytes, bytes] = {}
        self._parsing = _NEW
        self._since = door.ticks
        self._held = bytearray()
        self._queue: deque[tuple[Opened | Response, bytes, bool, bool, bool]] = deque()
        self._call: Opened | None = None
        self._reading = self._keep = True
        self._pumping = self._unwritable = self._yielding = self._eof = self._final = self._ending = False
        self._owes_continue = self._head_only = self._old = False
        self._peer: str | None = None
        self._known: Head | None = None

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse at once when there are too many."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from asyncio's
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) and peer else None
        self._door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget everything; the work for a caller who left is cancelled."""
        self._final = self._ending = True
        self._parser = None  # it refers to this connection
        self._opened = _NONE  # so does a call: nothing may be left for the collector of cycles
        self._queue.clear()
        self._held.clear()
        if self._call is not None:
            self._handler.cancel(self._call)
        self._door.leave(self)

    def eof_received(self) -> bool:
        """Answer what was asked completely, then end: a caller may close its sending side alone."""
        self._eof = True
        if self._call is None and not self._unwritable and not self._yielding:
            return False
        self._since = self._door.ticks
        return True

    def pause_writing(self) -> None:
        """Begin nothing more until the caller has read what was answered."""
        self._unwritable = True
        self._since = self._door.ticks
        self._stuck_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Go on."""
        self._unwritable = False
        self._since = self._door.ticks
        if not self._ending:
            self._pump()

    def data_received(self, data: bytes) -> None:
        """Parse and answer, or hold the bytes until what came before is answered."""
        if self._final:
            return  # discarded
        if self._call is not None or self._unwritable or self._yielding:
            self._held += data
            if len(self._held) > _HELD_BYTES and self._reading:
                self._reading = False
                self._transport.pause_reading()
            return
        if self._parsing <= _IDLE:
            known = self._known  # callers who keep their connection mostly send one head again and again
            if known is None or len(data) != known.whole_bytes or not data.startswith(known.text):
                self._known = known = self._door.heads.find(data)
            if known is not None:
                self._begin_known(known, data)
                return
        self._whole = data if self._parsing <= _IDLE else b""
        if len(data) > _SLICE_BYTES and not (self._parsing == _BODY and len(data) <= self._left - self._received):
            self._held += data
            self._pump()
            self._whole = b""
        else:
            self._feed(data)
            self._whole = b""
            self._pump()

    def _begin_known(self, head: "Head", data: bytes) -> None:
        """Answer a whole request whose head was parsed before: the parser, between two requests, need not see it."""
        self._parsing = _IDLE
        self._since = self._door.ticks
        opened = self._handler.open(head.method, head.path, head.headers, peer=self._peer, head=head)
        self._pumping = True
        try:
            self._begin(opened, data[len(head.text) :], True, False, False)
        finally:
            self._pumping = False
        if self._call is None and (self._held or self._eof or self._door.draining):
            self._pump()

    # --- from bytes to requests ---

    def _feed(self, data: bytes) -> None:
        before, at, size = self._parsing, 0, len(data)
        while not self._final:
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
                if not isinstance(error.__context__, _Final):
                    cause = error.__context__ or error
                    _log.error("a connection failed", exc_info=cause, extra=_FAILED)
                    self._end_with(BrownfieldError(type(cause).__name__))
            except httptools.HttpParserError as error:
                self._malformed(error, data if before <= _IDLE and not self._queue else b"")
            break
        if self._parsing > _IDLE and not self._final:
            self._started_ns = self._started_ns or self._handler.now_ns()  # else it begins when it is opened
            self._wire_bytes += size
            body = self._received + _CHUNK_LINE_BYTES * self._chunks if self._parsing == _BODY else 0
            if self._wire_bytes - body > self._door.limits.head_bytes + _SLICE_BYTES:
                self._end_with(_LONG_HEAD if self._parsing == _HEAD else _LONG_REST)

    def _malformed(self, error: httptools.HttpParserError, start: bytes) -> None:
        """Refuse what is no HTTP, after the requests before it; what follows a last request is left unread."""
        last = self._queue[-1] if self._queue else None
        if last is not None and not last[2]:
            self._final = True
        else:
            self._end_with(told_malformed(error, start))

    def _end_with(self, error: BrownfieldError | Response) -> None:
        """Refuse, and read nothing more from this connection."""
        if isinstance(error, BrownfieldError):
            error = self._handler.refuse(error, path_of(self._target) if self._parsing >= _HEAD else b"")
        head_only = self._parsing == _BODY and bool(self._parser.get_method() == b"HEAD")
        self._final = True
        self._parsing = _IDLE
        self._body = b""
        self._queue.append((error, b"", False, head_only, False))

    def _stop(self, error: BrownfieldError | Response) -> None:
        """End with a refusal from within the parser."""
        self._end_with(error)
        raise _Final

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        self._parsing = _HEAD
        self._since = self._door.ticks
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
        self._since = self._door.ticks
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
        self._opened = opened = self._handler.open(verb, path, headers, peer=self._peer, started_ns=self._started_ns)
        expects = expects and version == "1.1" and (chunked or self._left > 0)
        if isinstance(opened, Response) and (
            chunked or expects or self._left > min(_SMALL_BODY_BYTES, self._handler.limits.body_bytes)
        ):
            self._stop(opened)
        self._owes_continue = expects

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
        self._owes_continue = False
        self._body = b""
        keep, head_only, old = parser.should_keep_alive(), parser.get_method() == b"HEAD", self._version == "1.0"
        if self._whole and keep and not (head_only or old or isinstance(self._opened, Response)):
            self._door.heads.learn(self._whole, parser.get_method(), self._target, self._headers, self._left)
        self._queue.append((self._opened, bytes(body) if isinstance(body, bytearray) else body, keep, head_only, old))

    # --- from requests to answers ---

    def _pump(self) -> None:
        """Answer what is queued and parse what is held, until something must be waited for."""
        self._pumping = True
        try:
            self._answer_all()
        finally:
            self._pumping = False
        if not self._reading and len(self._held) < _HELD_BYTES and not self._ending:
            self._reading = True
            self._transport.resume_reading()

    def _answer_all(self) -> None:
        answered = 0
        while self._call is None and not (self._unwritable or self._ending or self._yielding):
            if self._queue:
                if answered == _IN_A_ROW:
                    self._yielding = True
                    asyncio.get_running_loop().call_soon(self._go_on)
                    break
                answered += 1
                self._begin(*self._queue.popleft())
            elif self._held and not self._final:
                size = max(_SLICE_BYTES, self._left - self._received) if self._parsing == _BODY else _SLICE_BYTES
                data = bytes(self._held[:size])
                del self._held[:size]
                self._feed(data)
            else:
                if self._owes_continue and not self._received:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._owes_continue = False
                if self._eof or (self._door.draining and self._parsing <= _IDLE):
                    self._transport.close()
                break

    def _go_on(self) -> None:
        self._yielding = False
        if not self._ending:
            self._pump()

    def _begin(self, opened: Opened | Response, body: bytes, keep: bool, head_only: bool, old: bool) -> None:  # noqa: FBT001
        self._keep, self._head_only, self._old = keep, head_only, old
        if isinstance(opened, Response):
            self._respond(opened)
            return
        self._call = opened
        self._handler.answer(opened, body, self._answered)

    def _answered(self, response: Response) -> None:
        self._call = None
        try:
            self._respond(response)
            more = self._queue or self._held or self._eof or self._owes_continue or self._door.draining
            if more and not self._pumping:
                self._pump()
        except Exception as error:  # noqa: BLE001 (the last barrier: who tells this caller tells others next)
            _log.error("a connection failed", exc_info=error, extra=_FAILED)
            self._final = self._ending = True
            self._transport.close()

    def _respond(self, response: Response) -> None:
        transport = self._transport
        self._since = self._door.ticks
        if transport.is_closing():
            return
        ends = not self._keep or self._door.draining or self._handler.draining
        body = response.body
        parts = begun_answer(response, self._door.date_line, ends=ends, old=self._old)
        if self._head_only:
            transport.write(b"".join(parts))
        elif len(body) <= _JOIN_BYTES:
            parts.append(body)
            transport.write(b"".join(parts))
        else:
            transport.write(b"".join(parts))
            transport.write(body)
            self._unseen_bytes = 0 if transport.can_write_eof() else len(body)
        if ends:
            self._end()

    def _end(self) -> None:
        """Close; when more of the caller's bytes may come, tell it so and discard them for a moment."""
        self._ending = True
        unread = self._final or bool(self._held)
        self._final = True
        self._held.clear()
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if unread and not self._eof and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    # --- the door's side ---

    def refuse(self, response: Response, *, linger: bool) -> None:
        """Answer before anything was read, and end: after discarding what comes for a moment, or at once."""
        self._final = True
        self._eof = not linger
        self._keep = False
        self._respond(response)

    def came_within(self, longest_s: float) -> bool:
        """Whether it is that new, and no request came yet, not even a part of one."""
        return self._parsing == _NEW and (self._door.ticks - self._since) * self._door.tick_s <= longest_s

    def drain(self) -> None:
        """End when nothing is under way; otherwise after the answer."""
        under_way = self._call is not None or self._unwritable or self._yielding or self._parsing > _IDLE
        if not under_way and not self._ending:
            self._ending = self._final = True
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def kept(self) -> tuple[int, int]:
        """Since when its caller does what it does, in ticks, and the bytes it makes us keep: half sent, and unread."""
        return self._since, len(self._body) + len(self._held) + self._transport.get_write_buffer_size()

    def relieve(self) -> None:
        """End it, so that what is kept for it goes: with a refusal, where one can be heard."""
        if self._parsing == _BODY and self._call is None and not (self._unwritable or self._ending):
            self._held.clear()
            self._end_with(_CROWDED)
            self._pump()
        else:
            self._transport.abort()

    def sweep(self) -> bool:
        """End what is overdue, and tell whether it was; called by the door's one timer."""
        if (self._door.ticks - self._since) * self._door.tick_s <= self._patience_s():
            return False
        if self._call is not None or self._unwritable or self._ending:
            self._transport.abort()
        elif self._parsing <= _IDLE:
            self._ending = self._final = True  # cut off next, should the other end not close
            self._since = self._door.ticks
            self._transport.close()
        else:
            self._end_with(HttpFault("Send the whole request without pauses.", 408, rule="http.time"))
            self._pump()
        return True

    def _patience_s(self) -> float:
        """How long the caller may take for what it does now."""
        limits = self._door.limits
        if self._call is not None:  # bounded by the deadline of the request
            return _HALF_CLOSED_S if self._eof else math.inf
        unseen_s = self._unseen_bytes / limits.slowest_bytes_per_s  # how much is left to be read below TLS nobody tells
        if self._unwritable:
            read_bytes = self._stuck_bytes - self._transport.get_write_buffer_size()
            return limits.write_s + read_bytes / limits.slowest_bytes_per_s + unseen_s
        if self._ending:
            return (limits.write_s if self._transport.get_write_buffer_size() else _LINGER_S) + unseen_s
        if self._parsing <= _IDLE:
            return limits.idle_s + unseen_s
        if self._parsing == _BODY:
            return limits.body_s + self._received / limits.slowest_bytes_per_s
        return limits.header_s
