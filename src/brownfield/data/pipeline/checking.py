"""Batches of one source against its schema: accepted rows, and a quarantine entry for every other record.

The contract checks a batch at a time; what holds for the whole source (unique keys, row counts) is kept here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.contract import RowCountRule, UniqueRule
from brownfield.data.pipeline.parking import Parking, in_order
from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.store import Refused, mask_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from brownfield.contract import Schema
    from brownfield.data.decoded import Decoded, Reject
    from brownfield.data.pipeline.parts import PartKeys

__all__ = ["StreamCheck"]

_PREVIEW_CHARACTERS = 64
_SHADOWED = Violation("", "on_breach", RejectionCode.SHADOWED)


class StreamCheck:
    """Checks one source, batch after batch.

    Parameters
    ----------
    integration, name
        Whose source (or unified table) it is; part of each record's identity.
    schema
        What it is held to.
    stage
        ``check`` or ``unify``.
    rows_before
        Records that runs before this one read.
    classified
        Whether its records hold classified fields: previews then show patterns instead of values.
    hides_position
        Whether the position of a record is such a value.
    parking
        Which keys wait; None where order within a key is not kept.
    shadows
        Whether every record goes to quarantine, good ones too.
    """

    def __init__(  # noqa: PLR0913 (what a check is made of)
        self,
        integration: str,
        name: str,
        schema: "Schema",
        stage: str = "check",
        *,
        rows_before: int = 0,
        classified: bool = False,
        hides_position: bool = False,
        parking: "Parking | None" = None,
        shadows: bool = False,
    ) -> None:
        self.identity = f"{integration}\0{name}"
        self.name = name
        self.schema = schema
        self.stage = stage
        self.rows_before = rows_before
        self.rows_in = 0
        self.accepted = 0
        self.by_rule: Counter[tuple[str, str]] = Counter()
        self.classified = classified
        self.parking = parking
        self.hides_position = hides_position
        self._shadows = shadows
        self._seen = [(rule, _Seen(rule.fields)) for rule in schema.set_rules if isinstance(rule, UniqueRule)]

    @property
    def quarantined(self) -> int:
        """Number of records refused so far."""
        return self.rows_in - self.accepted

    def remember(self, parts: "Iterable[PartKeys]") -> None:
        """Take note of what was accepted by earlier runs, as far as its keys are among the columns."""
        for part in parts:
            for _, seen in self._seen:
                if part.names.issuperset(seen.fields):
                    seen.unread.append(part)

    def check(
        self, origin: str, decoded: "Decoded", references: Mapping[str, pa.Array]
    ) -> tuple[pa.Table, "NDArray[np.int64]", list[Refused]]:
        """Check one batch.

        Parameters
        ----------
        origin
            What holds the records; part of their identity.
        decoded
            The records.
        references
            Known keys of other sources, by ``source.field``.

        Returns
        -------
        tuple
            The accepted rows, their indices in the batch, and the refused records.
        """
        verdict = self.schema.batches.check(decoded.batch, references)
        refused = {each.row: each.violations for each in verdict.rejected}
        accepted, kept = verdict.accepted, verdict.kept
        for rule, seen in self._seen:
            repeated = seen.repeated(accepted)
            if repeated.any():
                field = rule.fields[0] if len(rule.fields) == 1 else ""
                why = Violation(field, rule.id, rule.code, expected=self.schema.expected[rule.id])
                refused.update({int(row): (why,) for row in kept[repeated]})
                accepted, kept = accepted.filter(pa.array(~repeated)), kept[~repeated]
        keys: dict[int, str] = {}
        of_undecoded = [""] * len(decoded.rejects)
        if self.parking is not None:
            keys, waiting, of_undecoded = self.parking.hold(decoded.batch, refused, decoded.position, decoded.rejects)
            accepted, kept = self._withdrawn(accepted, kept, waiting, Parking.reason(), refused)
        if self._shadows:
            accepted, kept = self._withdrawn(accepted, kept, kept.tolist(), _SHADOWED, refused)
        for _, seen in self._seen:
            seen.add(accepted)
        quarantined = [
            self._undecoded(origin, each, decoded.head, key)
            for each, key in zip(decoded.rejects, of_undecoded, strict=True)
        ]
        quarantined += self._refused_rows(origin, decoded, refused, keys)
        if self.parking is not None and decoded.rejects:
            quarantined.sort(key=lambda entry: in_order(str(entry.position)))
        self._count(decoded.records, accepted.num_rows, quarantined)
        return accepted, kept, quarantined

    def refuse(self, origin: str, decoded: "Decoded", broken: Mapping[int, tuple[Violation, ...]]) -> list[Refused]:
        """Refuse rows for reasons that were found elsewhere; parameters as :meth:`check`."""
        entries = list(self._refused_rows(origin, decoded, broken, {}))
        self._count(len(entries), 0, entries)
        return entries

    def finish(self) -> None:
        """Hold the whole source, with what was read of it before, to its row counts.

        Raises
        ------
        InputRefused
            When it has too few or too many rows, as after a pull that was cut short.
        """
        counts = [rule for rule in self.schema.set_rules if isinstance(rule, RowCountRule)]
        rows = self.rows_before + self.rows_in
        said = self.schema.expected
        broken = [
            Violation("", f"{self.name}.{rule.id}", rule.code, expected=said[rule.id])
            for rule in counts
            if not rule.holds(rows)
        ]
        if broken:
            raise InputRefused(
                broken,
                next_step=f"{self.name} has {rows:,} rows, which the contract does not admit; nothing was replaced.",
            )

    @staticmethod
    def _withdrawn(
        accepted: pa.Table,
        kept: "NDArray[np.int64]",
        rows: list[int],
        why: Violation,
        refused: dict[int, tuple[Violation, ...]],
    ) -> "tuple[pa.Table, NDArray[np.int64]]":
        """Take good rows back for a reason that lies outside them."""
        if not rows:
            return accepted, kept
        refused.update(dict.fromkeys(rows, (why,)))
        stay = ~np.isin(kept, rows)
        return accepted.filter(pa.array(stay)), kept[stay]

    def _undecoded(self, origin: str, reject: "Reject", head: bytes, key: str) -> Refused:
        why = (Violation(reject.field, reject.rule, reject.code),)
        return replace(self._entry(origin, reject.position, reject.stage, why, reject.raw), park_key=key, head=head)

    def _refused_rows(
        self,
        origin: str,
        decoded: "Decoded",
        refused: Mapping[int, tuple[Violation, ...]],
        keys: Mapping[int, str],
    ) -> Iterable[Refused]:
        rows = sorted(refused)
        how = "classified" if self.classified else None
        for row, record in zip(rows, decoded.batch.take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
            preview = {name: _shortened(mask_value(value, how)) for name, value in record.items()}
            position, raw = decoded.position(row), decoded.raw(row)
            entry = self._entry(origin, position, self.stage, refused[row], raw)
            yield replace(entry, preview=preview, park_key=keys.get(row, ""), head=decoded.head)

    def _entry(self, origin: str, position: str, stage: str, why: tuple[Violation, ...], raw: bytes) -> Refused:
        record_id = sha256(f"{self.identity}\0{origin}\0{position}".encode()).hexdigest()
        shown = mask_value(position, "classified") if self.hides_position else position
        return Refused(record_id, why, shown, raw, stage=stage)

    def _count(self, records: int, accepted: int, quarantined: list[Refused]) -> None:
        if records != accepted + len(quarantined):
            raise AssertionError(f"{self.name}: {records} in, {accepted} + {len(quarantined)} out")
        self.rows_in += records
        self.accepted += accepted
        for entry in quarantined:
            self.by_rule.update({(str(each.code), each.rule) for each in entry.violations})


class _Seen:
    """The keys that were accepted before."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = list(fields)
        self.keys: list[pa.Table] = []
        self.unread: list[PartKeys] = []
        self.highest: Any = None

    def repeated(self, rows: pa.Table) -> "NDArray[np.bool_]":
        """Rows whose key was accepted in an earlier batch; a null in a key differs from all others."""
        self._read_on(rows)
        repeated = np.zeros(rows.num_rows, dtype=bool)
        if not self.keys or not rows.num_rows or self._ascends(rows):
            return repeated
        place = np.arange(1, rows.num_rows + 1)
        new = rows.select(self.fields).append_column("_place", pa.array(place))
        for name in self.fields:
            new = new.filter(pc.is_valid(new[name]))
        old = pa.concat_tables(self.keys)
        old = old.append_column("_place", pa.array(np.zeros(old.num_rows, dtype=np.int64)))
        groups = pa.concat_tables([old, new]).group_by(self.fields).aggregate([("_place", "min"), ("_place", "max")])
        twice = groups.filter(pc.and_(pc.equal(groups["_place_min"], 0), pc.greater(groups["_place_max"], 0)))
        repeated[twice["_place_max"].to_numpy() - 1] = True
        return repeated

    def _read_on(self, rows: pa.Table) -> None:
        """Read the keys of earlier parts among which those of the rows lie."""
        if not self.unread or not rows.num_rows:
            return
        bounds = {name: pc.min_max(rows[name]).as_py() for name in self.fields}
        known = {name: bound for name, bound in bounds.items() if bound["min"] is not None}
        lowest = {name: bound["min"] for name, bound in known.items()}
        highest = {name: bound["max"] for name, bound in known.items()}
        met = [part for part in self.unread if part.may_hold(lowest, highest)]
        self.unread = [part for part in self.unread if part not in met]
        for part in met:
            self.add(part.read(self.fields))

    def add(self, rows: pa.Table) -> None:
        self.keys.append(rows.select(self.fields))
        if self._orders(rows) and rows.num_rows:
            highest = pc.max(rows[self.fields[0]]).as_py()
            self.highest = highest if self.highest is None else max(self.highest, highest)

    def _ascends(self, rows: pa.Table) -> bool:
        """Whether all keys lie above those before, as in a feed that is read in the order of its key."""
        if not self._orders(rows) or self.highest is None:
            return False
        lowest = pc.min(rows[self.fields[0]]).as_py()
        return bool(lowest > self.highest)

    def _orders(self, rows: pa.Table) -> bool:
        column = rows[self.fields[0]]
        return len(self.fields) == 1 and pa.types.is_integer(column.type) and column.null_count == 0


def _shortened(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _PREVIEW_CHARACTERS else f"{text[:_PREVIEW_CHARACTERS]}..."
