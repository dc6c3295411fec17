"""Text columns to typed columns, strictly: digits, an optional sign and a decimal point; ``true`` and ``false``.

No thousands separators, currency signs, exponents, trailing signs, blanks around, or digits of other scripts.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.errors import RejectionCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["parse_text", "plain_type", "write_text"]

_INTEGER = "^[+-]?[0-9]{1,20}$"


def plain_type(wanted: pa.DataType) -> pa.DataType:
    """Type in which a column of text is decoded: int64 or uint64, float64, boolean, or text for all else.

    Examples
    --------
    >>> plain_type(pa.int16()), plain_type(pa.date32())
    (DataType(int64), DataType(string))
    """
    if pa.types.is_uint64(wanted):
        return pa.uint64()
    if pa.types.is_integer(wanted):
        return pa.int64()
    if pa.types.is_floating(wanted):
        return pa.float64()
    return pa.bool_() if pa.types.is_boolean(wanted) else pa.string()


def parse_text(
    text: pa.StringArray, wanted: pa.DataType, decimal: str = "."
) -> tuple[pa.Array, "NDArray[np.bool_]", RejectionCode]:
    """Parse one column of text.

    Parameters
    ----------
    text
        Shape ``(rows,)``; null stays null.
    wanted
        The column's type; dates, timestamps and texts stay text.
    decimal
        The decimal mark.

    Returns
    -------
    tuple
        The column in its :func:`plain_type` (null where it does not parse), the rows that do not parse, and the code
        under which they are rejected.

    Examples
    --------
    >>> values, bad, code = parse_text(pa.array(["7", "1.5", None]), pa.int32())
    >>> values.to_pylist(), bad.tolist(), str(code)
    ([7, None, None], [False, True, False], 'BF-DEC-006')
    """
    kind = plain_type(wanted)
    if pa.types.is_string(kind):
        return text, np.zeros(len(text), dtype=bool), RejectionCode.DECODE_TEXT
    if pa.types.is_boolean(kind):
        values = pc.if_else(pc.equal(text, "true"), True, pc.if_else(pc.equal(text, "false"), False, None))
        return values, _lost(text, values), RejectionCode.FIELD_TYPE
    values = _numbers(text, kind, decimal)
    return values, _lost(text, values), RejectionCode.DECODE_NUMBER


def _numbers(text: pa.StringArray, kind: pa.DataType, decimal: str) -> pa.Array:
    mark = "\\" + decimal
    pattern = _INTEGER if pa.types.is_integer(kind) else f"^[+-]?[0-9]+({mark}[0-9]+)?$"
    spelt = pc.match_substring_regex(text, pattern)
    text = pc.if_else(spelt, text, pa.scalar(None, pa.string()))
    if decimal != ".":
        text = pc.replace_substring(text, decimal, ".")
    text = pc.utf8_ltrim(text, "+")
    try:
        values = text.cast(kind)
    except pa.ArrowInvalid:
        values = pa.array([_fitting(each, kind) for each in text.to_pylist()], kind)
    if pa.types.is_floating(kind):
        values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, kind))
    return values


def _fitting(text: str | None, kind: pa.DataType) -> int | None:
    """Whole number that fits the type, else None."""
    if text is None:
        return None
    info = np.iinfo(kind.to_pandas_dtype())
    return value if int(info.min) <= (value := int(text)) <= int(info.max) else None


def _lost(text: pa.Array, values: pa.Array) -> "NDArray[np.bool_]":
    """Rows that had a text and have no value."""
    lost: NDArray[np.bool_] = pc.and_(pc.is_valid(text), pc.is_null(values)).to_numpy(zero_copy_only=False)
    return lost


def write_text(column: pa.Array, decimal: str = ".") -> list[str | None]:
    """Write one column as :func:`parse_text` reads it.

    Examples
    --------
    >>> write_text(pa.array([0.1, 1e-7, None]), decimal=",")
    ['0,1', '0,0000001', None]
    """
    return [None if value is None else _written(value, decimal) for value in column.to_pylist()]


def _written(value: Any, decimal: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-").replace(".", decimal)
    return str(value)
