"""The folder in which the processes of one workspace meet: ``var/run``, private to this user.

Where the workspace cannot be written it is a temporary one: then models and fallbacks answer, and nothing is kept.
"""

import contextlib
import errno
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from brownfield.errors import DeclarationError
from brownfield.model.process import local_address

__all__ = ["CONTROL", "listen_locally", "remove_sockets", "run_folder"]

CONTROL = "control.sock"
_BACKLOG = 64

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def run_folder(workspace: Path) -> Iterator[Path]:
    """Give the folder of the sockets, with mode 0700; sockets that were left by a killed supervisor are removed.

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
        remove_sockets(folder)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise _refusal(folder, error.strerror or type(error).__name__) from error
        _log.warning(
            "the workspace is on a read-only file system: it is served, and nothing is kept",
            extra={"event": "BF-SRV-SERVE-ONLY", "workspace": str(workspace)},
        )
        folder = _temporary()
    try:
        yield folder
    finally:
        remove_sockets(folder)
        if folder != workspace / "var" / "run":
            shutil.rmtree(folder, ignore_errors=True)


def remove_sockets(folder: Path) -> None:
    """Remove what processes that have ended left in the folder."""
    for left in folder.glob("*.sock"):
        left.unlink(missing_ok=True)


def _temporary() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="brownfield-"))
    except OSError as error:
        raise DeclarationError(
            "there is no folder for sockets: neither the workspace nor a temporary folder can be written",
            where=tempfile.tempdir or "TMPDIR",
            next_step="Mount a tmpfs, and name it in TMPDIR.",
        ) from error


def _refusal(folder: Path, got: str) -> DeclarationError:
    return DeclarationError(
        where=str(folder),
        expected="a folder of this user, in which processes meet",
        got=got,
        next_step="Serve as the user to whom the workspace belongs, or give the folder to this one.",
    )


def listen_locally(path: Path) -> socket.socket:
    """Listen on a Unix socket of mode 0600, in a folder that is made anew if it was removed.

    Raises
    ------
    OSError
        There is no workspace any more, or it cannot be written.
    """
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with local_address(path) as address:
            listener.bind(address)
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
