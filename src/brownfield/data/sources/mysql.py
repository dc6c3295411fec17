"""``mysql``: what MariaDB and MySQL have of their own (:class:`brownfield.data.sources.dialect.Dialect`)."""

import math
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
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
from brownfield.data.tls import client_context
from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from pymysql.connections import Connection

__all__ = ["Mysql", "pymysql_parameters"]

_CONNECT_TIMEOUT_S = 5
_FAMILIES = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), Family.WHOLE),
    **dict.fromkeys(("float", "double"), Family.FLOAT),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), Family.TEXT),
    "decimal": Family.DECIMAL,
    "date": Family.DATE,
    "datetime": Family.LOCAL,
    "timestamp": Family.INSTANT,
}
_SPELT = {"enum", "set", "time", "json", "uuid", "inet4", "inet6"}
_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY table_name"
_COLUMNS = """
SELECT column_name, column_type, data_type, is_nullable, extra FROM information_schema.columns
WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""
_PRIMARY = """
SELECT column_name FROM information_schema.statistics
WHERE table_schema = %s AND table_name = %s AND index_name = 'PRIMARY' ORDER BY seq_in_index
"""
_LOST = {1053, 1077, 1079, 1152, 1153, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2014, 2055}
_TOO_LONG = {1969, 3024}
_DENIED = {1142, 1143, 1370}
_HIDDEN = {1064, 1227}
"""Errors by which a server does not say how far a replica is behind: the role may not see it, or the words are new."""
_ANSWERED = {1044, 1045, 1049, 1129, 1130, 1227, 1251, 1698, 3118, 3159}
"""Errors on connecting by which a running server says no."""


class Mysql:
    """MariaDB 10.5 or MySQL 8, or later, by PyMySQL."""

    name = "mysql"
    now = "SELECT utc_timestamp(6)"

    def connect(self, address: Address) -> Session:
        """Open a session to the first address that answers (:class:`Dialect`)."""
        pymysql = _driver()
        connection = pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=address.database,
            charset="utf8mb4",
            autocommit=True,
            read_timeout=address.statement_timeout_s + _CONNECT_TIMEOUT_S,
            write_timeout=_CONNECT_TIMEOUT_S,
            connect_timeout=_CONNECT_TIMEOUT_S,
            ssl=client_context(address.tls, address.ca_file),
            ssl_disabled=address.tls == "off",
            local_infile=False,
            defer_connect=True,
        )
        session = _Session(connection, address)
        try:
            connection.connect(_reached(address))
            session.begin()
        except pymysql.MySQLError as error:
            session.close()
            number = error.args[0] if error.args else 0
            said = error.args[1] if len(error.args) > 1 else type(error).__name__
            text = f"{said} ({number})"
            raise (Refused(text) if number in _ANSWERED else unanswered(text)) from None
        except OSError as error:
            session.close()
            raise ConnectionLost(str(error)) from None
        return session

    def quoted(self, name: str) -> str:
        """Quote an identifier (:class:`Dialect`)."""
        return "`" + name.replace("`", "``").replace("%", "%%") + "`"

    def qualified(self, address: Address, table: str) -> str:
        """Name a table in full (:class:`Dialect`)."""
        return f"{self.quoted(address.database)}.{self.quoted(table)}"

    def selected(self, column: Column) -> str:
        """Give the expression that reads a column; a ``float`` is shown with six digits unless it is cast."""
        if column.as_text:
            return f"CAST({self.quoted(column.name)} AS char)"
        if column.declared.startswith("float"):
            return f"CAST({self.quoted(column.name)} AS double)"
        return self.quoted(column.name)

    def limited(self, rows: int) -> str:
        """Give the end of a statement that admits so many rows (:class:`Dialect`)."""
        return f" LIMIT {rows}"

    def settings(self, limit_s: int, *, mariadb: bool) -> list[str]:
        """Statements that hold a session to reading, and to the time that a statement may take."""
        common = [
            "SET SESSION TRANSACTION READ ONLY",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET time_zone = '+00:00'",
            f"SET innodb_lock_wait_timeout = {limit_s}",
        ]
        if mariadb:
            return [
                *common,
                f"SET max_statement_time = {limit_s}",
                f"SET idle_readonly_transaction_timeout = {limit_s}",
            ]
        return [*common, f"SET max_execution_time = {limit_s * 1_000}"]

    def as_of(self, session: Session) -> datetime | None:
        """Say which moment a replica shows, where our role may see how far it is behind (:class:`Dialect`)."""
        behind_s = session.behind_s()  # type: ignore[attr-defined]  # a session of ours
        if behind_s is None:
            return None
        if behind_s == math.inf:
            return UNKNOWN
        ((now_utc,),) = session.select(self.now)
        moment: datetime = now_utc.replace(tzinfo=UTC) - timedelta(seconds=behind_s + 1)  # it counts whole seconds
        return moment

    def tables(self, session: Session, address: Address) -> list[str]:
        """Names of the tables and views (:class:`Dialect`)."""
        return [row[0] for row in session.select(_TABLES, [address.database])]

    def columns(self, session: Session, address: Address, table: str) -> tuple[list[Column], list[str]]:
        """Columns and primary key (:class:`Dialect`)."""
        rows = session.select(_COLUMNS, [address.database, table])
        primary = session.select(_PRIMARY, [address.database, table])
        return [_column(row) for row in rows], [row[0] for row in primary]


def pymysql_parameters(address: Address) -> dict[str, Any]:
    """Say in PyMySQL's words where a server is, who comes, and whether the way is encrypted.

    The checked address is used; only where the server's name has to stand in its certificate the name itself is.
    """
    return {
        "host": address.host if address.tls == "verify" else address.addresses[0],
        "port": address.port,
        "database": address.database,
        "user": address.user,
        "password": address.password,
        "ssl": client_context(address.tls, address.ca_file),
        "ssl_disabled": address.tls == "off",
        "connect_timeout": _CONNECT_TIMEOUT_S,
    }


def _driver() -> Any:
    try:
        import pymysql
    except ImportError as error:
        raise DeclarationError(
            "the driver of MariaDB and MySQL is not installed", next_step="Run `pip install 'brownfield[mysql]'`."
        ) from error
    return pymysql


def _reached(address: Address) -> socket.socket:
    """Connect to the first of the checked addresses that answers."""
    failed: OSError | None = None
    for each in address.addresses:
        try:
            reached = socket.create_connection((each, address.port), _CONNECT_TIMEOUT_S)
        except OSError as error:
            failed = error
        else:
            reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return reached
    raise failed or OSError("the host has no address")


def _column(row: Row) -> Column:
    name, declared, kind, nullable, extra = row
    family = _FAMILIES.get(kind)
    if declared == "bit(1)":
        family = Family.TRUTH
    return Column(
        name=name,
        declared=declared,
        family=Family.TEXT if kind in _SPELT else family,
        nullable=nullable == "YES",
        numbered="auto_increment" in extra.lower(),
        padded=kind == "char",
        as_text=kind in _SPELT,
    )


class _Session:
    """One connection, read-only by our allow-list, by the session and by every transaction."""

    def __init__(self, connection: "Connection[Any]", address: Address) -> None:
        self.connection = connection
        self.address = address
        self.mariadb = False

    def begin(self) -> None:
        """Hold the session to reading, and to the time that a statement may take."""
        self.mariadb = "MariaDB" in self.connection.get_server_info()  # type: ignore[no-untyped-call]  # a gap of the stubs
        for setting in Mysql().settings(self.address.statement_timeout_s, mariadb=self.mariadb):
            self._run(setting)

    def select(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        only_reading(statement)
        pymysql = _driver()
        try:
            self._run("START TRANSACTION READ ONLY")
            with self.connection.cursor() as cursor:
                cursor.execute(statement, tuple(parameters))
                rows = list(cursor.fetchall())
            self._run("COMMIT")
        except (pymysql.MySQLError, OSError) as error:
            with suppress(pymysql.MySQLError, OSError):
                self._run("ROLLBACK")
            raise self._translated(error) from error
        return rows

    def behind_s(self) -> float | None:
        """Seconds by which a replica is behind, infinite where it stands still; None on a primary, or if hidden."""
        pymysql = _driver()
        try:
            with self.connection.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute("SHOW ALL SLAVES STATUS" if self.mariadb else "SHOW REPLICA STATUS")
                followed = [each.get("Seconds_Behind_Master", each.get("Seconds_Behind_Source")) for each in cursor]
        except pymysql.MySQLError as error:
            if error.args and error.args[0] in _HIDDEN:
                return None
            raise self._translated(error) from error
        if not followed:
            return None
        return math.inf if None in followed else float(max(followed))

    def close(self) -> None:
        with suppress(Exception):  # a connection that is gone cannot be closed twice
            farewell(self.connection)

    def _run(self, statement: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)

    def _translated(self, error: Exception) -> Exception:
        """Name an error by its number, never by its text: the text may hold values."""
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        if number in _LOST or not self.connection.open or isinstance(error, OSError):
            return ConnectionLost(f"the connection was lost ({number})")
        if number in _TOO_LONG:
            return Refused(f"the statement took longer than {self.address.statement_timeout_s} s")
        if number in _DENIED:
            return Refused("the role may not read it")
        return Refused(f"the server refused the statement ({number})")
