"""Records of a layout to Arrow columns and back: the engine under ``copybook`` and ``fixed_width``.

A batch of records is one matrix of bytes; each wanted column is decoded as a whole. A record with a bad field becomes
a reject that names the field and the byte; the others become rows.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.layout import Item, Layout
from brownfield.data.formats.numbers import Writing, decode_number, encode_number, explain
from brownfield.data.formats.text import parse_text, plain_type, write_text
from brownfield.data.formats.unfolding import Unfolded, Unfolding
from brownfield.errors import FormatError, RejectionCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


class _Values(NamedTuple):
    """Values of a column, each with its record: the values of record ``r`` are ``counts[r]`` from ``starts[r]`` on."""

    starts: "NDArray[np.int64]"
    counts: "NDArray[np.int64]"

    @classmethod
    def of(cls, counts: "NDArray[np.int64]") -> "_Values":
        return cls(np.cumsum(counts) - counts, counts)


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
    unfolding
        How records differ from each other; None where they are all alike.
    """

    layout: Layout
    columns: tuple[_Column, ...]
    characters: Characters
    writing: Writing
    unfolding: Unfolding | None = None

    @classmethod
    def bind(
        cls,
        layout: Layout,
        wanted: pa.Schema,
        characters: Characters,
        writing: Writing,
        where: str,
        unfolding: Unfolding | None = None,
    ) -> "Plan":
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
            if item.branch and (unfolding is None or item.branch not in unfolding.rules):
                raise FormatError(
                    where=where, path=field.name,
                    expected=f"redefine_rule to say when {item.branch} is read, for its bytes have several readings",
                    got="no rule",
                )  # fmt: skip
            wanted_value = _value_type(field, item, where)
            columns.append(_Column(item, plain_type(wanted_value), not pa.types.is_string(wanted_value)))
        return cls(layout, tuple(columns), characters, writing, unfolding)

    @property
    def schema(self) -> pa.Schema:
        """Columns and types that come out."""
        return pa.schema(
            [(column.item.name, _list_type(column.kind, len(column.item.axes))) for column in self.columns]
        )

    def decode(self, records: Unfolded) -> Decoded:
        """Decode a batch of records at their full length."""
        rows = len(records.matrix)
        arrays, first_bad = [], np.full(rows, len(self.columns), dtype=np.int32)
        for index, column in enumerate(self.columns):
            values, bad = self._read(records, column)
            if bad is not None:
                first_bad[bad] = np.minimum(first_bad[bad], index)
            arrays.append(values)
        first_bad[list(records.faults)] = -1
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        good = np.flatnonzero(first_bad == len(self.columns))
        if len(good) == rows:
            return Decoded(batch, records.position, records.raw)
        rejects = tuple(
            self._reject(records, int(row), int(first_bad[row]))
            for row in np.flatnonzero(first_bad < len(self.columns))
        )
        return Decoded(
            batch.take(pa.array(good)),
            lambda row: records.position(int(good[row])),
            lambda row: records.raw(int(good[row])),
            rejects,
        )

    def _read(self, records: Unfolded, column: _Column) -> "tuple[pa.Array, NDArray[np.bool_] | None]":
        """Decode one column: a value or list per record, and the records in which it is bad, if there are any."""
        item, rows = column.item, len(records.matrix)
        if item.branch:
            return self._read_branch(records, column)
        if item.counter:
            within = _within(item, records.counts[item.counter])
            values, bad = self._decode_column(_block(records.matrix, item)[within.reshape(-1)], column)
            counts = within.sum(axis=1)
            lists = _as_lists(values, item, rows, records.counts[item.counter])
            owners = np.repeat(np.arange(rows), counts)[bad]
            return lists, np.bincount(owners, minlength=rows) > 0 if bad.any() else None
        values, bad = self._decode_column(_block(records.matrix, item), column)
        return _as_lists(values, item, rows), _in_record(bad, rows)

    def _read_branch(self, records: Unfolded, column: _Column) -> "tuple[pa.Array, NDArray[np.bool_] | None]":
        """Decode a column in the records whose branch has it; it is missing in the others."""
        there = records.chosen[column.item.branch]
        places = np.where(there, np.cumsum(there) - 1, 0)
        values, bad = self._decode_column(_block(records.matrix[there], column.item), column)
        lists = _as_lists(values, column.item, int(there.sum()))
        lists = lists.take(pa.array(places, mask=~there))
        fault = _in_record(bad, int(there.sum()))
        if fault is None:
            return lists, None
        in_record = np.zeros(len(there), dtype=bool)
        in_record[there] = fault
        return lists, in_record

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

    def _reject(self, records: Unfolded, row: int, bad_column: int) -> Reject:
        """Find, one value at a time, where in a record the first fault of a column lies."""
        position, raw = records.position(row), records.raw(row)
        if bad_column < 0:
            code, field, at = records.faults[row]
            return Reject(position, code, field, raw, at)
        column = self.columns[bad_column]
        item = column.item
        for index, value in enumerate(_block(records.matrix[row : row + 1], item)):
            block = value.reshape(1, -1)
            _, bad = self._decode_column(block, column)
            if bad[0]:
                code, at = self._explain(block, column)
                return Reject(position, code, item.name, raw, records.offset(row, _offset(item, index) + at))
        raise AssertionError("the record has no fault in this column")

    def _explain(self, block: "NDArray[np.uint8]", column: _Column) -> tuple[RejectionCode, int]:
        if column.item.usage != "text":
            return explain(block.tobytes(), column.item, self.writing)
        texts, bad = self._texts(block, column)
        return RejectionCode.DECODE_TEXT if bad[0] else parse_text(texts, column.kind)[2], 0

    def encode(self, batch: pa.RecordBatch) -> "tuple[NDArray[np.uint8], Mapping[str, NDArray[np.int64]]]":
        """Encode records at their full length; bytes of fields that are not among the columns are blanks.

        Returns
        -------
        tuple
            The bytes, shape ``(records, record_bytes)``, and the entries of tables with a counter, by its name.

        Raises
        ------
        FormatError
            When a value is null or does not fit its field, or a counter or branch does not fit its values.
        """
        matrix = np.full((batch.num_rows, self.layout.record_bytes), self.characters.space, dtype=np.uint8)
        counts = self._written_counts(batch)
        self._write_counters(matrix, counts)
        for column in self.columns:
            if not column.item.branch:
                array = batch.column(column.item.name)
                per_table = counts[column.item.counter] if column.item.counter else None
                values, layout = _flat(array, column.item, per_table)
                _place(matrix, self._encode_column(values, column), column.item, layout)
        if any(column.item.branch for column in self.columns):
            self._write_branches(matrix, batch)
        return matrix, counts

    @cached_property
    def _tables(self) -> dict[str, Item]:
        """Fields that count the entries of a table, by name."""
        counters = {table.counter for table in self.layout.tables}
        return {item.name: item for item in self.layout.items if item.name in counters}

    def _written_counts(self, batch: pa.RecordBatch) -> "dict[str, NDArray[np.int64]]":
        """Entries of each table: the lengths of its lists, or what its counter says."""
        counts: dict[str, NDArray[np.int64]] = {}
        for name in self._tables:
            lists = next((column.item.name for column in self.columns if column.item.counter == name), name)
            if lists not in batch.schema.names or batch.column(lists).null_count:
                raise FormatError(path=lists, expected="a list in each record, or its counter", got="none")
            array = batch.column(lists)
            lengths = pc.list_value_length(array) if lists != name else array
            counts[name] = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
            if name in batch.schema.names and not np.array_equal(counts[name], batch.column(name).to_numpy()):
                raise FormatError(path=name, expected="the length of its lists", got="another number")
        for table in self.layout.tables:
            entries = counts[table.counter]
            if len(entries) and not table.minimum <= entries.min() <= entries.max() <= table.maximum:
                raise FormatError(
                    path=table.counter, expected=f"{table.minimum} to {table.maximum} entries", got="another number"
                )
        return counts

    def _write_counters(self, matrix: "NDArray[np.uint8]", counts: "Mapping[str, NDArray[np.int64]]") -> None:
        for name, item in self._tables.items():
            block = encode_number(_whole(pa.array(counts[name]), item), item, self.writing)
            matrix[:, item.offset : item.offset + item.length] = block

    def _write_branches(self, matrix: "NDArray[np.uint8]", batch: pa.RecordBatch) -> None:
        """Write the fields of each record's branch; those of other branches must be missing."""
        if self.unfolding is None:
            raise AssertionError("a plan with branches knows when they are read")
        chosen = self.unfolding.choose_written(matrix)
        for column in self.columns:
            if not column.item.branch:
                continue
            there = chosen[column.item.branch]
            array = batch.column(column.item.name)
            if array.filter(pa.array(~there)).null_count < len(there) - there.sum():
                raise FormatError(path=column.item.name, expected="no value where another branch is read", got="one")
            values, layout = _flat(array.filter(pa.array(there)), column.item, None)
            block = self._encode_column(values, column)
            part = matrix[there]
            _place(part, block, column.item, layout)
            matrix[there] = part

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


def _in_record(bad: "NDArray[np.bool_]", records: int) -> "NDArray[np.bool_] | None":
    """Find the records that have a bad value, where each has as many values; None when there are none."""
    return np.logical_or.reduce(bad.reshape(records, -1), axis=1) if bad.any() else None


def _within(item: Item, counts: "NDArray[np.int64]") -> "NDArray[np.bool_]":
    """Tell which of a field's places a record has, shape ``(records, places)``."""
    (most, _), *inner = item.axes
    places = int(np.prod([count for count, _ in inner], dtype=np.int64))
    return np.repeat(np.arange(most) < counts[:, None], places, axis=1)


def _as_lists(values: pa.Array, item: Item, records: int, entries: "NDArray[np.int64] | None" = None) -> pa.Array:
    """Put values into one list per OCCURS; ``entries`` are those of the outermost where they vary."""
    counts: Sequence[int] = [count for count, _ in item.axes]
    for depth in range(len(counts) - 1, -1, -1):
        if depth == 0 and entries is not None:
            offsets = np.concatenate([[0], np.cumsum(entries)]).astype(np.int32)
        else:
            outer = int(np.prod(counts[:depth], dtype=np.int64))
            lists = records * outer if entries is None else int(entries.sum()) * outer // counts[0]
            offsets = np.arange(lists + 1, dtype=np.int32) * counts[depth]
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    return values


def _flat(array: pa.Array, item: Item, entries: "NDArray[np.int64] | None") -> tuple[pa.Array, _Values]:
    """Take values out of their lists, which must be as long as their OCCURS."""
    records = len(array)
    per_record = np.ones(records, dtype=np.int64)
    for depth, (count, _) in enumerate(item.axes):
        varies = depth == 0 and entries is not None
        if array.null_count:
            raise FormatError(path=item.name, expected="a list in each record", got="a missing one")
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if (lengths != (entries if varies else count)).any():
            words = "lists as long as their counter says" if varies else f"lists of {count} items"
            raise FormatError(path=item.name, expected=words, got="another length")
        per_record = per_record * (entries if varies and entries is not None else count)
        array = array.flatten()
    return array, _Values.of(per_record)


def _place(matrix: "NDArray[np.uint8]", block: "NDArray[np.uint8]", item: Item, values: _Values) -> None:
    """Write the values of a field into its places."""
    for index in range(int(values.counts.max(initial=0))):
        start = _offset(item, index)
        rows = np.flatnonzero(values.counts > index)
        matrix[rows, start : start + item.length] = block[values.starts[rows] + index]


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
