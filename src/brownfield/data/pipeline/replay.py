"""Refused records of a feed once more, under the contract and layout of today: each has at most one effect.

Raw bytes of files are decoded again; rows of tables come from the form in which they were kept. What is accepted now
is added to the tables and closed as ``replayed`` in one transaction; what is refused again stays open.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from brownfield.clock import Clock, SystemClock
from brownfield.data.decoded import Decoded, Reject
from brownfield.data.pipeline.binding import bind_source
from brownfield.data.pipeline.parts import one_run, settle
from brownfield.data.pipeline.plan import reading_order
from brownfield.data.pipeline.rows import column_of
from brownfield.data.pipeline.run import Run, begin, settle_all
from brownfield.data.sources import FolderFile
from brownfield.errors import DeclarationError, RejectionCode, StoreError
from brownfield.store import QuarantineState, Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from brownfield.data.pipeline.guards import Guard
    from brownfield.data.pipeline.streams import SourceStream
    from brownfield.data.sources import Source
    from brownfield.integration import ConnectionSpec, IntegrationSpec
    from brownfield.store import Quarantined, Store

__all__ = ["ReplayReport", "discard_quarantined", "replay_quarantined"]

_ALL = 2**31 - 1
_ACCEPTED: "tuple[Guard, ...]" = ("keys", "nulls", "refused", "shape", "volume")
"""A replay takes nothing from the feed itself, and what its lookups are was judged by the runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay did, or would do.

    Parameters
    ----------
    source
        The feed.
    applied
        False for a dry run, which changes nothing.
    selected, accepted, still_bad
        Open records that were tried; those that are accepted now; those that are refused again.
    unreadable
        Records that cannot be tried: cut when they were kept, or of a file whose header is gone; they stay open.
    already_applied
        Records of the same selection that an earlier replay brought in.
    discarded
        Records that were closed without another try.
    by_rule
        Records refused again, by rule.
    """

    source: str
    applied: bool
    selected: int
    accepted: int = 0
    still_bad: int = 0
    unreadable: int = 0
    already_applied: int = 0
    discarded: int = 0
    by_rule: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def replay_quarantined(  # noqa: PLR0913 (what a replay is made of)
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    output: Path,
    *,
    source: str,
    code: str | None = None,
    min_age_h: float = 0.0,
    apply: bool = False,
    actor: str = "local",
    clock: Clock | None = None,
) -> ReplayReport:
    """Try the open records of a feed again; without ``apply`` nothing is changed.

    Parameters
    ----------
    integration, connections, store, output
        As :func:`run_pipeline` takes them.
    source
        The feed.
    code
        Only records of which any reason has this rejection code.
    min_age_h
        Only records first seen at least so many hours ago.
    apply
        Bring in what is accepted now.
    actor
        Who does it, for the audit log.
    clock
        The system's unless given.

    Raises
    ------
    DeclarationError
        When there is no such feed.
    SourceUnavailable
        When a lookup that the records refer to cannot be read.
    Unavailable
        When a run is writing the tables.
    """
    clock = clock or SystemClock()
    _check_feed(integration, source)
    with one_run(output):
        settle_all(output, store.parts.listed(integration.name))
        entries = _select(store, clock, integration.name, source, code, min_age_h, QuarantineState.OPEN)
        already = len(_select(store, clock, integration.name, source, code, min_age_h, QuarantineState.REPLAYED))
        begun = begin(integration, store, "replay" if apply else None)
        try:
            with ExitStack() as writers:
                run = Run(
                    integration, store, output, begun=begun, rebuild=False, accept=_ACCEPTED, clock=clock,
                    writers=writers,
                )  # fmt: skip
                stream = _prepare(run, connections, source)
                outcome = _try(run, stream, bind_source(integration, source, connections), entries)
                if apply:
                    _commit(run, stream, outcome, actor)
        except BaseException:
            if apply:
                with suppress(StoreError):  # what went wrong first is what is told
                    store.ledger.finish_run(begun.run_id, "failed")
            raise
        if apply:
            for table in stream.datasets:
                settle(table.folder, table.files())
    return ReplayReport(
        source=source,
        applied=apply,
        selected=len(entries),
        accepted=len(outcome.accepted),
        still_bad=len(stream.refused),
        unreadable=outcome.unreadable,
        already_applied=already,
        by_rule=dict(Counter(each.violations[0].rule for each in stream.refused)),
    )


def discard_quarantined(  # noqa: PLR0913 (as replay_quarantined)
    integration: "IntegrationSpec",
    store: "Store",
    *,
    source: str,
    code: str | None = None,
    min_age_h: float = 0.0,
    apply: bool = False,
    actor: str = "local",
    clock: Clock | None = None,
) -> ReplayReport:
    """Close open records of a feed without another try; parameters and errors as :func:`replay_quarantined`."""
    clock = clock or SystemClock()
    _check_feed(integration, source)
    name = integration.name
    entries = _select(store, clock, name, source, code, min_age_h, QuarantineState.OPEN)
    if apply:
        with store.commit() as tx:
            tx.quarantine.set_state(name, source, [each.record_id for each in entries], QuarantineState.DISCARDED)
            detail = {"records": len(entries), "code": code or ""}
            tx.audit.append(actor=actor, action="quarantine.discard", subject=f"{name}.{source}", detail=detail)
    return ReplayReport(source=source, applied=apply, selected=len(entries), discarded=len(entries))


def _check_feed(integration: "IntegrationSpec", source: str) -> None:
    feeds = [name for name, spec in integration.sources.items() if spec.feed]
    if source not in feeds:
        raise DeclarationError(
            path=f"sources.{source}",
            expected=f"a feed ({', '.join(feeds) or 'there is none'})",
            got="a lookup" if source in integration.sources else "no source of this name",
            next_step="A lookup is pulled whole by the next run, and checked anew.",
        )


def _select(  # noqa: PLR0913, PLR0917 (the conditions of a selection)
    store: "Store",
    clock: Clock,
    integration: str,
    source: str,
    code: str | None,
    min_age_h: float,
    state: QuarantineState,
) -> "list[Quarantined]":
    latest = clock.now_utc() - timedelta(hours=min_age_h)
    wanted = Selection(source=source, code=code, state=state, seen_until_utc=latest)
    return store.quarantine.select(integration, wanted, limit=_ALL)


def _prepare(run: Run, connections: "Mapping[str, ConnectionSpec]", source: str) -> "SourceStream":
    """Read the lookups that the feed needs; other feeds are what earlier runs remember of them."""
    for name in reading_order(run.integration):
        if name == source:
            break
        if run.integration.sources[name].feed:
            run.recall(name)
        else:
            run.read(name, partial(bind_source, run.integration, name, connections, run.store, run.clock))
    return run.begin(source)


@dataclass(slots=True)
class _Outcome:
    accepted: list[str]
    unreadable: int


def _try(run: Run, stream: "SourceStream", source: "Source", entries: "Sequence[Quarantined]") -> _Outcome:
    """Decode and check the records; the row of each is told by its number, so that it keeps its identity."""
    usable = [each for each in entries if each.whole]
    decode: Callable[[Quarantined], tuple[Decoded, ...]]
    wanted = stream.check.schema.arrow
    if isinstance(source, FolderFile):
        header = _Header(source, stream.check.identity)
        usable = [each for each in usable if header.fits(each)]
        decode = lambda each: tuple(source.decode(io.BytesIO(header.line + (each.raw or b"")), wanted))  # noqa: E731
    else:
        decode = lambda each: (_from_row(each.raw or b"", wanted),)  # noqa: E731
    batches, numbers, rejects, odd = [], [], [], 0
    for number, entry in enumerate(usable):
        decoded = decode(entry)
        if sum(each.records for each in decoded) != 1:
            odd += 1
        for each in decoded if sum(each.records for each in decoded) == 1 else ():
            batches.append(each.batch)
            numbers += [number] * each.batch.num_rows
            rejects += [replace(reject, position=str(number), raw=entry.raw or b"") for reject in each.rejects]
    if batches:
        batch = pa.Table.from_batches(batches).combine_chunks()
        one = batch.to_batches()[0] if batch.num_rows else batches[0]
        raws = [entry.raw or b"" for entry in usable]
        run.take(
            stream,
            "replay",
            Decoded(one, lambda row: str(numbers[row]), lambda row: raws[numbers[row]], tuple(rejects)),
        )
    stream.refused = [
        replace(each, record_id=usable[int(each.position)].record_id, position=usable[int(each.position)].position)
        for each in stream.refused
    ]
    for table in stream.tables:
        table.refused = [
            replace(
                each,
                record_id=hashlib.sha256(
                    f"{table.check.identity}\0{usable[int(each.position)].record_id}".encode()
                ).hexdigest(),
                position=usable[int(each.position)].position,
            )
            for each in table.refused
        ]
    refused = {each.record_id for each in stream.refused}
    tried = {usable[number].record_id for number in numbers}
    return _Outcome(sorted(tried - refused), len(entries) - len(usable) + odd)


class _Header:
    """The header line of a file of a feed, for records of which nothing but their own bytes was kept."""

    def __init__(self, source: FolderFile, identity: str) -> None:
        self.line = b""
        self._origin = ""
        self._identity = identity
        if source.has_header:
            content = (source.folder / source.path).read_bytes()
            self.line = content.partition(b"\n")[0] + b"\n"
            self._origin = f"{source.path}#{hashlib.sha256(content).hexdigest()}"

    def fits(self, entry: "Quarantined") -> bool:
        """Whether the header is that of the record's own file."""
        named = f"{self._identity}\0{self._origin}\0{entry.position}"
        return not self._origin or hashlib.sha256(named.encode()).hexdigest() == entry.record_id


def _from_row(raw: bytes, wanted: pa.Schema) -> Decoded:
    """Read a row of a table in the form in which it was kept: one JSON object."""
    row = msgspec.json.decode(raw)
    columns, misfit = [], None
    for column in wanted:
        values = column_of(row.get(column.name), column)
        misfit = misfit or (column.name if values is None else None)
        columns.append(column_of(None, column) if values is None else values)
    batch = pa.RecordBatch.from_arrays(columns, names=wanted.names)
    if misfit is None:
        return Decoded(batch, str, lambda _: raw)
    return Decoded(batch.slice(0, 0), str, lambda _: raw, (Reject("", RejectionCode.FIELD_TYPE, misfit, raw),))


def _commit(run: Run, stream: "SourceStream", outcome: _Outcome, actor: str) -> None:
    """Make counts, parts, states and the audit entry durable in one transaction."""
    integration, name, run_id = run.integration.name, stream.check.name, run.begun.run_id
    for dataset in stream.datasets:
        dataset.seal()
    with run.store.commit() as tx:
        run.enter(tx, stream, whole=False)
        for table in stream.tables:
            run.enter(tx, table, whole=False)
        tx.quarantine.set_state(integration, name, outcome.accepted, QuarantineState.REPLAYED)
        for dataset in stream.datasets:
            dataset.enter(tx.parts, run_id, integration)
        detail = {"run_id": run_id, "accepted": len(outcome.accepted), "still_bad": len(stream.refused)}
        tx.audit.append(actor=actor, action="quarantine.replay", subject=f"{integration}.{name}", detail=detail)
        tx.ledger.finish_run(run_id)
