"""What a folder is: a place that holds files, on this machine or behind a server, seen through the same few calls.

Paths lie below the folder, with forward slashes. Calls raise ``OSError`` (``FileNotFoundError``, ``FileExistsError``
where that is the reason); who uses the folder says whether a source or a sink is out of reach by that.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import BinaryIO, Protocol

from brownfield.errors import DeclarationError
from brownfield.integration import is_pattern

__all__ = ["Entry", "Files", "Folder", "inside", "matching", "parent_of"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One plain file.

    Parameters
    ----------
    path
        Below the folder.
    size_bytes
        Its size.
    mtime_ns
        When it was written last, in ns since 1970; over SFTP in whole seconds.
    """

    path: str
    size_bytes: int
    mtime_ns: int


class Files(Protocol):
    """The files of a folder that was opened."""

    def files(self, folder: str) -> list[Entry]:
        """List the plain files of a folder in it (``""`` is itself); links are passed over."""
        ...

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders of a folder in it; links are passed over."""
        ...

    def look(self, path: str) -> Entry | None:
        """Look at a name without following a link; None where nothing has it."""
        ...

    def resolve(self, path: str) -> str:
        """Follow the links of a path to where it leads in the folder.

        Raises
        ------
        DeclarationError
            When that is outside.
        """
        ...

    def read(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open a plain file, as a stream that can be sought; links are not followed."""
        ...

    def write(self, path: str, parts: Iterable[bytes]) -> None:
        """Write a new file, durably; what fails on the way leaves nothing of that name."""
        ...

    def move(self, old: str, new: str) -> None:
        """Give a file another name, which nothing has yet."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file."""
        ...

    def make(self, folder: str) -> None:
        """Make a folder, with those above it, unless it is there; a link in its place is refused."""
        ...

    def sync(self, folder: str) -> None:
        """Make the names in a folder durable, as far as the place can be asked to."""
        ...


class Folder(Protocol):
    """A place that holds files."""

    @property
    def where(self) -> str:
        """Name it for people, without its address."""
        ...

    def opened(self) -> AbstractContextManager[Files]:
        """Open it for a while."""
        ...


def inside(path: str) -> str:
    """Give a path back if it stays below the folder.

    Raises
    ------
    DeclarationError
        When it does not.

    Examples
    --------
    >>> inside("in/claims.csv")
    'in/claims.csv'
    """
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise DeclarationError(path=path, expected="a file inside the folder", got="one outside")
    return path


def parent_of(path: str) -> str:
    """Give the folder of a path.

    Examples
    --------
    >>> parent_of("in/claims.csv"), parent_of("claims.csv")
    ('in', '')
    """
    return path.rpartition("/")[0]


def matching(files: Files, pattern: str, passed_over: frozenset[str] = frozenset()) -> list[Entry]:
    """List the plain files whose path matches a pattern, by path.

    Parameters
    ----------
    files
        The folder.
    pattern
        Of ``*``, ``?`` and ``[...]``, each within one part of the path; hidden names never match.
    passed_over
        Folders at the top that are not looked into.
    """
    *above, last = inside(pattern).split("/")
    found = [""]
    for depth, part in enumerate(above):
        found = [
            f"{folder}/{name}" if folder else name
            for folder in found
            for name in (files.folders(folder) if is_pattern(part) else [part])
            if _matches(name, part) and not (depth == 0 and name in passed_over)
        ]
    entries = [entry for folder in found for entry in files.files(folder)]
    return sorted(
        (entry for entry in entries if _matches(entry.path.rpartition("/")[2], last)), key=lambda entry: entry.path
    )


def _matches(name: str, part: str) -> bool:
    return not name.startswith(".") and (fnmatchcase(name, part) or name == part)
