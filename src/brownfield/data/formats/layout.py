"""Where the fields of a fixed record lie and how they are written: what a copybook or a layout file compiles to."""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from brownfield.errors import FormatError

__all__ = ["Branch", "Item", "Layout", "Table", "Usage", "read_layout"]

Usage = Literal["text", "zoned", "packed", "binary"]

MAX_RECORD_BYTES = 1 << 24
"""A layout of longer records is a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One elementary field.

    Parameters
    ----------
    name
        Column name: lower case, with underscores for dashes.
    offset, length
        First byte in the record, and number of bytes, of the first occurrence.
    usage
        ``text``; ``zoned``: one digit a byte; ``packed``: two digits a byte and a sign; ``binary``: two's complement.
    digits, scale
        Decimal digits in all, and behind the decimal point; 0 for text.
    signed
        Whether a number may be negative.
    separate
        The sign of a zoned number has a byte of its own.
    leading
        The sign of a zoned number stands first, not last.
    native
        A binary number in the byte order of the machine that wrote it, using all its bits (COMP-5).
    axes
        ``(count, stride in bytes)`` of each OCCURS around the field, outermost first.
    counter
        Name of the field that says how many entries of the outermost OCCURS a record has; empty where all are there.
    branch
        Name of the branch of a REDEFINES in which the field lies; empty where it is in every record.
    """

    name: str
    offset: int
    length: int
    usage: Usage = "text"
    digits: int = 0
    scale: int = 0
    signed: bool = False
    separate: bool = False
    leading: bool = False
    native: bool = False
    axes: tuple[tuple[int, int], ...] = ()
    counter: str = ""
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of varying length (OCCURS DEPENDING ON).

    Parameters
    ----------
    counter
        Name of the field that says how many entries a record has.
    minimum, maximum
        Fewest and most entries.
    offset, stride
        First byte of the table, and bytes of one entry.
    """

    counter: str
    minimum: int
    maximum: int
    offset: int
    stride: int


@dataclass(frozen=True, slots=True)
class Branch:
    """One of several readings of the same bytes (REDEFINES).

    Parameters
    ----------
    name
        Of its field or group, spelt like a column.
    area
        Name of the first reading of these bytes.
    offset, length
        First byte in the record, and number of bytes.
    """

    name: str
    area: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A record at its full length, and its fields in their order.

    Parameters
    ----------
    record_bytes
        Length of a record whose tables have all their entries.
    items
        The named fields.
    tables
        Tables of varying length, in the order of the record.
    branches
        The readings of bytes that have several.
    """

    record_bytes: int
    items: tuple[Item, ...]
    tables: tuple[Table, ...] = ()
    branches: tuple[Branch, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the record."""
        return tuple(item.name for item in self.items)


def read_layout(text: str, file: str = "layout") -> Layout:
    r"""Read a layout file of fixed-width text: CSV with the columns ``name``, ``start`` (from 1) and ``width``.

    Parameters
    ----------
    text
        The layout file.
    file
        Its name, for messages.

    Raises
    ------
    FormatError
        When a line is malformed, a name stands twice, or two fields overlap.

    Examples
    --------
    >>> layout = read_layout("name,start,width\nstore_id,1,5\nday,6,10\n")
    >>> layout.record_bytes, layout.names
    (15, ('store_id', 'day'))
    """
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or rows[0] != ["name", "start", "width"]:
        raise FormatError(where=f"{file}:1", expected="the heading name,start,width", got="another first line")
    items = tuple(_text_item(row, f"{file}:{line}") for line, row in enumerate(rows[1:], 2) if row)
    _check_apart(items, file)
    return Layout(max(item.offset + item.length for item in items), items)


def _text_item(row: Sequence[str], where: str) -> Item:
    if len(row) != 3 or not row[0] or not (row[1].isdecimal() and row[2].isdecimal()):  # noqa: PLR2004 (name, start, width)
        raise FormatError(where=where, expected="a name, a start and a width", got=f"{len(row)} values")
    start, width = int(row[1]), int(row[2])
    if not (start >= 1 and width >= 1 and start + width <= MAX_RECORD_BYTES):
        raise FormatError(where=where, expected="a start and a width from 1", got=f"{start} and {width}")
    return Item(name=row[0], offset=start - 1, length=width)


def _check_apart(items: Sequence[Item], file: str) -> None:
    if not items:
        raise FormatError(where=file, expected="at least one field", got="none")
    if len({item.name for item in items}) < len(items):
        raise FormatError("a name stands twice", where=file)
    in_order = sorted(items, key=lambda item: item.offset)
    for left, right in itertools.pairwise(in_order):
        if left.offset + left.length > right.offset:
            raise FormatError(f"{left.name} and {right.name} overlap", where=file)
