"""The end of a session on a database server: over when the server's side of it is.

A server notices a goodbye a moment later than the client goes on. Whoever counts its sessions, as the connection limit
of a legacy system does, would see a successor's session before the last one is gone.
"""

import os
import socket
import time
from contextlib import suppress
from typing import Any, Protocol

__all__ = ["farewell"]

_LONGEST_S = 2.0


class _Connection(Protocol):
    def close(self) -> Any: ...


def farewell(connection: _Connection) -> None:
    """Close a connection, and wait until the server closed its end as well; two seconds at most.

    Parameters
    ----------
    connection
        Of psycopg or PyMySQL; any other is closed without waiting, for its socket is not known.

    Examples
    --------
    >>> import sqlite3
    >>> farewell(sqlite3.connect(":memory:"))
    """
    end = _socket_of(connection)
    if end is None:
        connection.close()
        return
    with end:
        connection.close()
        give_up_at = time.monotonic() + _LONGEST_S
        with suppress(OSError):
            while (left_s := give_up_at - time.monotonic()) > 0:
                end.settimeout(left_s)
                if not end.recv(65_536):
                    return


def _socket_of(connection: _Connection) -> socket.socket | None:
    """Give a second handle of a connection's socket, which outlives the first; None when it is closed or has none."""
    known: Any = getattr(connection, "_sock", connection)
    with suppress(Exception):  # each driver has its own error for a connection that is closed
        return socket.socket(fileno=os.dup(known.fileno()))
    return None
