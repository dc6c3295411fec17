"""The reference page of formats says what the code does."""

import dataclasses
import re
from pathlib import Path

from brownfield.data.formats import FORMATS
from brownfield.errors import RejectionCode
from brownfield.integration import DEFAULT

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE = (REFERENCE / "formats.md").read_text(encoding="utf-8")
FILES = (REFERENCE / "files.md").read_text(encoding="utf-8")
QUEUES = (REFERENCE / "queues.md").read_text(encoding="utf-8")
CODE_ALONE = {"max_record_bytes", "is_confined"}  # a cap, and what no declaration may switch off
DECLARED_ALONE = {"binary_size"}  # settled when the copybook is compiled into a layout


def test_every_format_and_option_is_documented():
    """The table of formats holds those that can be declared, with all their options, and the code has them."""
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE))
    assert rows.keys() == DEFAULT.formats.keys() == FORMATS.keys()
    for name, options in rows.items():
        declared = set(DEFAULT.formats[name].__struct_fields__)
        assert set(re.findall(r"`(\w+)`", options)) == declared
        assert {field.name for field in dataclasses.fields(FORMATS[name])} - CODE_ALONE == declared - DECLARED_ALONE


def test_every_code_of_the_page_exists_and_no_decoding_code_in_use_is_left_out():
    """The codes of the page are codes of the closed list, and hold all that formats and sources give."""
    documented = set(re.findall(r"^\| (BF-[A-Z]+-\d+) \|", PAGE + FILES, re.MULTILINE))
    source = Path(__file__).parents[2] / "src" / "brownfield" / "data"
    text = "".join(
        path.read_text(encoding="utf-8") for room in ("formats", "sources") for path in (source / room).glob("*.py")
    )
    used = {RejectionCode[name].value for name in re.findall(r"RejectionCode\.([A-Z]+_[A-Z_]+)", text)}
    of_messages = {code for code in used if code.startswith("BF-MSG-")}
    assert documented == used - of_messages
    assert all(f"`{code}`" in QUEUES for code in of_messages)
