"""From a declared ODBC connection to a table that can be read; its references are read anew for every connection."""

from pathlib import Path

from brownfield.data.pipeline.servers import make_budget
from brownfield.data.sources import Address, Cursor, DatabaseTable, Odbc, connection_parts
from brownfield.errors import DeclarationError
from brownfield.integration import OdbcConnection, Reference, check_host, read_reference
from brownfield.security import resolve_secret

__all__ = ["bind_odbc_table"]

_HOST_KEYS = ("server", "servername", "host", "hostname")
_SCHEMAS = {"postgresql": "public", "mssql": "dbo"}


def bind_odbc_table(
    options: OdbcConnection, workspace: Path, table: str, cursor: Cursor | None, key: tuple[str, ...]
) -> DatabaseTable:
    """Make a source of a table behind an ODBC driver.

    Parameters
    ----------
    options
        Of the declared connection.
    workspace
        Its folder: references are found from it, and ``var/budgets`` below it keeps what was used of the budget.
    table, cursor, key
        As :class:`DatabaseTable` takes them.

    Raises
    ------
    DeclarationError
        When a reference cannot be read, the connection string is none, or its server is one that is refused.
    """
    address = _address(options, workspace)
    budget = make_budget(options.budget, workspace, f"odbc-{address.host}-{address.port}")
    return DatabaseTable(
        Odbc(options.dialect, lambda: read_reference(options.connection_string, workspace)),
        lambda: _address(options, workspace),
        table,
        budget,
        key,
        cursor,
    )


def _address(options: OdbcConnection, workspace: Path) -> Address:
    reference = options.connection_string
    try:
        parts = connection_parts(read_reference(reference, workspace))
        host = next((parts[key] for key in _HOST_KEYS if key in parts), "")
        if host:
            check_host(host)
    except DeclarationError as error:
        raise DeclarationError(
            error.what, where=str(reference), expected=error.expected, got=error.got, next_step=error.next_step
        ) from None
    port = parts.get("port", "")
    database = parts.get("database", parts.get("dsn", ""))
    return Address(
        host=host or parts.get("dsn", "odbc"),
        port=int(port) if port.isascii() and port.isdecimal() else 0,
        addresses=(),
        database=database,
        user=_value(options.user, workspace),
        password="" if options.password is None else resolve_secret(options.password, workspace).reveal(),
        schema=options.schema or _SCHEMAS.get(options.dialect, ""),
        statement_timeout_s=options.budget.statement_timeout_s,
    )


def _value(declared: str | Reference, workspace: Path) -> str:
    return read_reference(declared, workspace) if isinstance(declared, Reference) else declared
