"""What was done: runs, how many rows each source gave and where they went, and how far each source was read."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from brownfield.clock import Clock
from brownfield.errors import NotFound, StoreError
from brownfield.store.access import Access
from brownfield.store.schema import delivery, plain, position, run, run_rule, run_source, source_state

__all__ = ["Ledger", "Run", "SourceCounts", "SourceState"]


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over an integration's sources.

    Parameters
    ----------
    run_id
        32 hexadecimal characters.
    integration, kind
        Whose run, and which verb: ``pipeline``, ``score`` or ``replay``.
    contract, contract_digest
        ``id@version`` of the contract and the SHA-256 of its canonical form.
    started_utc, finished_utc
        Aware times; an unfinished run has no end.
    status
        ``running``, ``done`` or ``failed``.
    """

    run_id: str
    integration: str
    kind: str
    contract: str
    contract_digest: str
    started_utc: datetime
    finished_utc: datetime | None
    status: str


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """Rows of one source in one run; the store refuses counts in which a row is missing or counted twice.

    Parameters
    ----------
    source
        Name of the source in the declaration.
    rows_in, accepted, quarantined
        Rows; ``rows_in = accepted + quarantined``.
    repaired
        How many of the accepted were changed by a declared repair.
    by_rule
        Quarantined rows by ``(code, rule)``; a row that breaks several rules counts under each.
    """

    source: str
    rows_in: int
    accepted: int
    quarantined: int
    repaired: int = 0
    by_rule: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceState:
    """What is known of a source from the runs before.

    Parameters
    ----------
    rows_total
        Records of a feed read so far; of a lookup, those of its last whole pull.
    rows_last
        Records of the last reading that found any.
    shape
        Field to its description, as the source's catalogue or layout gave it.
    """

    rows_total: int
    rows_last: int
    shape: Mapping[str, str] = field(default_factory=dict)


class Ledger:
    """Runs, counts and positions; inside ``with store.commit() as tx`` all of it is one transaction."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def begin_run(self, *, integration: str, kind: str, contract: str, contract_digest: str) -> str:
        """Enter a run and return its identifier."""
        run_id = secrets.token_hex(16)
        with self._access.write() as connection:
            connection.execute(
                run.insert().values(
                    run_id=run_id,
                    integration=integration,
                    kind=kind,
                    contract=contract,
                    contract_digest=contract_digest,
                    started_utc=self._clock.now_utc(),
                    status="running",
                )
            )
        return run_id

    def finish_run(self, run_id: str, status: str = "done") -> None:
        """Close a run as ``done`` or ``failed``."""
        with self._access.write() as connection:
            found = connection.execute(
                run.update().where(run.c.run_id == run_id).values(status=status, finished_utc=self._clock.now_utc())
            )
            if found.rowcount == 0:
                raise NotFound("there is no such run", where=run_id)

    def close_abandoned(self, integration: str, kind: str) -> int:
        """Close the runs that were killed as ``failed``; the caller makes sure that none of them is alive."""
        with self._access.write() as connection:
            return connection.execute(
                run.update()
                .where(run.c.integration == integration, run.c.kind == kind, run.c.status == "running")
                .values(status="failed", finished_utc=self._clock.now_utc())
            ).rowcount

    def add_counts(self, run_id: str, counts: SourceCounts) -> None:
        """Add the rows of one batch to what the run has counted for that source; a replay adds negative ones too."""
        sums = ("rows_in", "accepted", "quarantined", "repaired")
        entry = insert(run_source).values(
            run_id=run_id, source=counts.source, **{name: getattr(counts, name) for name in sums}
        )
        entry = entry.on_conflict_do_update(
            index_elements=["run_id", "source"],
            set_={name: run_source.c[name] + entry.excluded[name] for name in sums},
        )
        rules = insert(run_rule)
        rules = rules.on_conflict_do_update(
            index_elements=["run_id", "source", "code", "rule"], set_={"rows": run_rule.c.rows + rules.excluded.rows}
        )
        with self._access.write() as connection:
            connection.execute(entry)
            if counts.by_rule:
                connection.execute(
                    rules,
                    [
                        {"run_id": run_id, "source": counts.source, "code": str(code), "rule": rule, "rows": rows}
                        for (code, rule), rows in counts.by_rule.items()
                    ],
                )

    def counts(self, run_id: str) -> list[SourceCounts]:
        """Return the counts of every source of a run, by source name."""
        with self._access.read() as connection:
            rules = connection.execute(
                sa.select(run_rule)
                .where(run_rule.c.run_id == run_id, run_rule.c.rows != 0)
                .order_by(run_rule.c.code, run_rule.c.rule)
            ).all()
            sources = connection.execute(
                sa.select(run_source).where(run_source.c.run_id == run_id).order_by(run_source.c.source)
            ).all()
        return [
            SourceCounts(
                source=row.source,
                rows_in=row.rows_in,
                accepted=row.accepted,
                quarantined=row.quarantined,
                repaired=row.repaired,
                by_rule={(rule.code, rule.rule): rule.rows for rule in rules if rule.source == row.source},
            )
            for row in sources
        ]

    def codes(self, integration: str, source: str) -> set[str]:
        """Give the rejection codes with which records of a source were refused in any run."""
        query = (
            sa.select(run_rule.c.code).distinct().join(run, run.c.run_id == run_rule.c.run_id)
            .where(run.c.integration == integration, run_rule.c.source == source)
        )  # fmt: skip
        with self._access.read() as connection:
            return set(connection.execute(query).scalars())

    def runs(self, integration: str | None = None, *, limit: int = 100) -> list[Run]:
        """Newest runs first."""
        query = sa.select(run).order_by(run.c.started_utc.desc(), run.c.run_id).limit(limit)
        if integration is not None:
            query = query.where(run.c.integration == integration)
        with self._access.read() as connection:
            return [Run(**plain(row)) for row in connection.execute(query).mappings()]

    def state(self, integration: str, source: str) -> SourceState | None:
        """Return what the runs before saw of a source; None when none was committed."""
        query = sa.select(source_state.c.rows_total, source_state.c.rows_last, source_state.c.shape).where(
            source_state.c.integration == integration, source_state.c.source == source
        )
        with self._access.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else SourceState(**plain(row))

    def set_state(self, integration: str, source: str, state: SourceState) -> None:
        """Replace what is known of a source."""
        values = {"rows_total": state.rows_total, "rows_last": state.rows_last, "shape": dict(state.shape)}
        entry = insert(source_state).values(integration=integration, source=source, **values)
        with self._access.write() as connection:
            connection.execute(
                entry.on_conflict_do_update(
                    index_elements=["integration", "source"], set_={name: entry.excluded[name] for name in values}
                )
            )

    def delivered(self, integration: str, source: str) -> set[str]:
        """Which files of a feed were read, each named with the digest of its content."""
        query = sa.select(delivery.c.origin).where(delivery.c.integration == integration, delivery.c.source == source)
        with self._access.read() as connection:
            return set(connection.execute(query).scalars())

    def add_delivery(self, run_id: str, integration: str, source: str, origin: str) -> None:
        """Note that a file of a feed was read; a second time changes nothing."""
        entry = insert(delivery).values(integration=integration, source=source, origin=origin, run_id=run_id)
        with self._access.write() as connection:
            connection.execute(entry.on_conflict_do_nothing())

    def position(self, integration: str, source: str) -> Any | None:
        """How far a source was read and committed, as the source itself wrote it; None when never."""
        with self._access.read() as connection:
            return _position(connection, integration, source)

    def advance(self, integration: str, source: str, new: Any, *, previous: Any | None) -> None:
        """Move a source's position on from the one that the caller had read from.

        Parameters
        ----------
        new
            Any JSON value but null; opaque to the store.
        previous
            What :meth:`position` gave before the batch was read.

        Raises
        ------
        StoreError
            When another run has moved it meanwhile: this run's work is then rolled back with it.
        """
        with self._access.write() as connection:
            if _position(connection, integration, source) != previous:
                raise StoreError(
                    "the position of this source was moved by another run",
                    where=f"{integration}.{source}",
                    next_step="Start the run again; it goes on from the committed position.",
                )
            entry = insert(position).values(
                integration=integration, source=source, position=new, updated_utc=self._clock.now_utc()
            )
            connection.execute(
                entry.on_conflict_do_update(
                    index_elements=["integration", "source"],
                    set_={"position": entry.excluded.position, "updated_utc": entry.excluded.updated_utc},
                )
            )


def _position(connection: sa.Connection, integration: str, source: str) -> Any | None:
    return connection.execute(
        sa.select(position.c.position).where(position.c.integration == integration, position.c.source == source)
    ).scalar_one_or_none()
