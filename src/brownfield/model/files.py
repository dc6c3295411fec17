"""Files of a bundle, opened so that what is checked is what is read.

In: a folder and a flat file name. Out: bytes, sizes, SHA-256.
Refused: links of either sort, folders, devices and pipes, names with a folder in them, files above a size.
"""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from brownfield.model.rules import refused

__all__ = [
    "FileMark",
    "checked_name",
    "mark_of",
    "marks_of",
    "open_plain",
    "read_plain",
    "sha256_of",
    "size_of",
    "write_durably",
]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_CHUNK_BYTES = 1 << 20
_SETTLED_NS = 2_000_000_000  # a second change within one tick of a file system's clock would not show: 2 s at the most


@dataclass(frozen=True, slots=True)
class FileMark:
    """What the file system says of a file; whoever changes its content changes this as well."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def mark_of(path: Path) -> FileMark | None:
    """Give the mark of a file; None for one that is not there, or was changed so lately that it proves nothing yet."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    if time.time_ns() - facts.st_ctime_ns < _SETTLED_NS:
        return None
    return FileMark(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def marks_of(folder: Path) -> dict[str, FileMark]:
    """Give the marks of all files of a folder by their names; of one that is not there none."""
    marks: dict[str, FileMark] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            mark = mark_of(Path(entry.path))
            if mark is not None:
                marks[entry.name] = mark
    return marks


def checked_name(name: str) -> str:
    """Return a flat file name, or refuse it.

    Examples
    --------
    >>> checked_name("weights.bin")
    'weights.bin'
    """
    if not _NAME.fullmatch(name):
        raise refused("bundle-file-name", got=ascii(name[:80]))
    return name


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file that has one name and is no link; nothing else is waited for.

    Raises
    ------
    BundleRefused
        ``bundle-file``, ``bundle-file-denied`` or ``bundle-file-missing``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise refused("bundle-file-missing", where=str(path)) from error
    except PermissionError as error:
        raise refused("bundle-file-denied", where=str(path)) from error
    except OSError as error:
        raise refused("bundle-file", where=str(path)) from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        os.close(descriptor)
        raise refused("bundle-file", where=str(path))
    with os.fdopen(descriptor, "rb") as file:
        yield file


def size_of(path: Path) -> int:
    """Bytes of a plain file."""
    with open_plain(path) as file:
        return os.fstat(file.fileno()).st_size


def read_plain(path: Path, *, limit_bytes: int) -> bytes:
    """Read a plain file that is not larger than ``limit_bytes``."""
    with open_plain(path) as file:
        data = file.read(min(limit_bytes, os.fstat(file.fileno()).st_size) + 1)  # memory is taken for all that is asked
    if len(data) > limit_bytes:
        raise refused("bundle-file-size", where=str(path), expected=f"up to {limit_bytes} bytes")
    return data


def sha256_of(path: Path) -> tuple[str, int]:
    """SHA-256 in hexadecimal, and size in bytes, of a plain file."""
    digest, size = hashlib.sha256(), 0
    with open_plain(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
