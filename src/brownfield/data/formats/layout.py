"""Where the fields of a fixed record lie and how they are written: what a copybook or a layout file compiles to."""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from brownfield.errors import FormatError

__all__ = ["Axis", "Branch", "Condition", "Gate", "Item", "Layout", "Repeat", "Table", "Usage", "read_layout"]

Usage = Literal["text", "zoned", "packed", "binary", "float"]

MAX_RECORD_BYTES = 1 << 24
"""A layout of longer records is a mistake."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One OCCURS around a field.

    Parameters
    ----------
    count, stride
        Most entries, and bytes of one.
    counter
        Name of the field that says how many entries there are; empty where all are.
    """

    count: int
    stride: int
    counter: str = ""


Gate = Axis | str
"""What stands around a field: an OCCURS, or the name of a branch of a REDEFINES."""


class Condition(NamedTuple):
    """A name for values of a field (level 88).

    Parameters
    ----------
    name
        Spelt like a column.
    values
        As the copybook writes them, literals in their quotes; none for a range.
    """

    name: str
    values: tuple[str, ...]


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
        ``text``; ``zoned``: one digit a byte; ``packed``: two digits a byte and a sign; ``binary``: two's complement;
        ``float``: floating point of 4 or 8 bytes.
    digits, scale
        Decimal digits that are written, and places behind the decimal point; a negative scale counts zeros before it
        that are not written (P). Both 0 for text.
    signed
        Whether a number may be negative.
    separate
        The sign of a zoned number has a byte of its own.
    leading
        The sign of a zoned number stands first, not last.
    native
        A binary number in the byte order of the machine that wrote it, using all its bits (COMP-5).
    signless
        A packed number has no half byte for the sign (COMP-6).
    blank_when_zero
        Zero is written as blanks.
    gates
        The OCCURS and branches of REDEFINES around the field, outermost first.
    picture
        Its picture and usage, as a copybook writes them.
    conditions
        Names of its values.
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
    signless: bool = False
    blank_when_zero: bool = False
    gates: tuple[Gate, ...] = ()
    picture: str = ""
    conditions: tuple[Condition, ...] = ()

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The OCCURS around the field, outermost first."""
        return tuple(gate for gate in self.gates if isinstance(gate, Axis))

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches around the field, outermost first."""
        return tuple(gate for gate in self.gates if isinstance(gate, str))

    @property
    def varies(self) -> bool:
        """Whether records differ in the places at which they have the field."""
        return any(isinstance(gate, str) or gate.counter for gate in self.gates)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of varying length (OCCURS DEPENDING ON).

    Parameters
    ----------
    counter
        Name of the field that says how many entries there are.
    minimum, maximum
        Fewest and most entries.
    offset, stride
        First byte of the table, and bytes of one entry.
    gates
        The OCCURS around the table.
    """

    counter: str
    minimum: int
    maximum: int
    offset: int
    stride: int
    gates: tuple[Gate, ...] = ()


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
    gates
        The OCCURS and branches around the redefined bytes.
    """

    name: str
    area: str
    offset: int
    length: int
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """An OCCURS whose length varies, or that has such a one inside.

    Parameters
    ----------
    offset, count, stride
        First byte of the table, its most entries, and the bytes of one with all that may be in it.
    table
        Which table of varying length it is; None where the number of entries is fixed.
    inner
        Those inside it, in the order of the record.
    """

    offset: int
    count: int
    stride: int
    table: Table | None
    inner: tuple["Repeat", ...] = ()


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
        Tables of varying length, in the order of the record, outer ones first.
    branches
        The readings of bytes that have several, outer ones first.
    repeats
        The same tables, as they lie inside each other.
    """

    record_bytes: int
    items: tuple[Item, ...]
    tables: tuple[Table, ...] = ()
    branches: tuple[Branch, ...] = ()
    repeats: tuple[Repeat, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the record."""
        return tuple(item.name for item in self.items)

    @property
    def is_nested(self) -> bool:
        """Whether a table of varying length stands inside another table."""
        return any(table.gates for table in self.tables)


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
