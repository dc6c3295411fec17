"""Tables that grow by whole Parquet files, so that a kill at any moment loses nothing and doubles nothing.

A part is written hidden, then listed in the store in the transaction that moves the position, then given its name.
What is listed and hidden is finished by the next run, what is not listed is removed by it: the list is the truth.
"""

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from brownfield.errors import DeclarationError, StoreError, Unavailable
from brownfield.store import private_folder, sync_folder

__all__ = ["PartWriter", "one_run", "read_parts", "settle"]

_REBUILD = "Read the sources anew from their beginning (rebuild)."


@contextmanager
def one_run(folder: Path) -> Iterator[None]:
    """Let one process at a time write the tables of a folder; a process that ends lets go, however it ends.

    Raises
    ------
    Unavailable
        When another process is writing them.
    """
    private_folder(folder)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                "another run is writing these tables", where=str(folder), next_step="Wait for it to finish."
            ) from None
        yield
    finally:
        os.close(descriptor)


class PartWriter:
    """Writes one part, hidden; without :func:`settle` nothing of it is seen.

    Parameters
    ----------
    folder
        The folder of the table.
    file
        The name that the part will have, such as ``000001-7f3a.parquet``.
    schema
        Its columns.
    """

    def __init__(self, folder: Path, file: str, schema: pa.Schema) -> None:
        self.folder = folder
        self.file = file
        self.rows = 0
        self._schema = schema
        private_folder(folder)
        self._hidden = _hidden(folder, file)
        descriptor = os.open(self._hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._stream = os.fdopen(descriptor, "wb")
        self._writer = pq.ParquetWriter(self._stream, schema, compression="zstd")
        self._sealed = False

    def write(self, rows: pa.Table) -> None:
        """Append rows."""
        if rows.num_rows:
            self._writer.write_table(rows)
            self.rows += rows.num_rows

    def seal(self, stamp: Mapping[bytes, bytes] | None = None) -> None:
        """Force the part and its stamp to the disk, still hidden; from here on only the list says whether it stays."""
        if stamp:
            self._writer.add_key_value_metadata(dict(stamp))
        self._writer.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        sync_folder(self.folder)
        sync_folder(self.folder.parent)
        self._sealed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._stream:
            if not self._sealed:
                self._hidden.unlink(missing_ok=True)
            self._writer.close()


def settle(folder: Path, listed: Collection[str]) -> None:
    """Make a table's folder what the store lists: remove every other part, and give the hidden ones their names.

    Raises
    ------
    StoreError
        When a listed part is nowhere.
    """
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    hidden = {_hidden(folder, file).name: file for file in listed}
    changed = False
    for name in sorted(present - set(listed) - set(hidden)):
        if name.endswith((".parquet", ".parquet.part")):
            (folder / name).unlink()
            changed = True
    for name, file in hidden.items():
        if name in present:
            (folder / name).replace(folder / file)
            changed = True
        elif file not in present:
            raise StoreError(
                "a part of this table is gone", where=str(folder / file), next_step=f"Restore it. {_REBUILD}"
            )
    if changed:
        sync_folder(folder)


def read_parts(folder: Path, listed: Collection[str], wanted: pa.Schema, columns: Collection[str]) -> pa.Table:
    """Read some columns of a table's parts.

    Raises
    ------
    DeclarationError
        When the parts were written with other columns than are wanted now.
    """
    for file in listed:
        found = pq.read_schema(folder / file)
        if not found.equals(wanted):
            raise DeclarationError(
                where=str(folder),
                expected=f"the columns with which the table was begun ({_named(found)})",
                got=f"a contract with others ({_named(wanted)})",
                next_step=_REBUILD,
            )
    names = [name for name in wanted.names if name in columns]
    if not names:
        return wanted.empty_table().select([])
    return pa.concat_tables(
        [wanted.empty_table().select(names), *(pq.read_table(folder / file, columns=names) for file in listed)]
    )


def _hidden(folder: Path, file: str) -> Path:
    return folder / f".{file}.part"


def _named(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
