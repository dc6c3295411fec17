"""Values of a database's typed columns as Arrow columns, exactly; what does not fit is named row by row."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from brownfield.data.sources.dialect import Column, Family
from brownfield.errors import DeclarationError

__all__ = ["check_type", "typed_column"]

_MISFITS = (pa.ArrowException, ArithmeticError, TypeError, ValueError, KeyError)
_TRUTH = {None: None, 0: False, 1: True, b"\x00": False, b"\x01": True}


def check_type(field: pa.Field, column: Column, where: str) -> None:
    """Refuse a column that is not of the contract's type, before its first value is read.

    Raises
    ------
    DeclarationError
        Naming the column, its type and the contract's.
    """
    kind = field.type
    if pa.types.is_integer(kind):
        admitted = {Family.WHOLE, Family.DECIMAL}
    elif pa.types.is_floating(kind):
        admitted = {Family.WHOLE, Family.DECIMAL, Family.FLOAT}
    elif pa.types.is_boolean(kind):
        admitted = {Family.TRUTH, Family.WHOLE}
    elif pa.types.is_date(kind):
        admitted = {Family.DATE, Family.TEXT}
    elif pa.types.is_timestamp(kind):
        admitted = {Family.LOCAL, Family.INSTANT, Family.TEXT}
    else:
        admitted = {Family.TEXT} if pa.types.is_string(kind) else set()
    if column.family not in admitted:
        raise DeclarationError(
            where=where,
            path=field.name,
            expected=f"a column that holds {_spoken(kind)}, as the contract says",
            got=column.declared,
            next_step="Correct the contract's field, or ask the owner what changed."
            if column.family is not None
            else "Columns of bytes, lists and shapes are not read.",
        )


def typed_column(values: Sequence[Any], field: pa.Field, column: Column) -> tuple[pa.Array, list[int]]:
    """Turn one page's values of a column into an Arrow column.

    Returns
    -------
    tuple
        The column, null where a value does not fit, and the rows where it does not.
    """
    if column.padded:
        values = [value.rstrip(" ") if type(value) is str else value for value in values]
    boolean = pa.types.is_boolean(field.type)
    try:
        return _array(values, column, boolean=boolean), []
    except _MISFITS:
        bad = [row for row, value in enumerate(values) if not _fits(value, column, boolean=boolean)]
        kept = list(values)
        for row in bad:
            kept[row] = None
        return _array(kept, column, boolean=boolean), bad


def _array(values: Sequence[Any], column: Column, *, boolean: bool) -> pa.Array:  # noqa: PLR0911 (one each family)
    if boolean:
        return pa.array([_TRUTH[value] for value in values], pa.bool_())
    if column.family is Family.DECIMAL:
        if all(value is None for value in values):
            return pa.nulls(len(values), pa.decimal128(1, 0))
        return pa.array(values)
    if column.family is Family.WHOLE and "unsigned" in column.declared:
        return pa.array(values, pa.uint64())
    if column.family is Family.DATE:
        return pa.array([_only(value, date) for value in values], pa.date32())
    if column.family in {Family.LOCAL, Family.INSTANT}:
        kind = pa.timestamp("us", "UTC" if column.family is Family.INSTANT else None)
        return pa.array([_only(value, datetime) for value in values], kind)
    if column.family is Family.TEXT and "\x00" in "".join(value for value in values if value):
        raise ValueError("a text with a zero byte")
    return pa.array(values, _PLAIN[column.family or Family.TEXT])


_PLAIN = {Family.WHOLE: pa.int64(), Family.FLOAT: pa.float64(), Family.TEXT: pa.string()}


def _only(value: Any, kind: type[Any]) -> Any:
    if value is not None and not isinstance(value, kind):
        raise TypeError("a date beyond the calendar")
    return value


def _fits(value: Any, column: Column, *, boolean: bool) -> bool:
    try:
        _array([value], column, boolean=boolean)
    except _MISFITS:
        return False
    return True


def _spoken(kind: pa.DataType) -> str:
    for test, words in (
        (pa.types.is_integer, "whole numbers"),
        (pa.types.is_floating, "numbers"),
        (pa.types.is_boolean, "truth values"),
        (pa.types.is_date, "dates"),
        (pa.types.is_timestamp, "timestamps"),
        (pa.types.is_string, "text"),
    ):
        if test(kind):
            return words
    return "one value"
