"""One run: every source is read, decoded and checked, and becomes the declared tables; nothing is lost on the way.

Sources are read in the order in which they need each other. Counts, quarantine and positions commit in one
transaction of the store, and the new tables take their names with it: a run that fails leaves all as it was.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from brownfield.clock import Clock, SystemClock
from brownfield.data.decoded import Decoded
from brownfield.data.pipeline.binding import bind_source
from brownfield.data.pipeline.checking import StreamCheck
from brownfield.data.pipeline.instants import with_timestamps
from brownfield.data.pipeline.joining import Matcher
from brownfield.data.pipeline.report import PipelineReport, SourceReport, TableReport
from brownfield.data.pipeline.tables import TableWriter
from brownfield.errors import DeclarationError, StoreError
from brownfield.store import Refused, SourceCounts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from brownfield.contract import Schema
    from brownfield.integration import ConnectionSpec, IntegrationSpec
    from brownfield.store import Store

__all__ = ["Progress", "run_pipeline"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a source's name, the records read so far, and the records in all as far as that can be told."""


def run_pipeline(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    output: Path,
    progress: Progress | None = None,
    *,
    clock: Clock | None = None,
) -> PipelineReport:
    """Bring the silos of one integration into its tables.

    Parameters
    ----------
    integration
        The integration, in ``integrations/<name>`` of its workspace.
    connections
        Of the workspace.
    store
        Takes counts, quarantine and positions.
    output
        Folder of the tables, such as ``var/data/<integration>``; each becomes ``<table>.parquet``.
    progress
        Told after every batch.
    clock
        The system's unless given.

    Raises
    ------
    SourceUnavailable
        When a source cannot be read.
    DeclarationError
        When the declaration does not fit what is there.
    InputRefused
        When a source as a whole breaks its contract (row counts).
    """
    clock = clock or SystemClock()
    started = clock.monotonic_ns()
    order = _reading_order(integration)
    contract = integration.contract
    run_id = store.ledger.begin_run(
        integration=integration.name, kind="pipeline", contract=contract.reference, contract_digest=contract.digest
    )
    try:
        with ExitStack() as writers:
            run = _Run(
                integration, connections, store, output, progress=progress or _silent, clock=clock, writers=writers
            )
            for name in order:
                run.read(name)
            run.commit(run_id)
    except BaseException:
        with suppress(StoreError):  # what went wrong first is what is told
            store.ledger.finish_run(run_id, "failed")
        raise
    return PipelineReport(
        run_id=run_id,
        integration=integration.name,
        contract=contract.reference,
        sources={name: run.sources[name].report() for name in order},
        tables={name: table.report() for name, table in run.tables.items()},
        seconds=(clock.monotonic_ns() - started) / 1e9,
    )


def _silent(_source: str, _done: int, _total: int | None) -> None:
    pass


def _reading_order(integration: "IntegrationSpec") -> list[str]:
    """Order the sources so that the keys and lookups that one needs are read before it."""
    needs: dict[str, set[str]] = {name: set() for name in integration.sources}
    for name, schema in _checked_schemas(integration).items():
        reader = integration.unified[name].from_ if name in integration.unified else name
        for target in schema.batches.references:
            needed = target.partition(".")[0]
            if needed not in needs:
                raise DeclarationError(
                    path=f"contract.{name}", expected=f"a reference to one of {', '.join(needs)}", got=target
                )
            needs[reader].add(needed)
    for table in integration.unified.values():
        needs[table.from_].update(join.source for join in table.join)
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise DeclarationError(
            path="sources", expected="sources that do not need each other in a circle", got=" -> ".join(error.args[1])
        ) from None


@dataclass(slots=True)
class _Stream:
    """One source or table under way: its check, what was refused, and the time that it took."""

    check: StreamCheck
    refused: list[Refused] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, Any]:
        by_rule: Counter[str] = Counter()
        by_code: Counter[str] = Counter()
        for (code, rule), rows in self.check.by_rule.items():
            by_rule[rule] += rows
            by_code[code] += rows
        return {
            "source": self.check.name,
            "rows_in": self.check.rows_in,
            "accepted": self.check.accepted,
            "quarantined": len(self.refused),
            "by_rule": dict(sorted(by_rule.items())),
            "by_code": dict(sorted(by_code.items())),
            "seconds": self.seconds,
        }

    def report(self) -> SourceReport:
        return SourceReport(**self.counts())


@dataclass(slots=True)
class _Table(_Stream):
    """One unified table under way."""

    writer: TableWriter = field(kw_only=True)
    matchers: list[Matcher] = field(kw_only=True)
    references: Mapping[str, pa.Array] = field(kw_only=True)

    def report(self) -> TableReport:
        return TableReport(path=self.writer.path, **self.counts())


def _of_rows(decoded: Decoded, accepted: pa.Table, rows: "NDArray[np.int64]") -> Decoded:
    """Give the accepted rows the positions and bytes that they came with."""
    return Decoded(accepted, lambda row: decoded.position(int(rows[row])), lambda row: decoded.raw(int(rows[row])))


class _Run:
    """The state of one run."""

    def __init__(  # noqa: PLR0913 (what a run is made of)
        self,
        integration: "IntegrationSpec",
        connections: "Mapping[str, ConnectionSpec]",
        store: "Store",
        output: Path,
        *,
        progress: Progress,
        clock: Clock,
        writers: ExitStack,
    ) -> None:
        self.integration = integration
        self.connections = connections
        self.store = store
        self.output = output
        self.progress = progress
        self.clock = clock
        self.writers = writers
        self.sources: dict[str, _Stream] = {}
        self.tables: dict[str, _Table] = {}
        self.positions: dict[str, Any] = {}
        self.previous = {name: store.ledger.position(integration.name, name) for name in integration.sources}
        self.kept = _columns_kept(integration)
        self.lookups: dict[str, pa.Table] = {}

    def read(self, name: str) -> None:
        """Read one source to its end: check its records, keep what others need of it, and fill its tables."""
        schema = self.integration.contract.schema(name)
        stream = self.sources[name] = _Stream(StreamCheck(self.integration.name, name, schema))
        references = {target: self._known(target) for target in schema.batches.references}
        tables = self._begin_tables(name)
        kept = [schema.arrow.empty_table().select(self.kept[name])]
        source = bind_source(self.integration, name, self.connections)
        begun = self.clock.monotonic_ns()
        for pulled in source.read(schema.arrow):
            decoded = replace(pulled.decoded, batch=with_timestamps(pulled.decoded.batch, schema))
            accepted, rows, refused = stream.check.check(pulled.origin, decoded, references)
            stream.refused += refused
            kept.append(accepted.select(self.kept[name]))
            stream.seconds += self._seconds_since(begun)
            for table in tables:
                self._fill(table, pulled.origin, _of_rows(decoded, accepted, rows))
            begun = self.clock.monotonic_ns()
            self.positions[name] = pulled.position
            done = stream.check.rows_in
            self.progress(name, done, round(done / pulled.done_share) if pulled.done_share else None)
        stream.check.finish()
        self.lookups[name] = pa.concat_tables(kept)
        for table in tables:
            table.check.finish()

    def commit(self, run_id: str) -> None:
        """Make the outcome durable: counts, quarantine and positions in one transaction, then the tables."""
        for table in self.tables.values():
            table.writer.seal()
        name = self.integration.name
        with self.store.commit() as tx:
            for stream in (*self.sources.values(), *self.tables.values()):
                check = stream.check
                tx.ledger.add_counts(
                    run_id,
                    SourceCounts(check.name, check.rows_in, check.accepted, len(stream.refused), by_rule=check.by_rule),
                )
                tx.quarantine.add(
                    run_id,
                    integration=name,
                    source=check.name,
                    contract=self.integration.contract.reference,
                    records=stream.refused,
                )
            for source, position in self.positions.items():
                tx.ledger.advance(name, source, position, previous=self.previous[source])
            tx.ledger.finish_run(run_id)
            for table in self.tables.values():
                table.writer.publish()

    def _begin_tables(self, source: str) -> "list[_Table]":
        """Prepare the unified tables that are made from a source."""
        begun = []
        for name, spec in self.integration.unified.items():
            if spec.from_ != source:
                continue
            schema = self.integration.contract.schema(name)
            matchers = [Matcher(join, self.lookups[join.source], f"unified.{name}") for join in spec.join]
            columns = self.integration.contract.schema(source).arrow.empty_table()
            for matcher in matchers:
                columns = matcher.apply(columns)
            for field_name in schema.names:
                if field_name not in columns.column_names:
                    raise DeclarationError(
                        path=f"unified.{name}",
                        expected=f"a source or join that gives {field_name}, as the contract says",
                        got=", ".join(columns.column_names),
                    )
            writer = self.writers.enter_context(TableWriter(self.output / f"{name}.parquet", schema.arrow))
            references = {target: self._known(target) for target in schema.batches.references}
            check = StreamCheck(self.integration.name, name, schema, "unify")
            self.tables[name] = _Table(check, writer=writer, matchers=matchers, references=references)
            begun.append(self.tables[name])
        return begun

    def _fill(self, table: "_Table", origin: str, accepted: Decoded) -> None:
        """Join a batch, hold it to the table's own schema and write it."""
        begun = self.clock.monotonic_ns()
        joined = accepted.batch
        for matcher in table.matchers:
            joined = matcher.apply(joined)
        if joined.num_rows != accepted.batch.num_rows:
            raise AssertionError(f"{table.check.name}: a join changed the number of rows")
        checked, _, refused = table.check.check(origin, replace(accepted, batch=joined), table.references)
        table.refused += refused
        table.writer.write(checked)
        table.seconds += self._seconds_since(begun)

    def _known(self, target: str) -> pa.Array:
        source, _, name = target.partition(".")
        return self.lookups[source][name].combine_chunks()

    def _seconds_since(self, begun_ns: int) -> float:
        return (self.clock.monotonic_ns() - begun_ns) / 1e9


def _columns_kept(integration: "IntegrationSpec") -> dict[str, list[str]]:
    """Columns of each source that joins and references need once it is read."""
    kept: dict[str, set[str]] = {name: set() for name in integration.sources}
    for table in integration.unified.values():
        for join in table.join:
            kept[join.source].update(join.keys, join.take)
    for schema in _checked_schemas(integration).values():
        for target in schema.batches.references:
            source, _, name = target.partition(".")
            kept[source].add(name)
    return {
        name: [each for each in integration.contract.schema(name).names if each in columns]
        for name, columns in kept.items()
    }


def _checked_schemas(integration: "IntegrationSpec") -> "dict[str, Schema]":
    """Schemas of all sources and unified tables."""
    return {name: integration.contract.schema(name) for name in (*integration.sources, *integration.unified)}
