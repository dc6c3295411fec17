"""Records that were refused: why, where they came from, their raw bytes, and what became of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from brownfield.clock import Clock
from brownfield.errors import Violation
from brownfield.store.access import Access
from brownfield.store.schema import plain, quarantine

__all__ = ["RAW_CAP_BYTES", "Quarantine", "QuarantineState", "Quarantined", "Refused"]

RAW_CAP_BYTES = 65536
_VIOLATIONS_CAP = 20
_ROWS_PER_STATEMENT = 5000


class QuarantineState(StrEnum):
    """What became of a quarantined record."""

    OPEN = "open"
    FIXED = "fixed"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record on its way into quarantine.

    Parameters
    ----------
    record_id
        The producer's identifier or a hash of source and position: the same on every attempt.
    violations
        At least one; the first is the reason under which it is counted.
    position
        Where it stands in its source, as a JSON value.
    raw
        Its bytes as the source gave them; kept up to ``RAW_CAP_BYTES``.
    preview
        Field to text, masked by the field's classification (:func:`brownfield.store.mask_value`).
    stage
        ``decode``, ``check`` or ``ready``.
    """

    record_id: str
    violations: Sequence[Violation]
    position: Any = None
    raw: bytes = b""
    preview: Mapping[str, str] | None = None
    stage: str = "check"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record in quarantine.

    Parameters
    ----------
    code, field, rule
        The first violation.
    violations
        ``[code, field, rule]`` of the first twenty.
    contract
        ``id@version`` under which it was refused last.
    attempt
        How often it was refused, from 1.
    raw
        Its bytes, cut at ``RAW_CAP_BYTES``; None once expired.
    raw_bytes
        Length of the bytes before the cut.
    """

    integration: str
    source: str
    record_id: str
    run_id: str
    position: Any
    stage: str
    code: str
    field: str
    rule: str
    violations: list[list[str]]
    contract: str
    attempt: int
    first_seen_utc: datetime
    last_seen_utc: datetime
    raw: bytes | None
    raw_bytes: int
    preview: Mapping[str, str] | None
    state: QuarantineState


class Quarantine:
    """The refused records of every integration."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def add(self, run_id: str, *, integration: str, source: str, contract: str, records: Iterable[Refused]) -> int:
        """Enter refused records; one that is there already gets another attempt and stays one entry.

        A record that a person discarded stays discarded.

        Returns
        -------
        int
            Records entered.
        """
        now = self._clock.now_utc()
        shared = {
            "integration": integration,
            "source": source,
            "run_id": run_id,
            "contract": contract,
            "attempt": 1,
            "first_seen_utc": now,
            "last_seen_utc": now,
            "state": QuarantineState.OPEN.value,
        }
        rows = [{**shared, **_columns(record)} for record in records]
        with self._access.write() as connection:
            for start in range(0, len(rows), _ROWS_PER_STATEMENT):
                connection.execute(_UPSERT, rows[start : start + _ROWS_PER_STATEMENT])
        return len(rows)

    def select(
        self,
        integration: str,
        *,
        source: str | None = None,
        code: str | None = None,
        run_id: str | None = None,
        state: QuarantineState | None = None,
        limit: int = 1000,
    ) -> list[Quarantined]:
        """Return records in quarantine, oldest first."""
        wanted = {"source": source, "code": code, "run_id": run_id, "state": state}
        query = sa.select(quarantine).where(quarantine.c.integration == integration)
        for name, value in wanted.items():
            if value is not None:
                query = query.where(quarantine.c[name] == value)
        query = query.order_by(quarantine.c.first_seen_utc, quarantine.c.source, quarantine.c.record_id).limit(limit)
        with self._access.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [Quarantined(**{**plain(row), "state": QuarantineState(row["state"])}) for row in rows]

    def count_by_rule(
        self, integration: str, *, state: QuarantineState = QuarantineState.OPEN
    ) -> dict[tuple[str, str, str], int]:
        """Count records in quarantine by ``(source, code, rule)``."""
        keys = (quarantine.c.source, quarantine.c.code, quarantine.c.rule)
        query = (
            sa.select(*keys, sa.func.count())
            .where(quarantine.c.integration == integration, quarantine.c.state == state)
            .group_by(*keys)
            .order_by(*keys)
        )
        with self._access.read() as connection:
            return {(source, code, rule): rows for source, code, rule, rows in connection.execute(query)}

    def set_state(self, integration: str, source: str, record_ids: Sequence[str], state: QuarantineState) -> int:
        """Say what became of these records; returns how many there were."""
        change = (
            quarantine.update()
            .where(
                quarantine.c.integration == integration,
                quarantine.c.source == source,
                quarantine.c.record_id == sa.bindparam("wanted"),
            )
            .values(state=state.value)
        )
        if not record_ids:
            return 0
        with self._access.write() as connection:
            return connection.execute(change, [{"wanted": record_id} for record_id in record_ids]).rowcount

    def settle(self, run_id: str, integration: str, source: str) -> int:
        """Close as ``fixed`` the open records of a source that this run, which read it whole, did not refuse."""
        gone = (
            quarantine.c.integration == integration,
            quarantine.c.source == source,
            quarantine.c.state == QuarantineState.OPEN.value,
            quarantine.c.run_id != run_id,
        )
        with self._access.write() as connection:
            return connection.execute(
                quarantine.update().where(*gone).values(state=QuarantineState.FIXED.value)
            ).rowcount

    def expire(self, before_utc: datetime) -> int:
        """Delete raw bytes and previews of records last seen before a time; the reason and counts stay."""
        old = (quarantine.c.last_seen_utc < before_utc, quarantine.c.state != QuarantineState.EXPIRED.value)
        with self._access.write() as connection:
            return connection.execute(
                quarantine.update().where(*old).values(raw=None, preview=sa.null(), state=QuarantineState.EXPIRED.value)
            ).rowcount


def _columns(record: Refused) -> dict[str, Any]:
    first = record.violations[0]
    return {
        "record_id": record.record_id,
        "position": record.position,
        "stage": record.stage,
        "code": first.code.value,
        "field": first.field,
        "rule": first.rule,
        "violations": [[each.code.value, each.field, each.rule] for each in record.violations[:_VIOLATIONS_CAP]],
        "raw": record.raw[:RAW_CAP_BYTES],
        "raw_bytes": len(record.raw),
        "preview": record.preview,
    }


def _upsert() -> Any:
    entry = insert(quarantine)
    new = entry.excluded
    replaced = {
        name: new[name]
        for name in (
            "run_id",
            "position",
            "stage",
            "code",
            "field",
            "rule",
            "violations",
            "contract",
            "last_seen_utc",
            "raw",
            "raw_bytes",
            "preview",
        )
    }
    return entry.on_conflict_do_update(
        index_elements=["integration", "source", "record_id"],
        set_={
            **replaced,
            "attempt": quarantine.c.attempt + 1,
            "state": sa.case(
                (quarantine.c.state == QuarantineState.DISCARDED.value, quarantine.c.state), else_=new.state
            ),
        },
    )


_UPSERT = _upsert()
