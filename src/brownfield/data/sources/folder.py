"""``folder``: one file of a folder in which a legacy system leaves its files, read-only.

The file must lie inside the folder, links resolved, and must not change while it is read: a file that is still being
written is refused, not half read.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from brownfield.data.sources.base import Position, Probe, Pulled
from brownfield.errors import DeclarationError, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from brownfield.data.decoded import Decoded

__all__ = ["FolderFile"]

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

    folder: Path
    path: str
    decode: Decode
    fields: Mapping[str, str] = field(default_factory=dict)
    has_header: bool = False

    def probe(self) -> Probe:
        """Look whether the file is there (:class:`Source`)."""
        with self._opened() as stream:
            return Probe(None, os.fstat(stream.fileno()).st_size)

    def read(self, wanted: "pa.Schema", after: Position | None = None) -> Iterator[Pulled]:
        """Read the whole file, unless a position says that this very content was read (:class:`Source`)."""
        with self._opened() as stream:
            before = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed wants readinto
            position = {"file": self.path, "sha256": digest}
            if after == position:
                return
            stream.seek(0)
            for decoded in self.decode(stream, wanted):
                share = stream.tell() / before.st_size if before.st_size else 1.0
                yield Pulled(f"{self.path}#{digest}", decoded, position, share)
            self._check_still(before, os.fstat(stream.fileno()))

    def shape(self) -> Mapping[str, str]:
        """Describe each field as the layout does."""
        return self.fields

    def as_of(self) -> datetime | None:
        """Give the moment that the file shows: when it was written, by the clock of its file system."""
        with self._opened() as stream:
            return datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, UTC)

    def ack(self, position: Position) -> None:
        """Do nothing: the file is left where it is (:class:`Source`)."""

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        folder = self.folder.resolve()
        path = (folder / self.path).resolve()
        if not path.is_relative_to(folder):
            raise DeclarationError(
                where=str(self.folder), path=self.path, expected="a file inside the folder", got="one outside"
            )
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SourceUnavailable(
                f"the file cannot be read ({error.strerror})", where=f"{folder}/{self.path}"
            ) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SourceUnavailable("this is not a plain file", where=f"{folder}/{self.path}")
        with os.fdopen(descriptor, "rb") as stream:
            yield stream

    def _check_still(self, before: os.stat_result, now: os.stat_result) -> None:
        if (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
            raise SourceUnavailable(
                "the file changed while it was read",
                where=f"{self.folder}/{self.path}",
                next_step="Let its writer finish, or write beside it and rename.",
            )
