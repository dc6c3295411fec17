"""Fixed records to Arrow columns and back: the engine under ``copybook`` and ``fixed_width``.

A batch of records is one matrix of bytes; each wanted column is decoded as a whole. A record with a bad field becomes
a reject that names the field and the byte; the others become rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.layout import Item, Layout
from brownfield.data.formats.numbers import Writing, decode_number, encode_number, explain
from brownfield.data.formats.text import parse_text, plain_type, write_text
from brownfield.errors import FormatError, RejectionCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Characters", "Plan", "Utf8"]

_EXACT_IN_FLOAT = 2**53


class Characters(Protocol):
    """A character set; :class:`~brownfield.data.formats.code_page.CodePage` and :class:`Utf8`."""

    @property
    def space(self) -> int:
        """The byte of a blank."""
        ...

    def decode(self, block: "NDArray[np.uint8]") -> "tuple[pa.StringArray, NDArray[np.bool_]]":
        """Decode texts of equal width, without the blanks at their end; tell which are bad."""
        ...

    def encode(self, text: str) -> bytes:
        """Encode one text."""
        ...


class Utf8:
    """UTF-8 in fields of a fixed number of bytes; a character cut by the field's end makes the text bad."""

    space = 0x20

    def decode(self, block: "NDArray[np.uint8]") -> "tuple[pa.StringArray, NDArray[np.bool_]]":
        """Decode texts of equal width, without the blanks at their end; tell which are bad."""
        texts: list[str | None] = []
        for row in block:
            try:
                text = row.tobytes().decode()
            except UnicodeDecodeError:
                texts.append(None)
            else:
                texts.append(None if "\0" in text else text.rstrip(" "))
        array = pa.array(texts, pa.string())
        return array, pc.is_null(array).to_numpy(zero_copy_only=False)

    def encode(self, text: str) -> bytes:
        """Encode one text."""
        if "\0" in text:
            raise UnicodeEncodeError("utf-8", text, 0, len(text), "a character that cannot stand in a text")
        return text.encode()


@dataclass(frozen=True, slots=True)
class _Column:
    """What one wanted column is decoded from, and to."""

    item: Item
    kind: pa.DataType
    """Type of one value; a list of it per OCCURS."""
    blank_is_missing: bool
    """Whether a text of blanks is no value: a text may be empty, a number or date may not."""


@dataclass(frozen=True)
class Plan:
    """A layout bound to the columns that are wanted.

    Parameters
    ----------
    layout
        The record.
    columns
        The wanted columns, in the order in which they come out.
    characters
        Character set of the texts.
    writing
        The machine that wrote the numbers.
    """

    layout: Layout
    columns: tuple[_Column, ...]
    characters: Characters
    writing: Writing

    @classmethod
    def bind(cls, layout: Layout, wanted: pa.Schema, characters: Characters, writing: Writing, where: str) -> "Plan":
        """Find each wanted column in the layout.

        Raises
        ------
        FormatError
            When the layout lacks a column, or writes it in a way that cannot become the wanted type.
        """
        items = {item.name: item for item in layout.items}
        columns = []
        for field in wanted:
            item = items.get(field.name)
            if item is None:
                near = get_close_matches(field.name, items, 1)
                raise FormatError(
                    where=where, expected=f"a field {field.name}", got="none of that name",
                    next_step=f"The nearest is {near[0]}." if near else f"There are {', '.join(items)}.",
                )  # fmt: skip
            wanted_value = _value_type(field, item, where)
            columns.append(_Column(item, plain_type(wanted_value), not pa.types.is_string(wanted_value)))
        return cls(layout, tuple(columns), characters, writing)

    @property
    def schema(self) -> pa.Schema:
        """Columns and types that come out."""
        return pa.schema(
            [(column.item.name, _list_type(column.kind, len(column.item.axes))) for column in self.columns]
        )

    def decode(self, matrix: "NDArray[np.uint8]", position: Callable[[int], str]) -> Decoded:
        """Decode a batch of whole records.

        Parameters
        ----------
        matrix
            Bytes, shape ``(records, record_bytes)``.
        position
            Gives the position of a record of the matrix.
        """
        arrays, first_bad = [], np.full(len(matrix), len(self.columns), dtype=np.int32)
        for index, column in enumerate(self.columns):
            block = _block(matrix, column.item)
            values, bad = self._decode_column(block, column)
            if bad.any():
                in_record = bad.reshape(len(matrix), -1).any(axis=1)
                first_bad[in_record] = np.minimum(first_bad[in_record], index)
            arrays.append(_as_lists(values, column.item, len(matrix)))
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        rows = np.flatnonzero(first_bad == len(self.columns))
        if len(rows) == len(matrix):
            return Decoded(batch, position, lambda row: matrix[row].tobytes())
        rejects = tuple(
            self._reject(matrix[row].tobytes(), self.columns[first_bad[row]], position(int(row)))
            for row in np.flatnonzero(first_bad < len(self.columns))
        )
        return Decoded(
            batch.take(pa.array(rows)),
            lambda row: position(int(rows[row])),
            lambda row: matrix[rows[row]].tobytes(),
            rejects,
        )

    def _decode_column(self, block: "NDArray[np.uint8]", column: _Column) -> "tuple[pa.Array, NDArray[np.bool_]]":
        item, kind = column.item, column.kind
        if item.usage == "text":
            texts, bad = self._texts(block, column)
            values, unparsed, _ = parse_text(texts, kind)
            return values, bad | unparsed
        whole, bad = decode_number(block, item, self.writing)
        if pa.types.is_floating(kind):
            return pa.array(whole / 10**item.scale if item.scale else whole.astype(np.float64)), bad
        if pa.types.is_string(kind):
            return pc.utf8_lpad(pa.array(np.where(bad, 0, whole)).cast(pa.string()), item.digits, "0"), bad
        return pa.array(np.where(bad, 0, whole)).cast(kind), bad

    def _texts(self, block: "NDArray[np.uint8]", column: _Column) -> "tuple[pa.StringArray, NDArray[np.bool_]]":
        texts, bad = self.characters.decode(block)
        if column.blank_is_missing:
            texts = pc.utf8_ltrim(texts, " ")
            texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        return texts, bad

    def _reject(self, raw: bytes, column: _Column, position: str) -> Reject:
        """Find, one value at a time, where in a record the first fault of a column lies."""
        item = column.item
        row = np.frombuffer(raw, dtype=np.uint8).reshape(1, -1)
        for index, value in enumerate(_block(row, item)):
            _, bad = self._decode_column(value.reshape(1, -1), column)
            if bad[0]:
                start = _offset(item, index)
                if item.usage == "text":
                    return self._text_reject(raw, value, column, start, position)
                code, at = explain(value.tobytes(), item, self.writing)
                return Reject(position, code, item.name, raw, start + at)
        raise AssertionError("the record has no fault in this column")

    def _text_reject(
        self, raw: bytes, value: "NDArray[np.uint8]", column: _Column, start: int, position: str
    ) -> Reject:
        texts, bad = self._texts(value.reshape(1, -1), column)
        code = RejectionCode.DECODE_TEXT if bad[0] else parse_text(texts, column.kind)[2]
        return Reject(position, code, column.item.name, raw, start)

    def encode(self, batch: pa.RecordBatch) -> "NDArray[np.uint8]":
        """Encode records; bytes of fields that are not among the columns are blanks.

        Raises
        ------
        FormatError
            When a value is null or does not fit its field.
        """
        matrix = np.full((batch.num_rows, self.layout.record_bytes), self.characters.space, dtype=np.uint8)
        for column, array in zip(self.columns, batch.select(list(self.schema.names)).columns, strict=True):
            values = _flat(array, column.item)
            block = self._encode_column(values, column)
            for index in range(block.shape[0] // max(batch.num_rows, 1)):
                start = _offset(column.item, index)
                per_record = block.reshape(batch.num_rows, -1, column.item.length)
                matrix[:, start : start + column.item.length] = per_record[:, index]
        return matrix

    def _encode_column(self, values: pa.Array, column: _Column) -> "NDArray[np.uint8]":
        item = column.item
        if values.null_count and not (item.usage == "text" and column.blank_is_missing):
            raise FormatError(path=item.name, expected="a value in each record", got="a missing one")
        if item.usage == "text":
            return self._encode_texts(values, item)
        return encode_number(_whole(values, item), item, self.writing)

    def _encode_texts(self, values: pa.Array, item: Item) -> "NDArray[np.uint8]":
        padded = bytearray()
        blank = bytes([self.characters.space])
        for text in write_text(values):
            try:
                encoded = self.characters.encode(text or "")
            except UnicodeEncodeError:
                raise FormatError(path=item.name, expected="characters of the code page", got="others") from None
            if len(encoded) > item.length or encoded.endswith(blank):
                raise FormatError(
                    path=item.name,
                    expected=f"a text of up to {item.length} bytes without blanks at its end",
                    got="another",
                )
            padded += encoded.ljust(item.length, blank)
        return np.frombuffer(bytes(padded), dtype=np.uint8).reshape(-1, item.length)


def _value_type(field: pa.Field, item: Item, where: str) -> pa.DataType:
    wanted = field.type
    for _ in item.axes:
        if not (pa.types.is_list(wanted) or pa.types.is_large_list(wanted)):
            raise FormatError(where=where, path=field.name, expected="a list, for the field OCCURS", got=str(wanted))
        wanted = wanted.value_type
    if pa.types.is_list(wanted):
        raise FormatError(
            where=where, path=field.name, expected="a field that OCCURS, for a list", got="one that does not"
        )
    if item.usage == "text":
        return wanted
    kind = plain_type(wanted)
    if pa.types.is_boolean(kind) or (pa.types.is_string(kind) and (item.signed or item.scale)):
        raise FormatError(where=where, path=field.name, expected="a number for this picture", got=str(wanted))
    if pa.types.is_integer(kind) and item.scale:
        raise FormatError(where=where, path=field.name, expected="a number with a fraction", got=str(wanted))
    return wanted


def _list_type(kind: pa.DataType, depth: int) -> pa.DataType:
    return kind if depth == 0 else pa.list_(_list_type(kind, depth - 1))


def _block(matrix: "NDArray[np.uint8]", item: Item) -> "NDArray[np.uint8]":
    """Bytes of a field in all records and occurrences, shape ``(records * occurrences, length)``."""
    if not item.axes:
        return matrix[:, item.offset : item.offset + item.length]
    counts, strides = zip(*item.axes, strict=True)
    view = np.lib.stride_tricks.as_strided(
        matrix[:, item.offset :],
        shape=(len(matrix), *counts, item.length),
        strides=(matrix.strides[0], *strides, 1),
        writeable=False,
    )
    return view.reshape(-1, item.length)


def _offset(item: Item, index: int) -> int:
    """First byte, in the record, of one occurrence."""
    places = np.unravel_index(index, [count for count, _ in item.axes]) if item.axes else ()
    return item.offset + sum(int(place) * stride for place, (_, stride) in zip(places, item.axes, strict=True))


def _as_lists(values: pa.Array, item: Item, records: int) -> pa.Array:
    counts: Sequence[int] = [count for count, _ in item.axes]
    for depth in range(len(counts) - 1, -1, -1):
        lists = records * int(np.prod(counts[:depth], dtype=np.int64))
        offsets = np.arange(lists + 1, dtype=np.int32) * counts[depth]
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    return values


def _flat(array: pa.Array, item: Item) -> pa.Array:
    for count, _ in item.axes:
        if array.null_count or pc.any(pc.not_equal(pc.list_value_length(array), count)).as_py():
            raise FormatError(path=item.name, expected=f"lists of {count} items", got="another length")
        array = array.flatten()
    return array


def _whole(values: pa.Array, item: Item) -> Any:
    """Numbers without their decimal point, held to their picture."""
    if pa.types.is_string(values.type):
        parsed, bad, _ = parse_text(values, pa.int64())
        if bad.any():
            raise FormatError(path=item.name, expected="digits", got="other characters")
        values = parsed
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f":
        scaled = np.rint(numbers * 10**item.scale)
        if not (np.abs(scaled) <= _EXACT_IN_FLOAT).all() or (scaled / 10**item.scale != numbers).any():
            raise FormatError(path=item.name, expected=f"numbers of {item.scale} decimal places", got="others")
        numbers = scaled
    elif item.scale:
        raise FormatError(path=item.name, expected="floating-point numbers, for the picture has a scale", got="others")
    low, high = _bounds(item)
    if len(numbers) and not (low <= numbers.min() and numbers.max() <= high):
        raise FormatError(path=item.name, expected=f"numbers of {item.digits} digits", got="a number out of range")
    return numbers.astype(np.int64)


def _bounds(item: Item) -> tuple[int, int]:
    if item.native:
        bits = item.length * 8
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if item.signed else (0, min(2**bits, 2**63) - 1)
    limit = 10**item.digits - 1
    return (-limit if item.signed else 0), limit
