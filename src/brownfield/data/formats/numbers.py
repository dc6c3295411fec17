"""COBOL's three ways of writing a number, column by column: zoned, packed and binary, to whole numbers and back.

Decoding is strict: a digit above 9, a zone or sign that the declaration does not have, or a binary number with more
digits than its picture makes the value bad. What is bad is explained afterwards, one record at a time.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from brownfield.data.formats.layout import Item
from brownfield.errors import RejectionCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["Fault", "Writing", "decode_number", "encode_number", "explain"]

BAD = 0xFF
_MAX_DIGIT = 9
_EBCDIC_PLUS, _EBCDIC_MINUS, _ASCII_MINUS = 0xC0, 0xD0, 0x70
_PACKED_PLUS, _PACKED_MINUS, _PACKED_UNSIGNED = 0xC, 0xD, 0xF


class Fault(NamedTuple):
    """Why a number is bad: the code, and the byte of the field at which it begins."""

    code: RejectionCode
    at: int


@dataclass(frozen=True, slots=True)
class Writing:
    """What the machine that wrote the records decides.

    Parameters
    ----------
    ebcdic
        Digits lie at 0xF0 (mainframe); otherwise at 0x30 (ASCII).
    little_endian
        Byte order of native numbers (COMP-5, and IEEE floating point).
    binary_little_endian
        Byte order of the other binary numbers (COMP), big-endian on the mainframe.
    truncates
        Whether a binary number has no more digits than its picture; otherwise it uses all its bits.
    float_format
        How floating-point numbers are written: hexadecimal on the mainframe (``ibm``), or ``ieee``.
    """

    ebcdic: bool = True
    little_endian: bool = False
    binary_little_endian: bool = False
    truncates: bool = True
    float_format: Literal["ibm", "ieee"] = "ieee"

    @property
    def space(self) -> int:
        """Byte of a blank."""
        return 0x40 if self.ebcdic else 0x20

    def binary(self, item: Item) -> "np.dtype[np.integer[Any]]":
        """Type of a binary number."""
        little = self.little_endian if item.native else self.binary_little_endian
        return np.dtype(f"{'<' if little else '>'}{'i' if item.signed else 'u'}{item.length}")

    @property
    def zone(self) -> int:
        """Byte of the digit 0."""
        return 0xF0 if self.ebcdic else 0x30

    @property
    def plus(self) -> int:
        """Byte of a plus sign that stands alone."""
        return 0x4E if self.ebcdic else 0x2B

    @property
    def minus(self) -> int:
        """Byte of a minus sign that stands alone."""
        return 0x60 if self.ebcdic else 0x2D


def decode_number(block: "Bytes", item: Item, writing: Writing) -> "tuple[Whole, Mask]":
    """Decode one column.

    Parameters
    ----------
    block
        Bytes, shape ``(rows, item.length)``.
    item
        Its picture.
    writing
        The machine that wrote it.

    Returns
    -------
    tuple
        The values without their decimal point, shape ``(rows,)``, and the rows that are bad.

    Examples
    --------
    >>> price = Item(name="price", offset=0, length=3, usage="packed", digits=5, scale=2, signed=True)
    >>> block = np.array([[0x12, 0x34, 0x5D], [0x12, 0x3A, 0x5C]], dtype=np.uint8)
    >>> values, bad = decode_number(block, price, Writing())
    >>> int(values[0]), bad.tolist()
    (-12345, [False, True])
    """
    if item.usage == "packed":
        return _decode_packed(np.ascontiguousarray(block.T), item)
    if item.usage == "binary":
        return _decode_binary(block, item, writing)
    values, bad = _decode_zoned(np.ascontiguousarray(block.T), item, writing)
    if item.blank_when_zero:
        blank = (block == writing.space).all(axis=1)
        values, bad = np.where(blank, 0, values), bad & ~blank
    return values, bad


def encode_number(values: "Whole", item: Item, writing: Writing) -> "Bytes":
    """Encode one column; the inverse of :func:`decode_number`.

    Parameters
    ----------
    values
        Without their decimal point, each within the picture.
    """
    if item.usage == "packed":
        return _encode_packed(values, item)
    if item.usage == "binary":
        return values.astype(writing.binary(item)).view(np.uint8).reshape(len(values), item.length)
    block = _encode_zoned(values, item, writing)
    if item.blank_when_zero:
        block[values == 0] = writing.space
    return block


def explain(raw: bytes, item: Item, writing: Writing) -> Fault:
    """Say why one field is bad."""
    if item.usage == "binary":
        return Fault(RejectionCode.DECODE_NUMBER, 0)
    block = np.frombuffer(raw, dtype=np.uint8)
    if item.usage == "packed":
        return _explain_packed(block, item)
    return _explain_zoned(block, item, writing)


def _packed_pairs() -> "NDArray[np.uint8]":
    pairs = np.full(256, BAD, dtype=np.uint8)
    for high in range(10):
        pairs[high * 16 : high * 16 + 10] = high * 10 + np.arange(10)
    return pairs


_PAIRS = _packed_pairs()
_MAX_PAIR = 99


def _packed_signs(item: Item) -> tuple[int, ...]:
    return (_PACKED_PLUS, _PACKED_MINUS, _PACKED_UNSIGNED) if item.signed else (_PACKED_PLUS, _PACKED_UNSIGNED)


def _decode_packed(columns: "Bytes", item: Item) -> "tuple[Whole, Mask]":
    """Columns are the bytes of the field, shape ``(length, rows)``."""
    values = np.zeros(columns.shape[1], dtype=np.int64)
    bad = np.zeros(columns.shape[1], dtype=bool)
    for column in columns if item.signless else columns[:-1]:
        pairs = _PAIRS[column]
        bad |= pairs > _MAX_PAIR
        values *= 100
        values += pairs
    if item.signless:
        return values, bad | (columns[0] > _MAX_DIGIT if item.digits % 2 else False)
    last = columns[-1]
    digit, sign = last >> 4, last & 0xF
    bad |= (digit > _MAX_DIGIT) | ~np.isin(sign, _packed_signs(item))
    values *= 10
    values += digit
    if item.digits % 2 == 0:
        bad |= columns[0] > _MAX_DIGIT
    if item.signed:
        np.negative(values, out=values, where=sign == _PACKED_MINUS)
    return values, bad


def _encode_packed(values: "Whole", item: Item) -> "Bytes":
    nibbles = np.zeros((len(values), item.length * 2), dtype=np.uint8)
    rest = np.abs(values)
    for place in range(item.length * 2 - (1 if item.signless else 2), -1, -1):
        rest, nibbles[:, place] = np.divmod(rest, 10)
    if not item.signless:
        nibbles[:, -1] = np.where(values < 0, _PACKED_MINUS, _PACKED_PLUS) if item.signed else _PACKED_UNSIGNED
    packed: Bytes = nibbles[:, 0::2] << np.uint8(4) | nibbles[:, 1::2]
    return packed


def _explain_packed(raw: "Bytes", item: Item) -> Fault:
    nibbles = np.stack([raw >> 4, raw & 0xF], axis=1).reshape(-1)
    digits = nibbles if item.signless else nibbles[:-1]
    wrong = digits > _MAX_DIGIT
    wrong[0] |= len(digits) > item.digits and digits[0] != 0
    if wrong.any():
        return Fault(RejectionCode.DECODE_DIGIT, int(np.argmax(wrong)) // 2)
    return Fault(RejectionCode.DECODE_SIGN, len(raw) - 1)


def _decode_binary(block: "Bytes", item: Item, writing: Writing) -> "tuple[Whole, Mask]":
    kind = writing.binary(item)
    written = np.ascontiguousarray(block).view(kind).reshape(-1)
    if item.native or not writing.truncates:
        bad = written > np.uint64(2**63 - 1) if kind.kind == "u" else np.zeros(len(written), dtype=bool)
        return written.astype(np.int64), bad
    limit = 10**item.digits
    too_long = written >= limit
    return written.astype(np.int64), (too_long | (written <= -limit)) if item.signed else too_long


def _overpunch(item: Item, writing: Writing) -> "tuple[Bytes, Mask]":
    """Digit of each byte that may carry the sign (``BAD`` where none), and whether it means minus."""
    digit = np.full(256, BAD, dtype=np.uint8)
    minus = np.zeros(256, dtype=bool)
    tens = np.arange(10)
    digit[writing.zone + tens] = tens
    if not item.signed:
        return digit, minus
    if writing.ebcdic:
        plus_bytes, minus_bytes = [_EBCDIC_PLUS + tens], [_EBCDIC_MINUS + tens]
    else:  # the mainframe's letters, as translated to ASCII, and the convention of compilers on ASCII machines
        plus_bytes = [np.frombuffer(b"{ABCDEFGHI", dtype=np.uint8)]
        minus_bytes = [np.frombuffer(b"}JKLMNOPQR", dtype=np.uint8), _ASCII_MINUS + tens]
    for places in (*plus_bytes, *minus_bytes):
        digit[places] = tens
    for places in minus_bytes:
        minus[places] = True
    return digit, minus


def _decode_zoned(columns: "Bytes", item: Item, writing: Writing) -> "tuple[Whole, Mask]":
    """Columns are the bytes of the field, shape ``(length, rows)``."""
    rows = columns.shape[1]
    values, bad = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=bool)
    at = _sign_place(item)
    minus: Mask | None = None
    for place, column in enumerate(columns):
        if place == at and item.separate:
            minus = column == writing.minus
            bad |= ~(minus | (column == writing.plus))
            continue
        if place == at:
            digit_of, minus_of = _overpunch(item, writing)
            digits, minus = digit_of[column], minus_of[column]
        else:
            digits = column - np.uint8(writing.zone)
        bad |= digits > _MAX_DIGIT
        values *= 10
        values += digits
    if minus is not None:
        np.negative(values, out=values, where=minus)
    return values, bad


def _sign_place(item: Item) -> int:
    """Byte that carries the sign; of an unsigned number, the last, whose zone is held to the digits' own."""
    return 0 if item.leading else item.length - 1


def _encode_zoned(values: "Whole", item: Item, writing: Writing) -> "Bytes":
    block = np.empty((len(values), item.length), dtype=np.uint8)
    at = _sign_place(item)
    minus = values < 0
    rest = np.abs(values)
    for place in range(item.length - 1, -1, -1):
        if place == at and item.separate:
            block[:, place] = np.where(minus, writing.minus, writing.plus)
            continue
        rest, digits = np.divmod(rest, 10)
        zone = np.full(len(values), writing.zone)
        if place == at and item.signed:
            positive, negative = (_EBCDIC_PLUS, _EBCDIC_MINUS) if writing.ebcdic else (writing.zone, _ASCII_MINUS)
            zone = np.where(minus, negative, positive)
        block[:, place] = zone + digits
    return block


def _explain_zoned(raw: "Bytes", item: Item, writing: Writing) -> Fault:
    at = _sign_place(item)
    for place, byte in enumerate(raw):
        if place == at and item.separate:
            if byte not in (writing.plus, writing.minus):
                return Fault(RejectionCode.DECODE_SIGN, place)
        elif place == at and item.signed:
            if _overpunch(item, writing)[0][byte] == BAD:
                code = RejectionCode.DECODE_DIGIT if byte & 0xF > _MAX_DIGIT else RejectionCode.DECODE_SIGN
                return Fault(code, place)
        elif byte & 0xF0 != writing.zone:
            return Fault(RejectionCode.DECODE_ZONE, place)
        elif byte & 0xF > _MAX_DIGIT:
            return Fault(RejectionCode.DECODE_DIGIT, place)
    raise AssertionError("explain() was asked about a good number")
