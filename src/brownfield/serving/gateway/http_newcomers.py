"""Callers who connect: let in many at a time; encrypted ones when their handshake is done, where there is room.

Comes in: a listening socket. Goes out: connections of the door. The event loop itself accepts one connection in a turn,
and under load a turn takes 20 ms: who is the five hundredth to connect then waited for ten seconds.

Handshakes are counted and timed, and the log is told once of each reason for which they fail: a caller that speaks too
old a TLS learns nothing itself. What comes where there is no room for one is closed at once: nothing can be said to a
caller before the handshake, and each holds a descriptor.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

__all__ = ["Newcomers"]

_log = logging.getLogger(__name__)

_IN_A_TURN = 64  # accepted, before what else is ready gets its turn
_LONGEST_END_S = 86_400.0  # the connection itself watches over what is still to be read when it ends
_MOST_TOLD = 32  # reasons for which handshakes fail; OpenSSL has some hundreds
_WORDS = {
    "HTTP_REQUEST": "a caller speaks plain HTTP where https is declared",
    "NO_SHARED_CIPHER": "a caller has no cipher in common with this machine's OpenSSL",
    "SSLV3_ALERT_BAD_CERTIFICATE": "a caller refuses the certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "a caller says that the certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "a caller refuses the certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "a caller does not know the issuer of the certificate",
    "UNSUPPORTED_PROTOCOL": "a caller speaks no TLS 1.2 or later",
}
_REST_S = 1.0  # after an accept that failed for want of something: it would fail again at once


class Newcomers:
    """Accepts on a listener, and lets in who is accepted.

    Parameters
    ----------
    make
        Makes the connection of one caller.
    tls
        Context with the certificate; None for plain text.
    longest_s
        Time for a handshake.
    room
        How many more may be let in, those whose handshake is under way not counted; it bounds handshakes.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        longest_s: float,
        room: Callable[[], int],
    ) -> None:
        self._make = make
        self._tls = tls
        self._options: dict[str, Any] = {}
        if tls is not None:
            self._options = {
                "ssl": tls,
                "ssl_handshake_timeout": longest_s,
                "ssl_shutdown_timeout": _LONGEST_END_S,
            }
        self._room = room
        self._told: set[str] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self._rest: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._soon: asyncio.Handle | None = None
        self._closed = False

    async def start(self, listener: socket.socket, backlog: int) -> None:
        """Accept on a bound socket, which is taken over."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        if self._tls is None:  # whom the loop accepts costs a third less than who is accepted here
            self._server = await self._loop.create_server(self._make, sock=listener, backlog=backlog)
            return
        listener.setblocking(False)
        listener.listen(backlog)
        self._loop.add_reader(listener, self._accept)

    def look(self) -> None:
        """Accept those who have come with the one whom the loop accepted in this turn."""
        if self._server is not None and self._soon is None and not self._closed:
            self._soon = self._loop.call_soon(self._accept)

    async def settle(self, longest_s: float) -> None:
        """Take in all who are connected already, and wait for the handshakes that are under way."""
        while self._accept() == _IN_A_TURN:
            pass
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=longest_s)

    def close(self) -> None:
        """Accept no more."""
        self._closed = True
        for each in (self._rest, self._soon):
            if each is not None:
                each.cancel()
        if self._server is not None:
            self._server.close()
            return
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def abort(self) -> None:
        """Cut off the handshakes that are under way."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _accept(self) -> int:
        """Accept those who wait, as many as one turn bears; how many it were."""
        self._soon = None
        for accepted in range(_IN_A_TURN):
            try:
                newcomer, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return accepted
            except OSError as error:  # no descriptor, no memory
                if self._server is None:  # it would be called again at once
                    self._loop.remove_reader(self._listener)
                    self._rest = self._loop.call_later(_REST_S, self._loop.add_reader, self._listener, self._accept)
                _log.warning("no connection can be accepted: %s", error.strerror, extra={"event": "BF-GTW-NO-ACCEPT"})
                return accepted
            self._take(newcomer)
        return _IN_A_TURN

    def _take(self, newcomer: socket.socket) -> None:
        if self._tls is not None and len(self._under_way) >= self._room():
            newcomer.close()
            return
        newcomer.setblocking(False)
        task = self._loop.create_task(self._let_in(newcomer))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _let_in(self, newcomer: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, newcomer, **self._options)
        except ssl.SSLError as error:
            self._tell_once(error.reason or type(error).__name__)
        except OSError:  # the caller left, or took too long
            pass

    def _tell_once(self, reason: str) -> None:
        """Say in the log why callers do not get in, each reason once: anybody may make handshakes fail."""
        if reason in self._told or len(self._told) >= _MOST_TOLD:
            return
        self._told.add(reason)
        extra = {"event": "BF-GTW-HANDSHAKE-FAILED", "reason": reason}
        _log.warning("%s", _WORDS.get(reason, "a caller does not come to an agreement on encryption"), extra=extra)
