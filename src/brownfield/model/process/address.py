"""Addresses of Unix sockets, however long their paths are."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["local_address"]

_MAX_ADDRESS_BYTES = 107


@contextlib.contextmanager
def local_address(path: Path) -> Iterator[str]:
    """Address of a Unix socket, also where its path is longer than an address may be."""
    if len(os.fsencode(path)) <= _MAX_ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
