"""Arrow types of accepted batches."""

import pyarrow as pa

from brownfield.contract.fields import Field, Schema

__all__ = ["arrow_schema", "arrow_type"]

_PLAIN = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
_WIDTHS = {
    "bool": pa.bool_(),
    "str": pa.string(),
    **{name: getattr(pa, name)() for name in ("int8", "int16", "int32", "int64")},
    **{name: getattr(pa, name)() for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name: getattr(pa, name)() for name in ("float16", "float32", "float64")},
}


def arrow_type(field: Field) -> pa.DataType:
    """Arrow type of one field: exact width, timestamps in UTC microseconds, tensors as nested lists.

    Examples
    --------
    >>> arrow_type(Field(name="quantity", kind="integer", dtype="int32"))
    DataType(int32)
    """
    if field.item is not None:
        return pa.list_(arrow_type(field.item))
    if not field.dtype:
        return _PLAIN[field.kind]
    kind = _WIDTHS[field.dtype]
    for _ in field.shape:
        kind = pa.list_(kind)
    return kind


def arrow_schema(schema: Schema) -> pa.Schema:
    """Arrow schema of accepted batches, in declared order.

    Examples
    --------
    >>> arrow_schema(Schema("s", (Field(name="q", kind="integer", dtype="int64", null_policy="reject"),)))
    q: int64 not null
    """
    return pa.schema(
        pa.field(field.name, arrow_type(field), nullable=field.null_policy == "pass") for field in schema.fields
    )
