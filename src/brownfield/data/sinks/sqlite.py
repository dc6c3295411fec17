"""``sqlite``: rows of one table of a SQLite database, by key, with the effect and the position in one transaction.

Only the declared columns can be written: an authorizer refuses every other statement. The batch is staged in a
temporary table in memory first, so the database is locked for the time of one statement.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.sinks.base import Applied, Position
from brownfield.data.sinks.table import (
    EFFECTS,
    STREAMS,
    TableTarget,
    encode_position,
    no_key,
    no_ledger,
    quoted,
    unknown,
)
from brownfield.data.sinks.table_sink import TableSink
from brownfield.errors import BrownfieldError, DeclarationError, SinkRefused, SinkUnavailable

__all__ = ["SqliteTableSink"]

_STAGE = "brownfield_stage"
_HIDDEN = 1
"""``hidden`` in ``table_xinfo`` of a virtual table's own columns; 2 and 3 are generated ones."""
_SLICE_ROWS = 65_536
_HARMLESS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION,
}
_CHANGES = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}


class SqliteTableSink(TableSink[sqlite3.Connection]):
    """One table, written by key.

    Parameters
    ----------
    path
        The database file; it must be there.
    target
        What is written.
    stream
        Name under which epoch and position stand in the ledger, such as ``claims/till``.
    busy_timeout_s
        How long another writer's lock is waited for.

    Examples
    --------
    >>> import tempfile
    >>> from brownfield.data.sinks import ledger_ddl
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "pos.db"
    >>> owner = sqlite3.connect(path)
    >>> _ = owner.executescript("CREATE TABLE scores (basket INTEGER PRIMARY KEY, score REAL);" + ledger_ddl("sqlite"))
    >>> batch = pa.record_batch({"basket": [7, 8], "score": [0.5, 0.25]})
    >>> with SqliteTableSink(path, TableTarget("scores", ("basket", "score"), ("basket",)), "claims/till") as sink:
    ...     sink.apply("effect-1", batch, {"after": [8]}), sink.apply("effect-1", batch, {"after": [8]})
    (Applied(rows=2, repeated=False), Applied(rows=2, repeated=True))
    >>> owner.execute("SELECT * FROM scores").fetchall()
    [(7, 0.5), (8, 0.25)]
    >>> owner.close(); folder.cleanup()
    """

    def __init__(self, path: Path, target: TableTarget, stream: str, *, busy_timeout_s: float = 5.0) -> None:
        super().__init__(target, stream)
        self._path = path
        self._busy_timeout_s = busy_timeout_s

    def take_over(self) -> int:
        """Become the owner (:class:`Sink`)."""
        with self._translating():
            ((self._epoch,),) = self._session().execute(_TAKE_OVER, (self._stream,)).fetchall()
        return self._epoch

    def _found(self, effect_id: str) -> Any:
        row = self._session().execute(_FIND, (effect_id,)).fetchone()
        return row[0] if row else None

    def _reached(self) -> str | None:
        row = self._session().execute(_POSITION, (self._stream,)).fetchone()
        return row[0] if row else None

    def _settled(self, effect_id: str) -> bool:
        self.close()  # whatever state the connection is in, the transaction ends with it
        return super()._settled(effect_id)

    def _stage(self, table: pa.Table) -> None:
        """Bring the batch into the temporary table; its unique index finds keys that collide."""
        connection = self._session()
        marks = ", ".join("?" * len(self._target.columns))
        try:
            connection.execute("BEGIN")
            connection.execute(f"DELETE FROM temp.{_STAGE}")  # noqa: S608 (our own name)
            for start in range(0, table.num_rows, _SLICE_ROWS):
                rows = _rows(table.slice(start, _SLICE_ROWS), self._target)
                connection.executemany(f"INSERT INTO temp.{_STAGE} VALUES ({marks})", rows)  # noqa: S608 (our own name)
            connection.execute("COMMIT")
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, sqlite3.IntegrityError):
                raise self._target.collide() from error
            if isinstance(error, OverflowError | UnicodeError):
                raise SinkRefused(
                    where=self._where, expected="whole numbers of 64 bits and text in UTF-8", got="another value"
                ) from error
            raise

    def _commit(self, effect_id: str, table: pa.Table, position: Position | None) -> Applied:
        """Make the effect, in one transaction behind the stage: ledger, epoch and position, rows."""
        self._stage(table)
        rows = table.num_rows
        connection = self._session()
        try:
            connection.execute("BEGIN IMMEDIATE")
            inserted = connection.execute(_LEDGER, (effect_id, self._stream, rows)).rowcount
            if not inserted:
                _roll_back(connection)
                return Applied(rows, repeated=True)
            self._advance(connection, position)
            connection.execute(_upsert(self._target))
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
        return Applied(rows, repeated=False)

    def _advance(self, connection: sqlite3.Connection, position: Position | None) -> None:
        if not connection.execute(_ADVANCE, (encode_position(position), self._stream, self._epoch)).rowcount:
            raise self._target.fenced(self._stream)

    def _faults(self) -> tuple[type[Exception], ...]:
        return (sqlite3.Error,)

    def _session(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = _connect(self._path, self._busy_timeout_s)
            try:
                shape = _look_up(connection, self._target, self._where)
                _create_stage(connection, self._target, shape)
            except BaseException:
                connection.close()
                raise
            connection.set_authorizer(_Authorizer(self._target))
            self._connection = connection
        return self._connection

    @property
    def _where(self) -> str:
        return f"{self._path.name}: table {self._target.table}"

    def _translated(self, error: sqlite3.Error) -> BrownfieldError:
        """Turn the driver's error into ours, by its name: its text may hold values of records."""
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
            return SinkRefused(f"the database does not admit the records ({name})", where=self._where)
        return SinkUnavailable(f"the database cannot be written ({name})", where=self._where)


_TAKE_OVER = (
    f"INSERT INTO main.{STREAMS} (stream, epoch) VALUES (?, 1) "  # noqa: S608 (our own names here and below)
    "ON CONFLICT (stream) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
)
_POSITION = f"SELECT position FROM main.{STREAMS} WHERE stream = ?"  # noqa: S608
_FIND = f"SELECT row_count FROM main.{EFFECTS} WHERE effect_id = ?"  # noqa: S608
_LEDGER = f"INSERT INTO main.{EFFECTS} (effect_id, stream, row_count) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
_ADVANCE = f"UPDATE main.{STREAMS} SET position = coalesce(?, position) WHERE stream = ? AND epoch = ?"  # noqa: S608


def _upsert(target: TableTarget) -> str:
    columns = ", ".join(map(quoted, target.columns))
    key = ", ".join(map(quoted, target.key))
    values = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in target.values)
    return (
        f"INSERT INTO main.{quoted(target.table)} ({columns}) SELECT {columns} FROM temp.{_STAGE} WHERE true "  # noqa: S608 (from the catalogue, quoted)
        f"ON CONFLICT ({key}) DO " + (f"UPDATE SET {values}" if values else "NOTHING")
    )


class _Authorizer:
    """Admits what the sink does, and nothing else; what the owner's triggers do is the owner's."""

    def __init__(self, target: TableTarget) -> None:
        self._inserts = {target.table, EFFECTS, STREAMS}
        self._updates = {(target.table, name) for name in target.values} | {(STREAMS, "epoch"), (STREAMS, "position")}

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        """Answer SQLite's question about one part of a statement."""
        admitted = (
            action in _HARMLESS
            or (action in _CHANGES and (database == "temp" or trigger is not None))
            or (action == sqlite3.SQLITE_INSERT and first in self._inserts)
            or (action == sqlite3.SQLITE_UPDATE and (first, second) in self._updates)
        )
        return sqlite3.SQLITE_OK if admitted else sqlite3.SQLITE_DENY


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the database compares each column of the key."""

    collations: tuple[str, ...]


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    if not path.is_file():
        raise SinkUnavailable("there is no such file", where=str(path))
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, timeout=busy_timeout_s, isolation_level=None
        )
        for setting in ("temp_store = MEMORY", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {setting}")
    except sqlite3.Error as error:
        raise SinkUnavailable("the database cannot be opened", where=str(path)) from error
    return connection


def _look_up(connection: sqlite3.Connection, target: TableTarget, where: str) -> _Shape:
    tables = [name for (name,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
    if target.table not in tables:
        raise unknown("table", target.table, tables, where)
    if EFFECTS not in tables or STREAMS not in tables:
        raise no_ledger(where, "sqlite")
    info = list(connection.execute(f"PRAGMA main.table_xinfo({quoted(target.table)})"))
    writable = [name for _, name, _, _, _, _, hidden in info if not hidden]
    target.find_columns(writable, where)
    primary = [name for _, name, _, _, _, place, _ in info if place]
    for _, index, unique, _, partial in connection.execute(f"PRAGMA main.index_list({quoted(target.table)})"):
        if not unique or partial:
            continue
        parts = [
            (name, collation)
            for _, _, name, _, collation, is_key in connection.execute(f"PRAGMA main.index_xinfo({quoted(index)})")
            if is_key
        ]
        if sorted(str(name) for name, _ in parts) == sorted(target.key):
            collations = dict(parts)
            return _Shape(tuple(collations[name] for name in target.key))
    if sorted(primary) == sorted(target.key):  # the rowid itself has no index
        return _Shape(("BINARY",) * len(target.key))
    raise no_key(where, target.key)


def _create_stage(connection: sqlite3.Connection, target: TableTarget, shape: _Shape) -> None:
    """Create the temporary table: the columns compare and convert as those of the target."""
    columns = ", ".join(map(quoted, target.columns))
    key = ", ".join(
        f"{quoted(name)} COLLATE {quoted(collation)}"
        for name, collation in zip(target.key, shape.collations, strict=True)
    )
    connection.execute(f"CREATE TEMP TABLE {_STAGE} AS SELECT {columns} FROM main.{quoted(target.table)} WHERE false")  # noqa: S608 (from the catalogue, quoted)
    connection.execute(f"CREATE UNIQUE INDEX temp.{_STAGE}_key ON {_STAGE} ({key})")


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _rows(table: pa.Table, target: TableTarget) -> "zip[tuple[Any, ...]]":
    columns: list[Sequence[Any]] = [_values(table.column(name), name, target) for name in target.columns]
    return zip(*columns, strict=True)


def _values(column: pa.ChunkedArray, name: str, target: TableTarget) -> Sequence[Any]:
    """Give the values as SQLite stores them: instants, dates and decimals as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    elif pa.types.is_floating(kind):
        if pc.any(pc.is_nan(column)).as_py():
            raise SinkRefused(
                where=f"table {target.table}", path=name, expected="numbers", got="NaN, which SQLite turns into null"
            )
    elif not _is_plain(kind):
        raise DeclarationError(path=name, expected="a column of single values", got=str(kind))
    values: Sequence[Any] = column.to_pylist()
    return values


def _is_plain(kind: pa.DataType) -> bool:
    of = pa.types
    return any(
        each(kind)
        for each in (of.is_integer, of.is_boolean, of.is_string, of.is_large_string, of.is_binary, of.is_null)
    )
