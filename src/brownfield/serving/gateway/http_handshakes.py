"""Encrypted connections before they are any: handshakes are counted and timed, and begin only where there is room.

Comes in: a listening socket. Goes out: connections of the door, each when its handshake is done. What comes where there
is no room is closed at once: nothing can be said to a caller before the handshake, and each holds a descriptor.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

__all__ = ["Handshakes"]

_log = logging.getLogger(__name__)

_IN_A_TURN = 64  # accepted, before what else is ready gets its turn
_LONGEST_END_S = 86_400.0  # the connection itself watches over what is still to be read when it ends
_REST_S = 1.0  # after an accept that failed for want of something: it would fail again at once


class Handshakes:
    """Accepts on a listener, and lets in whose handshake is done.

    Parameters
    ----------
    make
        Makes the connection of one caller.
    tls
        Context with the certificate.
    longest_s
        Time for a handshake.
    room
        How many more may be let in, those whose handshake is under way not counted.
    """

    def __init__(
        self, make: Callable[[], asyncio.Protocol], tls: ssl.SSLContext, longest_s: float, room: Callable[[], int]
    ) -> None:
        self._make = make
        self._tls = tls
        self._longest_s = longest_s
        self._room = room
        self._under_way: set[asyncio.Task[None]] = set()
        self._rest: asyncio.TimerHandle | None = None

    def start(self, listener: socket.socket, backlog: int) -> None:
        """Accept on a bound socket, which is taken over."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        listener.setblocking(False)
        listener.listen(backlog)
        self._loop.add_reader(listener, self._accept)

    def take(self, accepted: socket.socket) -> None:
        """Begin the handshake of a connection that was accepted, or close it."""
        if len(self._under_way) >= self._room():
            accepted.close()
            return
        accepted.setblocking(False)
        task = self._loop.create_task(self._shake(accepted))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def settle(self, longest_s: float) -> None:
        """Wait for the handshakes that are under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=longest_s)

    def close(self) -> None:
        """Accept no more."""
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def abort(self) -> None:
        """Cut off the handshakes that are under way."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_IN_A_TURN):
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor, no memory
                _log.warning("no connection can be accepted: %s", error.strerror, extra={"event": "BF-GTW-NO-ACCEPT"})
                self._loop.remove_reader(self._listener)
                self._rest = self._loop.call_later(_REST_S, self._loop.add_reader, self._listener, self._accept)
                return
            self.take(accepted)

    async def _shake(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the caller left, took too long, or speaks no TLS that is taken
            await self._loop.connect_accepted_socket(
                self._make,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=self._longest_s,
                ssl_shutdown_timeout=_LONGEST_END_S,
            )
