"""The reference page of mapping files names every key, unit and reason that there is, and no other."""

import re
from pathlib import Path
from typing import get_args

from brownfield.contract import UNITS
from brownfield.integration.mapping import FieldMapping, MappingFile, MissingReason, Pad, Split, Truth, UnitOf
from brownfield.integration.spelling import NumberSpelling
from brownfield.integration.words import fields_of, help_of

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "mapping.md").read_text()


def test_every_key_stands_on_the_page_with_its_help() -> None:
    """Key and sentence of help are the code's own; the page has no other rows of keys."""
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \| (.*) \|$", PAGE, re.MULTILINE)
    specs = (MappingFile, FieldMapping, Split, Pad, Truth, UnitOf, NumberSpelling)
    expected = [(key, help_of(field.type) or "") for spec in specs for key, field in fields_of(spec).items()]
    assert sorted(rows) == sorted(expected)


def test_every_reason_and_unit_stands_on_the_page() -> None:
    """The closed lists are those of the code."""
    assert set(re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE, re.MULTILINE)) == set(get_args(MissingReason))
    listed = next(line for line in PAGE.splitlines() if line.startswith("Listed are:"))
    assert set(re.findall(r"`([^`]+)`", listed)) == set(UNITS)
