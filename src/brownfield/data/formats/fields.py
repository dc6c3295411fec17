"""One field of a record as a column: the bytes of many records to values of the wanted type, and back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.formats.characters import Characters
from brownfield.data.formats.floats import decode_float, encode_float, explain_float
from brownfield.data.formats.layout import Item
from brownfield.data.formats.numbers import Writing, decode_number, encode_number, explain
from brownfield.data.formats.text import parse_text, plain_type, write_text
from brownfield.errors import FormatError, RejectionCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Column", "bind_column", "counted"]

_EXACT_IN_FLOAT = 2**53


@dataclass(frozen=True, slots=True)
class Column:
    """What one wanted column is decoded from, and to.

    Parameters
    ----------
    item
        The field.
    kind
        Type of one value; a list of it per OCCURS.
    blank_is_missing
        Whether a text of blanks is no value: a text may be empty, a number or date may not.
    characters
        Character set of its texts.
    writing
        The machine that wrote its numbers.
    """

    item: Item
    kind: pa.DataType
    blank_is_missing: bool
    characters: Characters
    writing: Writing

    @property
    def type(self) -> pa.DataType:
        """Type of the column."""
        kind = self.kind
        for _ in self.item.axes:
            kind = pa.list_(kind)
        return kind

    def decode(self, block: "NDArray[np.uint8]") -> "tuple[pa.Array, NDArray[np.bool_]]":
        """Decode bytes of shape ``(values, item.length)``: the values, and which are bad."""
        item, kind = self.item, self.kind
        if item.usage == "text":
            texts, bad = self._texts(block)
            values, unparsed, _ = parse_text(texts, kind)
            return values, bad | unparsed
        if item.usage == "float":
            floats, bad = decode_float(block, self.writing)
            return pa.array(floats), bad
        whole, bad = decode_number(block, item, self.writing)
        if pa.types.is_floating(kind):
            return pa.array(_scaled(whole, item.scale)), bad
        if pa.types.is_string(kind):
            return pc.utf8_lpad(pa.array(np.where(bad, 0, whole)).cast(pa.string()), item.digits, "0"), bad
        return pa.array(np.where(bad, 0, whole) * 10**-item.scale).cast(kind), bad

    def _texts(self, block: "NDArray[np.uint8]") -> "tuple[pa.StringArray, NDArray[np.bool_]]":
        texts, bad = self.characters.decode(block)
        if self.blank_is_missing:
            texts = pc.utf8_ltrim(texts, " ")
            texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        return texts, bad

    def explain(self, block: "NDArray[np.uint8]") -> tuple[RejectionCode, int]:
        """Say why one value is bad: the code, and the byte of the field at which the fault begins."""
        if self.item.usage == "float":
            return explain_float()
        if self.item.usage != "text":
            return explain(block.tobytes(), self.item, self.writing)
        texts, bad = self._texts(block)
        return RejectionCode.DECODE_TEXT if bad[0] else parse_text(texts, self.kind)[2], 0

    def encode(self, values: pa.Array) -> "NDArray[np.uint8]":
        """Encode values; the inverse of :meth:`decode`.

        Raises
        ------
        FormatError
            When a value is missing or does not fit.
        """
        item = self.item
        if values.null_count and not (item.usage == "text" and self.blank_is_missing):
            raise FormatError(path=item.name, expected="a value in each record", got="a missing one")
        if item.usage == "text":
            return self._encode_texts(values)
        if item.usage == "float":
            return encode_float(values.to_numpy(zero_copy_only=False), item, self.writing)
        return encode_number(_whole(values, item, self.writing), item, self.writing)

    def _encode_texts(self, values: pa.Array) -> "NDArray[np.uint8]":
        item = self.item
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


def bind_column(field: pa.Field, item: Item, characters: Characters, writing: Writing, where: str) -> Column:
    """Bind a wanted column to the field that it is decoded from.

    Raises
    ------
    FormatError
        When the field is written in a way that cannot become the wanted type.
    """
    wanted = _value_type(field, item, where)
    return Column(item, plain_type(wanted), not pa.types.is_string(wanted), characters, writing)


def counted(entries: "NDArray[np.int64]", item: Item, writing: Writing) -> "NDArray[np.uint8]":
    """Encode the entries of tables into their counter."""
    return encode_number(_whole(pa.array(entries), item, writing), item, writing)


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
    if pa.types.is_integer(kind) and (item.scale > 0 or item.usage == "float"):
        raise FormatError(where=where, path=field.name, expected="a number with a fraction", got=str(wanted))
    return wanted


def _scaled(whole: "NDArray[np.int64]", scale: int) -> "NDArray[np.float64]":
    if scale == 0:
        return whole.astype(np.float64)
    scaled: NDArray[np.float64] = whole / 10**scale if scale > 0 else (whole * 10**-scale).astype(np.float64)
    return scaled


def _whole(values: pa.Array, item: Item, writing: Writing) -> Any:
    """Numbers as their digits are written, held to their picture."""
    if pa.types.is_string(values.type):
        parsed, bad, _ = parse_text(values, pa.int64())
        if bad.any():
            raise FormatError(path=item.name, expected="digits", got="other characters")
        values = parsed
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f":
        unit = 10**item.scale if item.scale >= 0 else 1
        scaled = np.rint(numbers * unit)
        if not (np.abs(scaled) <= _EXACT_IN_FLOAT).all() or (scaled / unit != numbers).any():
            raise FormatError(path=item.name, expected=f"numbers of {max(0, item.scale)} decimal places", got="others")
        numbers = scaled.astype(np.int64)
    elif item.scale > 0:
        raise FormatError(path=item.name, expected="floating-point numbers, for the picture has a scale", got="others")
    if item.scale < 0:
        if (numbers % 10**-item.scale).any():
            raise FormatError(path=item.name, expected=f"multiples of 1{'0' * -item.scale}", got="others")
        numbers = numbers // 10**-item.scale
    low, high = _bounds(item, writing)
    if len(numbers) and not (low <= numbers.min() and numbers.max() <= high):
        raise FormatError(path=item.name, expected=f"numbers of {item.digits} digits", got="a number out of range")
    return numbers.astype(np.int64)


def _bounds(item: Item, writing: Writing) -> tuple[int, int]:
    if item.usage == "binary" and (item.native or not writing.truncates):
        bits = item.length * 8
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if item.signed else (0, min(2**bits, 2**63) - 1)
    limit = 10**item.digits - 1
    return (-limit if item.signed else 0), limit
