"""``oracle``: what Oracle Database has of its own (:class:`brownfield.data.sources.dialect.Dialect`).

Every transaction begins with SET TRANSACTION READ ONLY. An empty text is null there; timestamps with a time zone of
their own are not read, for the driver's thin mode loses the zone.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

from brownfield.data.sources.dialect import (
    Address,
    Column,
    ConnectionLost,
    Family,
    Refused,
    Row,
    Session,
    only_reading,
    with_marks,
)
from brownfield.data.tls import client_context
from brownfield.errors import DeclarationError

__all__ = ["Oracle"]

_CONNECT_TIMEOUT_S = 5
_FAMILIES = {
    **dict.fromkeys(("FLOAT", "BINARY_FLOAT", "BINARY_DOUBLE"), Family.FLOAT),
    **dict.fromkeys(("CHAR", "NCHAR", "VARCHAR2", "NVARCHAR2"), Family.TEXT),
    "NUMBER": Family.DECIMAL,
    "DATE": Family.LOCAL,
}
_TABLES = """
SELECT object_name FROM all_objects WHERE owner = %s AND object_type IN ('TABLE', 'VIEW', 'MATERIALIZED VIEW')
ORDER BY object_name
"""
_COLUMNS = """
SELECT column_name, data_type, data_precision, data_scale, nullable, identity_column FROM all_tab_columns
WHERE owner = %s AND table_name = %s ORDER BY column_id
"""
_PRIMARY = """
SELECT "c".column_name FROM all_cons_columns "c" JOIN all_constraints "k"
    ON "k".owner = "c".owner AND "k".constraint_name = "c".constraint_name
WHERE "k".owner = %s AND "k".table_name = %s AND "k".constraint_type = 'P' ORDER BY "c".position
"""
_ANSWERED = {1017, 1045, 12514, 12505, 28000, 28001}
"""Errors on connecting by which a running server says no."""
_LOST = {28, 1012, 1089, 2396, 3113, 3114, 3135, 12537, 12541, 12547, 12570, 12571}
_TOO_LONG = {1013, 3136}
_DENIED = {942, 1031}


class Oracle:
    """Oracle Database 12.1 or later, by python-oracledb in its thin mode."""

    name = "oracle"
    now = "SELECT sys_extract_utc(systimestamp) FROM dual"

    def connect(self, address: Address) -> Session:
        """Open a session to the first address that answers (:class:`Dialect`)."""
        oracledb = _driver()
        failed: Exception | None = None
        for each in address.addresses:
            try:
                connection = oracledb.connect(
                    user=address.user,
                    password=address.password,
                    host=each,
                    port=address.port,
                    service_name=address.database,
                    protocol="tcp" if address.tls == "off" else "tcps",
                    ssl_context=client_context(address.tls, address.ca_file),
                    tcp_connect_timeout=_CONNECT_TIMEOUT_S,
                )
            except oracledb.Error as error:
                failed = error
                if _code(error) in _ANSWERED:
                    raise Refused(f"the server says no (ORA-{_code(error):05})") from None
            else:
                return _begun(connection, address)
        raise ConnectionLost("no address answers") from failed

    def quoted(self, name: str) -> str:
        """Quote an identifier (:class:`Dialect`); the server admits no quote inside of one."""
        if '"' in name:
            raise DeclarationError(expected="an identifier without a quote, as Oracle has them", got="one with a quote")
        return f'"{name}"'.replace("%", "%%")

    def qualified(self, address: Address, table: str) -> str:
        """Name a table in full (:class:`Dialect`)."""
        return f"{self.quoted(address.schema)}.{self.quoted(table)}"

    def selected(self, column: Column) -> str:
        """Give the expression that reads a column (:class:`Dialect`)."""
        return self.quoted(column.name)

    def limited(self, rows: int) -> str:
        """Give the end of a statement that admits so many rows (:class:`Dialect`)."""
        return f" FETCH FIRST {rows} ROWS ONLY"

    def as_of(self, session: Session) -> datetime | None:  # noqa: ARG002 (:class:`Dialect`)
        """Say nothing: the server does not tell a plain reader (:class:`Dialect`)."""
        return None

    def tables(self, session: Session, address: Address) -> list[str]:
        """Names of the tables and views (:class:`Dialect`)."""
        return [row[0] for row in session.select(_TABLES, [address.schema])]

    def columns(self, session: Session, address: Address, table: str) -> tuple[list[Column], list[str]]:
        """Columns and primary key (:class:`Dialect`)."""
        rows = session.select(_COLUMNS, [address.schema, table])
        primary = session.select(_PRIMARY, [address.schema, table])
        return [_column(row) for row in rows], [row[0] for row in primary]


def _driver() -> Any:
    try:
        import oracledb
    except ImportError as error:
        raise DeclarationError(
            "the driver of Oracle is not installed", next_step="Run `pip install 'brownfield[oracle]'`."
        ) from error
    return oracledb


def _code(error: Any) -> int:
    return int(getattr(error.args[0], "code", 0) or 0) if error.args else 0


def _column(row: Row) -> Column:
    name, kind, precision, scale, nullable, identity = row
    family = _FAMILIES.get(kind)
    declared = kind.lower()
    if kind == "NUMBER" and precision is not None:
        declared = f"number({precision},{scale or 0})"
        family = Family.DECIMAL if scale else Family.WHOLE
    elif kind.startswith("TIMESTAMP"):
        family = None if "TIME ZONE" in kind else Family.LOCAL
        if "LOCAL TIME ZONE" in kind:
            family = Family.INSTANT
    return Column(
        name=name,
        declared=declared,
        family=family,
        nullable=nullable == "Y",
        numbered=identity == "YES",
        padded=kind in {"CHAR", "NCHAR"},
    )


def _begun(connection: Any, address: Address) -> Session:
    oracledb = _driver()
    connection.call_timeout = address.statement_timeout_s * 1_000
    connection.outputtypehandler = _exact
    try:
        with connection.cursor() as cursor:
            cursor.execute("ALTER SESSION SET TIME_ZONE = 'UTC'")
    except oracledb.Error as error:
        connection.close()
        raise _translated(error, address) from error
    return _Session(connection, address)


def _exact(cursor: Any, metadata: Any) -> Any:
    """Fetch numbers as decimals: a double would round them."""
    oracledb = _driver()
    if metadata.type_code is oracledb.DB_TYPE_NUMBER:
        return cursor.var(Decimal, arraysize=cursor.arraysize)
    return None


class _Session:
    """One connection, read-only by our allow-list and by every transaction."""

    def __init__(self, connection: Any, address: Address) -> None:
        self.connection = connection
        self.address = address

    def select(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        only_reading(statement)
        oracledb = _driver()
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
                cursor.execute(with_marks(statement, ":{}"), list(parameters))
                rows: list[Row] = cursor.fetchall()
            self.connection.commit()
        except oracledb.Error as error:
            with suppress(oracledb.Error):
                self.connection.rollback()
            raise _translated(error, self.address) from error
        return rows

    def close(self) -> None:
        with suppress(Exception):  # a connection that is gone cannot be closed twice
            self.connection.close()


def _translated(error: Any, address: Address) -> Exception:
    """Name an error by its number, never by its text: the text may hold values."""
    code = _code(error)
    if code in _LOST or getattr(error.args[0], "isrecoverable", False):
        return ConnectionLost(f"the connection was lost (ORA-{code:05})")
    if code in _TOO_LONG or "DPY-4024" in str(error):
        return Refused(f"the statement took longer than {address.statement_timeout_s} s")
    if code in _DENIED:
        return Refused("the role may not read it")
    return Refused(f"the server refused the statement (ORA-{code:05})")
