"""``postgres``: what PostgreSQL has of its own (:class:`brownfield.data.sources.dialect.Dialect`)."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from threading import Timer
from typing import TYPE_CHECKING, Any

from brownfield.data.farewell import farewell
from brownfield.data.sources.base import UNKNOWN
from brownfield.data.sources.dialect import (
    Address,
    Column,
    ConnectionLost,
    Family,
    Refused,
    Row,
    Session,
    only_reading,
    unanswered,
)
from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    import psycopg

__all__ = ["Postgres", "libpq_parameters"]

_CONNECT_TIMEOUT_S = 5
_FAMILIES = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), Family.WHOLE),
    **dict.fromkeys(("float4", "float8"), Family.FLOAT),
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "citext"), Family.TEXT),
    "numeric": Family.DECIMAL,
    "bool": Family.TRUTH,
    "date": Family.DATE,
    "timestamp": Family.LOCAL,
    "timestamptz": Family.INSTANT,
}
_SPELT = {"uuid", "json", "jsonb", "inet", "cidr", "macaddr", "time", "timetz", "interval", "bit", "varbit", "xml"}
_TLS = {"verify": "verify-full", "encrypt": "require", "off": "disable"}
_TABLES = """
SELECT "c".relname FROM pg_catalog.pg_class AS "c" JOIN pg_catalog.pg_namespace AS "n" ON "n".oid = "c".relnamespace
WHERE "n".nspname = %s AND "c".relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY "c".relname
"""
_COLUMNS = """
SELECT "a".attnum, "a".attname, format_type("a".atttypid, "a".atttypmod), "t".typname, "t".typtype, "b".typname,
    "a".attnotnull, "a".attidentity::text, pg_get_expr("d".adbin, "d".adrelid)
FROM pg_catalog.pg_attribute AS "a"
    JOIN pg_catalog.pg_class AS "c" ON "c".oid = "a".attrelid
    JOIN pg_catalog.pg_namespace AS "n" ON "n".oid = "c".relnamespace
    JOIN pg_catalog.pg_type AS "t" ON "t".oid = "a".atttypid
    LEFT JOIN pg_catalog.pg_type AS "b" ON "b".oid = "t".typbasetype
    LEFT JOIN pg_catalog.pg_attrdef AS "d" ON "d".adrelid = "c".oid AND "d".adnum = "a".attnum
WHERE "n".nspname = %s AND "c".relname = %s AND "a".attnum > 0 AND NOT "a".attisdropped ORDER BY "a".attnum
"""
_PRIMARY = """
SELECT "i".indkey::text FROM pg_catalog.pg_index AS "i" JOIN pg_catalog.pg_class AS "c" ON "c".oid = "i".indrelid
    JOIN pg_catalog.pg_namespace AS "n" ON "n".oid = "c".relnamespace
WHERE "n".nspname = %s AND "c".relname = %s AND "i".indisprimary
"""
_STANDBY = "SELECT pg_is_in_recovery(), pg_last_xact_replay_timestamp()"
_PERMISSION = "42501"
_LOOKS_FOR_US_SINCE = 140_000
"""Version that notices in the middle of a statement that its client was killed."""
_SOON = ("starting up", "shutting down", "too many", "remaining connection slots")


def libpq_parameters(address: Address) -> dict[str, Any]:
    """Say in libpq's words where a server is, who comes, and whether the way is encrypted."""
    return {
        "host": ",".join(address.host for _ in address.addresses),
        "hostaddr": ",".join(address.addresses),
        "port": str(address.port),
        "dbname": address.database,
        "user": address.user,
        "password": address.password,
        "sslmode": _TLS[address.tls],
        "sslrootcert": address.ca_file or "system" if address.tls == "verify" else None,
        "gssencmode": "disable",
        "connect_timeout": _CONNECT_TIMEOUT_S,
    }


class Postgres:
    """PostgreSQL 12 or later, by psycopg."""

    name = "postgres"
    now = "SELECT clock_timestamp() AT TIME ZONE 'UTC'"

    def connect(self, address: Address) -> Session:
        """Open a session to the first address that answers (:class:`Dialect`)."""
        psycopg = _driver()
        try:
            connection = psycopg.connect(
                **libpq_parameters(address),
                client_encoding="UTF8",
                application_name="brownfield",
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.OperationalError as error:
            text = " ".join(str(error).split())
            answered = "FATAL:" in text and not any(soon in text for soon in _SOON)
            raise (Refused(text) if answered else unanswered(text)) from None
        _keep_odd_times(connection)
        session = _Session(connection, address)
        try:
            session.begin()
        except psycopg.Error as error:
            session.close()
            raise _translated(error, connection, address) from error
        return session

    def quoted(self, name: str) -> str:
        """Quote an identifier (:class:`Dialect`)."""
        return '"' + name.replace('"', '""').replace("%", "%%") + '"'

    def qualified(self, address: Address, table: str) -> str:
        """Name a table in full (:class:`Dialect`)."""
        return f"{self.quoted(address.schema)}.{self.quoted(table)}"

    def selected(self, column: Column) -> str:
        """Give the expression that reads a column (:class:`Dialect`)."""
        if column.as_text:
            return f"{self.quoted(column.name)}::text"
        return f"{self.quoted(column.name)}::float8" if column.declared == "real" else self.quoted(column.name)

    def limited(self, rows: int) -> str:
        """Give the end of a statement that admits so many rows (:class:`Dialect`)."""
        return f" LIMIT {rows}"

    def settings(self, limit_s: int) -> list[str]:
        """Statements that hold a session to reading, and to the time that a statement may take."""
        limit_ms = limit_s * 1_000
        return [
            "SET default_transaction_read_only = on",
            "SET TIME ZONE 'UTC'",
            "SET DateStyle = 'ISO'",
            f"SET statement_timeout = {limit_ms}",
            f"SET lock_timeout = {limit_ms}",
            f"SET idle_in_transaction_session_timeout = {limit_ms}",
        ]

    def as_of(self, session: Session) -> datetime | None:
        """Say which moment a standby shows: its last replayed transaction (:class:`Dialect`)."""
        ((follows, replayed),) = session.select(_STANDBY)
        return (replayed or UNKNOWN) if follows else None

    def tables(self, session: Session, address: Address) -> list[str]:
        """Names of the tables and views (:class:`Dialect`)."""
        return [row[0] for row in session.select(_TABLES, [address.schema])]

    def columns(self, session: Session, address: Address, table: str) -> tuple[list[Column], list[str]]:
        """Columns and primary key (:class:`Dialect`)."""
        rows = session.select(_COLUMNS, [address.schema, table])
        primary = session.select(_PRIMARY, [address.schema, table])
        by_number = {str(row[0]): row[1] for row in rows}
        key = [by_number[number] for number in primary[0][0].split()] if primary else []
        return [_column(row) for row in rows], key


def _driver() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise DeclarationError(
            "the driver of PostgreSQL is not installed", next_step="Run `pip install 'brownfield[postgres]'`."
        ) from error
    return psycopg


def _column(row: Row) -> Column:
    _, name, declared, type_name, type_kind, base_name, not_null, identity, default = row
    plain = base_name or type_name
    as_text = plain in _SPELT or type_kind == "e"
    return Column(
        name=name,
        declared=declared,
        family=Family.TEXT if as_text else _FAMILIES.get(plain),
        nullable=not not_null,
        numbered=bool(identity) or (default or "").startswith("nextval("),
        padded=plain == "bpchar",
        as_text=as_text,
    )


class _Session:
    """One connection, read-only by our allow-list, by the session and by every transaction."""

    def __init__(self, connection: "psycopg.Connection[Row]", address: Address) -> None:
        self.connection = connection
        self.address = address

    def begin(self) -> None:
        """Hold the session to reading, and to the time that a statement may take."""
        for setting in Postgres().settings(self.address.statement_timeout_s):
            self._run(setting)
        if self.connection.info.server_version >= _LOOKS_FOR_US_SINCE:
            with suppress(_driver().errors.InvalidParameterValue):  # a host without POLLRDHUP
                self._run("SET client_connection_check_interval = 1000")

    def select(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        only_reading(statement)
        psycopg = _driver()
        silence = Timer(self.address.statement_timeout_s + _CONNECT_TIMEOUT_S, self._hang_up)
        silence.daemon = True
        silence.start()
        try:
            self._run("START TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY")
            rows = self.connection.execute(statement, tuple(parameters)).fetchall()
            self._run("COMMIT")
        except psycopg.Error as error:
            translated = _translated(error, self.connection, self.address)
            with suppress(psycopg.Error):
                self._run("ROLLBACK")
            raise translated from error
        finally:
            silence.cancel()
        return rows

    def close(self) -> None:
        farewell(self.connection)

    def _hang_up(self) -> None:
        """End a connection from which nothing comes any more: the driver itself would wait for ever."""
        with suppress(OSError, ValueError), socket.socket(fileno=os.dup(self.connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    def _run(self, statement: str) -> None:
        self.connection.execute(statement)


def _translated(error: "psycopg.Error", connection: "psycopg.Connection[Row]", address: Address) -> Exception:
    """Name an error by its code, never by its text: the text may hold values."""
    code = error.sqlstate or ""
    name = type(error).__name__
    if connection.broken or connection.closed or code.startswith(("08", "57P")):
        return ConnectionLost(f"the connection was lost ({name})")
    if code == "57014":
        return Refused(f"the statement took longer than {address.statement_timeout_s} s")
    if code == _PERMISSION:
        return Refused("the role may not read it")
    return Refused(f"the server refused the statement ({code} {name})")


def _keep_odd_times(connection: "psycopg.Connection[Row]") -> None:
    """Give dates beyond Python's calendar (infinity, BC) as text, so that they are rejects and end nothing."""
    import psycopg
    from psycopg.types import datetime as times

    def tolerant(loader: Any) -> Any:
        class Tolerant(loader):  # type: ignore[misc]  # one class for each of the driver's own
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except psycopg.DataError:
                    return bytes(data).decode("ascii", "backslashreplace")

        return Tolerant

    for name, loader in (
        ("date", times.DateLoader),
        ("timestamp", times.TimestampLoader),
        ("timestamptz", times.TimestamptzLoader),
    ):
        connection.adapters.register_loader(name, tolerant(loader))
