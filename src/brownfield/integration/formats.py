"""Options of the file formats that come with Brownfield; they stand flat beside ``format`` in a source.

Names follow Cobrix where legacy record formats are meant.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, field

from brownfield.integration.kinds import FieldName, RelativePath
from brownfield.integration.reader import Contradiction, Spec

__all__ = [
    "ArrowFormat",
    "CopybookFormat",
    "CsvFormat",
    "FixedWidthFormat",
    "JsonFormat",
    "ParquetFormat",
    "RedefineRule",
    "XmlFormat",
]

_SINGLE = r"^[^\r\n\x00]$"
Encoding = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$",
        description="Character set of the file, as Python names it.",
        extra={"words": "the name of a character set"},
    ),
]


class CsvFormat(Spec, frozen=True, kw_only=True):
    """Delimited text; the dialect is declared, never guessed."""

    delimiter: Annotated[
        str, Meta(pattern=_SINGLE, description="The character between fields.", extra={"words": "one character"})
    ] = ","
    quote: Annotated[
        str, Meta(pattern=_SINGLE, description="The character around texts.", extra={"words": "one character"})
    ] = '"'
    encoding: Encoding = "utf-8"
    header: Annotated[bool, Meta(description="Whether the first line names the columns.")] = True
    decimal: Annotated[Literal[".", ","], Meta(description="The decimal mark.")] = "."

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a delimiter that is also the quote or the decimal mark's own."""
        if self.delimiter == self.quote:
            yield Contradiction(("quote",), "another character than the delimiter", "the same")
        if self.delimiter == self.decimal:
            yield Contradiction(("decimal",), "another character than the delimiter", "the same")


class FixedWidthFormat(Spec, frozen=True, kw_only=True):
    """Text in columns of fixed width, one record a line."""

    layout: Annotated[RelativePath, Meta(description="File that names columns, starts and lengths.")]
    encoding: Encoding = "utf-8"


CodePageName = Annotated[
    str,
    Meta(pattern=r"^cp[0-9]{3,5}$", extra={"words": "a code page such as cp037, cp273, cp500 or cp1140"}),
]


class RedefineRule(Spec, frozen=True, kw_only=True):
    """When one branch of a REDEFINES is read; without keys, in every record."""

    field: Annotated[FieldName, Meta(description="An earlier field, as its column is called.")] | None = None
    values: Annotated[
        tuple[str | int, ...],
        Meta(max_length=1000, description="Its values: texts, or whole numbers where the field is one."),
    ] = ()

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a field without values and values without a field."""
        if (self.field is None) != (not self.values):
            yield Contradiction((), "field and values together", "one of them")


Adjustment = Annotated[int, Meta(ge=-65_535, le=65_535)]


class CopybookFormat(Spec, frozen=True, kw_only=True):
    """Mainframe records, laid out by a COBOL copybook."""

    layout: Annotated[RelativePath, Meta(description="The copybook.")]
    record_format: Annotated[
        Literal["F", "FB", "V", "VB", "D"],
        Meta(description="Fixed length (F, FB), behind descriptor words (V, VB with blocks), or text lines (D)."),
    ] = "F"
    code_page: Annotated[CodePageName, Meta(description="Code page of the text fields.")] = "cp037"
    native_endian: (
        Annotated[
            Literal["big", "little"],
            Meta(description="Byte order of COMP-5 fields: that of the machine that wrote them."),
        ]
        | None
    ) = None
    is_rdw_big_endian: Annotated[bool, Meta(description="Byte order of record descriptor words.")] = True
    rdw_adjustment: Annotated[
        Adjustment, Meta(description="Bytes to add to a record's descriptor word; 0 where it does not count itself.")
    ] = -4
    is_bdw_big_endian: Annotated[bool, Meta(description="Byte order of block descriptor words.")] = True
    bdw_adjustment: Annotated[
        Adjustment, Meta(description="Bytes to add to a block's descriptor word; 0 where it does not count itself.")
    ] = -4
    variable_size_occurs: (
        Annotated[
            Literal["max_size", "pad_record", "shift_record"],
            Meta(description="Room of OCCURS DEPENDING ON: always the full one, moved up and padded, or moved up."),
        ]
        | None
    ) = None
    redefine_rule: Annotated[
        Mapping[FieldName, RedefineRule],
        Meta(max_length=100, description="When each branch of REDEFINES is read, by its name."),
    ] = field(default_factory=dict)
    field_code_pages: Annotated[
        Mapping[FieldName, CodePageName],
        Meta(max_length=1000, description="Code pages of texts that have another than the rest, by field."),
    ] = field(default_factory=dict)
    float_format: (
        Annotated[
            Literal["ibm", "ieee"],
            Meta(description="How COMP-1 and COMP-2 are written: the mainframe's hexadecimal numbers, or IEEE 754."),
        ]
        | None
    ) = None
    is_binary_big_endian: Annotated[bool, Meta(description="Byte order of binary numbers other than COMP-5.")] = True
    binary_truncate: Annotated[
        bool, Meta(description="Whether binary numbers keep to the digits of their picture (TRUNC(STD)).")
    ] = True
    binary_size: Annotated[
        Literal["2-4-8", "1-2-4-8"],
        Meta(description="Bytes that binary numbers may take; GnuCOBOL by default also writes one byte."),
    ] = "2-4-8"

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse descriptor words where the record format has none."""
        described = {
            "is_rdw_big_endian": (self.is_rdw_big_endian, True, ("V", "VB")),
            "rdw_adjustment": (self.rdw_adjustment, -4, ("V", "VB")),
            "is_bdw_big_endian": (self.is_bdw_big_endian, True, ("VB",)),
            "bdw_adjustment": (self.bdw_adjustment, -4, ("VB",)),
        }
        for key, (value, usual, formats) in described.items():
            if value != usual and self.record_format not in formats:
                yield Contradiction((key,), f"record_format {' or '.join(formats)} beside it", self.record_format)


class JsonFormat(Spec, frozen=True, kw_only=True):
    """Objects in JSON, UTF-8, read as strictly as requests."""

    records: Annotated[
        Literal["lines", "array"], Meta(description="One object a line, or one array of objects in the file.")
    ] = "lines"


_NAME = r"([A-Za-z_][A-Za-z0-9_.-]*:)?[A-Za-z_][A-Za-z0-9_.-]*"
XmlPath = Annotated[
    str,
    Meta(
        pattern=rf"^(\.|({_NAME}/)*@?{_NAME})$",
        extra={"words": "a path such as name, address/city, @id or . for the record's own text"},
    ),
]


class XmlFormat(Spec, frozen=True, kw_only=True):
    """Records in an XML document; a document with a DOCTYPE is refused."""

    record: Annotated[
        str,
        Meta(
            pattern=rf"^(/{_NAME})+$",
            description="Path of the element that is a record, from the root.",
            extra={"words": "a path such as /orders/order"},
        ),
    ]
    fields: Annotated[
        Mapping[FieldName, XmlPath],
        Meta(max_length=10_000, description="Where a column stands in the record; else in the child of its name."),
    ] = field(default_factory=dict)
    namespaces: Annotated[
        Mapping[FieldName, FieldName],
        Meta(max_length=100, description="Prefixes of the paths, and the namespace that each means."),
    ] = field(default_factory=dict)


class ParquetFormat(Spec, frozen=True, kw_only=True):
    """Parquet files."""


class ArrowFormat(Spec, frozen=True, kw_only=True):
    """Arrow IPC files and streams."""

    container: Annotated[
        Literal["file", "stream"], Meta(description="A file with a footer (Feather), or a stream.")
    ] = "file"
