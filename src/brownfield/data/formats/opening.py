"""From the declared options of a format to the format."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from brownfield.data.formats.base import Format
from brownfield.data.formats.choosing import Choice
from brownfield.data.formats.columnar import Arrow, Parquet
from brownfield.data.formats.copybook import Copybook
from brownfield.data.formats.copybook_source import compile_copybook
from brownfield.data.formats.csv import Csv
from brownfield.data.formats.fixed_width import FixedWidth
from brownfield.data.formats.json import Json
from brownfield.data.formats.layout import read_layout
from brownfield.data.formats.xml import Xml
from brownfield.errors import DeclarationError

__all__ = ["FORMATS", "open_format"]

FORMATS: Mapping[str, type[Any]] = {
    "arrow": Arrow,
    "copybook": Copybook,
    "csv": Csv,
    "fixed_width": FixedWidth,
    "json": Json,
    "parquet": Parquet,
    "xml": Xml,
}
"""What comes with Brownfield, by the name under which it is declared."""


def open_format(name: str, options: Any, layout: str | None = None) -> Format:
    """Make a format of its declared options.

    Parameters
    ----------
    name
        As declared, one of :data:`FORMATS`.
    options
        The declared options.
    layout
        Content of the layout file, for formats that have one.

    Raises
    ------
    DeclarationError
        When there is no such format, or the options do not fit the layout.
    FormatError
        When the layout is malformed.

    Examples
    --------
    >>> from brownfield.integration import CsvFormat
    >>> open_format("csv", CsvFormat(delimiter=";")).delimiter
    ';'
    """
    kind = FORMATS.get(name)
    if kind is None:
        raise DeclarationError(path="format", expected=f"one of {', '.join(FORMATS)}", got=name)
    given = msgspec.structs.asdict(options)
    file = given.pop("layout", None)
    if name == "copybook":
        given["layout"] = compile_copybook(layout or "", file or name, given.pop("binary_size", "2-4-8"))
    elif name == "fixed_width":
        given["layout"] = read_layout(layout or "", file or name)
    if "redefine_rule" in given:
        given["redefine_rule"] = {
            branch: Choice(rule.field or "", rule.values) for branch, rule in given["redefine_rule"].items()
        }
    known = {field.name for field in fields(kind)}
    opened: Format = kind(**{key: value for key, value in given.items() if key in known})
    return opened
