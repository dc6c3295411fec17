"""One attempt to bring refused records in: decoded alone, checked together, entered in one transaction."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from brownfield.data.decoded import Decoded
from brownfield.data.pipeline.decoding import decoder_of
from brownfield.data.pipeline.instants import with_timestamps
from brownfield.data.pipeline.mapping import mapper_of
from brownfield.store import QuarantineState, SourceCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.data.decoded import Reject
    from brownfield.data.pipeline.running import Run
    from brownfield.data.pipeline.streams import SourceStream, TableStream
    from brownfield.store import Quarantined, Refused, Transaction

__all__ = ["Attempt"]

_ORIGIN = "replay"


class Attempt:
    """Records of one source or unified table, tried in a run of their own.

    Parameters
    ----------
    run
        Has read what the records refer to.
    stream
        The source; its tables take what is accepted.
    name
        The source, or the table whose own rules refused the records.
    entries
        The records, in the order in which they came.

    Attributes
    ----------
    accepted
        Records that are good now.
    refused
        Records that are refused again, with the identity that they had.
    """

    def __init__(self, run: "Run", stream: "SourceStream", name: str, entries: "Sequence[Quarantined]") -> None:
        self.run = run
        self.stream = stream
        self.name = name
        self.table = next((table for table in stream.tables if table.check.name == name), None)
        self._entries: list[Quarantined] = []
        self._raws: list[bytes] = []
        for check in (stream.check, *(table.check for table in stream.tables)):
            check.hides_position = False  # a number stands in its place, until the record has its own again
        if stream.check.parking is not None:
            stream.check.parking.blocked.clear()  # all open records of the keys are tried here
        decoded = self._decoded(entries)
        if decoded is not None and self.table is None:
            run.take(stream, _ORIGIN, decoded)
        elif decoded is not None and self.table is not None:
            self._take_for_table(self.table, decoded)
        tried: SourceStream | TableStream = self.table or stream
        tried.refused = [self._as_before(each) for each in tried.refused]
        self.refused = tried.refused
        again = {each.record_id for each in self.refused}
        self.accepted = [entry for entry in self._entries if entry.record_id not in again]
        for table in stream.tables if self.table is None else ():
            table.refused = [self._of_table(table, each) for each in table.refused]

    def _decoded(self, entries: "Sequence[Quarantined]") -> Decoded | None:
        """Decode each record alone; a row is told by its number, so that it keeps its identity."""
        integration, name = self.run.integration, self.stream.check.name
        mapper = mapper_of(integration, name, integration.sources[name].chain[0])
        wanted = self.stream.check.schema.arrow if mapper is None else mapper.wanted
        decode = decoder_of(integration, name, wanted)
        batches: list[pa.RecordBatch] = []
        numbers: list[int] = []
        rejects: list[Reject] = []
        for entry in entries:
            raw = self.run.custody.opened(entry)
            alone = None if raw is None else decode(entry.head, raw)
            if raw is None or alone is None:
                self._block(entry)
                continue
            number = len(self._entries)
            self._entries.append(entry)
            self._raws.append(raw)
            batches.append(alone.batch)
            numbers += [number] * alone.batch.num_rows
            rejects += [replace(reject, position=str(number), raw=raw) for reject in alone.rejects]
        if not batches:
            return None
        table = pa.Table.from_batches(batches).combine_chunks()
        batch = table.to_batches()[0] if table.num_rows else batches[0]
        raw_of = lambda row: self._raws[numbers[row]]  # noqa: E731 (one of two accessors)
        decoded = Decoded(batch, lambda row: str(numbers[row]), raw_of, tuple(rejects))
        return decoded if mapper is None else mapper.apply(decoded)

    def _block(self, entry: "Quarantined") -> None:
        """Keep what waits behind a record that cannot be tried."""
        if self.stream.check.parking is not None and entry.park_key:
            self.stream.check.parking.blocked.add(entry.park_key)

    def _take_for_table(self, table: "TableStream", decoded: Decoded) -> None:
        """Hold records that their source had accepted to the source's rules, then to those of the table."""
        schema = self.stream.check.schema
        batch = with_timestamps(decoded.batch, schema)
        verdict = schema.batches.check(batch, self.stream.references)
        broken = {each.row: each.violations for each in verdict.rejected}
        good = [int(row) for row in verdict.kept]
        held = replace(
            decoded,
            batch=verdict.accepted,
            position=lambda row: decoded.position(good[row]),
            raw=lambda row: decoded.raw(good[row]),
        )
        self.run.fill(table, _ORIGIN, held)
        table.refused += table.check.refuse(_ORIGIN, decoded, broken)

    def _as_before(self, refused: "Refused") -> "Refused":
        """Give a record that is refused again its identity, and the run that counts it."""
        entry = self._entries[int(refused.position)]
        return replace(
            refused,
            record_id=entry.record_id,
            position=entry.position,
            run_id=entry.run_id,
            head=entry.head,
            park_key=entry.park_key or refused.park_key,
        )

    def _of_table(self, table: "TableStream", refused: "Refused") -> "Refused":
        """Name a record that its source accepts now and a table refuses."""
        entry = self._entries[int(refused.position)]
        record_id = hashlib.sha256(f"{table.check.identity}\0{entry.record_id}".encode()).hexdigest()
        return replace(
            refused, record_id=record_id, position=entry.position, run_id=entry.run_id, head=entry.head
        )  # fmt: skip

    def commit(self, actor: str) -> None:
        """Make parts, states, counts and the audit entry durable in one transaction."""
        run, stream = self.run, self.stream
        integration, run_id = run.integration.name, run.begun.run_id
        for dataset in stream.datasets:
            dataset.seal()
        with run.store.commit() as tx:
            streams: list[SourceStream | TableStream] = [stream, *stream.tables]
            for each in streams if self.table is None else [self.table]:
                run.enter_refused(tx, each)
            self._count(tx)
            ids = [entry.record_id for entry in self.accepted]
            tx.quarantine.set_state(integration, self.name, ids, QuarantineState.REPLAYED)
            run.enter_parts(tx, stream.datasets)
            run.enter_outbox(tx, stream)
            detail = {
                "run_id": run_id,
                "accepted": len(self.accepted),
                "still_bad": len(self.refused),
                "runs": dict(sorted(Counter(entry.run_id for entry in self.accepted).items())),
            }
            tx.audit.append(
                actor=actor, action="quarantine.replay", subject=f"{integration}.{self.name}", detail=detail
            )
            run.check_room(tx)
            tx.ledger.finish_run(run_id)

    def _count(self, tx: "Transaction") -> None:
        """Count in the runs that had refused the records: what is good now moves, other reasons take their place."""
        again = {each.record_id: each for each in self.refused}
        moved: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        accepted: Counter[str] = Counter()
        for entry in self._entries:
            moved[entry.run_id].subtract({(code, rule) for code, _, rule in entry.violations})
            if entry.record_id in again:
                violations = again[entry.record_id].violations
                moved[entry.run_id].update({(str(each.code), each.rule) for each in violations})
            else:
                accepted[entry.run_id] += 1
        for run_id, by_rule in moved.items():
            rows = accepted[run_id]
            tx.ledger.add_counts(run_id, SourceCounts(self.name, 0, rows, -rows, by_rule=by_rule))
        for table in self.stream.tables if self.table is None else ():
            bad: dict[str, list[Refused]] = defaultdict(list)
            for each in table.refused:
                bad[each.run_id].append(each)
            for run_id, rows in accepted.items():
                rules = Counter(
                    pair for each in bad[run_id] for pair in {(str(v.code), v.rule) for v in each.violations}
                )
                refused = len(bad[run_id])
                counts = SourceCounts(table.check.name, rows, rows - refused, refused, by_rule=rules)
                tx.ledger.add_counts(run_id, counts)
