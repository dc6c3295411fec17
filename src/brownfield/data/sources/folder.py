"""``folder``: one file that is read whole each time it is wanted, read-only.

The file must lie inside the folder, links resolved, and must not change while it is read: a file that is still being
written is refused, not half read.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from brownfield.data.folders import Files, Folder
from brownfield.data.sources.base import Position, Probe, Pulled
from brownfield.errors import FormatError, SourceUnavailable, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from brownfield.data.decoded import Decoded

__all__ = ["FolderFile", "content_digest", "entered"]

_CHUNK_BYTES = 1 << 20

Decode: TypeAlias = "Callable[[BinaryIO, pa.Schema], Iterator[Decoded]]"


@dataclass(frozen=True)
class FolderFile:
    """One file.

    Parameters
    ----------
    folder
        The folder of the connection.
    path
        The file's path below it.
    decode
        Reads the file: the ``decode`` of its format.
    fields
        Where each field lies and how it is written, for formats that have a layout.
    has_header
        Whether the first line names the columns.
    """

    folder: Folder
    path: str
    decode: Decode
    fields: Mapping[str, str] = field(default_factory=dict)
    has_header: bool = False

    def probe(self) -> Probe:
        """Look whether the file is there (:class:`Source`)."""
        with self._opened() as (files, path):
            entry = files.look(path)
            if entry is None:
                raise FileNotFoundError(2, "there is no such file")
            return Probe(None, entry.size_bytes)

    def read(self, wanted: "pa.Schema", after: Position | None = None) -> Iterator[Pulled]:
        """Read the whole file, unless a position says that this very content was read (:class:`Source`)."""
        with self._opened() as (files, path):
            before = files.look(path)
            with files.read(path) as stream:
                digest, size_bytes = content_digest(stream)
                position = {"file": self.path, "sha256": digest}
                if after == position:
                    return
                stream.seek(0)
                for decoded in self.decode(stream, wanted):
                    share = stream.tell() / size_bytes if size_bytes else 1.0
                    yield Pulled(f"{self.path}#{digest}", decoded, position, share)
            if files.look(path) != before:
                raise SourceUnavailable(
                    "the file changed while it was read",
                    where=f"{self.folder.where}/{self.path}",
                    next_step="Let its writer finish, or write beside it and rename.",
                )

    def shape(self) -> Mapping[str, str]:
        """Describe each field as the layout does."""
        return self.fields

    def as_of(self) -> datetime | None:
        """Give the moment that the file shows: when it was written, by the clock of its file system."""
        with self._opened() as (files, path):
            entry = files.look(path)
            return None if entry is None else datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC)

    def ack(self, position: Position) -> None:
        """Do nothing: the file is left where it is (:class:`Source`)."""

    @contextmanager
    def _opened(self) -> Iterator[tuple[Files, str]]:
        with entered(self.folder, self.path) as files:
            yield files, files.resolve(self.path)


@contextmanager
def entered(folder: Folder, path: str) -> Iterator[Files]:
    """Open a folder to read what lies at a path; errors of the place become those of a source."""
    try:
        with folder.opened() as files:
            yield files
    except SourceUnavailable:
        raise
    except FormatError as error:
        error.where = ", ".join(part for part in (f"{folder.where}/{path}", error.where) if part)
        raise
    except (OSError, Unavailable) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else error.what
        raise SourceUnavailable(f"it cannot be read ({reason})", where=f"{folder.where}/{path}") from error


def content_digest(stream: BinaryIO) -> tuple[str, int]:
    """Give SHA-256, in hexadecimal digits, and length of what a stream holds from where it is."""
    digest, size_bytes = hashlib.sha256(), 0
    while data := stream.read(_CHUNK_BYTES):
        digest.update(data)
        size_bytes += len(data)
    return digest.hexdigest(), size_bytes
