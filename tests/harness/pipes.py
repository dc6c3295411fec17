"""Pipes and sockets that nobody reads."""

import contextlib
import os

__all__ = ["emptied", "filled"]


def filled(writer: int) -> int:
    """Write until nothing more is taken; how many bytes were."""
    held = 0
    os.set_blocking(writer, False)
    for piece in (b" " * 4096, b" "):
        with contextlib.suppress(BlockingIOError):
            while True:
                held += os.write(writer, piece)
    os.set_blocking(writer, True)  # the flag belongs to all who hold it
    return held


def emptied(reader: int) -> bytes:
    """Read what is there."""
    os.set_blocking(reader, False)
    read = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(reader, 65536):
            read += data
    os.set_blocking(reader, True)
    return read
