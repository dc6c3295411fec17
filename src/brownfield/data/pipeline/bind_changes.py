"""From a declared feed of changes to its change table: the cursor, the records that are given, and the owner's DDL."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from brownfield.data.sources import ChangeTable, Cursor, Source, change_ddl
from brownfield.data.sources.changes import CHANGE_ID, CHANGED_AT, OPERATION
from brownfield.errors import DeclarationError
from brownfield.integration import ChangesSpec, ConnectionSpec, IntegrationSpec, PostgresConnection

if TYPE_CHECKING:
    from brownfield.data.sources.changes import ChangeDialect

__all__ = ["change_cursor", "declared_ddl", "with_changes"]


def change_cursor(changes: ChangesSpec) -> Cursor:
    """Give the cursor of a change table: by the time at which the trigger ran, within the declared lag."""
    return Cursor(CHANGED_AT, (CHANGE_ID,), changes.lag_s)


def with_changes(source: Source, changes: ChangesSpec | None) -> Source:
    """Give the changes of a change table as records; any other source as it is."""
    if changes is None:
        return source
    return ChangeTable(source, changes.keys, changes.give, changes.deletes)


def declared_ddl(integration: IntegrationSpec, name: str, connections: Mapping[str, ConnectionSpec]) -> str:
    """Give the DDL of a declared change table, for the owner of the database to read and run.

    Parameters
    ----------
    integration
        The integration.
    name
        Its source.
    connections
        Of the workspace.

    Raises
    ------
    DeclarationError
        When there is no such source, it declares no changes, or its kind of database is none whose triggers are known.
    """
    spec = integration.sources.get(name)
    where = f"{integration.name}.{name}"
    if spec is None:
        raise DeclarationError(
            where=where, expected=f"one of {', '.join(integration.sources) or 'no'} sources", got=name
        )
    if spec.changes is None:
        raise DeclarationError(
            where=where, expected="a feed with changes", got="none", next_step="Declare changes: {...}."
        )
    place = spec.chain[0]
    connection = connections[place.connection or ""]
    dialects: dict[str, ChangeDialect] = {"sqlite": "sqlite", "postgres": "postgres", "mysql": "mysql"}
    spoken = getattr(connection.options, "dialect", connection.kind).replace("postgresql", "postgres")
    if spoken not in dialects:
        raise DeclarationError(where=where, expected=f"a database of {', '.join(dialects)}", got=spoken)
    schema = connection.options.schema if isinstance(connection.options, PostgresConnection) else ""
    own = {CHANGE_ID, OPERATION, CHANGED_AT}
    columns = tuple(each for each in integration.contract.schema(name).names if each not in own)
    return change_ddl(
        dialects[spoken], place.table or "", spec.changes.table or "", columns, spec.changes.keys, schema=schema
    )
