"""From a declared write-back to a sink that can be written: connection, target and format are put together here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from brownfield.data.folders import Folder
from brownfield.data.pipeline.bind_files import bind_folder
from brownfield.data.pipeline.bind_queues import bind_broker, broker_address, broker_budget
from brownfield.data.pipeline.forms import form_of
from brownfield.data.pipeline.servers import make_budget, resolve_address
from brownfield.data.sinks import (
    FileSink,
    MysqlTableSink,
    PostgresTableSink,
    QueueSink,
    Sink,
    SqliteTableSink,
    TableTarget,
    ledger_ddl,
    without_formulas,
)
from brownfield.data.sources import Budget, libpq_parameters, pymysql_parameters
from brownfield.errors import DeclarationError
from brownfield.integration import (
    BrokerConnection,
    ConnectionSpec,
    CsvFormat,
    FolderConnection,
    IntegrationSpec,
    MysqlConnection,
    PostgresConnection,
    Reference,
    SftpConnection,
    SqliteConnection,
    WriteBackSpec,
    read_reference,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

__all__ = ["Bound", "bind_sink", "sink_ddl"]

Encode: TypeAlias = "Callable[[Iterable[pa.RecordBatch]], Iterator[bytes]]"


@dataclass(frozen=True, slots=True)
class Bound:
    """A sink, and what its system can bear where that is declared."""

    sink: Sink
    budget: Budget | None = None


def bind_sink(integration: IntegrationSpec, name: str, connections: Mapping[str, ConnectionSpec]) -> Bound:
    """Make the sink of a write-back; its references are read now, so a new address or secret holds at once.

    Parameters
    ----------
    integration
        The integration, in ``integrations/<name>`` of its workspace.
    name
        The write-back.
    connections
        Of the workspace.

    Raises
    ------
    DeclarationError
        When a reference cannot be read, or a name leads elsewhere.
    SourceUnavailable
        When the host's name stands for nothing.
    """
    spec = integration.write_back[name]
    connection = connections[spec.to.connection or ""]
    workspace = integration.folder.parents[1]
    stream = f"{integration.name}/{name}"
    options = connection.options
    if isinstance(options, SqliteConnection):
        return Bound(SqliteTableSink(connection.location(workspace), _target(spec), stream))
    if isinstance(options, PostgresConnection | MysqlConnection):
        address = resolve_address(options, workspace)
        limit_s = options.budget.statement_timeout_s
        sink: Sink = (
            PostgresTableSink(
                libpq_parameters(address), _target(spec), stream, schema=options.schema, statement_timeout_s=limit_s
            )
            if isinstance(options, PostgresConnection)
            else MysqlTableSink(pymysql_parameters(address), _target(spec), stream, statement_timeout_s=limit_s)
        )
        return Bound(sink, make_budget(options.budget, workspace, f"{address.host}-{address.port}"))
    if isinstance(options, FolderConnection | SftpConnection):
        return Bound(_files(bind_folder(connection, workspace), workspace, integration, name))
    if isinstance(options, BrokerConnection):
        return Bound(_queue(options, workspace, integration, name))
    raise DeclarationError(
        path=f"write_back.{name}.connection",
        expected="a connection of a kind that can be written",
        got=f"the kind {connection.kind}",
    )


def sink_ddl(spec: WriteBackSpec, options: Any, workspace: Path) -> str:
    """Give what the owner of a database has to run before its table is written; empty for other sinks."""
    if isinstance(options, SqliteConnection):
        return ledger_ddl("sqlite")
    if not isinstance(options, PostgresConnection | MysqlConnection):
        return ""
    role = read_reference(options.user, workspace) if isinstance(options.user, Reference) else options.user
    if isinstance(options, PostgresConnection):
        return ledger_ddl("postgres", schema=options.schema, target=_target(spec), role=role)
    name = options.database
    schema = read_reference(name, workspace) if isinstance(name, Reference) else name
    return ledger_ddl("mysql", schema=schema, target=_target(spec), role=role)


def _target(spec: WriteBackSpec) -> TableTarget:
    return TableTarget(spec.to.table or "", spec.columns, spec.keys, insert_only=spec.mode == "insert_only")


def _files(folder: Folder, workspace: Path, integration: IntegrationSpec, name: str) -> FileSink:
    spec = integration.write_back[name]
    encode: Encode = form_of(integration, spec.to).encode
    if isinstance(spec.to.options, CsvFormat):
        encode = without_formulas(encode)
    return FileSink(folder, spec.to.path or "", encode, _ledger(workspace, integration, name), spec.totals)


def _queue(options: BrokerConnection, workspace: Path, integration: IntegrationSpec, name: str) -> QueueSink:
    spec = integration.write_back[name]
    queue = spec.to.queue or ""
    address = broker_address(options, workspace)
    return QueueSink(
        bind_broker(options, address, queue),
        queue,
        form_of(integration, spec.to).encode,
        _ledger(workspace, integration, name),
        broker_budget(options, address, workspace),
    )


def _ledger(workspace: Path, integration: IntegrationSpec, name: str) -> Path:
    """Name the file of ours in which a sink without a ledger of its own keeps what it did."""
    ledger = workspace / "var" / "sinks" / f"{integration.name}-{name}.db"
    ledger.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ledger
