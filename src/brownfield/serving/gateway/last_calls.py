"""How a listener ends without resetting a caller: nobody new may come, then those who came are taken in.

Closing a listening socket resets every connection that its queue holds, also one that is made between the last accept
and the close. A filter on the socket drops what would begin a connection (SYN); handshakes under way are completed.
Who comes now tries again by itself after a second (RFC 6298), and is refused then, or reaches whoever listens next.
"""

import contextlib
import ctypes
import socket
import struct

__all__ = ["begin_connections_again", "begin_no_connection"]

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_FLAGS_BYTE, _SYN = 13, 0x02  # of a TCP head, RFC 9293
_LOAD_BYTE, _JUMP_IF_SET, _RETURN = 0x30, 0x45, 0x06  # of classic BPF, with what to skip when set and when not
_PROGRAM = (
    (_LOAD_BYTE, 0, 0, _FLAGS_BYTE),
    (_JUMP_IF_SET, 0, 1, _SYN),
    (_RETURN, 0, 0, 0),  # drop
    (_RETURN, 0, 0, 0xFFFFFFFF),  # pass the whole
)


def begin_no_connection(listener: socket.socket) -> None:
    """Let nobody begin a connection to a listening socket from now on, in whatever process it is held.

    Parameters
    ----------
    listener
        A TCP socket that listens. Connections that it already accepted are not touched.

    Raises
    ------
    OSError
        The system has no socket filters (Linux has them, for every user).

    Examples
    --------
    >>> with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as late:
    ...     early = socket.create_connection(listener.getsockname())
    ...     begin_no_connection(listener)
    ...     late.settimeout(0.1)
    ...     late.connect_ex(listener.getsockname()) != 0
    True
    >>> early.close()
    """
    code = b"".join(struct.pack("HBBI", *step) for step in _PROGRAM)
    kept = ctypes.create_string_buffer(code)
    head = struct.pack("H0PP", len(_PROGRAM), ctypes.addressof(kept))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)


def begin_connections_again(listener: socket.socket) -> None:
    """Undo :func:`begin_no_connection`, whichever process did it; nothing where none did."""
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
