"""One kept value of a table's row as an Arrow column, exactly; a value that does not fit its field is none."""

from typing import Any

import pyarrow as pa

__all__ = ["column_of"]

_EXACT = 2**53


def column_of(value: Any, field: pa.Field) -> pa.Array | None:
    """Give a column of this one value, or None where it does not fit; dates and timestamps stay text.

    Examples
    --------
    >>> column_of(2.0, pa.field("n", pa.int32())).to_pylist()
    [2]
    >>> column_of(2.5, pa.field("n", pa.int32())) is None, column_of("many", pa.field("n", pa.int64())) is None
    (True, True)
    """
    kind = field.type
    if value is None:
        return pa.nulls(1, _plain(kind))
    if pa.types.is_boolean(kind):
        return pa.array([bool(value)]) if value in (0, 1) and isinstance(value, bool | int) else None
    if pa.types.is_integer(kind):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT)
        return pa.array([int(value)], pa.int64()) if whole and -(2**63) <= value < 2**63 else None
    if pa.types.is_floating(kind):
        return pa.array([float(value)]) if isinstance(value, int | float) else None
    return pa.array([value]) if isinstance(value, str) else None


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return pa.bool_() if pa.types.is_boolean(kind) else pa.string()
