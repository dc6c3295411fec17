"""Records that were refused: every reason, where they came from, their raw bytes, and what became of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from brownfield.clock import Clock
from brownfield.errors import Violation
from brownfield.store.access import Access
from brownfield.store.schema import plain, quarantine, quarantine_reason

__all__ = ["RAW_CAP_BYTES", "Parked", "Quarantine", "QuarantineState", "Quarantined", "Refused", "Selection"]

RAW_CAP_BYTES = 16 * 2**20
"""Longest record of which the bytes are kept; of a longer one only its length is."""
_REASONS_CAP = 100
_ROWS_PER_STATEMENT = 5000
_IDENTITY = ("integration", "source", "record_id")
_REPLACED = (
    "run_id",
    "position",
    "stage",
    "contract",
    "last_seen_utc",
    "raw",
    "raw_bytes",
    "preview",
    "key_id",
    "park_key",
    "head",
)

Where: TypeAlias = sa.ColumnElement[bool]


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
        At least one, in the order of the contract's fields and rules; the first hundred are kept.
    position
        Where it stands in its source, as a JSON value.
    raw
        Its bytes as the source gave them, or encrypted; None where they may not be kept.
    preview
        Field to text, masked by the field's classification (:func:`brownfield.store.mask_value`).
    stage
        ``decode``, ``check`` or ``unify``.
    raw_bytes
        Length of the bytes as the source gave them; that of ``raw`` unless given.
    key_id
        Name of the key that encrypted ``raw``; empty where it stands in clear.
    park_key
        Digest of the key behind which later records wait; empty where none does.
    head
        Bytes that must stand before ``raw`` so that it can be decoded alone.
    run_id
        Run whose counts have it as refused; the one that enters it unless given.
    """

    record_id: str
    violations: Sequence[Violation]
    position: Any = None
    raw: bytes | None = b""
    preview: Mapping[str, str] | None = None
    stage: str = "check"
    raw_bytes: int | None = None
    key_id: str = ""
    park_key: str = ""
    head: bytes = b""
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record in quarantine.

    Parameters
    ----------
    violations
        ``[code, field, rule]`` of every reason, in order.
    contract
        ``id@version`` under which it was refused last.
    attempt
        How often it was refused, from 1.
    raw
        Its bytes, encrypted where there is a ``key_id``; None once expired, and where they were too long or not to be
        kept.
    raw_bytes
        Length of the bytes as the source gave them.
    seq
        Records of one source have come in the order of this number.
    """

    integration: str
    source: str
    record_id: str
    run_id: str
    position: Any
    stage: str
    contract: str
    attempt: int
    first_seen_utc: datetime
    last_seen_utc: datetime
    raw: bytes | None
    raw_bytes: int
    preview: Mapping[str, str] | None
    state: QuarantineState
    seq: int
    key_id: str
    park_key: str
    head: bytes
    violations: list[list[str]]

    @property
    def code(self) -> str:
        """Rejection code of the first reason."""
        return self.violations[0][0]

    @property
    def field(self) -> str:
        """Field of the first reason."""
        return self.violations[0][1]

    @property
    def rule(self) -> str:
        """Rule of the first reason."""
        return self.violations[0][2]

    @property
    def whole(self) -> bool:
        """Whether all its bytes are there."""
        return self.raw is not None and (self.key_id != "" or len(self.raw) == self.raw_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records of an integration are meant; what is not given does not matter.

    Parameters
    ----------
    source, run_id, contract, state
        As the record has it.
    code, rule
        Of any of its reasons; given together, of one and the same.
    seen_from_utc, seen_until_utc
        First seen in ``[from, until]``.
    park_key
        Digest of the key behind which records wait.
    """

    source: str | None = None
    run_id: str | None = None
    contract: str | None = None
    state: QuarantineState | None = None
    code: str | None = None
    rule: str | None = None
    seen_from_utc: datetime | None = None
    seen_until_utc: datetime | None = None
    park_key: str | None = None

    def conditions(self, integration: str) -> list[Where]:
        """Give the conditions of a query."""
        row = quarantine.c
        found: list[Where] = [row.integration == integration]
        for name in ("source", "run_id", "contract", "state", "park_key"):
            value = getattr(self, name)
            if value is not None:
                found.append(row[name] == value)
        if self.seen_from_utc is not None:
            found.append(row.first_seen_utc >= self.seen_from_utc)
        if self.seen_until_utc is not None:
            found.append(row.first_seen_utc <= self.seen_until_utc)
        reasons = {"code": self.code, "rule": self.rule}
        wanted = [quarantine_reason.c[name] == value for name, value in reasons.items() if value is not None]
        if wanted:
            found.append(sa.exists().where(_same_record(), *wanted))
        return found


@dataclass(frozen=True, slots=True)
class Parked:
    """What waits in a feed, one entry for each key with open records.

    Parameters
    ----------
    records
        Open records of the key: the one that was refused, and those that wait behind it.
    since_utc
        When the first of them was refused.
    """

    records: int
    since_utc: datetime


class Quarantine:
    """The refused records of every integration."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def add(self, run_id: str, *, integration: str, source: str, contract: str, records: Iterable[Refused]) -> int:
        """Enter refused records; one that is there already gets another attempt and stays one entry in its place.

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
        entered = list(records)
        with self._access.write() as connection:
            last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(quarantine.c.seq), 0))).scalar_one()
            for start in range(0, len(entered), _ROWS_PER_STATEMENT):
                some = entered[start : start + _ROWS_PER_STATEMENT]
                rows = [{**shared, **_columns(each), "seq": last + start + n} for n, each in enumerate(some, 1)]
                connection.execute(_UPSERT, rows)
                connection.execute(
                    _FORGET, [{"of": integration, "from": source, "wanted": each.record_id} for each in some]
                )
                connection.execute(quarantine_reason.insert(), _reasons(integration, source, some))
        return len(entered)

    def select(self, integration: str, wanted: Selection | None = None, *, limit: int = 1000) -> list[Quarantined]:
        """Return records in quarantine, in the order in which they came."""
        conditions = (wanted or Selection()).conditions(integration)
        chosen = sa.select(quarantine).where(*conditions).order_by(quarantine.c.seq).limit(limit)
        some = chosen.with_only_columns(*(quarantine.c[name] for name in _IDENTITY)).subquery()
        reason = quarantine_reason.c
        of_them = (
            sa.select(reason.source, reason.record_id, reason.code, reason.field, reason.rule)
            .join_from(quarantine_reason, some, sa.and_(*(reason[name] == some.c[name] for name in _IDENTITY)))
            .order_by(reason.number)
        )
        violations: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
        with self._access.read() as connection:
            for source, record_id, *triple in connection.execute(of_them):
                violations[source, record_id].append(list(triple))
            rows = connection.execute(chosen).mappings().all()
        return [
            Quarantined(
                **{**plain(row), "state": QuarantineState(row["state"])},
                violations=violations[row["source"], row["record_id"]],
            )
            for row in rows
        ]

    def count_by_rule(self, integration: str, wanted: Selection | None = None) -> dict[tuple[str, str, str], int]:
        """Count records by ``(source, code, rule)``: open ones unless the selection says otherwise.

        A record that was refused for several reasons counts under each.
        """
        reason = quarantine_reason.c
        keys = (reason.source, reason.code, reason.rule)
        conditions = (wanted or Selection(state=QuarantineState.OPEN)).conditions(integration)
        query = (
            sa.select(*keys, sa.func.count(sa.distinct(reason.record_id)))
            .join_from(quarantine_reason, quarantine, _same_record())
            .where(*conditions)
            .group_by(*keys)
            .order_by(*keys)
        )
        with self._access.read() as connection:
            return {(source, code, rule): rows for source, code, rule, rows in connection.execute(query)}

    def count(self, integration: str, wanted: Selection | None = None) -> int:
        """Count records."""
        conditions = (wanted or Selection()).conditions(integration)
        with self._access.read() as connection:
            query = sa.select(sa.func.count()).select_from(quarantine).where(*conditions)
            return int(connection.execute(query).scalar_one())

    def oldest(self, integration: str, wanted: Selection) -> datetime | None:
        """Say when the first of these records was first seen."""
        with self._access.read() as connection:
            query = sa.select(sa.func.min(quarantine.c.first_seen_utc)).where(*wanted.conditions(integration))
            found: datetime | None = connection.execute(query).scalar_one()
        return found

    def count_by_state(self, integration: str) -> dict[tuple[str, QuarantineState], int]:
        """Count records by source and state."""
        keys = (quarantine.c.source, quarantine.c.state)
        query = (
            sa.select(*keys, sa.func.count()).where(quarantine.c.integration == integration).group_by(*keys)
            .order_by(*keys)
        )  # fmt: skip
        with self._access.read() as connection:
            return {(source, QuarantineState(state)): rows for source, state, rows in connection.execute(query)}

    def raw_bytes(self) -> int:
        """Give the raw bytes that are kept of all integrations."""
        with self._access.read() as connection:
            total = sa.func.coalesce(sa.func.sum(sa.func.length(quarantine.c.raw)), 0)
            return int(connection.execute(sa.select(total)).scalar_one())

    def parked(self, integration: str, source: str) -> dict[str, Parked]:
        """Give the keys of a feed behind which records wait, by their digest."""
        row = quarantine.c
        query = (
            sa.select(row.park_key, sa.func.count(), sa.func.min(row.first_seen_utc))
            .where(
                row.integration == integration, row.source == source, row.park_key != "",
                row.state == QuarantineState.OPEN.value,
            )
            .group_by(row.park_key)
        )  # fmt: skip
        with self._access.read() as connection:
            return {key: Parked(records, since) for key, records, since in connection.execute(query)}

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

    def expire(self, before_utc: datetime, integration: str | None = None) -> int:
        """Delete raw bytes and previews of records last seen before a time; reasons, counts and place stay.

        Open records become ``expired``; what was replayed, fixed or discarded stays so.

        Returns
        -------
        int
            Records of which something was deleted.
        """
        row = quarantine.c
        is_open = row.state == QuarantineState.OPEN.value
        old = [row.last_seen_utc < before_utc, sa.or_(row.raw.is_not(None), row.preview.is_not(None), is_open)]
        if integration is not None:
            old.append(row.integration == integration)
        state = sa.case((is_open, QuarantineState.EXPIRED.value), else_=row.state)
        with self._access.write() as connection:
            return connection.execute(
                quarantine.update().where(*old).values(raw=None, preview=sa.null(), state=state)
            ).rowcount


def _columns(record: Refused) -> dict[str, Any]:
    raw_bytes = len(record.raw or b"") if record.raw_bytes is None else record.raw_bytes
    return {
        "record_id": record.record_id,
        "position": record.position,
        "stage": record.stage,
        "raw": record.raw if raw_bytes <= RAW_CAP_BYTES else None,
        "raw_bytes": raw_bytes,
        "preview": record.preview,
        "key_id": record.key_id,
        "park_key": record.park_key,
        "head": record.head,
        **({"run_id": record.run_id} if record.run_id else {}),
    }


def _reasons(integration: str, source: str, records: Iterable[Refused]) -> list[dict[str, Any]]:
    return [
        {
            "integration": integration,
            "source": source,
            "record_id": record_id,
            "number": number,
            "code": each.code.value,
            "field": each.field,
            "rule": each.rule,
        }
        for record_id, violations in {record.record_id: record.violations for record in records}.items()
        for number, each in enumerate(violations[:_REASONS_CAP])
    ]


def _same_record() -> Where:
    return sa.and_(*(quarantine_reason.c[name] == quarantine.c[name] for name in _IDENTITY))


def _upsert() -> Any:
    entry = insert(quarantine)
    new = entry.excluded
    return entry.on_conflict_do_update(
        index_elements=_IDENTITY,
        set_={
            **{name: new[name] for name in _REPLACED},
            "attempt": quarantine.c.attempt + 1,
            "state": sa.case(
                (quarantine.c.state == QuarantineState.DISCARDED.value, quarantine.c.state), else_=new.state
            ),
        },
    )


_UPSERT = _upsert()
_FORGET = quarantine_reason.delete().where(
    quarantine_reason.c.integration == sa.bindparam("of"),
    quarantine_reason.c.source == sa.bindparam("from"),
    quarantine_reason.c.record_id == sa.bindparam("wanted"),
)
