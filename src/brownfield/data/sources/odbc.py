"""``odbc``: any server that has an ODBC driver (:class:`brownfield.data.sources.dialect.Dialect`).

PostgreSQL and MariaDB are asked in their own words, through the driver; of the others the driver itself tells tables
and columns. Long values are fetched piece by piece, so no driver's buffer cuts one off.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

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
from brownfield.data.sources.mysql import Mysql
from brownfield.data.sources.postgres import Postgres
from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from brownfield.data.sources.dialect import (
        Dialect,
    )

__all__ = ["Odbc", "OdbcDialect", "connection_parts"]

OdbcDialect: TypeAlias = Literal["postgresql", "mysql", "mssql", "db2", "oracle", "generic"]

_CONNECT_TIMEOUT_S = 5
_TRUTH, _WIDE_TEXT = -7, {-8, -9, -10}
_FAMILIES = {
    **dict.fromkeys((-6, 5, 4, -5), Family.WHOLE),
    **dict.fromkeys((2, 3), Family.DECIMAL),
    **dict.fromkeys((6, 7, 8), Family.FLOAT),
    **dict.fromkeys((1, 12, -1, *_WIDE_TEXT), Family.TEXT),
    **dict.fromkeys((93, 11), Family.LOCAL),
    **dict.fromkeys((91, 9), Family.DATE),
    _TRUTH: Family.TRUTH,
}
"""What the type codes of the ODBC standard hold."""
_PADDED = {1, -8}
_SIZED = {1, 12, -8, -9}
_NOW = {
    "mssql": "SELECT sysutcdatetime()",
    "db2": "SELECT current timestamp - current timezone FROM sysibm.sysdummy1",
    "oracle": "SELECT sys_extract_utc(systimestamp) FROM dual",
}
_BEGIN = {
    "postgresql": "START TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY",
    "mysql": "START TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
}
"""How a page's transaction is held to reading by the server; the others have no such mode."""
_LOST = ("08", "HYT01", "57P")
_NO_DRIVER = {"IM002", "IM003", "01000"}
_TOO_LONG = {"HYT00", "57014", "70100"}
_PART = re.compile(r"\s*([^=;{}]+?)\s*=\s*(\{(?:[^}]|\}\})*\}|[^;{}]*)\s*(?:;|\Z)")


class Odbc:
    """A server behind an ODBC driver.

    Parameters
    ----------
    dialect
        Whose SQL it speaks: how identifiers are quoted and pages are asked for.
    connection_string
        Gives the driver's connection string, without user and password.
    """

    def __init__(self, dialect: OdbcDialect, connection_string: Callable[[], str]) -> None:
        self.name = f"odbc/{dialect}"
        self.dialect = dialect
        self.connection_string = connection_string
        native: dict[str, Dialect] = {"postgresql": Postgres(), "mysql": Mysql()}
        self._native = native.get(dialect)

    @property
    def now(self) -> str:
        """Statement that gives the server's own time (:class:`Dialect`)."""
        if self._native is not None:
            return self._native.now
        if self.dialect not in _NOW:
            raise DeclarationError(
                path="cursor",
                expected=f"a dialect whose clock can be asked: postgresql, mysql, {', '.join(_NOW)}",
                got=self.dialect,
                next_step="Without the server's own time, rows that commit late would be skipped.",
            )
        return _NOW[self.dialect]

    def connect(self, address: Address) -> Session:
        """Open a session (:class:`Dialect`)."""
        pyodbc = _driver()
        login = {"UID": address.user, "PWD": address.password}
        secret = "".join(f";{key}={_braced(value)}" for key, value in login.items() if value)
        try:
            connection = pyodbc.connect(
                self.connection_string().rstrip("; ") + secret,
                autocommit=True,
                timeout=_CONNECT_TIMEOUT_S,
                readonly=True,
            )
        except pyodbc.Error as error:
            state = _state(error)
            if state in _NO_DRIVER:
                raise DeclarationError(
                    "the ODBC driver or data source that the connection names is not installed",
                    next_step="Look at `odbcinst -q -d` and `odbcinst -q -s`.",
                ) from None
            kind = Refused if state.startswith(("28", "3D", "42")) else ConnectionLost
            raise kind(f"the driver did not get in (SQLSTATE {state})") from None
        session = _Session(connection, address, self.dialect)
        try:
            session.begin(self._settings(connection, address.statement_timeout_s))
        except pyodbc.Error as error:
            session.close()
            raise _translated(error, address) from error
        return session

    def quoted(self, name: str) -> str:
        """Quote an identifier (:class:`Dialect`)."""
        if self._native is not None:
            return self._native.quoted(name)
        return '"' + name.replace('"', '""').replace("%", "%%") + '"'

    def qualified(self, address: Address, table: str) -> str:
        """Name a table in full (:class:`Dialect`)."""
        if self.dialect == "mysql" or not address.schema:
            return self.quoted(table)
        return f"{self.quoted(address.schema)}.{self.quoted(table)}"

    def selected(self, column: Column) -> str:
        """Give the expression that reads a column; truth values as 0 and 1, which every driver passes alike."""
        if self.dialect == "postgresql" and column.family is Family.TRUTH:
            return f"CAST({self.quoted(column.name)} AS integer)"
        return self.quoted(column.name) if self._native is None else self._native.selected(column)

    def limited(self, rows: int) -> str:
        """Give the end of a statement that admits so many rows (:class:`Dialect`)."""
        if self._native is not None:
            return self._native.limited(rows)
        if self.dialect == "mssql":
            return f" OFFSET 0 ROWS FETCH NEXT {rows} ROWS ONLY"
        return f" FETCH FIRST {rows} ROWS ONLY"

    def as_of(self, session: Session) -> datetime | None:  # noqa: ARG002 (:class:`Dialect`)
        """Say nothing: the server does not tell a plain reader (:class:`Dialect`)."""
        return None

    def tables(self, session: Session, address: Address) -> list[str]:
        """Names of the tables and views (:class:`Dialect`)."""
        if self._native is not None:
            return self._native.tables(session, address)
        found = session.catalogue("tables", address.schema)  # type: ignore[attr-defined]  # a session of ours
        return [row[2] for row in found if row[3] in {"TABLE", "VIEW"}]

    def columns(self, session: Session, address: Address, table: str) -> tuple[list[Column], list[str]]:
        """Columns and primary key (:class:`Dialect`)."""
        if self._native is not None:
            return self._native.columns(session, address, table)
        rows = session.catalogue("columns", address.schema, table)  # type: ignore[attr-defined]  # as above
        keys = session.catalogue("primaryKeys", address.schema, table)  # type: ignore[attr-defined]  # as above
        primary = [row[3] for row in sorted(keys, key=lambda row: row[4])]
        return [_column(row) for row in rows], primary

    def _settings(self, connection: Any, limit_s: int) -> list[str]:
        if isinstance(self._native, Postgres):
            return self._native.settings(limit_s)
        if isinstance(self._native, Mysql):
            version = connection.getinfo(_driver().SQL_DBMS_NAME) + connection.getinfo(_driver().SQL_DBMS_VER)
            return self._native.settings(limit_s, mariadb="maria" in version.lower())
        return {
            "oracle": ["ALTER SESSION SET TIME_ZONE = 'UTC'"],
            "mssql": [f"SET LOCK_TIMEOUT {limit_s * 1_000}"],
        }.get(self.dialect, [])


def connection_parts(text: str) -> Mapping[str, str]:
    """Read a connection string; its keys in lower case.

    Raises
    ------
    DeclarationError
        When it is none, or holds the user's name or password. Its text never stands in the message.

    Examples
    --------
    >>> dict(connection_parts("Driver={PostgreSQL Unicode}; Server=pos.internal;Port=5432"))
    {'driver': 'PostgreSQL Unicode', 'server': 'pos.internal', 'port': '5432'}
    """
    parts: dict[str, str] = {}
    end = 0
    while end < len(text.rstrip("; ")):
        found = _PART.match(text, end)
        if found is None:
            raise DeclarationError(expected="a connection string: KEY=VALUE;KEY=VALUE", got="another text")
        value = found[2]
        parts[found[1].lower()] = value[1:-1].replace("}}", "}") if value.startswith("{") else value
        end = found.end()
    if not parts.keys() & {"driver", "dsn"}:
        raise DeclarationError(expected="a connection string with Driver or DSN", got="one with neither")
    if named := parts.keys() & {"uid", "user", "username", "pwd", "password"}:
        raise DeclarationError(
            expected="a connection string without user and password", got=f"the key {min(named)}",
            next_step="Declare user and password beside it.",
        )  # fmt: skip
    return parts


def _braced(value: str) -> str:
    """Spell a value of a connection string; in braces only where it must be, for not every driver takes them off."""
    return "{" + value.replace("}", "}}") + "}" if re.search(r"[\[\]{}(),;?*=!@]|^\s|\s$", value) else value


def _driver() -> Any:
    try:
        import pyodbc
    except ImportError as error:
        missing = "the driver manager unixODBC" if "libodbc" in str(error) else "the package pyodbc"
        step = "apt install unixodbc" if "libodbc" in str(error) else "pip install 'brownfield[odbc]'"
        raise DeclarationError(f"{missing} is not installed", next_step=f"Run `{step}`.") from error
    return pyodbc


def _column(row: Row) -> Column:
    name, code, declared, size, digits, nullable = row[3], row[4], str(row[5]), row[6], row[8], row[10]
    if size and _FAMILIES.get(code) is Family.DECIMAL:
        declared = f"{declared}({size},{digits or 0})"
    elif size and code in _SIZED:
        declared = f"{declared}({size})"
    return Column(
        name=name,
        declared=declared,
        family=_FAMILIES.get(code),
        nullable=nullable != 0,
        numbered="identity" in declared.lower(),
        padded=code in _PADDED,
    )


class _Session:
    """One connection, read-only by our allow-list and, where the server can, by session and transaction."""

    def __init__(self, connection: Any, address: Address, dialect: OdbcDialect) -> None:
        self.connection = connection
        self.address = address
        self.dialect = dialect

    def begin(self, settings: list[str]) -> None:
        """Hold the session to reading, and to the time that a statement may take."""
        with suppress(_driver().Error):  # a driver without it; its server was told above
            self.connection.timeout = self.address.statement_timeout_s
        for setting in settings:
            self._run(setting)

    def select(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        only_reading(statement)
        pyodbc = _driver()
        begin = _BEGIN.get(self.dialect)
        try:
            if begin is not None:
                self._run(begin)
            marked = with_marks(statement, "?")
            values = [self._passed(each) if isinstance(each, datetime) else each for each in parameters]
            with self.connection.cursor() as cursor:
                rows = [tuple(row) for row in cursor.execute(marked, *values).fetchall()]
            if begin is not None:
                self._run("COMMIT")
        except pyodbc.Error as error:
            with suppress(pyodbc.Error):
                self._run("ROLLBACK")
            raise _translated(error, self.address) from error
        return rows

    def catalogue(self, what: str, schema: str, table: str | None = None) -> list[Row]:
        """Ask the driver about tables or columns; names are compared exactly, for it takes them as patterns."""
        pyodbc = _driver()
        named = {} if table is None else {"table": table}
        try:
            with self.connection.cursor() as cursor:
                rows = [tuple(row) for row in getattr(cursor, what)(schema=schema or None, **named).fetchall()]
        except pyodbc.Error as error:
            raise _translated(error, self.address) from error
        return [row for row in rows if table is None or row[2] == table]

    def close(self) -> None:
        with suppress(Exception):  # a connection that is gone cannot be closed twice
            self.connection.close()

    def _passed(self, moment: datetime) -> datetime | str:
        """Give a moment as the driver passes it on whole: that of MariaDB drops the microseconds of a timestamp."""
        plain = moment.replace(tzinfo=None)
        return plain.isoformat(" ") if self.dialect == "mysql" else plain

    def _run(self, statement: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)


def _state(error: Any) -> str:
    return str(error.args[0]) if error.args else ""


def _translated(error: Any, address: Address) -> Exception:
    """Name an error by its state, never by its text: the text may hold values."""
    state = _state(error)
    if state.startswith(_LOST):
        return ConnectionLost(f"the connection was lost (SQLSTATE {state})")
    if state in _TOO_LONG:
        return Refused(f"the statement took longer than {address.statement_timeout_s} s")
    if state.startswith("42501"):
        return Refused("the role may not read it")
    return Refused(f"the server refused the statement (SQLSTATE {state})")
