"""``sqlite``: one table or view of a SQLite database, read-only, page by page in the order of a key.

Nothing is written, twice over: the file is opened read-only, and an authorizer refuses every statement but reading.
Each page is a short statement of its own (never OFFSET, never a long transaction), so the legacy program's own writes
are not held up. Identifiers are looked up in the catalogue before they are quoted into a statement.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import pyarrow as pa

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.sources.base import Position, Probe, Pulled
from brownfield.errors import DeclarationError, RejectionCode, SourceUnavailable, there_are

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PAGE_ROWS", "SqliteTable", "connect"]

PAGE_ROWS = 65_536
_BUSY_S = 5.0
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_LOOKING = {"table_xinfo"}
_HIDDEN = 1
"""``hidden`` in ``table_xinfo`` of a virtual table's own columns."""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class SqliteTable:
    """One table or view.

    Parameters
    ----------
    path
        The database file.
    table
        Name of the table or view, as the catalogue spells it.
    key
        Columns in whose order the rows are read; together they name a row once and for all. When empty, the primary
        key, or the rowid of a table without one.
    page_rows
        Rows read by one statement.
    """

    path: Path
    table: str
    key: tuple[str, ...] = ()
    page_rows: int = PAGE_ROWS

    def probe(self) -> Probe:
        """Look whether the table is there, and count its rows (:class:`Source`)."""
        with closing(connect(self.path)) as connection, _Translated(self):
            shape = _look_up(connection, self)
            records = _count(connection, shape)
        return Probe(records, self.path.stat().st_size)

    def read(self, wanted: pa.Schema, after: Position | None = None) -> Iterator[Pulled]:
        """Read the rows behind a position, or all (:class:`Source`); rows without a key are rejects."""
        with closing(connect(self.path)) as connection, _Translated(self):
            shape = _look_up(connection, self)
            columns = shape.find(wanted.names, self)
            total = _count(connection, shape)
            pages = _Pages(self, shape, columns, wanted, max(total, 1))
            if after is None and (keyless := pages.without_key(connection)) is not None:
                yield keyless
            yield from pages.by_key(connection, after)

    def shape(self) -> dict[str, str]:
        """Describe each column as the catalogue does: its declared type, and whether it may be empty."""
        with closing(connect(self.path)) as connection, _Translated(self):
            return {
                name.decode(): f"{declared.decode().upper() or 'without type'}{' NOT NULL' if required else ''}"
                for _, name, declared, required, *_ in connection.execute(f"PRAGMA table_xinfo({_quoted(self.table)})")
            }

    def ack(self, position: Position) -> None:
        """Do nothing: a table is not told (:class:`Source`)."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """A table as the catalogue knows it."""

    quoted: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    nullable_key: tuple[str, ...]

    def find(self, names: Sequence[str], source: SqliteTable) -> list[str]:
        """Quote the wanted columns; each must be in the catalogue."""
        for name in names:
            if name not in self.columns:
                raise _unknown("column", name, self.columns, f"{source.path.name}: table {source.table}")
        return [_quoted(name) for name in names]


@dataclass(frozen=True, slots=True)
class _Pages:
    """The rows of one read, page by page."""

    source: SqliteTable
    shape: _Shape
    columns: list[str]
    wanted: pa.Schema
    total: int

    def by_key(self, connection: sqlite3.Connection, after: Position | None) -> Iterator[Pulled]:
        key = ", ".join(_quoted(name) for name in self.shape.key)
        marks = ", ".join("?" * len(self.shape.key))
        head = f"SELECT {', '.join([*self.columns, key])} FROM {self.shape.quoted}"  # noqa: S608 (from the catalogue, quoted)
        present = " AND ".join(f"{_quoted(name)} IS NOT NULL" for name in self.shape.key)
        tail = f"ORDER BY {key} LIMIT {self.source.page_rows + 1}"
        last: Sequence[Any] | None = None if after is None else after["after"]
        done = 0
        while True:
            if last is None:
                rows = connection.execute(f"{head} WHERE {present} {tail}").fetchall()
            else:
                rows = connection.execute(f"{head} WHERE ({key}) > ({marks}) AND {present} {tail}", last).fetchall()
            page = rows[: self.source.page_rows]
            if not page:
                return
            before, last = last, self._key(page[-1])
            more = len(rows) > len(page)
            if last == before or (more and not all(_is_comparable(value) for value in page[-1][len(self.columns) :])):
                raise self._refused("a key of numbers and texts", "binary values or texts that are not UTF-8")
            if more and self._key(rows[-1]) == last:
                raise self._refused(
                    "columns that together name a row once", f"two rows with one {', '.join(self.shape.key)}"
                )
            done += len(page)
            yield self._pulled(page, lambda row: self._position(self._key(row)), {"after": last}, done)
            if not more:
                return

    def without_key(self, connection: sqlite3.Connection) -> Pulled | None:
        """Rows in which a column of the key is null: no page would find them again, so they are rejects."""
        nullable = self.shape.nullable_key
        if not nullable:
            return None
        null = " OR ".join(f"{_quoted(name)} IS NULL" for name in nullable)
        order = ", ".join(str(place + 1) for place in range(len(self.columns)))
        rows = connection.execute(
            f"SELECT {', '.join(self.columns)} FROM {self.shape.quoted} WHERE {null} ORDER BY {order}"  # noqa: S608 (as above)
        ).fetchall()
        if not rows:
            return None
        rejects = tuple(
            Reject(f"without key, row {place + 1}", RejectionCode.FIELD_NULL, nullable[0], self._raw(row))
            for place, row in enumerate(rows)
        )
        empty = pa.RecordBatch.from_arrays([pa.array([], _plain(field)) for field in self.wanted], self.wanted.names)
        decoded = Decoded(empty, str, lambda _: b"", rejects)
        return Pulled(self.source.table, decoded, {}, len(rows) / self.total)

    def _pulled(self, page: list[Row], position: "Callable[[Row], str]", after: Position, done: int) -> Pulled:
        arrays = []
        faults: dict[int, str] = {}
        for field, values in zip(self.wanted, zip(*page, strict=True), strict=False):
            try:
                arrays.append(_array(values, field))
            except _MISFITS:
                bad = [row for row, value in enumerate(values) if not _fits(value, field)]
                for row in bad:
                    faults.setdefault(row, field.name)
                kept = list(values)
                for row in bad:
                    kept[row] = None
                arrays.append(_array(kept, field))
        batch = pa.RecordBatch.from_arrays(arrays, names=self.wanted.names)
        rejects = tuple(
            Reject(position(page[row]), RejectionCode.FIELD_TYPE, name, self._raw(page[row]))
            for row, name in sorted(faults.items())
        )
        if faults:
            batch = batch.filter(pa.array([row not in faults for row in range(len(page))]))
            page = [row for place, row in enumerate(page) if place not in faults]
        decoded = Decoded(batch, lambda row: position(page[row]), lambda row: self._raw(page[row]), rejects)
        return Pulled(self.source.table, decoded, after, min(done / self.total, 1.0))

    def _refused(self, expected: str, got: str) -> DeclarationError:
        where = f"{self.source.path.name}: table {self.source.table}"
        return DeclarationError(where=where, path="cursor.key", expected=expected, got=got)

    def _key(self, row: Row) -> list[Any]:
        return [_readable(value) for value in row[len(self.columns) :]]

    def _position(self, key: Sequence[Any]) -> str:
        spelt = (msgspec.json.encode(value).decode() for value in key)
        return ", ".join(f"{name}={value}" for name, value in zip(self.shape.key, spelt, strict=True))

    def _raw(self, row: Row) -> bytes:
        return msgspec.json.encode(dict(zip(self.wanted.names, map(_readable, row), strict=False)))


class _Translated:
    """Turns the driver's errors into ours, once, at the boundary."""

    def __init__(self, source: SqliteTable) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise SourceUnavailable(
                f"the database cannot be read ({error})", where=f"{self.source.path.name}: table {self.source.table}"
            ) from error


def connect(path: Path) -> sqlite3.Connection:
    """Open a database for reading only: by the file's mode, and by an authorizer; texts come as bytes."""
    if not path.is_file():
        raise SourceUnavailable("there is no such file", where=str(path))
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None
        )
        connection.execute("PRAGMA query_only = 1")
    except sqlite3.Error as error:
        raise SourceUnavailable(f"the database cannot be opened ({error})", where=str(path)) from error
    connection.text_factory = bytes
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, first: str | None, *_: str | None) -> int:
    allowed = action in _READING or (action == sqlite3.SQLITE_PRAGMA and first in _LOOKING)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _look_up(connection: sqlite3.Connection, source: SqliteTable) -> _Shape:
    tables = {
        name.decode(): kind
        for name, kind in connection.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')")
    }
    if source.table not in tables:
        raise _unknown("table", source.table, tuple(tables), source.path.name)
    quoted = _quoted(source.table)
    info = [
        (name.decode(), declared.decode().upper(), bool(required), place)
        for _, name, declared, required, _, place, hidden in connection.execute(f"PRAGMA table_xinfo({quoted})")
        if hidden != _HIDDEN
    ]
    columns = tuple(name for name, *_ in info)
    primary = tuple(name for name, _, _, place in sorted(info, key=lambda each: each[3]) if place)
    if source.key:
        key = source.key
        for name in key:
            if name not in columns:
                raise _unknown("column", name, columns, f"{source.path.name}: table {source.table}")
    elif primary:
        key = primary
    elif tables[source.table] == b"table":
        key = (next(name for name in ("rowid", "_rowid_", "oid") if name not in columns),)
    else:
        raise DeclarationError(
            where=f"{source.path.name}: view {source.table}",
            expected="a key, for a view has none of its own",
            got="none",
            next_step="Declare cursor: {column: ..., key: ...}.",
        )
    never_null = {
        name for name, declared, required, _ in info if required or (primary == (name,) and declared == "INTEGER")
    }
    nullable = tuple(name for name in key if name in columns and name not in never_null)
    return _Shape(quoted, columns, key, nullable)


def _unknown(what: str, name: str, known: Sequence[str], where: str) -> DeclarationError:
    near = get_close_matches(name, known, 3, 0.5)
    return DeclarationError(
        where=where,
        expected=f"a {what} of the database",
        got=repr(name),
        next_step=there_are(near, "The nearest") if near else there_are(known),
    )


def _count(connection: sqlite3.Connection, shape: _Shape) -> int:
    (rows,) = connection.execute(f"SELECT count(*) FROM {shape.quoted}").fetchone()  # noqa: S608 (from the catalogue, quoted)
    return int(rows)


def _readable(value: Any) -> Any:
    """Turn the bytes of a text into the text; bytes that are no UTF-8 are spelt out."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _is_comparable(value: Any) -> bool:
    """Tell whether a key can be handed back to SQLite as it is: a number, or a text in UTF-8."""
    try:
        return not isinstance(value, bytes) or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(field: pa.Field) -> pa.DataType:
    """Type in which a column is read: dates and timestamps are text, for the contract knows their zone and rules."""
    kind = field.type
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_boolean(kind):
        return pa.bool_()
    if pa.types.is_string(kind) or pa.types.is_temporal(kind):
        return pa.string()
    raise DeclarationError(path=field.name, expected="a field of one value, for a table has no lists", got=str(kind))


_TRUTH = {None: None, 0: False, 1: True}
"""SQLite has no truth values of its own but these."""
_EXACT = 2**53
_MISFITS = (pa.ArrowException, ArithmeticError, TypeError, ValueError, KeyError)


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    kind = _plain(field)
    if pa.types.is_boolean(kind):
        return pa.array([_TRUTH[value] for value in values], kind)
    if pa.types.is_integer(kind) and float in set(map(type, values)):  # Arrow would cut fractions off
        return pa.array([_whole(value) if type(value) is float else value for value in values], kind)
    return pa.array(values, kind)


def _whole(value: float) -> int:
    if not (-_EXACT <= value <= _EXACT and value.is_integer()):
        raise ValueError("not a whole number")
    return int(value)


def _fits(value: Any, field: pa.Field) -> bool:
    try:
        _array([value], field)
    except _MISFITS:
        return False
    return True
