"""The prediction door: HTTP/1.1 on uvloop and llhttp, bounded and timed from the first byte of every connection.

Connections come in; answers of the :class:`~brownfield.serving.gateway.Handler` go out. Refused are more connections
than the bound, requests that break HTTP, and callers who are slower than the limits. One timer serves all time-outs.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import formatdate
from operator import itemgetter
from pathlib import Path

from brownfield.errors import Unavailable
from brownfield.serving.gateway.http_connection import Connection
from brownfield.serving.gateway.http_heads import Heads
from brownfield.serving.gateway.http_limits import HttpLimits
from brownfield.serving.gateway.http_newcomers import Newcomers
from brownfield.serving.gateway.last_calls import begin_no_connection
from brownfield.serving.gateway.messages import DoorHandler

__all__ = ["Door"]

_log = logging.getLogger(__name__)

_BACKLOG = 2048
_MOST_SLACK = 64  # connections beyond the bound that are told so and waited for; further ones are told and closed
_LAST_REQUESTS_S = 0.2  # for handshakes under way, and for callers to send a request on a connection they kept
_FIRST_REQUEST_S = 2.0  # for callers who connected at the last moment to send their request: a busy one takes a while
_LOOK_EVERY_S = 0.02
_ENDED_IN_A_TURN = 8  # overdue connections: of 30 us each
_LITTLE_BYTES = 16 * 1024  # kept for a connection that is not ended for it
_SPARE_DESCRIPTORS = 24  # for sockets to models, journals, and what is opened for a moment


class Door:
    r"""Listens, and answers through a handler.

    Parameters
    ----------
    handler
        The transport-free handler.
    limits
        Bounds of connections.
    tls
        Context with the certificate; TLS 1.2 is the least. None for plain text.

    Attributes
    ----------
    ticks, tick_s
        The door's own coarse clock: how often the timer has run, and its period in seconds.
    date_line
        The ``Date`` field of this second.
    heads
        Heads of requests that were parsed before.
    draining
        Whether every answer ends its connection.

    Examples
    --------
    >>> from brownfield.serving.gateway import Dataplane, Handler, Snapshot
    >>> async def answer() -> bytes:
    ...     door = Door(Handler(Dataplane(Snapshot({}))))
    ...     listener = socket.create_server(("127.0.0.1", 0))
    ...     address = listener.getsockname()
    ...     await door.start(listener)
    ...     reader, writer = await asyncio.open_connection(*address)
    ...     writer.write(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    ...     line = await reader.readline()
    ...     writer.close()
    ...     await door.drain(1.0)
    ...     return line
    >>> asyncio.run(answer())
    b'HTTP/1.1 200 OK\r\n'
    """

    def __init__(
        self,
        handler: DoorHandler,
        *,
        limits: HttpLimits = HttpLimits(),  # noqa: B008 (frozen)
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if tls is not None and tls.minimum_version < ssl.TLSVersion.TLSv1_2:
            raise ValueError("the TLS context must not go below TLS 1.2")
        self.handler = handler
        handler.encrypted = tls is not None
        self.limits = limits
        self.ticks = 0
        self.tick_s = limits.tick_s
        self.draining = False
        self.date_line = b""
        self.heads = Heads()
        self._connections: set[Connection] = set()
        self._most, self._slack = limits.connections, _MOST_SLACK
        self._empty = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._newcomers = Newcomers(lambda: Connection(self), tls, limits.header_s, self._room)

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    async def start(self, listener: socket.socket) -> None:
        """Answer on a bound socket, which the door takes over."""
        self._loop = asyncio.get_running_loop()
        free = _descriptors_left()
        self._slack = max(1, min(_MOST_SLACK, free // 4))
        self._most = max(1, min(self.limits.connections, free - self._slack))
        self._tick()
        self._listener = listener
        await self._newcomers.start(listener, _BACKLOG)

    async def drain(self, longest_s: float) -> None:
        """Accept no more, answer what is under way, and end; what takes longer than ``longest_s`` is cut off."""
        with contextlib.suppress(OSError):  # without filters a caller who comes in this very moment is reset
            begin_no_connection(self._listener)
        if self.handler.draining:  # each answer ends its connection
            await self._take_last_requests(longest_s)
        await self._newcomers.settle(min(_LAST_REQUESTS_S, longest_s))  # closing the listener would reset them
        self._newcomers.close()
        self.draining = True
        for connection in tuple(self._connections):
            connection.drain()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), longest_s)
        self.abort()
        await self._newcomers.abort()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)

    async def _take_last_requests(self, longest_s: float) -> None:
        """Wait for those who are just connected to ask what they came for."""
        began_s = self._loop.time()
        await asyncio.sleep(min(_LAST_REQUESTS_S, longest_s))
        ends_s = began_s + min(_FIRST_REQUEST_S, longest_s)
        while self._loop.time() < ends_s and self._has_newcomers():  # noqa: ASYNC110 (at the end of a process: no connection is made dearer for it)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _has_newcomers(self) -> bool:
        return any(each.came_within(_FIRST_REQUEST_S) for each in self._connections)

    def abort(self) -> None:
        """Cut off what is still under way."""
        for connection in tuple(self._connections):
            connection.abort()

    # What follows is called by connections and by the timer.

    def enter(self, connection: Connection) -> None:
        """Take in a new connection, or refuse it when there are too many."""
        many = len(self._connections) - self._most
        self._connections.add(connection)
        if many >= 0 or self.draining:
            busy = Unavailable("there are too many connections", next_step="Try again in a moment.")
            connection.refuse(self.handler.refuse(busy), linger=many < self._slack)
        self._newcomers.look()

    def _room(self) -> int:
        """How many more connections may begin, those included that are let in to be refused."""
        return self._most + self._slack - len(self._connections)

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if self.draining and not self._connections:
            self._empty.set()

    def _tick(self) -> None:
        self.ticks += 1
        self.date_line = b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()
        self._timer = self._loop.call_later(self.tick_s, self._tick)
        self._relieve()
        self._sweep(iter(tuple(self._connections)))

    def _relieve(self) -> None:
        """End those who have been at it the longest while too much is kept for all together."""
        kept = [(*each.kept(), each) for each in self._connections]
        excess = sum(size for _, size, _ in kept) - self.limits.kept_bytes
        if excess <= 0:
            return
        ended = 0
        for _, size, connection in sorted(kept, key=itemgetter(0)):
            if excess > 0 and size > _LITTLE_BYTES:
                connection.relieve()
                excess -= size
                ended += 1
        extra = {"event": "BF-GTW-TOO-MUCH-KEPT", "connections_ended": ended}
        _log.warning("requests half sent and answers unread take too much memory", extra=extra)

    def _sweep(self, connections: Iterator[Connection]) -> None:
        """End those that are overdue, a few in a turn of the loop: a crowd of them would hold everybody else up."""
        ended = 0
        for connection in connections:
            ended += connection.sweep()
            if ended == _ENDED_IN_A_TURN:
                self._loop.call_soon(self._sweep, connections)
                return


def _descriptors_left() -> int:
    """How many sockets the process may open and still have descriptors for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2**31
    return soft - sum(1 for _ in Path("/proc/self/fd").iterdir()) - _SPARE_DESCRIPTORS
