"""Floating-point numbers of COBOL (COMP-1, COMP-2): IEEE 754, and the hexadecimal numbers of the mainframe.

A hexadecimal number is ``fraction * 16 ** (exponent - 64)``, with the sign in the first bit, seven bits of exponent and
24 or 56 of fraction. Its 56 bits are more than the 53 of a Python number: reading rounds to the nearest one. Writing
into four bytes rounds to the nearest number that they can hold.
"""

from typing import TYPE_CHECKING

import numpy as np

from brownfield.data.formats.layout import Item
from brownfield.data.formats.numbers import Writing
from brownfield.errors import FormatError, RejectionCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

__all__ = ["decode_float", "encode_float", "explain_float"]

_SHORT_BYTES = 4
_BIAS = 64
_MAX_EXPONENT = 127


def decode_float(block: "Bytes", writing: Writing) -> "tuple[NDArray[np.float64], NDArray[np.bool_]]":
    """Decode one column.

    Parameters
    ----------
    block
        Bytes, shape ``(rows, 4)`` or ``(rows, 8)``.
    writing
        The machine that wrote it.

    Returns
    -------
    tuple
        The numbers, and the rows that hold none (NaN and infinity).

    Examples
    --------
    >>> decode_float(np.array([[0xC2, 0x76, 0xA0, 0x00]], dtype=np.uint8), Writing(float_format="ibm"))[0].tolist()
    [-118.625]
    """
    block = np.ascontiguousarray(block)
    if writing.float_format == "ibm":
        word = block.view(f">u{block.shape[1]}").reshape(-1).astype(np.uint64)
        bits = block.shape[1] * 8
        fraction = (word & np.uint64((1 << (bits - 8)) - 1)).astype(np.float64)
        exponent = ((word >> np.uint64(bits - 8)) & np.uint64(0x7F)).astype(np.int64)
        values = np.ldexp(fraction, 4 * (exponent - _BIAS) - (bits - 8))
        return np.where(word >> np.uint64(bits - 1), -values, values), np.zeros(len(block), dtype=bool)
    order = "<" if writing.little_endian else ">"
    numbers = block.view(f"{order}f{block.shape[1]}").reshape(-1).astype(np.float64)
    bad = ~np.isfinite(numbers)
    return np.where(bad, 0.0, numbers), bad


def encode_float(values: "NDArray[np.float64]", item: Item, writing: Writing) -> "Bytes":
    """Encode one column; the inverse of :func:`decode_float`.

    Raises
    ------
    FormatError
        When a number is not finite or beyond what the field can hold.
    """
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise FormatError(path=item.name, expected="finite numbers", got="NaN or infinity")
    if writing.float_format == "ibm":
        return _encode_hexadecimal(values, item)
    order = "<" if writing.little_endian else ">"
    with np.errstate(over="ignore"):
        numbers = values.astype(f"{order}f{item.length}")
    if not np.isfinite(numbers).all():
        raise FormatError(path=item.name, expected=f"numbers that {item.length} bytes can hold", got="a larger one")
    return numbers.view(np.uint8).reshape(-1, item.length)


def _encode_hexadecimal(values: "NDArray[np.float64]", item: Item) -> "Bytes":
    bits = item.length * 8 - 8
    mantissa, two = np.frexp(np.abs(values))  # 0.5 <= mantissa < 1
    sixteen = -(-two // 4)
    fraction = np.rint(np.ldexp(mantissa, two - 4 * sixteen + bits))
    over = fraction >= np.ldexp(1.0, bits)  # rounded up to the next power of 16
    fraction, sixteen = np.where(over, fraction / 16, fraction), np.where(over, sixteen + 1, sixteen)
    exponent = sixteen + _BIAS
    exponent[values == 0] = 0
    if (exponent < 0).any() or (exponent > _MAX_EXPONENT).any():
        raise FormatError(path=item.name, expected=f"numbers that {item.length} bytes can hold", got="another one")
    word = fraction.astype(np.uint64) | (exponent.astype(np.uint64) << np.uint64(bits))
    word |= (values < 0).astype(np.uint64) << np.uint64(bits + 7)
    block: Bytes = word.astype(f">u{item.length}").view(np.uint8).reshape(-1, item.length)
    return block


def explain_float() -> tuple[RejectionCode, int]:
    """Say why one number is bad, and at which byte: it is none."""
    return RejectionCode.DECODE_NUMBER, 0
