"""What a run would write back, without writing it: all is read, checked and joined, and nothing is kept.

In: the integration and its store. Out: for each sink the rows that wait and the new ones, the first of them masked, and
the digest under which a person may approve it.
"""

from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brownfield.clock import Clock, SystemClock
from brownfield.data.pipeline.begun import begin, settle_all
from brownfield.data.pipeline.bind_sink import bind_sink, sink_ddl
from brownfield.data.pipeline.binding import bind_source
from brownfield.data.pipeline.delivery import current_digest
from brownfield.data.pipeline.parts import one_run
from brownfield.data.pipeline.plan import reading_order
from brownfield.data.pipeline.running import Progress, Run
from brownfield.errors import BrownfieldError
from brownfield.store import mask_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brownfield.data.pipeline.streams import Dataset
    from brownfield.integration import ConnectionSpec, IntegrationSpec
    from brownfield.store import Store

__all__ = ["WriteBackPreview", "preview_write_back"]

_ROWS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBackPreview:
    """What one sink would get.

    Parameters
    ----------
    sink
        Name of the write-back.
    place
        Where it writes: connection and table, path or queue.
    columns, key, mode
        As declared.
    pending_rows, new_rows
        Rows that wait from runs before, and rows that a run would add now.
    rows
        The first of them as they would be written, values masked by the contract's classification.
    digest
        Of the declaration as it is now.
    approved
        Whether a person has approved this digest.
    problem
        Why the sink cannot be written now; empty when it can.
    ddl
        What the owner of a database has to run first; empty for other sinks. Brownfield never runs it.
    """

    sink: str
    place: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    mode: str
    pending_rows: int
    new_rows: int
    rows: "list[dict[str, Any]]"
    digest: str
    approved: bool
    problem: str
    ddl: str

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def preview_write_back(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    output: Path,
    progress: Progress | None = None,
    *,
    clock: Clock | None = None,
) -> list[WriteBackPreview]:
    """Say what a run would write back; parameters and errors as :func:`run_pipeline`, and nothing is changed."""
    with one_run(output), ExitStack() as writers:
        listed = store.parts.listed(integration.name)
        settle_all(output, listed)
        writers.callback(settle_all, output, listed)
        run = Run(
            integration,
            store,
            output,
            begun=begin(integration, store, None),
            rebuild=False,
            accept=(),
            clock=clock or SystemClock(),
            writers=writers,
        )
        for name in reading_order(integration):
            run.read(name, partial(bind_source, integration, name, connections, store), progress or _silent)
        return [_preview(run, name, connections) for name in integration.write_back]


def _silent(_source: str, _done: int, _total: int | None) -> None:
    pass


def _preview(run: Run, name: str, connections: "Mapping[str, ConnectionSpec]") -> WriteBackPreview:
    integration, store = run.integration, run.store
    spec = integration.write_back[name]
    dataset = run.tables[spec.from_].dataset
    dataset.seal()
    entries = store.outbox.pending(integration.name).get(name, [])
    digest = current_digest(integration, connections, name)
    options = connections[spec.to.connection or ""].options
    return WriteBackPreview(
        sink=name,
        place=f"{spec.to.connection}: {getattr(spec.to, options.holds)}",
        columns=spec.columns,
        key=spec.keys,
        mode=spec.mode,
        pending_rows=sum(entry.rows_left for entry in entries),
        new_rows=dataset.added.rows if dataset.added is not None else 0,
        rows=_first_rows(run, dataset, spec.from_, spec.columns),
        digest=digest,
        approved=store.outbox.approved(integration.name).get(name) == digest,
        problem=_problem(integration, name, connections),
        ddl=sink_ddl(spec, options, integration.folder.parents[1]),
    )


def _first_rows(run: Run, dataset: "Dataset", table: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    classes = {field.name: field.classification for field in run.integration.contract.schema(table).fields}
    rows = dataset.first_rows(_ROWS, columns)
    return [{name: mask_value(value, classes[name]) for name, value in row.items()} for row in rows.to_pylist()]


def _problem(integration: "IntegrationSpec", name: str, connections: "Mapping[str, ConnectionSpec]") -> str:
    """Look at the sink as it is looked at before it is written."""
    try:
        bound = bind_sink(integration, name, connections)
        with closing(bound.sink):
            bound.sink.position()
    except BrownfieldError as error:
        return str(error)
    return ""
