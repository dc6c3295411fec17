"""What is to be written back: entered with the position that it was read up to, and kept until the sink has it.

An entry names one part of a unified table; its rows leave in batches of a fixed size, each an effect of its own.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from brownfield.clock import Clock
from brownfield.store.access import Access
from brownfield.store.parts import Part
from brownfield.store.schema import approval, outbox, plain

__all__ = ["Outbox", "OutboxEntry", "OutboxState"]


class OutboxState(StrEnum):
    """What became of an entry."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """One part of a table on its way to one sink.

    Parameters
    ----------
    integration, sink, number
        Which write-back of which integration; entries of one are delivered in the order of their numbers.
    effect_id
        64 hexadecimal digits, the same on every attempt.
    dataset, file, rows
        The part.
    batch_rows, batches_done
        Rows of one batch, as declared when it was entered, and how many batches the sink is known to have.
    position
        How far the source was read with this part.
    run_id
        The run that entered it.
    state, attempts, problem
        Where it stands, how often delivering it failed, and why the last time.
    entered_utc, tried_utc, finished_utc
        Aware times; the last failure, and the end.
    """

    integration: str
    sink: str
    number: int
    effect_id: str
    dataset: str
    file: str
    rows: int
    batch_rows: int
    batches_done: int
    position: Any
    run_id: str
    state: str
    attempts: int
    problem: str
    entered_utc: datetime
    tried_utc: datetime | None
    finished_utc: datetime | None

    @property
    def rows_left(self) -> int:
        """Rows that the sink is not known to have."""
        return max(0, self.rows - self.batches_done * self.batch_rows)

    def batch_id(self, number: int) -> str:
        """Name one batch of the entry, in at most 64 characters.

        Examples
        --------
        >>> from datetime import UTC
        >>> entry = OutboxEntry(integration="shop", sink="pos", number=0, effect_id="ab" * 32, dataset="lines",
        ...     file="000000.parquet", rows=7, batch_rows=5, batches_done=1, position=None, run_id="", state="pending",
        ...     attempts=0, problem="", entered_utc=datetime(2026, 11, 21, tzinfo=UTC), tried_utc=None,
        ...     finished_utc=None)
        >>> entry.batch_id(1)
        'abababababababababababababababababababababababab-1'
        >>> entry.rows_left
        2
        """
        return f"{self.effect_id[:48]}-{number}"


class Outbox:
    """The entries of every write-back, and the approvals without which none is delivered."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def enter(  # noqa: PLR0913 (what an entry is made of)
        self,
        run_id: str,
        *,
        integration: str,
        sink: str,
        dataset: str,
        part: Part,
        batch_rows: int,
        position: Any,
    ) -> None:
        """Enter a part that a sink is to have; a part without rows needs nobody."""
        if part.rows == 0:
            return
        own = (outbox.c.integration == integration, outbox.c.sink == sink)
        number = sa.select(sa.func.coalesce(sa.func.max(outbox.c.number) + 1, 0)).where(*own).scalar_subquery()
        named = f"{integration}\0{sink}\0{run_id}\0{part.file}"
        with self._access.write() as connection:
            connection.execute(
                outbox.insert().values(
                    integration=integration,
                    sink=sink,
                    number=number,
                    effect_id=hashlib.sha256(named.encode()).hexdigest(),
                    dataset=dataset,
                    file=part.file,
                    rows=part.rows,
                    batch_rows=batch_rows,
                    batches_done=0,
                    position=position,
                    run_id=run_id,
                    state=OutboxState.PENDING,
                    attempts=0,
                    problem="",
                    entered_utc=self._clock.now_utc(),
                )
            )

    def pending(self, integration: str) -> Mapping[str, list[OutboxEntry]]:
        """Entries that a sink does not have yet, by sink, oldest first."""
        query = sa.select(outbox).where(outbox.c.integration == integration, outbox.c.state == OutboxState.PENDING)
        found: dict[str, list[OutboxEntry]] = {}
        with self._access.read() as connection:
            for row in connection.execute(query.order_by(outbox.c.sink, outbox.c.number)).mappings():
                found.setdefault(row["sink"], []).append(OutboxEntry(**plain(row)))
        return found

    def entries(self, integration: str, sink: str, *, limit: int = 1000) -> list[OutboxEntry]:
        """Newest entries of one sink first."""
        query = sa.select(outbox).where(outbox.c.integration == integration, outbox.c.sink == sink)
        with self._access.read() as connection:
            rows = connection.execute(query.order_by(outbox.c.number.desc()).limit(limit)).mappings()
            return [OutboxEntry(**plain(row)) for row in rows]

    def needed_parts(self, integration: str, dataset: str) -> set[str]:
        """Files of a table that a pending entry still reads: they must stay as they are."""
        query = sa.select(outbox.c.file).where(
            outbox.c.integration == integration, outbox.c.dataset == dataset, outbox.c.state == OutboxState.PENDING
        )
        with self._access.read() as connection:
            return set(connection.execute(query).scalars())

    def advance(self, entry: OutboxEntry, batches_done: int) -> None:
        """Note that the sink has so many batches of an entry."""
        self._update(entry, batches_done=batches_done)

    def deliver(self, entry: OutboxEntry, batches_done: int) -> None:
        """Note that the sink has all of an entry."""
        self._update(
            entry,
            batches_done=batches_done,
            state=OutboxState.DELIVERED,
            problem="",
            finished_utc=self._clock.now_utc(),
        )

    def fail(self, entry: OutboxEntry, problem: str) -> None:
        """Note that an entry could not be delivered now."""
        self._update(entry, attempts=outbox.c.attempts + 1, problem=problem, tried_utc=self._clock.now_utc())

    def discard(self, integration: str, sink: str) -> int:
        """Close all pending entries of a sink without delivering them; how many rows of them it does not have."""
        entries = self.pending(integration).get(sink, [])
        for entry in entries:
            self._update(entry, state=OutboxState.DISCARDED, finished_utc=self._clock.now_utc())
        return sum(entry.rows_left for entry in entries)

    def approve(self, integration: str, sink: str, digest: str, actor: str) -> None:
        """Let a sink be written under one digest of its declaration, in place of any other."""
        values = {"digest": digest, "actor": actor, "approved_utc": self._clock.now_utc()}
        entry = insert(approval).values(integration=integration, sink=sink, **values)
        with self._access.write() as connection:
            connection.execute(entry.on_conflict_do_update(index_elements=["integration", "sink"], set_=values))

    def withdraw(self, integration: str) -> None:
        """Take back every approval of an integration."""
        with self._access.write() as connection:
            connection.execute(approval.delete().where(approval.c.integration == integration))

    def approved(self, integration: str) -> Mapping[str, str]:
        """Digest that was approved for each sink."""
        query = sa.select(approval.c.sink, approval.c.digest).where(approval.c.integration == integration)
        with self._access.read() as connection:
            return {row.sink: row.digest for row in connection.execute(query)}

    def _update(self, entry: OutboxEntry, **values: Any) -> None:
        own = (outbox.c.integration == entry.integration, outbox.c.sink == entry.sink, outbox.c.number == entry.number)
        with self._access.write() as connection:
            connection.execute(outbox.update().where(*own).values(**values))
