"""From a declared connection to a database server to a table that can be read: address, encryption, budget.

The references are read for every connection, so that a new address or password holds without a restart. The host's
name is resolved once for each, every address is held against the rule for declared addresses, and only those are used.
"""

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.data.sources import Address, Budget, Cursor, DatabaseTable, Mysql, Oracle, Postgres, Quiet
from brownfield.errors import DeclarationError, SourceUnavailable
from brownfield.integration import (
    BudgetSpec,
    DatabaseConnection,
    OracleConnection,
    PostgresConnection,
    Reference,
    TlsSpec,
    check_host,
    read_reference,
)
from brownfield.security import resolve_secret

if TYPE_CHECKING:
    from brownfield.data.sources import Dialect

__all__ = ["bind_table", "ca_file_of", "make_budget", "reach", "resolve_address", "value_of"]

_LAST_PORT = 65_535


def bind_table(
    options: DatabaseConnection, workspace: Path, table: str, cursor: Cursor | None, key: tuple[str, ...]
) -> DatabaseTable:
    """Make a source of a table.

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
        When a reference cannot be read, or the host is one that is refused.
    SourceUnavailable
        When the host's name stands for nothing.
    """
    address = resolve_address(options, workspace)
    budget = make_budget(options.budget, workspace, f"{address.host}-{address.port}")
    dialect: Dialect = Mysql()
    if isinstance(options, PostgresConnection | OracleConnection):
        dialect = Postgres() if isinstance(options, PostgresConnection) else Oracle()
    return DatabaseTable(dialect, lambda: resolve_address(options, workspace), table, budget, key, cursor)


def make_budget(declared: BudgetSpec, workspace: Path, system: str) -> Budget:
    """Make the budget that all connections to one system share."""
    quiet = declared.quiet_hours
    return Budget(
        workspace / "var" / "budgets",
        system,
        declared.max_connections,
        declared.rows_per_s,
        None if quiet is None else Quiet.parse(quiet.zone, quiet.windows),
    )


def resolve_address(options: DatabaseConnection, workspace: Path) -> Address:
    """Read where a server is now; raises as :func:`bind_table`."""
    host, port, addresses = reach(options.host, options.port, workspace)
    return Address(
        host=host,
        port=port,
        addresses=addresses,
        database=value_of(options.database, workspace),
        user=value_of(options.user, workspace),
        password="" if options.password is None else resolve_secret(options.password, workspace).reveal(),
        tls=options.tls.mode,
        ca_file=ca_file_of(options.tls, workspace),
        schema=options.schema if isinstance(options, PostgresConnection | OracleConnection) else "",
        statement_timeout_s=options.budget.statement_timeout_s,
    )


def reach(host: Reference, port: int | Reference, workspace: Path) -> tuple[str, int, tuple[str, ...]]:
    """Read host and port, and resolve the host's name once; raises as :func:`bind_table`."""
    name, number = value_of(host, workspace), _port(port, workspace)
    _check(host, name)
    try:
        found = socket.getaddrinfo(name, number, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceUnavailable(
            "the name of its host stands for no address",
            where=str(host),
            next_step="Correct the value, or look whether the name server answers.",
        ) from error
    addresses = tuple(dict.fromkeys(str(each[4][0]) for each in found))
    _check(host, *addresses)
    return name, number, addresses


def _check(reference: Reference, *hosts: str) -> None:
    """Refuse hosts and addresses that no server may have, naming where they come from and not what they are."""
    try:
        for host in hosts:
            check_host(host)
    except DeclarationError as error:
        raise DeclarationError(where=str(reference), expected=error.expected, got=error.got) from None


def value_of(declared: str | Reference, workspace: Path) -> str:
    """Give a value that is written out, or read the one that is named."""
    return read_reference(declared, workspace) if isinstance(declared, Reference) else declared


def ca_file_of(tls: TlsSpec, workspace: Path) -> str | None:
    """Find the certificates that vouch for a server; None for the system's own.

    Raises
    ------
    SourceUnavailable
        When they cannot be read.
    """
    if tls.ca_file is None:
        return None
    declared = value_of(tls.ca_file, workspace)
    path = workspace / declared
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:  # the second of what can be no path
        why = getattr(error, "strerror", None) or "it is no path"
        if "-----BEGIN" in declared:
            why = "it holds the certificates themselves, where their path is looked for"
        elif isinstance(error, ssl.SSLError):
            why = "they are no certificates in PEM"
        raise SourceUnavailable(
            f"the certificates that vouch for the server cannot be read ({why})",
            where=str(tls.ca_file),
            next_step="Correct tls.ca_file: a path below the workspace, or {env: NAME} with a path in NAME.",
        ) from error
    return str(path)


def _port(port: int | Reference, workspace: Path) -> int:
    if not isinstance(port, Reference):
        return port
    text = read_reference(port, workspace)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= _LAST_PORT):
        raise DeclarationError(where=str(port), expected="a port from 1 to 65535", got="another text")
    return int(text)
