"""Whole columns of timestamp text to Arrow timestamps, where the spelling is plain throughout.

A shortcut and no rule: a column that holds any other spelling stays text, and the contract judges each value itself.
"""

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from brownfield.contract import Schema

__all__ = ["with_timestamps"]

_PLAIN = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}$"


def with_timestamps(batch: pa.RecordBatch, schema: "Schema") -> pa.RecordBatch:
    """Turn the columns of text that the schema calls timestamps into timestamps without a zone.

    Parameters
    ----------
    batch
        As decoded.
    schema
        What it will be held to; reads the timestamps in the zone that each field declares.

    Examples
    --------
    >>> from brownfield.contract import Field, Schema
    >>> sold = Schema("sold", (Field(name="at", kind="timestamp"),))
    >>> with_timestamps(pa.record_batch({"at": ["2026-02-28 09:30:00", None]}), sold).schema.field("at").type
    TimestampType(timestamp[us])
    >>> with_timestamps(pa.record_batch({"at": ["2026-02-30 09:30:00"]}), sold).schema.field("at").type
    DataType(string)
    """
    for field in schema.fields:
        place = batch.schema.get_field_index(field.name)
        if field.kind != "timestamp" or place < 0 or not pa.types.is_string(batch.schema.field(place).type):
            continue
        column = batch.column(place)
        if not pc.all(pc.match_substring_regex(column, _PLAIN)).as_py():
            continue
        try:
            stamps = column.cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            continue
        batch = batch.set_column(place, field.name, stamps)
    return batch
