"""What was changed, by whom: an append-only log in which every entry seals the one before it.

The hash of an entry is SHA-256 over the RFC 8785 canonical JSON of its own fields and the previous hash.
A chain shows any edit, removal or reordering inside it; that the tail was cut shows only against a head kept elsewhere.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785
import sqlalchemy as sa

from brownfield.clock import Clock
from brownfield.errors import StoreError
from brownfield.store.access import Access
from brownfield.store.schema import audit, plain, stamp

__all__ = ["Audit", "AuditEntry", "AuditHead", "AuditVerdict"]

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change.

    Parameters
    ----------
    seq
        From 1, without gaps.
    at_utc
        RFC 3339 text.
    actor, action, subject
        Who did what to what, such as ``operator-7``, ``position.rewind``, ``store-recommendations.transactions``.
    detail
        JSON object, as its canonical text.
    previous, hash
        Hexadecimal SHA-256; the first entry follows sixty-four zeros.
    """

    seq: int
    at_utc: str
    actor: str
    action: str
    subject: str
    detail: str
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest entry's number and hash: kept elsewhere, it shows later whether the tail was cut."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What verifying the chain found.

    Parameters
    ----------
    entries
        Entries that are sound, from the first.
    head
        The last of these.
    first_bad
        ``seq`` of the first entry that is not what was written; None when all are.
    problem
        What is wrong with it, in words; empty when nothing is.
    """

    entries: int
    head: AuditHead
    first_bad: int | None = None
    problem: str = ""

    @property
    def sound(self) -> bool:
        """True when every entry is as it was written."""
        return self.first_bad is None


class Audit:
    """The audit log; entries are appended inside a write transaction, so writers queue and the chain cannot fork."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def append(self, *, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None) -> AuditEntry:
        """Seal one more entry.

        Raises
        ------
        StoreError
            When `detail` has no canonical JSON form (a set, NaN, an integer beyond 2^53).
        """
        try:
            text = rfc8785.dumps(dict(detail or {})).decode()
        except rfc8785.CanonicalizationError as error:
            raise StoreError("this detail has no canonical JSON form", where="audit", path=action) from error
        with self._access.write() as connection:
            last = _head(connection)
            fields: dict[str, Any] = {
                "seq": last.seq + 1,
                "at_utc": stamp(self._clock.now_utc()),
                "actor": actor,
                "action": action,
                "subject": subject,
                "detail": text,
                "previous": last.hash,
            }
            entry = AuditEntry(**fields, hash=_seal(fields))
            connection.execute(audit.insert().values(**fields, hash=entry.hash))
        return entry

    def head(self) -> AuditHead:
        """Return the newest entry's number and hash; 0 and zeros when there is none."""
        with self._access.read() as connection:
            return _head(connection)

    def entries(self, *, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """Entries in order, beginning after the number `after`."""
        query = sa.select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
        with self._access.read() as connection:
            return [AuditEntry(**plain(row)) for row in connection.execute(query).mappings()]

    def verify(self, anchor: AuditHead | None = None) -> AuditVerdict:
        """Recompute every hash and name the first entry that is not what was written.

        Parameters
        ----------
        anchor
            A head noted earlier and kept elsewhere; with it a cut tail or a chain written anew is found too.
        """
        head = AuditHead(0, GENESIS)
        with self._access.read() as connection:
            rows = connection.execution_options(yield_per=1000).execute(sa.select(audit).order_by(audit.c.seq))
            for row in rows.mappings():
                problem = _problem(plain(row), head)
                if not problem and anchor is not None and row["seq"] == anchor.seq and row["hash"] != anchor.hash:
                    problem = "its hash is not the anchored one"
                if problem:
                    return AuditVerdict(head.seq, head, head.seq + 1, problem)
                head = AuditHead(row["seq"], row["hash"])
        if anchor is not None and head.seq < anchor.seq:
            return AuditVerdict(head.seq, head, head.seq + 1, f"entries up to {anchor.seq} were anchored and are gone")
        return AuditVerdict(head.seq, head)


def _head(connection: sa.Connection) -> AuditHead:
    row = connection.execute(sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    return AuditHead(0, GENESIS) if row is None else AuditHead(row.seq, row.hash)


def _seal(fields: Mapping[str, Any]) -> str:
    sealed = {name: fields[name] for name in ("seq", "at_utc", "actor", "action", "subject", "previous")}
    return hashlib.sha256(rfc8785.dumps({**sealed, "detail": json.loads(fields["detail"])})).hexdigest()


def _problem(row: Mapping[str, Any], head: AuditHead) -> str:
    if row["seq"] != head.seq + 1:
        return "an entry is missing before it"
    if row["previous"] != head.hash:
        return "it does not follow the entry before it"
    try:
        detail = json.loads(row["detail"])
        sound = rfc8785.dumps(detail).decode() == row["detail"] and _seal(row) == row["hash"]
    except (ValueError, TypeError, RecursionError, rfc8785.CanonicalizationError):
        sound = False
    return "" if sound else "its hash does not match its fields"
