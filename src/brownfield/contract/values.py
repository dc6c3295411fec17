"""The row path of one field: a plain value in, the accepted value out, or the rules that it breaks.

The batch path (``columns.py``) gives the same verdicts on Arrow columns; property tests hold the two together.
"""

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from brownfield.contract.fields import Field
from brownfield.contract.instants import ZoneUnclear, localise, parse_date, parse_timestamp
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
from brownfield.contract.tensors import TensorChecker
from brownfield.errors import RejectionCode

__all__ = ["MISSING", "Break", "ValueChecker", "integer_bounds", "number_bounds", "spelled"]

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING"})()
"""Stands for a key that the record does not have."""

EXACT_INTEGER = {"float64": 2**53, "float32": 2**24, "float16": 2**11}
"""Largest whole number up to which every whole number is exact in a floating-point width."""
_SMALLEST, _LARGEST = float(np.finfo("float32").tiny), float(np.finfo("float32").max)


class Break(NamedTuple):
    """One broken rule: path below the field (such as ``[3]``), identifier and code."""

    below: str
    rule: str
    code: RejectionCode


class Unfit(Exception):
    """A value that is not of the field's kind; carries the rule's suffix and code."""

    def __init__(self, suffix: str, code: RejectionCode) -> None:
        super().__init__(suffix)
        self.suffix = suffix
        self.code = code


_NOT_OF_KIND = ("type", RejectionCode.FIELD_TYPE)
_NOT_EXACT = ("exact", RejectionCode.FIELD_INEXACT)


class ValueChecker:
    """Checks values of one field.

    Parameters
    ----------
    field
        The field.
    name
        Prefix of rule identifiers; the field's name unless given.

    Examples
    --------
    >>> checker = ValueChecker(Field(name="quantity", kind="integer", dtype="int64", minimum=1, required=True,
    ...                              null_policy="reject"))
    >>> checker.check(3)
    (3, [])
    >>> checker.check(0)[1]
    [Break(below='', rule='quantity.range', code=<RejectionCode.RULE_RANGE: 'BF-RUL-001'>)]
    """

    def __init__(self, field: Field, name: str | None = None) -> None:
        self.field = field
        self.name = field.name if name is None else name
        self.convert = _converter(field)
        rules = value_rules(field, self.name)
        self.item = ValueChecker(field.item, f"{self.name}[]") if field.item is not None else None
        self.tensor = TensorChecker(field) if field.kind == "tensor" else None
        self.tests = [(rule, _test(rule, field)) for rule in rules if not isinstance(rule, UniqueItemsRule)]
        self.spelled = spelled(field)
        self.unique_items = next((rule for rule in rules if isinstance(rule, UniqueItemsRule)), None)

    def check(self, value: Any) -> tuple[Any, list[Break]]:  # noqa: PLR0911 (one per step, in order)
        """Give the accepted value (converted, sentinels and imputation applied) and the rules it breaks."""
        if value is MISSING or value is None:
            if self.field.required:
                absent = value is MISSING
                code = RejectionCode.FIELD_MISSING if absent else RejectionCode.FIELD_NULL
                return None, [Break("", f"{self.name}.required", code)]
            return self._missing()
        if self.tensor is not None:
            return self._tensor(self.tensor, value)
        try:
            value = self.convert(value)
        except Unfit as unfit:
            return None, [Break("", f"{self.name}.{unfit.suffix}", unfit.code)]
        if self.spelled:
            value = self.spelled.get(value, value)
        if self.field.sentinels and value in self.field.sentinels:
            return self._missing()
        for rule, holds in self.tests:
            if not holds(value):
                return None, [Break("", rule.id, rule.code)]
        return self._items(value) if self.item is not None else (value, [])

    def _missing(self) -> tuple[Any, list[Break]]:
        if self.field.null_policy == "reject":
            return None, [Break("", f"{self.name}.null", RejectionCode.FIELD_NULL)]
        return (self.field.impute if self.field.null_policy == "impute" else None), []

    def _tensor(self, tensor: TensorChecker, value: Any) -> tuple[Any, list[Break]]:
        array, broken = tensor.check(value)
        return array, [Break("", broken.id, broken.code)] if broken is not None else []

    def _items(self, values: list[Any]) -> tuple[Any, list[Break]]:
        assert self.item is not None  # noqa: S101 (only called for lists)
        out: list[Any] = []
        breaks: list[Break] = []
        for index, value in enumerate(values):
            item, broken = self.item.check(value)
            out.append(item)
            breaks.extend(each._replace(below=f"[{index}]") for each in broken)
        if not breaks and self.unique_items is not None and len(set(out)) < len(out):
            breaks.append(Break("", self.unique_items.id, self.unique_items.code))
        return out, breaks


def integer_bounds(dtype: str) -> tuple[int, int]:
    """Smallest and largest value of an integer width.

    Examples
    --------
    >>> integer_bounds("int8")
    (-128, 127)
    """
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def number_bounds(dtype: str) -> tuple[int, float]:
    """Largest exact whole number and largest magnitude of a floating-point width.

    Examples
    --------
    >>> number_bounds("float32")
    (16777216, 3.4028234663852886e+38)
    """
    return EXACT_INTEGER[dtype], float(np.finfo(dtype).max)


def spelled(field: Field) -> dict[float, float]:
    """Give declared values by what is left of them in 32 bits, where that would be another value.

    Who sends the sentinel -99.9 or the largest admitted 0.99 as FP32 means those. A bound that is admitted itself is
    among them where its nearest neighbour of 32 bits lies outside.

    Examples
    --------
    >>> spelled(Field(name="share", kind="number", dtype="float64", minimum=0.5, maximum=0.99))
    {0.9900000095367432: 0.99}
    """
    if field.kind != "number":
        return {}
    declared = [*field.sentinels, *field.enum]
    if field.minimum is not None and not field.exclusive_minimum and _in_32_bits(field.minimum) < field.minimum:
        declared.append(field.minimum)
    if field.maximum is not None and not field.exclusive_maximum and _in_32_bits(field.maximum) > field.maximum:
        declared.append(field.maximum)
    found = {_in_32_bits(value): value for value in reversed(declared)}
    return {short: value for short, value in found.items() if short not in declared and abs(short) >= _SMALLEST}


def _in_32_bits(value: float) -> float:
    """Give the nearest number of 32 bits; the value itself where they hold none that is near."""
    return float(np.float32(value)) if _SMALLEST <= abs(value) <= _LARGEST else value


def _converter(field: Field) -> Callable[[Any], Any]:  # noqa: PLR0911 (one per kind)
    match field.kind:
        case "string":
            return _text
        case "integer":
            return _integer(*integer_bounds(field.dtype))
        case "number":
            return _number(*number_bounds(field.dtype))
        case "boolean":
            return _boolean
        case "date":
            return _date
        case "timestamp":
            return lambda value: _timestamp(value, field)
        case _:
            return _list


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit(*_NOT_OF_KIND)
    if "\0" in value:
        raise Unfit("text", RejectionCode.FIELD_TYPE)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit("text", RejectionCode.FIELD_TYPE) from None
    return value


def _integer(low: int, high: int) -> Callable[[Any], int]:
    exact = EXACT_INTEGER["float64"]

    def convert(value: Any) -> int:
        if isinstance(value, bool | np.bool_):
            raise Unfit(*_NOT_OF_KIND)
        if isinstance(value, int | np.integer):
            whole = int(value)
        elif isinstance(value, float | np.floating):
            number = float(value)
            if not -exact <= number <= exact or number != int(number):
                raise Unfit(*_NOT_EXACT)
            whole = int(number)
        elif isinstance(value, Decimal):
            if not value.is_finite() or value != value.to_integral_value():
                raise Unfit(*_NOT_EXACT)
            whole = int(value)
        else:
            raise Unfit(*_NOT_OF_KIND)
        if not low <= whole <= high:
            raise Unfit(*_NOT_EXACT)
        return whole

    return convert


def _number(exact: int, largest: float) -> Callable[[Any], float]:
    def convert(value: Any) -> float:
        if isinstance(value, bool | np.bool_):
            raise Unfit(*_NOT_OF_KIND)
        if isinstance(value, int | np.integer):
            if not -exact <= int(value) <= exact:
                raise Unfit(*_NOT_EXACT)
            return float(value)
        if not isinstance(value, float | np.floating | Decimal):
            raise Unfit(*_NOT_OF_KIND)
        number = float(value)
        if largest < abs(number) != float("inf"):
            raise Unfit(*_NOT_EXACT)
        return number

    return convert


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise Unfit(*_NOT_OF_KIND)
    return bool(value)


def _date(value: Any) -> date:
    if isinstance(value, str):
        try:
            return parse_date(value)
        except ValueError:
            raise Unfit(*_NOT_OF_KIND) from None
    if not isinstance(value, date) or isinstance(value, datetime):
        raise Unfit(*_NOT_OF_KIND)
    return value


def _timestamp(value: Any, field: Field) -> datetime:
    try:
        if isinstance(value, str):
            return parse_timestamp(value, field.zone)
        if isinstance(value, datetime):
            return localise(value, field.zone)
    except ZoneUnclear:
        raise Unfit("zone", RejectionCode.FIELD_ZONE) from None
    except ValueError:
        raise Unfit(*_NOT_OF_KIND) from None
    raise Unfit(*_NOT_OF_KIND)


def _list(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value.tolist())
    if not isinstance(value, list | tuple):
        raise Unfit(*_NOT_OF_KIND)
    return list(value)


def _test(rule: ValueRule, field: Field) -> Callable[[Any], bool]:
    match rule:
        case FiniteRule():
            return lambda value: -float("inf") < value < float("inf")
        case RangeRule():
            return _range_test(rule)
        case LengthRule() | ItemsRule():
            low, high = rule.minimum or 0, float("inf") if rule.maximum is None else rule.maximum
            return lambda value: low <= len(value) <= high
        case EnumRule():
            return frozenset(rule.values).__contains__
        case PatternRule():
            longest = MAX_TEXT if field.max_length is None else field.max_length
            search = re.compile(compile_pattern(rule.pattern, longest).python).search
            return lambda value: len(value) <= longest and search(value) is not None
        case _:
            raise AssertionError(rule)


def _range_test(rule: RangeRule) -> Callable[[Any], bool]:
    comparisons: list[Callable[[Any], bool]] = list(_comparisons(rule))

    def holds(value: Any) -> bool:
        return value != value or all(compare(value) for compare in comparisons)  # noqa: PLR0124 (NaN)

    return holds


def _comparisons(rule: RangeRule) -> Iterator[Callable[[Any], bool]]:
    low, high = rule.minimum, rule.maximum
    if low is not None:
        yield (lambda value: value > low) if rule.exclusive_minimum else (lambda value: value >= low)
    if high is not None:
        yield (lambda value: value < high) if rule.exclusive_maximum else (lambda value: value <= high)
