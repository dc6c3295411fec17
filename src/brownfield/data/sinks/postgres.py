"""``postgres``: rows of one table of a PostgreSQL database, by key, with effect and position in one transaction.

The batch comes in by COPY into a temporary table and goes on by one INSERT ... ON CONFLICT. Locks are taken behind the
COPY alone, and the server ends a transaction of ours that stands still, so a stopped process blocks nobody for long.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from brownfield.data.sinks.base import Applied, Position
from brownfield.data.sinks.copy_text import copy_text
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
from brownfield.errors import BrownfieldError, SinkRefused, SinkUnavailable

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresTableSink"]

_STAGE = "pg_temp.brownfield_stage"
_SLICE_ROWS = 65_536
_DATA_FAULTS = ("21", "22", "23", "44", "P0")
"""Classes of SQLSTATE that speak of the records; P0 is what an owner's trigger raises."""
_COLLISION = "21000"
_NO_PRIVILEGE = "42501"


class PostgresTableSink(TableSink["psycopg.Connection[Any]"]):
    """One table, written by key.

    Parameters
    ----------
    parameters
        How to connect, in libpq's words: host, port, dbname, user, password, sslmode and so on.
    target
        What is written.
    stream
        Name under which epoch and position stand in the ledger, such as ``claims/till``.
    schema
        Schema of the table and the ledger.
    statement_timeout_s
        Time after which the server ends a statement.
    idle_timeout_s
        Time after which the server ends a transaction of ours that stands still, locks and all.

    Examples
    --------
    >>> target = TableTarget("scores", ("basket", "score"), ("basket",))
    >>> sink = PostgresTableSink({"host": "pos.example", "dbname": "pos"}, target, "claims/till")
    >>> sink.close()
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        target: TableTarget,
        stream: str,
        *,
        schema: str = "public",
        statement_timeout_s: float = 30.0,
        idle_timeout_s: float = 5.0,
    ) -> None:
        super().__init__(target, stream)
        self._parameters = dict(parameters)
        self._schema = schema
        self._limits = {
            "statement_timeout": round(statement_timeout_s * 1000),
            "lock_timeout": round(min(statement_timeout_s, 2 * idle_timeout_s) * 1000),
            "idle_in_transaction_session_timeout": round(idle_timeout_s * 1000),
        }

    def take_over(self) -> int:
        """Become the owner (:class:`Sink`)."""
        statement = (
            f"INSERT INTO {self._ledger(STREAMS)} AS known (stream, epoch) VALUES (%s, 1) "  # noqa: S608 (quoted names here and below)
            "ON CONFLICT (stream) DO UPDATE SET epoch = known.epoch + 1 RETURNING epoch"
        )
        self._epoch = int(self._value(statement, self._stream))
        return self._epoch

    def _commit(self, effect_id: str, table: pa.Table, position: Position | None) -> Applied:
        """Make the effect, in one transaction: the stage first, for it locks nothing; ledger, epoch, rows."""
        ledger = (
            f"INSERT INTO {self._ledger(EFFECTS)} (effect_id, stream, row_count) VALUES (%s, %s, %s) "  # noqa: S608
            "ON CONFLICT DO NOTHING"
        )
        advance = (
            f"UPDATE {self._ledger(STREAMS)} SET position = coalesce(%s, position) WHERE stream = %s AND epoch = %s"  # noqa: S608
        )
        connection = self._session()
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy(f"COPY {_STAGE} FROM STDIN") as copy:
                for start in range(0, table.num_rows, _SLICE_ROWS):
                    copy.write(copy_text(table.slice(start, _SLICE_ROWS)))
            if not cursor.execute(ledger, (effect_id, self._stream, table.num_rows)).rowcount:
                return Applied(table.num_rows, repeated=True)
            if not cursor.execute(advance, (encode_position(position), self._stream, self._epoch)).rowcount:
                raise self._target.fenced(self._stream)
            written = cursor.execute(self._upsert()).rowcount
            if not self._target.values and written < table.num_rows:
                self._check_keys(cursor, table.num_rows)
        return Applied(table.num_rows, repeated=False)

    def _upsert(self) -> str:
        columns = ", ".join(map(quoted, self._target.columns))
        key = ", ".join(map(quoted, self._target.key))
        values = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in self._target.values)
        return (
            f"INSERT INTO {self._named(self._target.table)} ({columns}) SELECT {columns} FROM {_STAGE} "  # noqa: S608
            f"ON CONFLICT ({key}) DO " + (f"UPDATE SET {values}" if values else "NOTHING")
        )

    def _check_keys(self, cursor: "psycopg.Cursor[Any]", rows: int) -> None:
        """Find keys that collide where no column beside the key makes the server say so."""
        key = ", ".join(map(quoted, self._target.key))
        cursor.execute(f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM {_STAGE}) AS staged")  # noqa: S608
        ((distinct,),) = cursor.fetchall()
        if distinct < rows:
            raise self._target.collide()

    def _found(self, effect_id: str) -> Any:
        return self._value(f"SELECT row_count FROM {self._ledger(EFFECTS)} WHERE effect_id = %s", effect_id)  # noqa: S608

    def _reached(self) -> str | None:
        text: str | None = self._value(f"SELECT position FROM {self._ledger(STREAMS)} WHERE stream = %s", self._stream)  # noqa: S608
        return text

    def _value(self, statement: str, parameter: str) -> Any:
        """Run a statement of its own and give the first column of its row, None where there is none."""
        with self._translating():
            row = self._session().execute(statement, (parameter,)).fetchone()
        return row[0] if row else None

    def _faults(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.Error,)

    def _session(self) -> "psycopg.Connection[Any]":
        """Give the open connection, or a new one with its limits and its stage."""
        import psycopg

        if self._connection is not None and not self._connection.closed:
            return self._connection
        try:
            connection = psycopg.connect(**{"connect_timeout": 10, **self._parameters}, autocommit=True)
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            raise SinkUnavailable(f"the server does not let us in ({said})", where=self._where) from error
        try:
            for name, value in {**_SESSION, **self._limits}.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, str(value)))
            _look_up(connection, self._schema, self._target, self._where)
            columns = ", ".join(map(quoted, self._target.columns))
            connection.execute(
                f"CREATE TEMP TABLE brownfield_stage ON COMMIT DELETE ROWS AS SELECT {columns} "  # noqa: S608 (from the catalogue, quoted)
                f"FROM {self._named(self._target.table)} WITH NO DATA"
            )
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _named(self, table: str) -> str:
        return f"{quoted(self._schema)}.{quoted(table)}"

    def _ledger(self, table: str) -> str:
        """Name a table of the ledger in a statement with parameters, in which a percent sign is the driver's own."""
        return self._named(table).replace("%", "%%")

    @property
    def _where(self) -> str:
        return f"table {self._schema}.{self._target.table}"

    def _translated(self, error: "psycopg.Error") -> BrownfieldError:
        """Turn the driver's error into ours, by state and column: its text may hold values of records."""
        state = error.sqlstate or ""
        if state == _COLLISION:
            return self._target.collide()
        column = error.diag.column_name or error.diag.constraint_name
        if state[:2] in _DATA_FAULTS:
            return SinkRefused(
                f"the database does not admit the records (SQLSTATE {state})", where=self._where, path=column
            )
        next_step = None
        if state == _NO_PRIVILEGE:
            next_step = "Have the owner run the grants that ledger_ddl() gives for the target and the role."
        return SinkUnavailable(
            "the table cannot be written" + (f" (SQLSTATE {state})" if state else ", for the connection broke"),
            where=self._where,
            next_step=next_step,
        )


_SESSION = {
    "application_name": "brownfield",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "client_encoding": "UTF8",
    "synchronous_commit": "on",
}


def _look_up(connection: "psycopg.Connection[Any]", schema: str, target: TableTarget, where: str) -> None:
    """Find table, columns, key and ledger in the catalogue, or say what is missing."""
    tables = [
        name
        for (name,) in connection.execute(
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relkind IN ('r', 'p')",
            (schema,),
        )
    ]
    if target.table not in tables:
        raise unknown("table", target.table, tables, where)
    if EFFECTS not in tables or STREAMS not in tables:
        raise no_ledger(where, "postgres")
    relation = f"{quoted(schema)}.{quoted(target.table)}"
    writable = connection.execute(
        "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = %s::regclass "
        "AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a'",
        (relation,),
    )
    target.find_columns([name for (name,) in writable], where)
    keys = connection.execute(
        "SELECT array_agg(a.attname::text) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a "
        "ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) "
        "WHERE i.indrelid = %s::regclass AND i.indisunique AND i.indimmediate AND i.indisvalid "
        "AND i.indpred IS NULL AND i.indexprs IS NULL GROUP BY i.indexrelid",
        (relation,),
    )
    if not any(sorted(names) == sorted(target.key) for (names,) in keys):
        raise no_key(where, target.key)
