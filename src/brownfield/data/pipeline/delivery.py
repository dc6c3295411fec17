"""Rows on their way back: what the outbox holds is brought to each sink in order, each batch once.

A sink that is out of reach keeps its rows waiting and nobody else; a restart goes on with the batch that was under way.
Nothing is written whose declaration a person has not approved as it is now.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from brownfield.data.pipeline.bind_sink import Bound, bind_sink
from brownfield.data.pipeline.parts import one_run
from brownfield.data.pipeline.report import WriteBackReport
from brownfield.errors import (
    DeclarationError,
    InputRefused,
    NotFound,
    SinkRefused,
    SinkUnavailable,
    SourceUnavailable,
    StoreError,
)
from brownfield.integration import write_back_digest

if TYPE_CHECKING:
    from brownfield.clock import Clock
    from brownfield.integration import ConnectionSpec, IntegrationSpec
    from brownfield.store import OutboxEntry, Store

__all__ = [
    "approve_write_back",
    "check_nothing_waits",
    "current_digest",
    "deliver",
    "discard_write_back",
    "full_backlogs",
    "merged",
]

_LONGEST_BACK_OFF_S = 300
_HELD = (SinkUnavailable, SourceUnavailable, SinkRefused, InputRefused, DeclarationError)
"""What keeps the rows of one sink waiting; every other error ends the run."""


def deliver(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    output: Path,
    *,
    clock: "Clock",
    patient: bool = False,
) -> dict[str, WriteBackReport]:
    """Bring to each sink what it does not have yet; the caller holds the lock of the tables.

    Parameters
    ----------
    integration, connections, store, output
        As :func:`brownfield.data.pipeline.run_pipeline` takes them.
    clock
        Tells when a sink that failed may be tried again.
    patient
        Leave a sink that failed alone for a while: 2 s, 4 s and so on, up to 5 minutes.

    Raises
    ------
    Fenced
        When another owner has taken a sink over.
    StoreError
        When the store or a part cannot be read or written.
    """
    reports = {}
    pending = store.outbox.pending(integration.name)
    approved = store.outbox.approved(integration.name)
    for name in [*integration.write_back, *(other for other in pending if other not in integration.write_back)]:
        entries = pending.get(name, [])
        waiting = _reason_to_wait(integration, connections, name, approved) if entries else ""
        if not waiting and patient:
            waiting = _back_off(entries, clock)
        rows = 0
        if entries and not waiting:
            rows, waiting = _deliver_one(integration, connections, store, output, entries)
        left = sum(entry.rows_left for entry in entries) - rows
        reports[name] = WriteBackReport(sink=name, rows=rows, pending_rows=left, waiting=waiting)
    return reports


def merged(earlier: Mapping[str, WriteBackReport], later: Mapping[str, WriteBackReport]) -> dict[str, WriteBackReport]:
    """Add up what each sink got at the beginning and at the end of a run."""
    return {
        name: replace(report, rows=report.rows + (earlier[name].rows if name in earlier else 0))
        for name, report in later.items()
    }


def check_nothing_waits(integration: "IntegrationSpec", store: "Store") -> None:
    """Refuse to make tables anew while rows of the old ones wait to be written back.

    Raises
    ------
    StoreError
        With the sinks.
    """
    if waiting := list(store.outbox.pending(integration.name)):
        raise StoreError(
            f"rows wait to be written back to {', '.join(waiting)}",
            where=integration.name,
            next_step="Let a run without rebuild bring them there, or close them with --discard.",
        )


def current_digest(integration: "IntegrationSpec", connections: "Mapping[str, ConnectionSpec]", name: str) -> str:
    """Digest under which a write-back is approved as it is declared now.

    Raises
    ------
    DeclarationError
        When there is no such write-back.
    """
    spec = integration.write_back.get(name)
    if spec is None:
        raise DeclarationError(
            path=f"write_back.{name}",
            expected=f"one of {', '.join(integration.write_back) or 'none, for none is declared'}",
            got="no write-back of this name",
        )
    return write_back_digest(spec, connections[spec.to.connection or ""], integration.contract.schema(spec.from_))


def approve_write_back(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    *,
    sink: str,
    digest: str,
    actor: str,
) -> None:
    """Let a sink be written as it is declared now, and enter into the audit log who said so.

    Parameters
    ----------
    digest
        The first 12 or more digits of the digest that the dry run showed.

    Raises
    ------
    DeclarationError
        When the declaration is another one by now.
    """
    now = current_digest(integration, connections, sink)
    if len(digest) < _SHORTEST_DIGEST or not now.startswith(digest):
        raise DeclarationError(
            path=f"write_back.{sink}",
            expected=f"the digest of what is declared now ({now[:_SHORTEST_DIGEST]})",
            got="another one",
            next_step="Look at what would be written with --dry-run, and approve what it shows.",
        )
    with store.commit() as tx:
        tx.outbox.approve(integration.name, sink, now, actor)
        subject = f"{integration.name}.{sink}"
        tx.audit.append(actor=actor, action="write_back.approve", subject=subject, detail={"digest": now})


_SHORTEST_DIGEST = 12


def discard_write_back(integration: "IntegrationSpec", store: "Store", output: Path, *, sink: str, actor: str) -> int:
    """Close what waits for a sink without writing it, and enter that into the audit log; how many rows.

    Raises
    ------
    NotFound
        When nothing waits for it.
    Unavailable
        When a run is writing.
    """
    with one_run(output), store.commit() as tx:
        if sink not in tx.outbox.pending(integration.name):
            raise NotFound(f"nothing waits for the write-back {sink}", where=integration.name)
        rows = tx.outbox.discard(integration.name, sink)
        subject = f"{integration.name}.{sink}"
        tx.audit.append(actor=actor, action="write_back.discard", subject=subject, detail={"rows": rows})
    return rows


def full_backlogs(integration: "IntegrationSpec", store: "Store") -> dict[str, str]:
    """Name the feeds that pause because a sink has as many rows waiting as is declared, each with the reason."""
    pending = store.outbox.pending(integration.name) if integration.write_back else {}
    full = {}
    for name, spec in integration.write_back.items():
        rows = sum(entry.rows_left for entry in pending.get(name, []))
        if rows >= spec.max_pending_rows:
            feed = integration.unified[spec.from_].from_
            full[feed] = f"paused: {rows:,} rows wait for {name}, which may have {spec.max_pending_rows:,} waiting"
    return full


def _reason_to_wait(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    name: str,
    approved: Mapping[str, str],
) -> str:
    if name not in integration.write_back:
        return "it is no longer declared: declare it again, or discard what waits"
    digest = current_digest(integration, connections, name)
    if approved.get(name) == digest:
        return ""
    cause = "it was declared otherwise when it was approved" if name in approved else "nobody has approved it"
    return f"{cause}: look at it with --dry-run, then --approve {name}={digest[:_SHORTEST_DIGEST]}"


def _back_off(entries: "list[OutboxEntry]", clock: "Clock") -> str:
    """Why a sink is not tried yet; the wait doubles with each failure."""
    if not entries or entries[0].tried_utc is None:
        return ""
    pause_s = min(2 ** min(entries[0].attempts, 16), _LONGEST_BACK_OFF_S)
    again = entries[0].tried_utc + timedelta(seconds=pause_s)
    return (
        f"{entries[0].problem} Next try in {(again - clock.now_utc()).total_seconds():.0f} s."
        if (again > clock.now_utc())
        else ""
    )


def _deliver_one(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    output: Path,
    entries: "list[OutboxEntry]",
) -> tuple[int, str]:
    """Bring entries to their sink in order; rows that it got, and why the rest waits."""
    rows = 0
    entry = entries[0]
    columns = integration.write_back[entry.sink].columns
    try:
        with ExitStack() as held:
            bound = bind_sink(integration, entry.sink, connections)
            held.enter_context(closing(bound.sink))
            _take_over(bound, held)
            for entry in entries:
                for done in _deliver_entry(bound, store, output, entry, columns):
                    rows += done
    except _HELD as error:
        store.outbox.fail(entry, str(error))
        return rows, str(error)
    return rows, ""


def _take_over(bound: Bound, held: ExitStack) -> None:
    if bound.budget is None:
        bound.sink.take_over()
        return
    held.enter_context(bound.budget.connection())
    with bound.budget.attempt():
        bound.sink.take_over()


def _deliver_entry(
    bound: Bound, store: "Store", output: Path, entry: "OutboxEntry", columns: tuple[str, ...]
) -> Iterator[int]:
    """Bring the batches of an entry that the sink is not known to have; the rows of each."""
    last = -(-entry.rows // entry.batch_rows) - 1
    for number, batch in enumerate(_batches(output / entry.dataset / entry.file, columns, entry.batch_rows)):
        if number < entry.batches_done:
            continue
        position = entry.position if number == last else None
        if bound.budget is None:
            bound.sink.apply(entry.batch_id(number), batch, position)
        else:
            with bound.budget.rows(batch.num_rows):
                bound.sink.apply(entry.batch_id(number), batch, position)
        if number == last:
            store.outbox.deliver(entry, number + 1)
        else:
            store.outbox.advance(entry, number + 1)
        yield batch.num_rows


def _batches(path: Path, columns: tuple[str, ...], rows: int) -> Iterator[pa.Table]:
    """Read a part in batches of exactly so many rows, the last one shorter: the same on every attempt."""
    try:
        with pq.ParquetFile(path) as file:
            held = file.schema_arrow.empty_table().select(list(columns))
            for batch in file.iter_batches(rows, columns=list(columns)):
                held = pa.concat_tables([held, pa.Table.from_batches([batch.select(list(columns))])])
                while held.num_rows >= rows:
                    yield held.slice(0, rows)
                    held = held.slice(rows)
            if held.num_rows:
                yield held
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(
            "a part that waits to be written back cannot be read", where=str(path), next_step="Restore it."
        ) from error
