"""``mysql``: rows of one table of a MariaDB or MySQL database, by key, with effect and position in one transaction.

The batch comes into a temporary table, whose unique index finds keys that collide, and goes on by one INSERT ... ON
DUPLICATE KEY UPDATE. Locks are taken behind the temporary table alone, and the server ends a session of ours that
stands still, so a stopped process blocks nobody for long. The session is strict: nothing is cut to fit.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.sinks.base import Applied, Position
from brownfield.data.sinks.table import (
    EFFECTS,
    STREAMS,
    TableTarget,
    backquoted,
    encode_position,
    no_key,
    no_ledger,
    unknown,
)
from brownfield.data.sinks.table_sink import TableSink
from brownfield.errors import BrownfieldError, DeclarationError, SinkRefused, SinkUnavailable

if TYPE_CHECKING:
    from pymysql.connections import Connection

__all__ = ["MysqlTableSink"]

_STAGE = "brownfield_stage"
_SLICE_ROWS = 20_000
_COLLISION = 1062
_DATA_FAULTS = {1048, _COLLISION, 1264, 1265, 1292, 1364, 1366, 1406, 1451, 1452, 1644, 3819, 4025}
"""Errors that speak of the records; 1644 is what an owner's trigger raises."""
_NO_PRIVILEGE = {1044, 1142, 1143}


class MysqlTableSink(TableSink["Connection[Any]"]):
    """One table, written by key.

    Parameters
    ----------
    parameters
        How to connect, in PyMySQL's words: host, port, database, user, password, ssl and so on.
    target
        What is written.
    stream
        Name under which epoch and position stand in the ledger, such as ``claims/till``.
    statement_timeout_s
        Time after which a statement is ended, whole seconds or more.
    idle_timeout_s
        Time after which the server ends a transaction of ours that stands still, locks and all.

    Examples
    --------
    >>> target = TableTarget("scores", ("basket", "score"), ("basket",))
    >>> sink = MysqlTableSink({"host": "pos.example", "database": "pos"}, target, "claims/till")
    >>> sink.close()
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        target: TableTarget,
        stream: str,
        *,
        statement_timeout_s: float = 30.0,
        idle_timeout_s: float = 5.0,
    ) -> None:
        super().__init__(target, stream)
        self._parameters = dict(parameters)
        self._statement_timeout_s = max(round(statement_timeout_s), 1)
        self._idle_timeout_s = max(round(idle_timeout_s), 1)

    def take_over(self) -> int:
        """Become the owner (:class:`Sink`)."""
        with self._translating(), self._session().cursor() as cursor:
            cursor.execute("START TRANSACTION")
            cursor.execute(_TAKE_OVER, (self._stream,))
            cursor.execute(_EPOCH, (self._stream,))
            self._epoch = int(cursor.fetchall()[0][0])
            cursor.execute("COMMIT")
        return self._epoch

    def close(self) -> None:
        """Let go of the connection (:class:`Sink`)."""
        with suppress(Exception):  # a connection that is gone cannot be closed twice
            super().close()
        self._connection = None

    def _commit(self, effect_id: str, table: pa.Table, position: Position | None) -> Applied:
        try:
            return self._transact(effect_id, table, position)
        except BrownfieldError:
            self.close()  # and with it the transaction
            raise

    def _transact(self, effect_id: str, table: pa.Table, position: Position | None) -> Applied:
        """Make the effect, in one transaction: the stage first, for it locks nothing; ledger, epoch, rows."""
        rows = table.num_rows
        with self._session().cursor() as cursor:
            cursor.execute("START TRANSACTION")
            self._stage(cursor, table)
            if not cursor.execute(_LEDGER, (effect_id, self._stream, rows)):
                cursor.execute("ROLLBACK")
                return Applied(rows, repeated=True)
            cursor.execute(_EPOCH, (self._stream,))
            if cursor.fetchall() != ((self._epoch,),):
                raise self._target.fenced(self._stream)
            cursor.execute(_ADVANCE, (encode_position(position), self._stream))
            cursor.execute(_upsert(self._target))
            cursor.execute("COMMIT")
        return Applied(rows, repeated=False)

    def _stage(self, cursor: Any, table: pa.Table) -> None:
        """Bring the batch into the temporary table; its unique index finds keys that collide."""
        import pymysql

        marks = ", ".join(["%s"] * len(self._target.columns))
        cursor.execute(f"DELETE FROM {_STAGE}")  # noqa: S608 (our own name here and below)
        for start in range(0, table.num_rows, _SLICE_ROWS):
            rows = _rows(table.slice(start, _SLICE_ROWS), self._target)
            try:
                cursor.executemany(f"INSERT INTO {_STAGE} VALUES ({marks})", rows)  # noqa: S608
            except pymysql.err.IntegrityError as error:
                if error.args[0] == _COLLISION:
                    raise self._target.collide() from error
                raise

    def _found(self, effect_id: str) -> Any:
        return self._value(_FIND, effect_id)

    def _reached(self) -> str | None:
        text: str | None = self._value(_POSITION, self._stream)
        return text

    def _value(self, statement: str, parameter: str) -> Any:
        """Run a statement of its own and give the first column of its row, None where there is none."""
        for again in (True, False):
            held = self._connection is not None
            try:
                with self._session().cursor() as cursor:
                    cursor.execute(statement, (parameter,))
                    row = cursor.fetchone()
            except self._faults() as error:
                translated = self._translated(error)
                if not (held and again):  # the server ends sessions that stand still: a new one is asked once
                    raise translated from error
            else:
                return row[0] if row else None
        raise AssertionError("a try returns or raises")

    def _faults(self) -> tuple[type[Exception], ...]:
        import pymysql

        return (pymysql.MySQLError, OSError)

    def _session(self) -> "Connection[Any]":
        """Give the open connection, or a new one with its limits and its temporary table."""
        if self._connection is not None:
            return self._connection
        import pymysql

        limits: dict[str, Any] = {"connect_timeout": 10, "read_timeout": self._statement_timeout_s + 5}
        try:
            connection = pymysql.connect(
                **{**limits, **self._parameters}, charset="utf8mb4", autocommit=True, local_infile=False
            )
        except pymysql.MySQLError as error:
            said = error.args[-1] if error.args else type(error).__name__
            raise SinkUnavailable(f"the server does not let us in ({said})", where=self._where) from error
        try:
            with connection.cursor() as cursor:
                server = connection.get_server_info()  # type: ignore[no-untyped-call]  # a gap of the stubs
                for setting in self._settings(mariadb="MariaDB" in server):
                    cursor.execute(f"SET SESSION {setting}")
                _look_up(cursor, self._target, self._where)
                _create_stage(cursor, self._target)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _settings(self, *, mariadb: bool) -> list[str]:
        wait_s = min(self._statement_timeout_s, 2 * self._idle_timeout_s)
        common = [
            "sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_AUTO_VALUE_ON_ZERO'",
            "TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "time_zone = '+00:00'",
            f"innodb_lock_wait_timeout = {wait_s}",
            f"lock_wait_timeout = {wait_s}",
        ]
        if mariadb:
            idle = f"idle_transaction_timeout = {self._idle_timeout_s}"
            return [*common, f"max_statement_time = {self._statement_timeout_s}", idle]
        return [*common, f"wait_timeout = {self._idle_timeout_s}"]

    @property
    def _where(self) -> str:
        return f"table {self._target.table}"

    def _translated(self, error: Exception) -> BrownfieldError:
        """Turn the driver's error into ours, by its number: its text may hold values of records. Ends the session."""
        self.close()
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        if number in _DATA_FAULTS:
            return SinkRefused(f"the database does not admit the records (error {number})", where=self._where)
        next_step = None
        if number in _NO_PRIVILEGE:
            next_step = "Have the owner run the grants that ledger_ddl() gives for the target and the role."
        why = f" (error {number})" if number else ", for the connection broke"
        return SinkUnavailable(f"the table cannot be written{why}", where=self._where, next_step=next_step)


_TAKE_OVER = f"INSERT INTO {STREAMS} (stream, epoch) VALUES (%s, 1) ON DUPLICATE KEY UPDATE epoch = epoch + 1"  # noqa: S608 (our own names here and below)
_EPOCH = f"SELECT epoch FROM {STREAMS} WHERE stream = %s FOR UPDATE"  # noqa: S608
_POSITION = f"SELECT position FROM {STREAMS} WHERE stream = %s"  # noqa: S608
_FIND = f"SELECT row_count FROM {EFFECTS} WHERE effect_id = %s"  # noqa: S608
_LEDGER = f"INSERT IGNORE INTO {EFFECTS} (effect_id, stream, row_count) VALUES (%s, %s, %s)"  # noqa: S608
_ADVANCE = f"UPDATE {STREAMS} SET position = coalesce(%s, position) WHERE stream = %s"  # noqa: S608


def _upsert(target: TableTarget) -> str:
    table = backquoted(target.table)
    columns = ", ".join(map(backquoted, target.columns))
    values = [f"{table}.{backquoted(name)} = {_STAGE}.{backquoted(name)}" for name in target.values]
    kept = f"{table}.{backquoted(target.key[0])} = {table}.{backquoted(target.key[0])}"
    return (
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {_STAGE} "  # noqa: S608 (from the catalogue, quoted)
        f"ON DUPLICATE KEY UPDATE {', '.join(values) or kept}"
    )


def _look_up(cursor: Any, target: TableTarget, where: str) -> None:
    """Find table, columns, key and ledger in the catalogue, or say what is missing."""
    cursor.execute(
        "SELECT table_name, engine FROM information_schema.tables "
        "WHERE table_schema = database() AND table_type = 'BASE TABLE'"
    )
    engines = dict(cursor.fetchall())
    if target.table not in engines:
        raise unknown("table", target.table, list(engines), where)
    if EFFECTS not in engines or STREAMS not in engines:
        raise no_ledger(where, "mysql")
    for name in (target.table, EFFECTS, STREAMS):
        if engines[name] != "InnoDB":
            raise DeclarationError(where=where, expected="tables of the engine InnoDB", got=f"{name}: {engines[name]}")
    cursor.execute(
        "SELECT column_name, is_nullable = 'YES' AND column_default IS NULL OR column_default = 'NULL', extra "
        "FROM information_schema.columns WHERE table_schema = database() AND table_name = %s",
        (target.table,),
    )
    columns = {name: (bool(empty), extra.lower()) for name, empty, extra in cursor.fetchall()}
    target.find_columns([name for name, (_, extra) in columns.items() if "generated" not in extra], where)
    cursor.execute(
        "SELECT index_name, column_name, sub_part FROM information_schema.statistics "
        "WHERE table_schema = database() AND table_name = %s AND non_unique = 0",
        (target.table,),
    )
    indexes: dict[str, list[str]] = {}
    cut = set()
    for index, column, part in cursor.fetchall():
        indexes.setdefault(index, []).append(column)
        if part is not None:
            cut.add(index)
    ours = [index for index, names in indexes.items() if sorted(names) == sorted(target.key) and index not in cut]
    if not ours:
        raise no_key(where, target.key)
    for index in indexes.keys() - set(ours):
        left = [columns[name] for name in indexes[index] if name in columns and name not in target.columns]
        if not any(empty or "auto_increment" in extra for empty, extra in left):
            raise DeclarationError(
                where=where,
                path="key",
                expected=f"no other unique index by which {', '.join(target.columns)} may meet a row",
                got=f"{index} ({', '.join(indexes[index])})",
                next_step="The server would update whichever row collides. Write to a table with the key alone.",
            )


def _create_stage(cursor: Any, target: TableTarget) -> None:
    """Create the temporary table: the columns compare and convert as those of the target."""
    columns = ", ".join(map(backquoted, target.columns))
    key = ", ".join(map(backquoted, target.key))
    cursor.execute(
        f"CREATE TEMPORARY TABLE {_STAGE} (UNIQUE KEY ({key})) ENGINE = InnoDB "  # noqa: S608 (from the catalogue, quoted)
        f"AS SELECT {columns} FROM {backquoted(target.table)} LIMIT 0"
    )


def _rows(table: pa.Table, target: TableTarget) -> list[tuple[Any, ...]]:
    columns: list[Sequence[Any]] = [_values(table.column(name), name, target) for name in target.columns]
    return list(zip(*columns, strict=True))


def _values(column: pa.ChunkedArray, name: str, target: TableTarget) -> Sequence[Any]:
    """Give the values as the driver spells them: instants in UTC, as the session is."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_timestamp(kind):
        try:
            column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.timestamp("us"))
        except pa.ArrowInvalid as error:
            raise SinkRefused(
                where=f"table {target.table}", path=name, expected="timestamps of microseconds", got="finer ones"
            ) from error
    elif pa.types.is_floating(kind):
        if not pc.all(pc.is_finite(column)).as_py() and column.null_count < len(column):
            raise SinkRefused(where=f"table {target.table}", path=name, expected="finite numbers", got="another")
    elif pa.types.is_nested(kind):
        raise DeclarationError(path=name, expected="a column of single values", got=str(kind))
    values: Sequence[Any] = column.to_pylist()
    return values
