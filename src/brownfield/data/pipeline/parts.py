"""Tables that grow by whole Parquet files, so that a kill at any moment loses nothing and doubles nothing.

A part is written hidden, then listed in the store in the transaction that moves the position, then given its name.
What is listed and hidden is finished by the next run, what is not listed is removed by it: the list is the truth.
"""

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from brownfield.errors import DeclarationError, StoreError, Unavailable
from brownfield.store import private_folder, sync_folder

__all__ = ["LISTING", "PartKeys", "PartWriter", "listed_files", "one_run", "read_parts", "settle"]

LISTING = ".parts"
"""File that names the parts of a table, one a line; the store's list is the truth, and this its copy for readers."""

_LOCK_POLL_S = 0.1
_T = TypeVar("_T")
_RESTORE = "Restore it, or read the sources anew from their beginning: --rebuild."


@contextmanager
def one_run(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Let one process at a time write the tables of a folder; a process that ends lets go, however it ends.

    Parameters
    ----------
    folder
        The folder.
    wait_s
        How long to wait for a run that is under way.

    Raises
    ------
    Unavailable
        When another process is writing them.
    """
    private_folder(folder)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + wait_s
        while not _locked(descriptor):
            if time.monotonic() >= until:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise Unavailable(
                    f"another run is writing these tables (process {holder or 'unknown'})",
                    where=str(folder),
                    next_step="Wait for it to finish; a served workspace runs its pipelines by itself.",
                )
            time.sleep(_LOCK_POLL_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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

    def first_rows(self, rows: int, columns: Collection[str]) -> pa.Table:
        """Read the first rows of the part, which is sealed and still hidden."""
        with pq.ParquetFile(self._hidden) as file:
            batches = file.iter_batches(rows, columns=list(columns))
            first = next(batches, None)
        schema = pa.schema([self._schema.field(name) for name in columns])
        return pa.Table.from_batches([] if first is None else [first.select(list(columns))], schema)

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

    New parts are named, then :data:`LISTING` says which parts there are, then the others are removed: who reads the
    listing never finds a row twice, or half of the table.

    Raises
    ------
    StoreError
        When a listed part is nowhere.
    """
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    hidden = {_hidden(folder, file).name: file for file in listed}
    changed = False
    for name, file in hidden.items():
        if name in present:
            (folder / name).replace(folder / file)
            changed = True
        elif file not in present:
            raise StoreError(
                "a part of this table is gone",
                where=str(folder / file),
                next_step=_RESTORE,
            )
    _announce(folder, listed, present)
    for name in sorted(present - set(listed) - set(hidden)):
        if name.endswith((".parquet", ".parquet.part")):
            (folder / name).unlink()
            changed = True
    if changed:
        sync_folder(folder)


def _announce(folder: Path, listed: Collection[str], present: Collection[str]) -> None:
    """Say which parts there are, whole or not at all; a listing that is lost is written anew by the next run."""
    text = "".join(f"{file}\n" for file in listed)
    if present and not (LISTING in present and (folder / LISTING).read_text() == text):
        temporary = folder / f"{LISTING}.tmp"
        temporary.write_text(text)
        temporary.replace(folder / LISTING)


def listed_files(folder: Path) -> list[Path]:
    """Files of a table as its listing names them; all, where there is no listing."""
    try:
        return [folder / name for name in (folder / LISTING).read_text().splitlines()]
    except FileNotFoundError:
        return sorted(folder.glob("*.parquet"))


def read_parts(folder: Path, listed: Collection[str], wanted: pa.Schema, columns: Collection[str]) -> pa.Table:
    """Read some columns of a table's parts.

    Raises
    ------
    DeclarationError
        When the parts were written with other columns than are wanted now.
    StoreError
        When a part is torn.
    """
    for file in listed:
        _check_columns(folder, _schema(folder / file), wanted)
    names = [name for name in wanted.names if name in columns]
    if not names:
        return wanted.empty_table().select([])
    return pa.concat_tables(
        [wanted.empty_table().select(names), *(pq.read_table(folder / file, columns=names) for file in listed)]
    )


def _schema(part: Path) -> pa.Schema:
    return _whole(pq.read_schema, part)


def _whole(read: Callable[[Path], _T], part: Path) -> _T:
    """Read what a part says of itself at its end, which a torn one lacks."""
    try:
        return read(part)
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(
            "a part of this table is torn",
            where=str(part),
            next_step=_RESTORE,
        ) from error


class PartKeys:
    """The keys in one part, read only when a batch has keys among which they lie.

    Parameters
    ----------
    folder, file
        The part.
    wanted
        The table's columns.

    Raises
    ------
    DeclarationError
        As :func:`read_parts`.
    """

    def __init__(self, folder: Path, file: str, wanted: pa.Schema) -> None:
        self.names = frozenset(wanted.names)
        self._path = folder / file
        metadata = _whole(pq.read_metadata, self._path)
        _check_columns(folder, metadata.schema.to_arrow_schema(), wanted)
        self._ranges = {name: _range(metadata, index) for index, name in enumerate(wanted.names)}

    def may_hold(self, lowest: Mapping[str, Any], highest: Mapping[str, Any]) -> bool:
        """Whether a key between these bounds, by column, may be in the part."""
        for name, low in lowest.items():
            found = self._ranges[name]
            if found is not None and (found[1] < low or found[0] > highest[name]):
                return False
        return True

    def read(self, columns: Collection[str]) -> pa.Table:
        """Read the keys."""
        return pq.read_table(self._path, columns=list(columns))


def _range(metadata: pq.FileMetaData, column: int) -> tuple[Any, Any] | None:
    """Lowest and highest value of a plain column; None where the file does not say."""
    if metadata.num_columns != len(metadata.schema.to_arrow_schema()):
        return None  # lists: the file's columns are not the table's
    groups = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    if not groups or any(group is None or not group.has_min_max for group in groups):
        return None
    return min(group.min for group in groups), max(group.max for group in groups)


def _check_columns(folder: Path, found: pa.Schema, wanted: pa.Schema) -> None:
    if not found.equals(wanted):
        raise DeclarationError(
            where=str(folder),
            expected=f"the columns with which the table was begun ({_named(found)})",
            got=f"a contract with others ({_named(wanted)})",
            next_step="Read the sources anew from their beginning: --rebuild.",
        )


def _hidden(folder: Path, file: str) -> Path:
    return folder / f".{file}.part"


def _named(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
