"""Secrets: read from the environment or from a private file, and never shown, printed, compared slowly or pickled."""

import hmac
import os
import stat
from pathlib import Path
from typing import NoReturn

from brownfield.errors import DeclarationError
from brownfield.integration import Reference, read_reference

__all__ = ["Secret", "check_private", "resolve_secret"]


class Secret:
    """A value that only :meth:`reveal` gives away.

    Examples
    --------
    >>> secret = Secret("hunter2")
    >>> secret, f"{secret}", [secret]
    (Secret(***), '***', [Secret(***)])
    >>> secret.reveal()
    'hunter2'
    >>> secret == Secret("hunter2")
    True
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value: at the one place that hands it to the legacy system."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is no key: sets and mappings compare in plain time

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled, copied or sent to another process")


def resolve_secret(reference: Reference, folder: Path) -> Secret:
    """Read the secret that a reference names.

    Parameters
    ----------
    reference
        ``{env: NAME}`` or ``{file: PATH}``.
    folder
        The workspace's folder, from which relative files are found.

    Raises
    ------
    DeclarationError
        When it is not set or cannot be read, or when its file may be read by others: it must belong to this user or to
        root and be closed to others (0600, 0400, or 0640 and 0440 of root). The value never stands in the message.
    """
    if reference.file is not None:
        check_private(folder / reference.file, where=str(reference))
    return Secret(read_reference(reference, folder))


def check_private(path: Path, *, where: str | None = None) -> None:
    """Look whether a file belongs to this user or to root, and is closed to others.

    Parameters
    ----------
    path
        The file.
    where
        How an error names it.

    Raises
    ------
    DeclarationError
        When it does not, is not, or is not there.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DeclarationError(f"cannot be read: {error.strerror}", where=where) from error
    mode = stat.S_IMODE(status.st_mode)
    closed_bits = 0o037 if status.st_uid == 0 else 0o077
    if status.st_uid not in {0, os.geteuid()}:
        raise DeclarationError(
            where=where, expected="a file of this user or of root", got=f"one of user {status.st_uid}",
            next_step=f"Run `chown {os.geteuid()} {path}`.",
        )  # fmt: skip
    if mode & closed_bits:
        raise DeclarationError(
            where=where, expected="a file that only its owner may read", got=f"mode {mode:04o}",
            next_step=f"Run `chmod 600 {path}`.",
        )  # fmt: skip
