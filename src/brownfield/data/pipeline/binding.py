"""From a declared source to one that can be read: connection, format and layout are put together here."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.data.pipeline.bind_changes import change_cursor, with_changes
from brownfield.data.pipeline.bind_files import FILE_KINDS, bind_files
from brownfield.data.pipeline.bind_odbc import bind_odbc_table
from brownfield.data.pipeline.bind_queues import bind_queue
from brownfield.data.pipeline.endpoints import bind_endpoint
from brownfield.data.pipeline.forms import form_of
from brownfield.data.pipeline.keyed import KeyedLookup
from brownfield.data.pipeline.lookups import bind_lookup
from brownfield.data.pipeline.mapping import Mapped, Mapper, column_of_field, mapper_of
from brownfield.data.pipeline.servers import bind_table
from brownfield.data.sources import Cursor, Source, SqliteTable
from brownfield.errors import DeclarationError
from brownfield.integration import (
    BrokerConnection,
    ConnectionSpec,
    DatabaseConnection,
    HttpConnection,
    IntegrationSpec,
    Location,
    OdbcConnection,
)

if TYPE_CHECKING:
    from brownfield.clock import Clock
    from brownfield.security import Keyring
    from brownfield.store import Store

__all__ = ["bind_source"]


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
        What keeps where a lookup stands and which messages of a queue were taken, and whose time counts; a chain of
        several places and a queue need them.
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
        bind = partial(_bind_place, integration, name, connections, store)
        if spec.is_asked_by_key:
            return KeyedLookup(integration, name, bind, store, clock)
        return bind_lookup(integration, name, bind, store, clock, encryption)
    source = with_changes(_bind_place(integration, name, connections, store, spec.chain[0], 0), spec.changes)
    source.probe()
    return source


def _bind_place(
    integration: IntegrationSpec,
    name: str,
    connections: Mapping[str, ConnectionSpec],
    store: "Store | None",
    place: Location,
    index: int,
) -> Source:
    """Give a place as it is, or with its columns mapped."""
    mapper = mapper_of(integration, name, place)
    source = _bind_silo(integration, name, place, connections, f"sources.{name}.chain[{index}]", store, mapper)
    return source if mapper is None else Mapped(source, mapper)


def _bind_silo(  # noqa: PLR0913, PLR0917 (what a place is made of)
    integration: IntegrationSpec,
    name: str,
    place: Location,
    connections: Mapping[str, ConnectionSpec],
    path: str,
    store: "Store | None",
    mapper: Mapper | None,
) -> Source:
    connection = connections.get(place.connection or "")
    if connection is None:
        raise DeclarationError(
            path=f"{path}.connection",
            expected=f"one of {', '.join(connections) or 'no'} connections",
            got=repr(place.connection),
        )
    changes = integration.sources[name].changes
    cursor = _cursor(integration, name, mapper) if changes is None else change_cursor(changes)
    table = place.table if changes is None else changes.table
    keys = tuple(column_of_field(key, mapper) for key in integration.sources[name].keys)
    if place.table is not None and isinstance(connection.options, DatabaseConnection):
        return bind_table(connection.options, _workspace_folder(integration), table or "", cursor, keys)
    if place.table is not None and isinstance(connection.options, OdbcConnection):
        return bind_odbc_table(connection.options, _workspace_folder(integration), table or "", cursor, keys)
    if place.path is not None and connection.kind in FILE_KINDS:
        feed = integration.sources[name].feed
        return bind_files(connection, _workspace_folder(integration), place, form_of(integration, place), feed=feed)
    if place.queue is not None and isinstance(connection.options, BrokerConnection):
        decode = form_of(integration, place).decode
        return bind_queue(
            connection.options, _workspace_folder(integration), place, (integration.name, name), decode, store
        )
    if place.endpoint is not None and isinstance(connection.options, HttpConnection):
        form = form_of(integration, place)
        workspace = _workspace_folder(integration)
        return bind_endpoint(place.connection or "", connection.options, workspace, place.endpoint, form)
    wanted = "sqlite" if place.table is not None else "folder or sftp"
    if connection.kind != wanted:
        raise DeclarationError(
            path=f"{path}.connection", expected=f"a connection of the kind {wanted}", got=connection.kind
        )
    location = connection.location(_workspace_folder(integration))
    return SqliteTable(location, table or "", () if cursor is None or changes is not None else cursor.columns)


def _cursor(integration: IntegrationSpec, name: str, mapper: Mapper | None) -> Cursor | None:
    """Read a feed's cursor; the contract says in which zone its stamps are."""
    declared = integration.sources[name].cursor
    if declared is None:
        return None
    key = (declared.key,) if isinstance(declared.key, str) else declared.key
    fields = {field.name: field for field in integration.contract.schema(name).fields}
    zone = fields[declared.column].zone if declared.column in fields else None
    columns = tuple(column_of_field(each, mapper) for each in key)
    return Cursor(column_of_field(declared.column, mapper), columns, declared.lag_s, zone)


def _workspace_folder(integration: IntegrationSpec) -> Path:
    return integration.folder.parents[1]
