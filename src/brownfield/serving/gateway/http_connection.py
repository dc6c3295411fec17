"""One HTTP/1.1 connection of the door: bytes in, answers of the handler out, in the order of the requests.

Bytes that come while a request is being answered are held unparsed, so what a caller can make us keep is bounded by
bytes. The handler answers now (refusals, fallbacks, pages) or later, by calling back.
A refusal that leaves the rest of a request unread ends the connection, after a moment in which that rest is discarded,
so that the caller sees the refusal and not a reset.
"""

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final, cast

from brownfield.errors import Unavailable
from brownfield.serving.gateway.http_heads import begun_answer
from brownfield.serving.gateway.http_requests import CONNECTION_FAILED, SLICE_BYTES, RequestReader
from brownfield.serving.gateway.messages import Opened, Response
from brownfield.serving.gateway.problem import HttpFault

if TYPE_CHECKING:
    from brownfield.serving.gateway.http import Door
    from brownfield.serving.gateway.http_heads import Head
    from brownfield.serving.gateway.messages import DoorHandler

__all__ = ["Connection"]

_log = logging.getLogger(__name__)

_HELD_BYTES: Final = 64 * 1024  # unparsed bytes beyond which the socket is not read
_JOIN_BYTES: Final = 64 * 1024  # longest body that is copied behind its head to go out in one piece
_IN_A_ROW: Final = 32  # answers to one caller that never waited, before others get their turn
_LINGER_S: Final = 2.0
_HALF_CLOSED_S: Final = 1.0

_CROWDED: Final = Unavailable("requests half sent take too much memory", next_step="Send it again in a moment.")


class Connection(asyncio.Protocol):
    """One connection; made and kept by the :class:`~brownfield.serving.gateway.http.Door`."""

    __slots__ = (
        "_call", "_door", "_ending", "_eof", "_handler", "_head_only", "_held", "_keep", "_known", "_old", "_pumping",
        "_reader", "_reading", "_stuck_bytes", "_transport", "_unseen_bytes", "_unwritable", "_yielding",
    )  # fmt: skip

    def __init__(self, door: "Door") -> None:
        self._door = door
        self._handler: DoorHandler = door.handler
        self._reader = RequestReader(door)
        self._unseen_bytes = self._stuck_bytes = 0
        self._held = bytearray()
        self._call: Opened | None = None
        self._reading = self._keep = True
        self._pumping = self._unwritable = self._yielding = self._eof = self._ending = False
        self._head_only = self._old = False
        self._known: Head | None = None

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse at once when there are too many."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from asyncio's
        peer = transport.get_extra_info("peername")
        self._reader.peer = peer[0] if isinstance(peer, tuple) and peer else None
        self._door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget everything; the work for a caller who left is cancelled."""
        self._ending = True
        self._reader.forget()
        self._held.clear()
        if self._call is not None:
            self._handler.cancel(self._call)
        self._door.leave(self)

    def eof_received(self) -> bool:
        """Answer what was asked completely, then end: a caller may close its sending side alone."""
        self._eof = True
        if self._call is None and not self._unwritable and not self._yielding:
            return False
        self._reader.since = self._door.ticks
        return True

    def pause_writing(self) -> None:
        """Begin nothing more until the caller has read what was answered."""
        self._unwritable = True
        self._reader.since = self._door.ticks
        self._stuck_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Go on."""
        self._unwritable = False
        self._reader.since = self._door.ticks
        if not self._ending:
            self._pump()

    def data_received(self, data: bytes) -> None:
        """Parse and answer, or hold the bytes until what came before is answered."""
        reader = self._reader
        if reader.final:
            return  # discarded
        if self._call is not None or self._unwritable or self._yielding:
            self._held += data
            if len(self._held) > _HELD_BYTES and self._reading:
                self._reading = False
                self._transport.pause_reading()
            return
        between = reader.is_between
        if between:
            known = self._known  # callers who keep their connection mostly send one head again and again
            if known is None or len(data) != known.whole_bytes or not data.startswith(known.text):
                self._known = known = self._door.heads.find(data)
            if known is not None:
                self._begin_known(known, data)
                return
        reader.whole = data if between else b""
        if len(data) > SLICE_BYTES and len(data) > reader.expected_bytes:
            self._held += data
        else:
            reader.feed(data)
        self._pump()
        reader.whole = b""

    def _begin_known(self, head: "Head", data: bytes) -> None:
        """Answer a whole request whose head was parsed before: the parser, between two requests, need not see it."""
        reader = self._reader
        reader.begin_known()
        opened = self._handler.open(head.method, head.path, head.headers, peer=reader.peer, head=head)
        self._pumping = True
        try:
            self._begin(opened, data[len(head.text) :], True, False, False)
        finally:
            self._pumping = False
        if self._call is None and (self._held or self._eof or self._door.draining):
            self._pump()

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
        answered, reader = 0, self._reader
        while self._call is None and not (self._unwritable or self._ending or self._yielding):
            if reader.queue:
                if answered == _IN_A_ROW:
                    self._yielding = True
                    asyncio.get_running_loop().call_soon(self._go_on)
                    break
                answered += 1
                self._begin(*reader.queue.popleft())
            elif self._held and not reader.final:
                size = max(SLICE_BYTES, reader.expected_bytes)
                data = bytes(self._held[:size])
                del self._held[:size]
                reader.feed(data)
            else:
                if reader.waits_for_continue:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                reader.owes_continue = False
                if self._eof or (self._door.draining and reader.is_between):
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
            more = self._reader.queue or self._held or self._eof or self._reader.owes_continue or self._door.draining
            if more and not self._pumping:
                self._pump()
        except Exception as error:  # noqa: BLE001 (the last barrier: who tells this caller tells others next)
            _log.error("a connection failed", exc_info=error, extra=CONNECTION_FAILED)
            self._ending = self._reader.final = True
            self._transport.close()

    def _respond(self, response: Response) -> None:
        transport = self._transport
        self._reader.since = self._door.ticks
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
        unread = self._reader.final or bool(self._held)
        self._reader.final = True
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
        self._reader.final = True
        self._eof = not linger
        self._keep = False
        self._respond(response)

    def came_within(self, longest_s: float) -> bool:
        """Whether it is that new, and no request came yet, not even a part of one."""
        return self._reader.is_new and (self._door.ticks - self._reader.since) * self._door.tick_s <= longest_s

    def drain(self) -> None:
        """End when nothing is under way; otherwise after the answer."""
        under_way = self._call is not None or self._unwritable or self._yielding or not self._reader.is_between
        if not under_way and not self._ending:
            self._ending = self._reader.final = True
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def kept(self) -> tuple[int, int]:
        """Since when its caller does what it does, in ticks, and the bytes it makes us keep: half sent, and unread."""
        reader = self._reader
        return reader.since, reader.body_bytes + len(self._held) + self._transport.get_write_buffer_size()

    def relieve(self) -> None:
        """End it, so that what is kept for it goes: with a refusal, where one can be heard."""
        if self._reader.is_in_body and self._call is None and not (self._unwritable or self._ending):
            self._held.clear()
            self._reader.end_with(_CROWDED)
            self._pump()
        else:
            self._transport.abort()

    def sweep(self) -> bool:
        """End what is overdue, and tell whether it was; called by the door's one timer."""
        if (self._door.ticks - self._reader.since) * self._door.tick_s <= self._patience_s():
            return False
        if self._call is not None or self._unwritable or self._ending:
            self._transport.abort()
        elif self._reader.is_between:
            self._ending = self._reader.final = True  # cut off next, should the other end not close
            self._reader.since = self._door.ticks
            self._transport.close()
        else:
            self._reader.end_with(HttpFault("Send the whole request without pauses.", 408, rule="http.time"))
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
        return self._reader.patience_s() + (unseen_s if self._reader.is_between else 0.0)
