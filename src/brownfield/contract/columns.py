"""The batch path of one field: an Arrow column in, the accepted column out, and the rules that its rows break.

The verdicts are those of ``values.py`` on the same values. Arrow types that carry the same values are accepted:
other widths, decimals, dictionaries, naive timestamps where the field declares a zone, text for dates and timestamps.
A rule sets the rows that break it to null, so that later rules pass over them.
"""

from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.contract.arrow_times import localised, microseconds
from brownfield.contract.arrow_types import arrow_type
from brownfield.contract.fields import Field
from brownfield.contract.patterns import MAX_TEXT, compile_pattern
from brownfield.contract.rules import (
    EnumRule,
    FiniteRule,
    ItemsRule,
    LengthRule,
    PatternRule,
    RangeRule,
    UniqueItemsRule,
    ValueRule,
    value_rules,
)
from brownfield.contract.values import EXACT_INTEGER, ValueChecker, integer_bounds, number_bounds
from brownfield.errors import RejectionCode

__all__ = ["Broken", "ColumnChecker"]

_FLOAT_EXACT = EXACT_INTEGER["float64"]
_EXACT_DECIMAL_DIGITS = 15
_DATE_TEXT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\z"
_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = date.min.toordinal() - _EPOCH, date.max.toordinal() - _EPOCH


class Broken(NamedTuple):
    """Rows that break one rule.

    Parameters
    ----------
    rows
        Their indices.
    items
        Index of the item inside each row's list; None for the value as a whole.
    rule, code
        The rule.
    """

    rows: np.ndarray
    items: np.ndarray | None
    rule: str
    code: RejectionCode


class ColumnChecker:
    """Checks Arrow columns of one field.

    Parameters
    ----------
    field
        The field.
    name
        Prefix of rule identifiers; the field's name unless given.

    Examples
    --------
    >>> checker = ColumnChecker(Field(name="quantity", kind="integer", dtype="int64", minimum=1))
    >>> values, broken = checker.check(pa.array([3, 0, None]), 3)
    >>> values.to_pylist(), [(each.rule, each.rows.tolist()) for each in broken]
    ([3, None, None], [('quantity.range', [1])])
    """

    def __init__(self, field: Field, name: str | None = None) -> None:
        self.field = field
        self.name = field.name if name is None else name
        self.rules = value_rules(field, self.name)
        self.item = ColumnChecker(field.item, f"{self.name}[]") if field.item is not None else None
        self.by_value = ValueChecker(field, self.name)
        self.working: pa.DataType = pa.float64() if field.kind == "number" else arrow_type(field)
        if self.item is not None:
            self.working = pa.list_(self.item.working)

    def check(self, column: pa.Array | None, rows: int) -> tuple[pa.Array, list[Broken]]:
        """Give the accepted values (null where missing or refused) and what is broken.

        Parameters
        ----------
        column
            The column, or None when the batch does not have it.
        rows
            Number of rows of the batch.
        """
        work = _Work(self.name)
        if column is None:
            if self.field.required:
                work.add(np.arange(rows), "required", RejectionCode.FIELD_MISSING)
            return self._imputed(pa.nulls(rows, self.working), np.ones(rows, dtype=bool)), work.broken
        if isinstance(column.type, pa.DictionaryType):
            column = column.dictionary_decode()
        if column.null_count and self.field.required:
            work.add(_rows(pc.is_null(column)), "required", RejectionCode.FIELD_NULL)
        values = self._convert(column, work)
        if values is None:
            return self._one_by_one(column, work)
        missing = np.asarray(column.is_null())
        if self.field.sentinels:
            values, marked = self._without_sentinels(values, work)
            missing = missing | marked
        for rule in self.rules:
            if not isinstance(rule, UniqueItemsRule):
                values = work.refuse(values, self._breaks(rule, values), rule)
        if self.item is not None:
            values = self._items(values, work)
        return self._imputed(values, missing), work.broken

    def _without_sentinels(self, values: pa.Array, work: "_Work") -> tuple[pa.Array, np.ndarray]:
        found = pc.fill_null(_member(values, self.field.sentinels), fill_value=False)
        marked = np.asarray(found)
        if marked.any() and self.field.null_policy == "reject":
            work.add(np.flatnonzero(marked), "null", RejectionCode.FIELD_NULL)
        return _null_where(values, found), marked

    def _imputed(self, values: pa.Array, missing: np.ndarray) -> pa.Array:
        if self.field.null_policy != "impute" or not missing.any():
            return values
        return pc.if_else(pa.array(missing), pa.scalar(self.field.impute, values.type), values)

    def _one_by_one(self, column: pa.Array, work: "_Work") -> tuple[pa.Array, list[Broken]]:
        """Verdicts of the row path itself, for types that Arrow cannot judge as a column."""
        out: list[Any] = []
        for row, value in enumerate(column.to_pylist()):
            accepted, breaks = self.by_value.check(value) if value is not None else (None, [])
            if value is None and not self.field.required:
                accepted, _ = self.by_value.check(None)
            out.append(None if breaks else _listed(accepted))
            for each in breaks:
                items = np.array([int(each.below[1:-1])]) if each.below else None
                work.broken.append(Broken(np.array([row]), items, each.rule, each.code))
        return pa.array(out, type=self.working), work.broken

    def _convert(self, column: pa.Array, work: "_Work") -> pa.Array | None:  # noqa: PLR0911 (one per kind)
        """Column in the working type; rows that do not fit are refused and null. None: look at each value."""
        if pa.types.is_null(column.type):
            return pa.nulls(len(column), self.working)
        match self.field.kind:
            case "integer":
                return self._integers(column, work)
            case "number":
                return self._numbers(column, work)
            case "string":
                return self._texts(column, work)
            case "boolean":
                return column if pa.types.is_boolean(column.type) else self._of_other_kind(column, work)
            case "date":
                return self._dates(column, work)
            case "timestamp":
                return self._timestamps(column, work)
            case "list":
                return self._lists(column, work)
            case _:
                return None

    def _of_other_kind(self, column: pa.Array, work: "_Work") -> pa.Array:
        work.add(_rows(pc.is_valid(column)), "type", RejectionCode.FIELD_TYPE)
        return pa.nulls(len(column), self.working)

    def _integers(self, column: pa.Array, work: "_Work") -> pa.Array | None:
        low, high = integer_bounds(self.field.dtype)
        if pa.types.is_integer(column.type):
            if column.type == self.working:
                return column
            first, last = integer_bounds(str(column.type))
            if low <= first and last <= high:
                return column.cast(self.working)
            bad = _outside(column, max(low, first), min(high, last))
        elif pa.types.is_floating(column.type):
            column = column.cast(pa.float64())
            exact_low, exact_high = float(max(low, -_FLOAT_EXACT)), float(min(high, _FLOAT_EXACT))
            whole = pc.equal(column, pc.trunc(column))
            inside = pc.and_(pc.greater_equal(column, exact_low), pc.less_equal(column, exact_high))
            bad = pc.invert(pc.and_(whole, inside))
        elif pa.types.is_decimal(column.type):
            return None
        else:
            return self._of_other_kind(column, work)
        column = work.unfit(column, bad, "exact", RejectionCode.FIELD_INEXACT)
        return column.cast(self.working)

    def _numbers(self, column: pa.Array, work: "_Work") -> pa.Array | None:
        exact, largest = number_bounds(self.field.dtype)
        if pa.types.is_integer(column.type):
            first, last = integer_bounds(str(column.type))
            if first < -exact or last > exact:
                bad = _outside(column, max(-exact, first), min(exact, last))
                column = work.unfit(column, bad, "exact", RejectionCode.FIELD_INEXACT)
            return column.cast(pa.float64())
        if pa.types.is_decimal(column.type):
            if not 0 <= column.type.scale <= column.type.precision <= _EXACT_DECIMAL_DIGITS:
                return None
            column = _decimals(column)
        if not pa.types.is_floating(column.type):
            return self._of_other_kind(column, work)
        column = column.cast(pa.float64())
        if self.field.dtype != "float64":
            bad = pc.and_(pc.is_finite(column), _outside(column, -largest, largest))
            column = work.unfit(column, bad, "exact", RejectionCode.FIELD_INEXACT)
        for short, declared in self.by_value.spelled.items():
            column = pc.if_else(pc.equal(column, short), declared, column)
        return column

    def _texts(self, column: pa.Array, work: "_Work") -> pa.Array:
        if not _is_text(column.type):
            return self._of_other_kind(column, work)
        column = column.cast(pa.string())
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
        data = column.buffers()[2]
        letters = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None and len(offsets) else ()
        if len(letters) and not np.min(letters):
            column = work.unfit(column, pc.match_substring(column, "\0"), "text", RejectionCode.FIELD_TYPE)
        return column

    def _dates(self, column: pa.Array, work: "_Work") -> pa.Array | None:
        if _is_text(column.type):
            shaped = pc.match_substring_regex(column, _DATE_TEXT)
            bad = pc.or_(pc.invert(shaped), pc.starts_with(column, "0000"))
            column = work.unfit(column, bad, "type", RejectionCode.FIELD_TYPE)
            try:
                return column.cast(pa.date32())
            except pa.ArrowInvalid:  # a day that the calendar does not have: find out which
                work.forget("type")
                return None
        if not pa.types.is_date(column.type):
            return self._of_other_kind(column, work)
        column = column.cast(pa.date32(), safe=False)
        bad = _outside(column.cast(pa.int32()), _FIRST_DAY, _LAST_DAY)
        return work.unfit(column, bad, "type", RejectionCode.FIELD_TYPE)

    def _timestamps(self, column: pa.Array, work: "_Work") -> pa.Array | None:
        if _is_text(column.type):
            return None
        if not pa.types.is_timestamp(column.type):
            return self._of_other_kind(column, work)
        ticks = microseconds(column)
        column = work.unfit(ticks.values, ticks.outside, "type", RejectionCode.FIELD_TYPE)
        column = work.unfit(column, ticks.inexact, "exact", RejectionCode.FIELD_INEXACT)
        if ticks.naive:
            if self.field.zone is None:
                column = work.unfit(column, pc.is_valid(column), "zone", RejectionCode.FIELD_ZONE)
            else:
                shifted, unclear, outside = localised(column, self.field.zone)
                column = work.unfit(shifted, unclear, "zone", RejectionCode.FIELD_ZONE)
                column = work.unfit(column, outside, "type", RejectionCode.FIELD_TYPE)
        return column.cast(pa.timestamp("us", tz="UTC"))

    def _lists(self, column: pa.Array, work: "_Work") -> pa.Array:
        kind = column.type
        if pa.types.is_list(kind):
            return column
        if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return column.cast(pa.list_(kind.value_type))
        return self._of_other_kind(column, work)

    def _breaks(self, rule: ValueRule, values: pa.Array) -> pa.Array:
        """Mask of the rows that break a rule; null for null values."""
        match rule:
            case FiniteRule():
                return pc.invert(pc.is_finite(values))
            case RangeRule():
                return _out_of_range(values, rule)
            case LengthRule():
                lengths = pc.utf8_length(values)
                return _outside(lengths, rule.minimum, rule.maximum)
            case EnumRule():
                return pc.invert(_member(values, rule.values))
            case PatternRule():
                longest = MAX_TEXT if self.field.max_length is None else self.field.max_length
                pattern = compile_pattern(rule.pattern, longest).re2
                too_long = pc.greater(pc.utf8_length(values), longest)
                return pc.or_(too_long, pc.invert(pc.match_substring_regex(values, pattern)))
            case ItemsRule():
                return _outside(pc.list_value_length(values), rule.minimum, rule.maximum)
            case _:
                raise AssertionError(rule)

    def _items(self, lists: pa.Array, work: "_Work") -> pa.Array:
        assert self.item is not None  # noqa: S101 (only called for lists)
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        parents = np.repeat(np.arange(len(lists)), lengths)
        items, broken = self.item.check(lists.flatten(), len(parents))
        refused = np.asarray(lists.is_null())
        for each in broken:
            rows = parents[each.rows]
            work.broken.append(Broken(rows, each.rows - offsets[rows], each.rule, each.code))
            refused[rows] = True
        result = pa.ListArray.from_arrays(pa.array(offsets), items, mask=pa.array(refused))
        for rule in self.rules:
            if isinstance(rule, UniqueItemsRule):
                result = work.refuse(result, _repeats(items, parents, refused), rule)
        return result


class _Work:
    """What one column's check has found so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.broken: list[Broken] = []

    def add(self, rows: np.ndarray, suffix: str, code: RejectionCode) -> None:
        self.broken.append(Broken(rows, None, f"{self.name}.{suffix}", code))

    def forget(self, suffix: str) -> None:
        self.broken = [each for each in self.broken if each.rule != f"{self.name}.{suffix}"]

    def unfit(self, values: pa.Array, bad: pa.Array, suffix: str, code: RejectionCode) -> pa.Array:
        if not pc.any(bad).as_py():
            return values
        self.add(_rows(bad), suffix, code)
        return _null_where(values, bad)

    def refuse(self, values: pa.Array, bad: pa.Array, rule: ValueRule) -> pa.Array:
        if not pc.any(bad).as_py():
            return values
        self.broken.append(Broken(_rows(bad), None, rule.id, rule.code))
        return _null_where(values, bad)


def _rows(mask: pa.Array) -> np.ndarray:
    return np.flatnonzero(np.asarray(pc.fill_null(mask, fill_value=False)))


def _null_where(values: pa.Array, mask: pa.Array) -> pa.Array:
    return pc.if_else(pc.fill_null(mask, fill_value=False), pa.scalar(None, values.type), values)


def _outside(values: pa.Array, low: Any, high: Any) -> pa.Array:
    bad = None
    if low is not None:
        bad = pc.less(values, pa.scalar(low, values.type))
    if high is not None:
        above = pc.greater(values, pa.scalar(high, values.type))
        bad = above if bad is None else pc.or_(bad, above)
    return bad


def _out_of_range(values: pa.Array, rule: RangeRule) -> pa.Array:
    bad = None
    if rule.minimum is not None:
        below = pc.less_equal if rule.exclusive_minimum else pc.less
        bad = below(values, pa.scalar(rule.minimum, values.type))
    if rule.maximum is not None:
        above = pc.greater_equal if rule.exclusive_maximum else pc.greater
        over = above(values, pa.scalar(rule.maximum, values.type))
        bad = over if bad is None else pc.or_(bad, over)
    return bad


def _member(values: pa.Array, members: tuple[Any, ...]) -> pa.Array:
    """Mask of the values among ``members``; null for null values. Zero has no sign, NaN is a member of nothing."""
    if pa.types.is_floating(values.type):
        found = pc.equal(values, members[0])
        for member in members[1:]:
            found = pc.or_(found, pc.equal(values, member))
        return found
    found = pc.is_in(values, value_set=pa.array(members, type=values.type))
    return found if not values.null_count else pc.if_else(pc.is_valid(values), found, None)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _decimals(column: pa.Array) -> pa.Array:
    """Nearest floats to decimals of up to 15 digits: a quotient of two exact floats is rounded correctly."""
    column = column.cast(pa.decimal128(column.type.precision, column.type.scale))
    words = np.frombuffer(column.buffers()[1], np.int64)[::2][column.offset : column.offset + len(column)]
    mask = np.asarray(column.is_null()) if column.null_count else None
    return pa.array(words / float(10**column.type.scale), mask=mask)


def _repeats(items: pa.Array, parents: np.ndarray, refused: np.ndarray) -> pa.Array:
    codes = np.asarray(pc.fill_null(pc.dictionary_encode(items).indices, -1)).astype(np.int64)
    live = ~refused[parents]
    pairs = parents[live] * (len(items) + 1) + codes[live]
    _, first = np.unique(pairs, return_index=True)
    repeated = np.ones(len(pairs), dtype=bool)
    repeated[first] = False
    bad = np.zeros(len(refused), dtype=bool)
    bad[parents[live][repeated]] = True
    return pa.array(bad)


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
