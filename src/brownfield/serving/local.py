"""The folder in which the processes of one workspace meet: ``var/run``, private to this user."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from brownfield.errors import DeclarationError

__all__ = ["CONTROL", "listen_locally", "local_address", "run_folder"]

CONTROL = "control.sock"
_BACKLOG = 64
_MAX_ADDRESS_BYTES = 107


def run_folder(workspace: Path) -> Path:
    """Make the folder of the sockets, with mode 0700; sockets that were left by a killed supervisor are removed.

    Raises
    ------
    DeclarationError
        It cannot be made, or it is another user's.
    """
    folder = workspace / "var" / "run"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        if owner != os.geteuid():
            raise _refusal(folder, f"one of user {owner}")
        folder.chmod(0o700)
        for left in folder.glob("*.sock"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise _refusal(folder, error.strerror or type(error).__name__) from error
    return folder


def _refusal(folder: Path, got: str) -> DeclarationError:
    return DeclarationError(
        where=str(folder),
        expected="a folder of this user, in which processes meet",
        got=got,
        next_step="Serve as the user to whom the workspace belongs, or give the folder to this one.",
    )


def listen_locally(path: Path) -> socket.socket:
    """Listen on a Unix socket of mode 0600."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with local_address(path) as address:
        before = os.umask(0o177)
        try:
            listener.bind(address)
        finally:
            os.umask(before)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


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
