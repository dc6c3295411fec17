"""The row path: strict JSON, records and tensors in; checked columns out.

One object, or an array of objects, is decoded by a generated msgspec type and turned into columns. What that type
does not admit, or what looks as if a key stood twice, is read again strictly, and every break is named.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from brownfield.contract.conditions_rows import compile_rows
from brownfield.contract.fields import Field, Schema
from brownfield.contract.rules import RangeRule
from brownfield.contract.sifting import sift
from brownfield.contract.strict_json import JsonLimits, read_strictly, refuse_json, shown_key
from brownfield.contract.structs import column_reader, is_tight, row_decoder
from brownfield.contract.values import MISSING, Break, ValueChecker, integer_bounds, number_bounds
from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.types import Columns, Record

__all__ = ["MAX_VIOLATIONS", "Checked", "RowChecker", "without_padding"]

MAX_VIOLATIONS = 100
"""Most violations that one refusal carries."""

_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|003[aA]|[dD][89a-fA-F])")
_WHOLE_RECORD = -1
_LONG_BODY = 4096
_UNREAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Checked(msgspec.Struct, frozen=True, eq=False):
    """Records that keep the contract, column by column.

    Parameters
    ----------
    rows
        Number of records.
    columns
        Values by field: lists with None for missing values, or arrays ``[rows, ...]``. Sentinels and imputation are
        applied. In a schema that is not batched a tensor is the whole array.
    single
        The body was one object, not an array.
    whole
        Names of the columns that belong to the one record as a whole.
    """

    rows: int
    columns: dict[str, Any]
    single: bool = False
    whole: frozenset[str] = frozenset()

    def record(self, row: int) -> dict[str, Any]:
        """Give one record; tensors are arrays, everything else is plain."""
        return {name: values if name in self.whole else _plain(values[row]) for name, values in self.columns.items()}


class RowChecker:
    """Checks requests and answers against one schema.

    Parameters
    ----------
    schema
        The schema.
    limits
        Bounds on JSON documents.

    Attributes
    ----------
    only_finite
        Whether all that is asked of columns of the declared shapes and types is that every number is finite.

    Examples
    --------
    >>> schema = Schema("request", (Field(name="quantity", kind="integer", dtype="int64", required=True, minimum=1),))
    >>> checker = RowChecker(schema)
    >>> checker.decode(b'[{"quantity": 3}, {"quantity": 4}]').columns
    {'quantity': [3, 4]}
    >>> checker.decode(b'{"quantity": 0}')
    Traceback (most recent call last):
    brownfield.errors.InputRefused: record 0: quantity: BF-RUL-001 (rule quantity.range); expected at least 1
    """

    def __init__(self, schema: Schema, limits: JsonLimits | None = None) -> None:
        self.schema = schema
        self.limits = limits or JsonLimits()
        self.checkers = [ValueChecker(each) for each in schema.fields]
        self._rules = [(rule, compile_rows(rule.expression)) for rule in schema.record_rules]
        self._order = schema.names
        self._names = frozenset(schema.names)
        self._positions = {name: position for position, name in enumerate(schema.names)}
        self._read = row_decoder(schema)
        self._finish = [_finisher(checker, batched=schema.batched) for checker in self.checkers]
        self._readers = [column_reader(each) for each in schema.fields]
        self._finished = all(finish is list for finish in self._finish)
        self._texts = [index for index, each in enumerate(schema.fields) if _holds_colons(each)]
        self._whole = frozenset(each.name for each in schema.fields if each.kind == "tensor" and not schema.batched)
        self._arrays_alone = not self._rules and all(each.kind == "tensor" for each in schema.fields)
        self.only_finite = self._arrays_alone and all(each.tensor and each.tensor.only_finite for each in self.checkers)
        self._optional = [index for index, each in enumerate(schema.fields) if not each.required]
        self._weights = [1 + name.count(":") for name in schema.names]
        self._weight = sum(self._weights)

    def decode(self, body: bytes) -> Checked:
        """Read a body: one object, or an array of at least one object.

        Parameters
        ----------
        body
            Strict JSON in UTF-8.

        Raises
        ------
        InputRefused
            With every violation found, up to ``MAX_VIOLATIONS``.
        """
        checked = self._decode_fast(body)
        if checked is not None:
            return checked
        if self.schema.batched and len(body) > _LONG_BODY:
            broken = sift(
                body, self.limits, lambda some: self._decode_fast(some) is not None, self._breaks, MAX_VIOLATIONS
            )
            if broken:
                raise InputRefused(broken)
        value = read_strictly(body, self.limits)
        single = isinstance(value, dict)
        records = [value] if single else value
        if not isinstance(records, list) or not records:
            refuse_json("shape", RejectionCode.JSON_SHAPE)
        return self._check(records, single=single)

    def check(self, records: Sequence[Record]) -> Checked:
        """Check records given as mappings; an absent key is a missing value.

        Raises
        ------
        InputRefused
            With every violation found, up to ``MAX_VIOLATIONS``.
        """
        return self._check(records, single=False)

    def check_columns(self, columns: Columns, rows: int) -> Checked:
        """Check columns, such as the tensors of a V2 request or of a model's answer.

        Parameters
        ----------
        columns
            Lists or arrays by field. Plain fields: ``[rows]`` or ``[rows, 1]``; lists: nested lists, or ``[rows,
            longest]`` filled up with the declared padding; tensors: ``[rows, ...]``, or the whole array when the
            schema is not batched.
        rows
            Number of records.

        Raises
        ------
        InputRefused
            With every violation found, up to ``MAX_VIOLATIONS``.
        """
        if self._arrays_alone:
            checked = self._check_arrays(columns, rows)
            if checked is not None:
                return checked
        found = _Found()
        for name in columns:
            if name not in self._names:
                found.add(len(self.checkers), Violation(shown_key(name), "closed", RejectionCode.FIELD_UNKNOWN))
        accepted = {
            checker.name: self._check_column(position, checker, columns.get(checker.name, MISSING), rows, found)
            for position, checker in enumerate(self.checkers)
        }
        return self._conclude(accepted, rows, found, single=False)

    def _check_arrays(self, columns: Columns, rows: int) -> Checked | None:
        """Check columns that are all arrays of tensors; None when one is not accepted, to be told why in full."""
        if len(columns) != len(self.checkers):
            return None
        leading = rows if self.schema.batched else None
        accepted: dict[str, Any] = {}
        for checker in self.checkers:
            value: Any = columns.get(checker.name)
            if checker.tensor is None or not isinstance(value, np.ndarray):
                return None
            array, broken = checker.tensor.check(value, leading)
            if broken is not None:
                return None
            accepted[checker.name] = array
        return Checked(rows, accepted, False, self._whole)

    def _decode_fast(self, body: bytes) -> Checked | None:
        """Columns when the generated type admits the body and no key can stand in it twice; None when in doubt."""
        try:
            decoded = self._read(body)
        except _UNREAD:
            return None
        single = type(decoded) is not list
        records = [decoded] if single else decoded
        rows = len(records)
        if not rows or (rows > 1 and not self.schema.batched) or (b"\\" in body and _SUSPECT_ESCAPE.search(body)):
            return None
        raw = list(zip(*map(msgspec.structs.astuple, records), strict=True))
        if not self._keys_are_single(body, raw, rows):
            return None
        if self._finished:
            columns = dict(zip(self._order, map(list, raw), strict=True))
        else:
            columns = {}
            for name, values, finish in zip(self._order, raw, self._finish, strict=True):
                column = finish(values)
                if column is None:
                    return None
                columns[name] = column
        for rule, truths_of in self._rules:
            truths = truths_of(columns, rows)
            if False in truths or (None in truths and not rule.null_passes):
                return None
        return Checked(rows, columns, single, self._whole)

    def _keys_are_single(self, body: bytes, raw: list[tuple[Any, ...]], rows: int) -> bool:
        # A key brings one colon, and those in its name. As many colons in the body as the fields that are there and
        # their texts account for: no key stands twice. (Escaped colons were sent to the strict reader before.)
        colons = body.count(b":") - rows * self._weight
        if not colons and not (self._optional and any(msgspec.UNSET in raw[index] for index in self._optional)):
            return True
        absent = sum(self._weights[index] * raw[index].count(msgspec.UNSET) for index in self._optional)
        return colons == sum(_colons(value) for index in self._texts for value in raw[index]) - absent

    def _check(self, records: Sequence[Any], *, single: bool) -> Checked:
        found = _Found()
        if not self.schema.batched and len(records) != 1:
            expected = self.schema.expected["batched"]
            raise InputRefused([Violation("", "batched", RejectionCode.REQUEST_TOO_MANY_ROWS, 0, expected)])
        columns: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        for row, record in enumerate(records):
            if isinstance(record, Mapping):
                self._check_record(row, record, columns, found)
            else:
                found.add_whole(Violation("", "json.shape", RejectionCode.JSON_SHAPE, row))
                for values in columns.values():
                    values.append(None)
            if found.full:
                break
        return self._conclude(self._stacked(columns, found), len(records), found, single=single)

    def _breaks(self, record: Record) -> Sequence[Violation]:
        try:
            self._check([record], single=False)
        except InputRefused as refused:
            return refused.violations
        return ()

    def _check_record(self, row: int, record: Record, columns: dict[str, list[Any]], found: "_Found") -> None:
        for position, checker in enumerate(self.checkers):
            value, breaks = checker.check(record.get(checker.name, MISSING))
            found.add_breaks(position, checker.name, breaks, row)
            columns[checker.name].append(value)
        for name in record.keys() - self._names:
            found.add(len(self.checkers), Violation(shown_key(str(name)), "closed", RejectionCode.FIELD_UNKNOWN, row))

    def _stacked(self, columns: dict[str, list[Any]], found: "_Found") -> dict[str, Any]:
        if found.violations:
            return columns
        stacked: dict[str, Any] = dict(columns)
        for position, checker in enumerate(self.checkers):
            if checker.tensor is None:
                continue
            values = columns[checker.name]
            if not self.schema.batched:
                stacked[checker.name] = values[0]
                continue
            for row, value in enumerate(values):
                if value.shape != values[0].shape:
                    rule = f"{checker.name}.shape"
                    found.add(position, Violation(checker.name, rule, RejectionCode.TENSOR_SHAPE, row))
            if not found.violations:
                stacked[checker.name] = np.stack(values)
        return stacked

    def _check_column(self, position: int, checker: ValueChecker, values: Any, rows: int, found: "_Found") -> Any:
        name = checker.name
        if values is MISSING:
            value, breaks = checker.check(MISSING)
            found.add_breaks(position, name, breaks, 0)
            return [value] * rows
        if checker.tensor is not None:
            array, broken = checker.tensor.check(values, rows if self.schema.batched else None)
            if broken is not None:
                found.add(position, Violation(name, broken.id, broken.code, broken.row))
            return array
        if isinstance(values, np.ndarray):
            values = _as_rows(values, checker.field)
        if len(values) != rows:
            found.add(position, Violation(name, f"{name}.shape", RejectionCode.TENSOR_SHAPE))
            return [None] * rows
        if isinstance(values, np.ndarray):
            if _accepts_array(values, checker):
                return values
            values = values.tolist()
        read = self._readers[position]
        accepted = read(values) if read is not None else None
        if accepted is not None:
            return accepted
        out = []
        for row, value in enumerate(values):
            accepted, breaks = checker.check(value)
            out.append(accepted)
            found.add_breaks(position, name, breaks, row)
        return out

    def _conclude(self, columns: dict[str, Any], rows: int, found: "_Found", *, single: bool) -> Checked:
        """Check the record rules on the rows whose fields were accepted, and give the verdict."""
        for position, (rule, truths_of) in enumerate(self._rules, start=len(self.checkers) + 1):
            read = {name: columns[name] for name in rule.expression.fields}
            refused = found.rows_of(self._positions[name] for name in read)
            count = min((len(values) for values in read.values()), default=rows)
            for row, truth in enumerate(truths_of(read, count)):
                if row not in refused and not (rule.null_passes if truth is None else truth):
                    found.add(position, Violation("", rule.id, rule.code, row))
        if found.violations:
            raise InputRefused(found.in_order(self.schema.expected))
        return Checked(rows, columns, single, self._whole)


class _Found:
    """Violations as they are found, with the position of their field or rule in the schema."""

    def __init__(self) -> None:
        self.violations: list[tuple[int, int, Violation]] = []

    @property
    def full(self) -> bool:
        return len(self.violations) >= MAX_VIOLATIONS

    def add(self, position: int, violation: Violation) -> None:
        self.violations.append((violation.row, position, violation))

    def add_breaks(self, position: int, name: str, breaks: Iterable[Break], row: int) -> None:
        for each in breaks:
            self.add(position, Violation(name + each.below, each.rule, each.code, row))

    def add_whole(self, violation: Violation) -> None:
        self.add(_WHOLE_RECORD, violation)

    def rows_of(self, positions: Iterable[int]) -> frozenset[int]:
        wanted = {_WHOLE_RECORD, *positions}
        return frozenset(row for row, position, _ in self.violations if position in wanted)

    def in_order(self, expected: Mapping[str, str]) -> list[Violation]:
        ordered = sorted(self.violations, key=lambda each: each[:2])
        found = (violation for _, _, violation in ordered[:MAX_VIOLATIONS])
        return [Violation(each.field, each.rule, each.code, each.row, expected.get(each.rule, "")) for each in found]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _holds_colons(field: Field) -> bool:
    of = field.item or field
    return of.kind in ("string", "timestamp") or of.dtype == "str"


def _colons(value: Any) -> int:
    if isinstance(value, str):
        return value.count(":")
    return sum(map(_colons, value)) if isinstance(value, list) else 0


def _finisher(checker: ValueChecker, *, batched: bool) -> Callable[[tuple[Any, ...]], Any]:
    """Step from decoded values to a checked column; it gives None when a value needs the strict reader."""
    field = checker.field
    if checker.tensor is not None:
        tensor = checker.tensor
        if batched:
            return lambda values: tensor.check_lists(values, (len(values), *field.shape), len(values))[0]
        return lambda values: tensor.check_lists(values[0], field.shape)[0]
    if not is_tight(field):
        return lambda values: _checked_all(checker, values)
    if field.required:
        return list
    fill = field.impute
    return lambda values: [fill if value is None or value is msgspec.UNSET else value for value in values]


def _checked_all(checker: ValueChecker, values: tuple[Any, ...]) -> list[Any] | None:
    out = []
    for value in values:
        accepted, breaks = checker.check(None if value is msgspec.UNSET else value)
        if breaks:
            return None
        out.append(accepted)
    return out


def _as_rows(values: np.ndarray, field: Field) -> Any:
    """Array of one column as ``[rows]``, or as a list of lists without padding; nothing when it has no rows."""
    if not values.ndim:
        return []
    if field.kind != "list":
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values  # noqa: PLR2004 (rows, one)
    if values.ndim != 2:  # noqa: PLR2004 (rows, longest)
        return values
    return without_padding(values, field)


def without_padding(values: np.ndarray, field: Field) -> list[list[Any]]:
    """Give the lists of a list field from ``[rows, longest]``, without the padding at their ends."""
    lists: list[list[Any]] = values.tolist()
    if field.padding is None:
        return lists
    padding = values.dtype.type(field.padding).item() if values.dtype.kind == "f" else field.padding
    for items in lists:
        while items and items[-1] == padding:
            items.pop()
    return lists


def _accepts_array(values: np.ndarray, checker: ValueChecker) -> bool:
    """Whether every value is accepted as it stands; False when the values must be looked at one by one."""
    field = checker.field
    if values.ndim != 1 or field.sentinels or field.enum:
        return False
    kind = values.dtype.kind
    if field.kind == "boolean":
        return kind == "b"
    if (field.kind, kind) in (("integer", "i"), ("integer", "u")):
        low, high = integer_bounds(field.dtype)
    elif (field.kind, kind) == ("number", "f"):
        high = number_bounds(field.dtype)[1]  # type: ignore[assignment]  # floats
        low = -high
    else:
        return False
    if not values.size:
        return True
    # NaN makes both ends NaN, and no comparison with it holds.
    smallest, greatest = values.min().item(), values.max().item()
    return low <= smallest <= greatest <= high and all(
        _range_holds(rule, smallest, greatest) for rule, _ in checker.tests if isinstance(rule, RangeRule)
    )


def _range_holds(rule: RangeRule, smallest: float, greatest: float) -> bool:
    low, high = rule.minimum, rule.maximum
    return (low is None or (smallest > low if rule.exclusive_minimum else smallest >= low)) and (
        high is None or (greatest < high if rule.exclusive_maximum else greatest <= high)
    )
