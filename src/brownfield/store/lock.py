"""One process at a time serves a workspace, or replaces it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brownfield.errors import StoreError
from brownfield.store.files import private_folder

__all__ = ["workspace_lock"]


@contextmanager
def workspace_lock(workspace: Path) -> Iterator[None]:
    """Hold ``var/serve.lock`` of a workspace; the kernel lets it go when the process ends, however it ends.

    On a file system that is read-only the folder itself is held: no other can be served there either.

    Raises
    ------
    StoreError
        When another process holds it.
    """
    try:
        path = private_folder(workspace / "var") / "serve.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        descriptor = os.open(workspace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                "this workspace is being served already",
                where=str(workspace),
                next_step="End the other process, or send it SIGHUP to reload.",
            ) from error
        yield
    finally:
        os.close(descriptor)
