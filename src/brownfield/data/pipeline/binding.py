"""From a declared source to one that can be read: connection, format and layout are put together here."""

from collections.abc import Mapping
from pathlib import Path

from brownfield.data.formats import Copybook, Csv, FixedWidth, Format, open_format
from brownfield.data.pipeline.bind_changes import change_cursor, with_changes
from brownfield.data.pipeline.bind_odbc import bind_odbc_table
from brownfield.data.pipeline.servers import bind_table
from brownfield.data.sources import Cursor, FolderFile, Source, SqliteTable
from brownfield.errors import DeclarationError, SourceUnavailable
from brownfield.integration import ConnectionSpec, DatabaseConnection, IntegrationSpec, Location, OdbcConnection

__all__ = ["bind_source", "open_format"]


def bind_source(integration: IntegrationSpec, name: str, connections: Mapping[str, ConnectionSpec]) -> Source:
    """Give the first place of a source's chain that can be reached.

    Parameters
    ----------
    integration
        The integration, in ``integrations/<name>`` of its workspace.
    name
        The source.
    connections
        Of the workspace.

    Raises
    ------
    SourceUnavailable
        When no place can be reached; the last one's reason.
    DeclarationError
        When a place names what is not there, or what is not read yet.
    """
    spec = integration.sources[name]
    failed: SourceUnavailable | None = None
    for index, place in enumerate(spec.chain):
        if place.snapshot is not None:
            continue  # the last good copy is kept and served by the fail-over of lookups
        try:
            source = _bind_place(integration, name, place, connections, f"sources.{name}.chain[{index}]")
            source.probe()
        except SourceUnavailable as error:
            failed = error
        else:
            return with_changes(source, spec.changes)
    raise failed or SourceUnavailable("it has no place to read from", where=f"sources.{name}")


def _bind_place(
    integration: IntegrationSpec,
    name: str,
    place: Location,
    connections: Mapping[str, ConnectionSpec],
    path: str,
) -> Source:
    connection = connections.get(place.connection or "")
    if connection is None:
        raise DeclarationError(
            path=f"{path}.connection",
            expected=f"one of {', '.join(connections) or 'no'} connections",
            got=repr(place.connection),
        )
    changes = integration.sources[name].changes
    cursor = _cursor(integration, name) if changes is None else change_cursor(changes)
    table = place.table if changes is None else changes.table
    if place.table is not None and isinstance(connection.options, DatabaseConnection):
        keys = integration.sources[name].keys
        return bind_table(connection.options, _workspace_folder(integration), table or "", cursor, keys)
    if place.table is not None and isinstance(connection.options, OdbcConnection):
        keys = integration.sources[name].keys
        return bind_odbc_table(connection.options, _workspace_folder(integration), table or "", cursor, keys)
    wanted = "sqlite" if place.table is not None else "folder"
    if connection.kind != wanted:
        raise DeclarationError(
            path=f"{path}.connection", expected=f"a connection of the kind {wanted}", got=connection.kind
        )
    location = connection.location(_workspace_folder(integration))
    if place.table is not None:
        return SqliteTable(location, table or "", () if cursor is None or changes is not None else cursor.columns)
    text = _layout(integration, place)
    opened = open_format(place.format or "", place.options, text)
    return FolderFile(
        location, place.path or "", opened.decode, _fields(opened), isinstance(opened, Csv) and opened.header
    )


def _fields(opened: Format) -> dict[str, str]:
    """Say where the fields of a fixed record lie and how they are written."""
    if not isinstance(opened, Copybook | FixedWidth):
        return {}
    return {
        item.name: f"{item.usage}{' signed' if item.signed else ''} {item.length} bytes at {item.offset}, "
        f"{item.digits} digits, {item.scale} of them decimal, {item.axes or 'once'}"
        for item in opened.layout.items
    }


def _cursor(integration: IntegrationSpec, name: str) -> Cursor | None:
    """Read a feed's cursor; the contract says in which zone its stamps are."""
    declared = integration.sources[name].cursor
    if declared is None:
        return None
    key = (declared.key,) if isinstance(declared.key, str) else declared.key
    fields = {field.name: field for field in integration.contract.schema(name).fields}
    zone = fields[declared.column].zone if declared.column in fields else None
    return Cursor(declared.column, key, declared.lag_s, zone)


def _workspace_folder(integration: IntegrationSpec) -> Path:
    return integration.folder.parents[1]


def _layout(integration: IntegrationSpec, place: Location) -> str | None:
    """Read a format's layout file, which belongs to the declaration."""
    name = getattr(place.options, "layout", None)
    if name is None:
        return None
    try:
        return integration.file(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise DeclarationError(
            where=str(integration.folder), path="layout", expected=f"a text file {name}", got="none that can be read"
        ) from None
