"""A refused record alone, from the bytes that were kept of it to a row: the way of its source, without its source."""

import io
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pyarrow as pa

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats import Copybook
from brownfield.data.pipeline.forms import form_of
from brownfield.data.pipeline.rows import column_of
from brownfield.errors import FormatError, RejectionCode

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec

__all__ = ["Alone", "decoder_of"]

Alone: TypeAlias = Callable[[bytes, bytes], "Decoded | None"]
"""Decodes head and bytes of one record; None where the bytes are not one record any more."""

_WORD_BYTES = 4
"""Of the word that says how long a record is, and stands before it in a file of variable records."""
_AS_ROWS = frozenset({"arrow", "parquet"})


def decoder_of(integration: "IntegrationSpec", source: str, wanted: pa.Schema) -> Alone:
    """Give what decodes single records of a source, under the format and layout of today.

    Raises
    ------
    DeclarationError
        When the layout cannot be read.
    """
    places = [place for place in integration.sources[source].chain if place.snapshot is None]
    place = places[0]
    if place.format is None or place.format in _AS_ROWS:
        return lambda _head, raw: _from_row(raw, wanted)
    opened = form_of(integration, place)
    is_framed = isinstance(opened, Copybook) and opened.record_format in {"V", "VB"}
    if isinstance(opened, Copybook) and is_framed:
        opened = replace(opened, record_format="V", is_rdw_big_endian=True, rdw_adjustment=-_WORD_BYTES)

    def alone(head: bytes, raw: bytes) -> Decoded | None:
        word = struct.pack(">HH", len(raw) + _WORD_BYTES, 0) if is_framed else b""
        try:
            found = list(opened.decode(io.BytesIO(head + word + raw), wanted))
        except FormatError:
            return None
        holding = [each for each in found if each.records]
        whole = len(holding) == 1 and holding[0].records == 1
        return holding[0] if whole else None

    return alone


def _from_row(raw: bytes, wanted: pa.Schema) -> Decoded | None:
    """Read a row of a table in the form in which it was kept: one JSON object."""
    try:
        row = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(row, dict):
        return None
    columns, misfit = [], None
    for column in wanted:
        values = column_of(row.get(column.name), column)
        misfit = misfit or (column.name if values is None else None)
        columns.append(column_of(None, column) if values is None else values)
    batch = pa.RecordBatch.from_arrays(columns, names=wanted.names)
    if misfit is None:
        return Decoded(batch, str, lambda _: raw)
    return Decoded(batch.slice(0, 0), str, lambda _: raw, (Reject("", RejectionCode.FIELD_TYPE, misfit, raw),))
