"""A run under way: what was read of each source, what it adds to each table, and the transaction that keeps it all."""

import logging
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pyarrow as pa

from brownfield.clock import Clock
from brownfield.data.decoded import Decoded
from brownfield.data.pipeline.begun import Begun
from brownfield.data.pipeline.binding import bind_source
from brownfield.data.pipeline.checking import StreamCheck
from brownfield.data.pipeline.compaction import compact
from brownfield.data.pipeline.custody import Custody, hides_position, is_classified
from brownfield.data.pipeline.guards import Breached, Guard, Guards, Shaped, known_codes
from brownfield.data.pipeline.instants import with_timestamps
from brownfield.data.pipeline.joining import Matcher
from brownfield.data.pipeline.keyed import KeyedLookup, KeyedMatcher
from brownfield.data.pipeline.lookups import STAMP, as_held, keep_copy
from brownfield.data.pipeline.mapping import silo_of
from brownfield.data.pipeline.parking import parking_of
from brownfield.data.pipeline.parts import settle
from brownfield.data.pipeline.plan import columns_kept, columns_remembered
from brownfield.data.pipeline.streams import Dataset, SourceStream, TableStream
from brownfield.data.sources import FileFeed, QueueSource
from brownfield.errors import DeclarationError, SourceUnavailable, StoreError
from brownfield.store import SourceState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from brownfield.data.sources import Source
    from brownfield.integration import ConnectionSpec, IntegrationSpec, Join
    from brownfield.store import Refused, Store, Transaction


__all__ = ["Progress", "Run", "silent"]

_LOG = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a source's name, the records read so far, and the records in all as far as that can be told."""


def silent(_source: str, _done: int, _total: int | None) -> None:
    """Show no progress."""


def _shape_of(state: SourceState | None) -> "Mapping[str, str]":
    return {} if state is None else state.shape


def _of_rows(decoded: Decoded, accepted: pa.Table, rows: "NDArray[np.int64]") -> Decoded:
    """Give the accepted rows the positions and bytes that they came with."""
    return Decoded(
        accepted,
        lambda row: decoded.position(int(rows[row])),
        lambda row: decoded.raw(int(rows[row])),
        head=decoded.head,
    )


class Run:
    """The state of one run: what was read of each source, and what it adds to each table."""

    def __init__(  # noqa: PLR0913 (what a run is made of)
        self,
        integration: "IntegrationSpec",
        store: "Store",
        output: Path,
        *,
        begun: Begun,
        rebuild: bool,
        accept: Collection[Guard],
        clock: Clock,
        writers: ExitStack,
        keeps_copies: bool = False,
        tables: bool = True,
        custody: Custody | None = None,
    ) -> None:
        self.integration = integration
        self.store = store
        self.output = output
        self.begun = begun
        self.rebuild = rebuild
        self.accept = accept
        self.clock = clock
        self.writers = writers
        self.keeps_copies = keeps_copies
        self.fills_tables = tables
        self.custody = custody or Custody()
        self.refused_bytes = 0
        self.expired = 0
        self.sources: dict[str, SourceStream] = {}
        self.tables: dict[str, TableStream] = {}
        self.kept = columns_kept(integration)
        self.lookups: dict[str, pa.Table] = {}

    def binding(self, name: str, connections: "Mapping[str, ConnectionSpec]") -> "Callable[[], Source]":
        """Give what binds a source when it is its turn."""
        return partial(bind_source, self.integration, name, connections, self.store, self.clock, self.custody.keys)

    def read(self, name: str, bind: "Callable[[], Source]", progress: Progress = silent) -> None:
        """Read one source to its end: check its records, keep what others need of it, and fill its tables."""
        stream = self.begin(name)
        began_utc = self.clock.now_utc()
        try:
            stream.source = bind()
            silo = silo_of(stream.source)
            if isinstance(silo, QueueSource):
                self.writers.push(silo)
            if not stream.is_feed:
                held = stream.held = as_held(stream.source, began_utc)
                stream.whole = [] if self.keeps_copies and not held.is_copy else None
            self._check_shape(stream, stream.source)
            try:
                self._pull(stream, stream.source, progress)
            except Breached as breach:
                stream = self._shadow(stream, breach, progress)
        except SourceUnavailable as error:
            if stream.held is not None and stream.held.give_up(str(error)):
                self.read(name, bind, progress)
                return
            whole = stream.in_a_file or self.rebuild  # half a file is none, and a table is not made anew of nothing
            if self.integration.sources[name].tolerance != "all" or whole:
                raise
            stream.unavailable = str(error)
        self.end(stream)

    def pause(self, name: str, why: str) -> None:
        """Leave a feed for a later run, for there is no room for what it has."""
        stream = self.begin(name)
        stream.unavailable = why
        self.end(stream)

    def _shadow(self, stream: SourceStream, breach: Breached, progress: Progress) -> SourceStream:
        """Read a feed once more, and send everything to quarantine: the tables stay as they were."""
        self.refused_bytes -= sum(len(each.raw or b"") for part in (stream, *stream.tables) for each in part.refused)
        again = self.begin(stream.check.name, shadow=str(breach))
        again.source, again.shape = stream.source, stream.shape
        assert again.source is not None  # noqa: S101 (it was read a moment ago)
        self._pull(again, again.source, progress)
        return again

    def recall(self, name: str) -> None:
        """Take a feed as earlier runs remember it, without reading on."""
        stream = self.begin(name)
        self.lookups[name] = pa.concat_tables(stream.kept)

    def _pull(self, stream: SourceStream, source: "Source", progress: Progress) -> None:
        name = stream.check.name
        silo = silo_of(source)
        if isinstance(silo, FileFeed):
            known = self.store.ledger.deliveries(self.integration.name, name) if stream.resumes else []
            silo.recall(known, anew=self.rebuild)
        begun = self.clock.monotonic_ns()
        for pulled in source.read(stream.check.schema.arrow, stream.previous if stream.resumes else None):
            stream.position = pulled.position
            stream.seconds += self._seconds_since(begun)
            self.take(stream, pulled.origin, pulled.decoded)
            begun = self.clock.monotonic_ns()
            done = stream.check.rows_in
            progress(name, done, round(done / pulled.done_share) if pulled.done_share else None)
        if not stream.resumes:
            stream.guards.judge()
        if stream.files is not None:
            stream.guards.files(len(stream.files.refused))
        if stream.check.parking is not None:
            stream.guards.parked(stream.check.parking.beyond(self.clock.now_utc()))
        if stream.state is not None and (stream.in_a_file or not (stream.is_feed or stream.is_copy)):
            stream.guards.volume(stream.state.rows_last, stream.check.rows_in)

    def _check_shape(self, stream: SourceStream, source: "Source") -> None:
        if isinstance(source, Shaped):
            wanted = stream.check.schema.names
            shape = source.shape()
            stream.guards.shape({} if stream.state is None else stream.state.shape, shape, wanted)
            stream.shape = {name: shape[name] for name in wanted if name in shape}

    def take(self, stream: SourceStream, origin: str, decoded: Decoded) -> None:
        """Check records of a source, keep what others need of them, and add the accepted ones to its tables."""
        begun = self.clock.monotonic_ns()
        decoded = replace(decoded, batch=with_timestamps(decoded.batch, stream.check.schema))
        accepted, rows, refused = stream.check.check(origin, decoded, stream.references)
        stream.refused += refused
        self._weigh(stream, refused)
        stream.guards.refused(decoded.records, refused)
        stream.kept.append(accepted.select(self.kept[stream.check.name]))
        if stream.whole is not None and self.integration.sources[stream.check.name].keeps_copies:
            stream.whole.append(accepted)
        if stream.memory is not None:
            stream.memory.write(accepted.select(stream.memory.schema.names))
        stream.seconds += self._seconds_since(begun)
        for table in stream.tables:
            self.fill(table, origin, _of_rows(decoded, accepted, rows))

    def _weigh(self, stream: "SourceStream | TableStream", refused: "list[Refused]") -> None:
        """Stop before the refused records of this run alone are more than may be kept."""
        self.refused_bytes += sum(len(each.raw or b"") for each in refused)
        self.custody.check_room(self.refused_bytes, f"{self.integration.name}.{stream.check.name}")

    def end(self, stream: SourceStream) -> None:
        """Hold a source that was read to its end to what must hold for the whole of it."""
        if stream.held is None or stream.held.resort is None:
            stream.check.finish()
        if stream.whole and stream.held is not None:
            keep_copy(
                self.integration, stream.held, pa.concat_tables(stream.whole), stream, self.clock, self.custody.keys
            )
        self.lookups[stream.check.name] = pa.concat_tables(stream.kept)
        for table in stream.tables:
            table.check.finish()

    def commit(self, actor: str) -> None:
        """Make the outcome durable: counts, quarantine, positions and the list of parts in one transaction."""
        self._stamp()
        datasets = self._datasets()
        for dataset in datasets:
            dataset.seal()
        with self.store.commit() as tx:
            for source in self.sources.values():
                self.enter(tx, source, whole=not (source.resumes or source.is_copy))
                self._move(tx, source)
                for table in source.tables:
                    self.enter(tx, table, whole=not source.resumes)
            self.enter_parts(tx, datasets)
            for source in self.sources.values():
                self.enter_outbox(tx, source)
            self._audit(tx, actor)
            self.expired = self.custody.expire(tx, self.integration.name, self.clock)
            self.check_room(tx)
            tx.ledger.finish_run(self.begun.run_id)

    def publish(self) -> None:
        """Give the new parts their names and tell the sources; whatever fails here the next run makes good."""
        for dataset in self._datasets():
            settle(dataset.folder, dataset.files())
        for stream in self.sources.values():
            if stream.source is not None and stream.position:
                stream.source.ack(stream.position)

    def compact(self) -> None:
        """Merge small parts; a failure costs time in later runs and nothing else, so this run does not fail for it."""
        pending = [entry for entries in self.store.outbox.pending(self.integration.name).values() for entry in entries]
        for dataset in self._datasets():
            held = {entry.file for entry in pending if entry.dataset == dataset.name}
            try:
                compact(
                    self.store,
                    self.integration.name,
                    dataset.name,
                    dataset.folder,
                    dataset.parts,
                    run_id=self.begun.run_id,
                    held=held,
                )
            except (OSError, pa.ArrowException, StoreError) as error:
                _LOG.warning("parts of %s were not merged (%s)", dataset.name, type(error).__name__)

    def begin(self, name: str, *, shadow: str = "") -> SourceStream:
        """Prepare a source: what is known of it, and the tables that are made from it; in shadow they stay empty."""
        integration = self.integration
        spec = integration.sources[name]
        schema = integration.contract.schema(name)
        is_feed = spec.feed
        state = self.begun.states[name]
        resumes = is_feed and state is not None and not self.rebuild
        rows_before = state.rows_total if state is not None and resumes else 0
        stream = self.sources[name] = SourceStream(
            StreamCheck(
                integration.name,
                name,
                schema,
                rows_before=rows_before,
                classified=is_classified([schema]),
                hides_position=hides_position(integration, name),
                parking=parking_of(integration, self.store, name, anew=self.rebuild),
                shadows=bool(shadow),
            ),
            is_feed=is_feed,
            resumes=resumes,
            state=state,
            guards=Guards(
                f"{integration.name}.{name}", spec, self.accept, known_codes(integration, self.store, name), shadow
            ),
            previous=self.begun.positions[name],
            references={target: self._known(target) for target in schema.batches.references},
            kept=[schema.arrow.empty_table().select(self.kept[name])],
        )
        remembered = columns_remembered(integration, name, self.kept[name]) if is_feed else []
        if remembered:
            stream.memory = self._dataset(
                f".{name}", pa.schema([schema.arrow.field(each) for each in remembered]), stream
            )
            stream.check.remember(stream.memory.keys())
            if self.kept[name]:
                stream.kept.append(stream.memory.read(self.kept[name]))
        fed = [each for each, spec in integration.unified.items() if spec.from_ == name and self.fills_tables]
        stream.tables = [self._begin_table(each, stream) for each in fed]
        return stream

    def _begin_table(self, name: str, source: SourceStream) -> TableStream:
        spec = self.integration.unified[name]
        schema = self.integration.contract.schema(name)
        matchers = [self._matcher(join, f"unified.{name}") for join in spec.join]
        columns = source.check.schema.arrow.empty_table()
        for matcher in matchers:
            columns = matcher.apply(columns)
        for field_name in schema.names:
            if field_name not in columns.column_names:
                raise DeclarationError(
                    path=f"unified.{name}",
                    expected=f"a source or join that gives {field_name}, as the contract says",
                    got=", ".join(columns.column_names),
                )
        dataset = self._dataset(name, schema.arrow, source)
        of_all = [
            schema,
            *(self.integration.contract.schema(each) for each in (spec.from_, *(j.source for j in spec.join))),
        ]
        check = StreamCheck(
            self.integration.name, name, schema, "unify", rows_before=dataset.rows_before,
            classified=is_classified(of_all), hides_position=hides_position(self.integration, spec.from_),
        )  # fmt: skip
        check.remember(dataset.keys())
        references = {target: self._known(target) for target in schema.batches.references}
        self.tables[name] = TableStream(check, references=references, matchers=matchers, dataset=dataset)
        return self.tables[name]

    def _matcher(self, join: "Join", where: str) -> "Matcher | KeyedMatcher":
        stream = self.sources[join.source]
        if isinstance(stream.source, KeyedLookup):
            self.writers.callback(stream.source.close)
            return KeyedMatcher(join, stream.source, stream, self.take, where)
        resort = None if stream.held is None else stream.held.resort
        return Matcher(join, self.lookups[join.source], where, resort=resort)

    def _stamp(self) -> None:
        """Say in every table's part what its lookups were read from; one asked by key knows it at the end alone."""
        for stream in self.sources.values():
            if stream.held is not None and isinstance(stream.source, KeyedLookup):
                stream.held = replace(stream.held, state=stream.source.chain.state)
        for name, table in self.tables.items():
            joined = {join.source: self.sources[join.source] for join in self.integration.unified[name].join}
            table.lookups = {source: each.read_from for source, each in joined.items() if each.held is not None}
            if table.lookups:
                table.dataset.stamp = {STAMP: msgspec.json.encode(table.lookups)}

    def _dataset(self, name: str, schema: pa.Schema, source: SourceStream) -> Dataset:
        return Dataset(
            name,
            self.output / name,
            schema,
            listed=self.begun.listed.get(name, []) if source.resumes else None,
            tag=self.begun.run_id[:8] + ("s" if source.guards.shadow else ""),
            writers=self.writers,
        )

    def fill(self, table: TableStream, origin: str, accepted: Decoded) -> None:
        """Join a batch, hold it to the table's own schema and write it."""
        begun = self.clock.monotonic_ns()
        joined = accepted.batch
        for matcher in table.matchers:
            joined = matcher.apply(joined)
        if joined.num_rows != accepted.batch.num_rows:
            raise AssertionError(f"{table.check.name}: a join changed the number of rows")
        checked, _, refused = table.check.check(origin, replace(accepted, batch=joined), table.references)
        table.refused += refused
        self._weigh(table, refused)
        table.dataset.write(checked)
        table.seconds += self._seconds_since(begun)

    def enter(self, tx: "Transaction", stream: "SourceStream | TableStream", *, whole: bool) -> None:
        """Enter counts and refused records; after a whole reading, close those that are refused no more."""
        integration, name = self.integration.name, stream.check.name
        tx.ledger.add_counts(self.begun.run_id, stream.counts())
        self.enter_refused(tx, stream)
        if whole:
            tx.quarantine.settle(self.begun.run_id, integration, name)

    def enter_refused(self, tx: "Transaction", stream: "SourceStream | TableStream") -> None:
        """Enter refused records, encrypted where they are classified."""
        integration, name = self.integration.name, stream.check.name
        tx.quarantine.add(
            self.begun.run_id,
            integration=integration,
            source=name,
            contract=self.integration.contract.reference,
            records=(
                self.custody.sealed(each, integration, name) if stream.check.classified else each
                for each in stream.refused
            ),
        )

    def enter_parts(self, tx: "Transaction", datasets: "Sequence[Dataset]") -> None:
        """List the parts that this run, or this replay, adds."""
        for dataset in datasets:
            dataset.enter(tx.parts, self.begun.run_id, self.integration.name)

    def check_room(self, tx: "Transaction") -> None:
        """Roll a transaction back that keeps more refused bytes than are declared."""
        self.custody.check_room(tx.quarantine.raw_bytes(), self.integration.name)

    def enter_outbox(self, tx: "Transaction", stream: SourceStream) -> None:
        """Enter what the tables of a feed gained, for each sink that is to have it."""
        for name, spec in self.integration.write_back.items():
            table = self.tables.get(spec.from_)
            if table in stream.tables and table.dataset.added is not None:
                tx.outbox.enter(
                    self.begun.run_id,
                    integration=self.integration.name,
                    sink=name,
                    dataset=spec.from_,
                    part=table.dataset.added,
                    batch_rows=spec.batch_rows,
                    position=stream.position,
                )

    def _move(self, tx: "Transaction", stream: SourceStream) -> None:
        """Move a source on to where it was read."""
        integration, name = self.integration.name, stream.check.name
        if stream.held is not None:
            tx.lookups.add_run(self.begun.run_id, name, str(stream.held.state), stream.held.as_of_utc)
        if stream.is_copy:
            return
        rows_in = stream.check.rows_in
        rows_last = rows_in if rows_in or stream.state is None else stream.state.rows_last
        if stream.position or stream.shape or tx.ledger.state(integration, name) is None:
            state = SourceState(stream.check.rows_before + rows_in, rows_last, stream.shape or _shape_of(stream.state))
            tx.ledger.set_state(integration, name, state)
        silo = silo_of(stream.source)
        if isinstance(silo, QueueSource):
            silo.enter(tx.inbox, self.begun.run_id)
        for found in () if stream.files is None else stream.files.deliveries:
            tx.ledger.add_delivery(self.begun.run_id, integration, name, found)
        if stream.position:
            tx.ledger.advance(integration, name, stream.position, previous=stream.previous)

    def _audit(self, tx: "Transaction", actor: str) -> None:
        """Say who read anew, and who let which guard pass."""
        name = self.integration.name
        if self.rebuild:
            tx.outbox.withdraw(name)
            tx.audit.append(actor=actor, action="pipeline.rebuild", subject=name, detail={"run_id": self.begun.run_id})
        for source, stream in self.sources.items():
            if stream.guards.shadow:
                detail = {"run_id": self.begun.run_id, "found": stream.guards.shadow}
                tx.audit.append(actor=actor, action="pipeline.shadow", subject=f"{name}.{source}", detail=detail)
            for guard, what in stream.guards.passed.items():
                detail = {"run_id": self.begun.run_id, "guard": str(guard), "found": what}
                tx.audit.append(actor=actor, action="pipeline.accept", subject=f"{name}.{source}", detail=detail)

    def _datasets(self) -> list[Dataset]:
        return [dataset for stream in self.sources.values() for dataset in stream.datasets]

    def _known(self, target: str) -> pa.Array:
        source, _, name = target.partition(".")
        return self.lookups[source][name].combine_chunks()

    def _seconds_since(self, begun_ns: int) -> float:
        return (self.clock.monotonic_ns() - begun_ns) / 1e9
