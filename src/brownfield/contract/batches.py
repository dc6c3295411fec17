"""The batch path: an Arrow table in, accepted and rejected rows out.

Besides the rules of each record, which give the verdicts of the row path, it checks the rules of a set: unique,
reference to another source's keys, row count. Columns that the schema does not have are left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.contract.columns import Broken, ColumnChecker
from brownfield.contract.conditions_arrow import evaluate_arrow
from brownfield.contract.fields import Schema
from brownfield.contract.rules import RecordRule, ReferenceRule, RowCountRule, UniqueRule
from brownfield.errors import ContractError, Violation

if TYPE_CHECKING:
    from brownfield.errors import RejectionCode

__all__ = ["BatchChecker", "BatchVerdict", "Rejection"]

MAX_VIOLATIONS_PER_ROW = 100


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused row.

    Parameters
    ----------
    row
        Its index in the batch.
    violations
        Why, in the order of the contract's fields and rules.
    """

    row: int
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class BatchVerdict:
    """What became of a batch: every row is either accepted or rejected.

    Parameters
    ----------
    accepted
        Accepted rows in the contract's types, sentinels and imputation applied.
    rejected
        Refused rows, by index.
    set_violations
        Broken rules of the batch as a whole (row counts).
    kept
        Indices of the accepted rows in the batch.
    """

    accepted: pa.Table
    rejected: list[Rejection]
    set_violations: tuple[Violation, ...]
    kept: np.ndarray

    @property
    def rows_by_rule(self) -> dict[str, int]:
        """Number of rejected rows by rule; a row that breaks several rules counts under each."""
        counts = Counter(rule for each in self.rejected for rule in {found.rule for found in each.violations})
        return dict(sorted(counts.items()))


class BatchChecker:
    """Checks tables against one schema.

    Parameters
    ----------
    schema
        The schema.

    Examples
    --------
    >>> from brownfield.contract.fields import Field
    >>> schema = Schema("sales", (Field(name="quantity", kind="integer", dtype="int64", minimum=1),))
    >>> verdict = BatchChecker(schema).check(pa.table({"quantity": [3, 0, None]}))
    >>> verdict.accepted.to_pydict(), [each.row for each in verdict.rejected]
    ({'quantity': [3, None]}, [1])
    >>> verdict.rows_by_rule
    {'quantity.range': 1}
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.columns = [ColumnChecker(field) for field in schema.fields]
        self.references = tuple(rule.target for rule in schema.set_rules if isinstance(rule, ReferenceRule))
        """Keys of other sources, as ``source.field``, that :meth:`check` needs."""

    def check(self, batch: pa.RecordBatch | pa.Table, references: Mapping[str, pa.Array] | None = None) -> BatchVerdict:
        """Check every row.

        Parameters
        ----------
        batch
            The rows; types that carry the declared values without loss are accepted.
        references
            Known keys by ``source.field``, for each of :attr:`references`.

        Raises
        ------
        ContractError
            When keys that a reference rule needs were not given.
        """
        known = references or {}
        for target in self.references:
            if target not in known:
                raise ContractError(
                    where=self.schema.name,
                    expected=f"the known keys {target}",
                    got="none",
                    next_step="Read that source first and pass its keys as references.",
                )
        rows = batch.num_rows
        found = _Refusals(rows)
        values: dict[str, pa.Array] = {}
        for position, checker in enumerate(self.columns):
            column, broken = checker.check(_column(batch, checker.name), rows)
            values[checker.name] = column
            for each in broken:
                found.add(position, checker.name, each)
        self._check_records(values, found)
        self._check_references(values, known, found)
        self._check_unique(values, found)
        kept = np.flatnonzero(~found.refused)
        return BatchVerdict(
            self._accepted(values, kept, rows), found.rejections(self.schema.expected), self._row_counts(rows), kept
        )

    def _check_records(self, values: Mapping[str, pa.Array], found: "_Refusals") -> None:
        names = self.schema.names
        for position, rule in enumerate(self.schema.record_rules, start=len(names) + 1):
            truth = evaluate_arrow(rule.expression, values, found.rows)
            bad = pc.fill_null(pc.invert(truth), fill_value=not rule.null_passes)
            if not pc.any(bad).as_py():
                continue
            mask = np.asarray(bad) & ~found.of_fields(names.index(name) for name in rule.expression.fields)
            found.add(position, "", _broken(np.flatnonzero(mask), rule))

    def _check_references(
        self, values: Mapping[str, pa.Array], known: Mapping[str, pa.Array], found: "_Refusals"
    ) -> None:
        position = len(self.columns) + len(self.schema.record_rules) + 1
        for rule in self.schema.set_rules:
            if not isinstance(rule, ReferenceRule):
                continue
            column = values[rule.field]
            keys = _one(known[rule.target]).cast(column.type)
            unknown = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=keys)))
            if pc.any(unknown).as_py():
                found.add(position, rule.field, _broken(np.flatnonzero(np.asarray(unknown)), rule))

    def _check_unique(self, values: Mapping[str, pa.Array], found: "_Refusals") -> None:
        position = len(self.columns) + len(self.schema.record_rules) + 2
        for rule in self.schema.set_rules:
            if not isinstance(rule, UniqueRule):
                continue
            live = ~found.refused
            for name in rule.fields:
                if values[name].null_count:
                    live &= np.asarray(values[name].is_valid())
            later = _later_twins([values[name] for name in rule.fields], np.flatnonzero(live))
            if len(later):
                field = rule.fields[0] if len(rule.fields) == 1 else ""
                found.add(position, field, _broken(later, rule))

    def _row_counts(self, rows: int) -> tuple[Violation, ...]:
        return tuple(
            Violation("", rule.id, rule.code, expected=self.schema.expected[rule.id])
            for rule in self.schema.set_rules
            if isinstance(rule, RowCountRule) and not rule.holds(rows)
        )

    def _accepted(self, values: Mapping[str, pa.Array], kept: np.ndarray, rows: int) -> pa.Table:
        table = pa.table(
            [
                values[field.name]
                if values[field.name].type == field.type
                else values[field.name].cast(field.type, safe=False)
                for field in self.schema.arrow
            ],
            schema=self.schema.arrow,
        )
        return table if len(kept) == rows else table.take(pa.array(kept))


class _Refusals:
    """Refused rows as they are found, with the position of their field or rule in the schema."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.refused = np.zeros(rows, dtype=bool)
        self.found: list[tuple[int, str, Broken]] = []

    def add(self, position: int, field: str, broken: Broken) -> None:
        self.refused[broken.rows] = True
        self.found.append((position, field, broken))

    def of_fields(self, positions: Iterable[int]) -> np.ndarray:
        wanted = frozenset(positions)
        mask = np.zeros(self.rows, dtype=bool)
        for position, _, broken in self.found:
            if position in wanted:
                mask[broken.rows] = True
        return mask

    def rejections(self, expected: Mapping[str, str]) -> list[Rejection]:
        by_row: dict[int, list[tuple[int, int, Violation]]] = {}
        for position, field, broken in self.found:
            asked = expected.get(broken.rule, "")
            items = broken.items.tolist() if broken.items is not None else None
            for index, row in enumerate(broken.rows.tolist()):
                path, item = (field, -1) if items is None else (f"{field}[{items[index]}]", items[index])
                violation = Violation(path, broken.rule, broken.code, row, asked)
                by_row.setdefault(row, []).append((position, item, violation))
        rejections = []
        for row in sorted(by_row):
            ordered = sorted(by_row[row], key=lambda each: each[:2])[:MAX_VIOLATIONS_PER_ROW]
            rejections.append(Rejection(row, tuple(violation for _, _, violation in ordered)))
        return rejections


def _broken(rows: np.ndarray, rule: RecordRule | ReferenceRule | UniqueRule) -> Broken:
    code: RejectionCode = rule.code
    return Broken(rows, None, rule.id, code)


def _column(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array | None:
    return _one(batch.column(name)) if name in batch.schema.names else None


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Column as one array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.array([], type=column.type)


def _later_twins(columns: list[pa.Array], rows: np.ndarray) -> np.ndarray:
    """Rows whose key an earlier row has."""
    names = [f"k{index}" for index in range(len(columns))]
    chosen = pa.array(rows)
    table = pa.table([*(column.take(chosen) for column in columns), chosen], names=[*names, "row"])
    firsts = table.group_by(names).aggregate([("row", "min")])["row_min"]
    if len(firsts) == len(rows):
        return np.empty(0, dtype=np.int64)
    return np.setdiff1d(rows, np.asarray(firsts))
