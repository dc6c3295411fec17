"""From a declared source to one that can be read: connection, format and layout are put together here."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.data.formats import Copybook, Csv, FixedWidth, Format, open_format
from brownfield.data.pipeline.endpoints import bind_endpoint
from brownfield.data.pipeline.keyed import KeyedLookup
from brownfield.data.pipeline.lookups import bind_lookup
from brownfield.data.pipeline.servers import bind_table
from brownfield.data.sources import Cursor, FolderFile, Source, SqliteTable
from brownfield.errors import DeclarationError
from brownfield.integration import ConnectionSpec, DatabaseConnection, HttpConnection, IntegrationSpec, Location

if TYPE_CHECKING:
    from brownfield.clock import Clock
    from brownfield.security import Keyring
    from brownfield.store import Store

__all__ = ["bind_source", "open_format"]


def bind_source(
    integration: IntegrationSpec,
    name: str,
    connections: Mapping[str, ConnectionSpec],
    store: "Store | None" = None,
    clock: "Clock | None" = None,
    encryption: "Keyring | None" = None,
) -> Source:
    """Give a source that can be reached: the only place of its chain, or the one where its fail-over stands.

    Parameters
    ----------
    integration
        The integration, in ``integrations/<name>`` of its workspace.
    name
        The source.
    connections
        Of the workspace.
    store, clock
        What keeps where a lookup stands, and whose time counts; a chain of several places needs them.
    encryption
        Keys of a lookup's copies.

    Raises
    ------
    SourceUnavailable
        When no place can be reached; the last one's reason.
    DeclarationError
        When a place names what is not there, or what is not read yet.
    """
    spec = integration.sources[name]
    if len(spec.chain) > 1 or spec.is_asked_by_key:
        if store is None or clock is None:
            raise AssertionError("a chain of several places is read with a store and a clock")
        bind = partial(_bind_place, integration, name, connections)
        if spec.is_asked_by_key:
            return KeyedLookup(integration, name, bind, store, clock)
        return bind_lookup(integration, name, bind, store, clock, encryption)
    source = _bind_place(integration, name, connections, spec.chain[0], 0)
    source.probe()
    return source


def _bind_place(
    integration: IntegrationSpec,
    name: str,
    connections: Mapping[str, ConnectionSpec],
    place: Location,
    index: int,
) -> Source:
    path = f"sources.{name}.chain[{index}]"
    connection = connections.get(place.connection or "")
    if connection is None:
        raise DeclarationError(
            path=f"{path}.connection",
            expected=f"one of {', '.join(connections) or 'no'} connections",
            got=repr(place.connection),
        )
    cursor = _cursor(integration, name)
    if place.table is not None and isinstance(connection.options, DatabaseConnection):
        keys = integration.sources[name].keys
        return bind_table(connection.options, _workspace_folder(integration), place.table, cursor, keys)
    if place.endpoint is not None and isinstance(connection.options, HttpConnection):
        form = open_format(place.format or "", place.options)
        workspace = _workspace_folder(integration)
        return bind_endpoint(place.connection or "", connection.options, workspace, place.endpoint, form)
    wanted = "sqlite" if place.table is not None else "folder"
    if connection.kind != wanted:
        raise DeclarationError(
            path=f"{path}.connection", expected=f"a connection of the kind {wanted}", got=connection.kind
        )
    location = connection.location(_workspace_folder(integration))
    if place.table is not None:
        return SqliteTable(location, place.table, () if cursor is None else cursor.columns)
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
