"""Options of the file formats that come with Brownfield; they stand flat beside ``format`` in a source.

Names follow Cobrix where legacy record formats are meant.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from brownfield.integration.kinds import RelativePath
from brownfield.integration.reader import Contradiction, Spec

__all__ = ["CopybookFormat", "CsvFormat", "FixedWidthFormat"]

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


class CopybookFormat(Spec, frozen=True, kw_only=True):
    """Mainframe records, laid out by a COBOL copybook."""

    layout: Annotated[RelativePath, Meta(description="The copybook.")]
    record_format: Annotated[Literal["F", "FB"], Meta(description="Records of fixed length, unblocked or blocked.")] = (
        "F"
    )
    code_page: Annotated[
        str,
        Meta(
            pattern=r"^cp[0-9]{3,5}$",
            description="EBCDIC code page of the text fields.",
            extra={"words": "a code page such as cp037, cp273, cp500 or cp1140"},
        ),
    ] = "cp037"
    native_endian: (
        Annotated[
            Literal["big", "little"],
            Meta(description="Byte order of COMP-5 fields: that of the machine that wrote them."),
        ]
        | None
    ) = None
