"""The reference page of the quarantine says what is there."""

import re
from pathlib import Path
from typing import get_args

from brownfield.data.pipeline import Guard
from brownfield.errors import RejectionCode
from brownfield.integration import QuarantineSpec, SecuritySpec, SourceSpec
from brownfield.integration.words import fields_of, key_names
from brownfield.store import QuarantineState
from brownfield.store.quarantine import RAW_CAP_BYTES
from brownfield.store.schema import quarantine, quarantine_reason

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "quarantine.md").read_text()


def section(heading):
    """Text below a heading."""
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_every_column_and_state_stands_on_the_page():
    """What is kept of a record is what the tables of the store hold, and every state is named."""
    named = set(re.findall(r"`(\w+)`", section("What is kept")))
    columns = {column.name for table in (quarantine, quarantine_reason) for column in table.columns}
    assert columns - named == {"integration", "number", "code", "field", "rule"}
    assert set(map(str, QuarantineState)) <= named
    assert f"{RAW_CAP_BYTES >> 20} MiB" in PAGE


def test_the_codes_of_waiting_records_are_the_code_s():
    """The family of codes that only the quarantine gives is the closed list's."""
    found = dict(re.findall(r"^\| `(BF-[A-Z]+-\d+)` \| (\w+) \|", section("Codes"), re.MULTILINE))
    assert found == {code.value: code.name for code in RejectionCode if code.value.startswith("BF-QUA-")}


def test_guards_and_keys_are_those_that_are_declared():
    """Every guard may be accepted, and every key of the page is one of the declaration."""
    guards = section("Guards")
    assert all(f"`{guard}`" in guards or f"--accept {guard}" in guards for guard in get_args(Guard))
    assert set(re.findall(r"^\| `(pause|shadow|fallback)` \|", guards, re.MULTILINE)) == {"pause", "shadow", "fallback"}
    declared = {*key_names(SourceSpec), *key_names(QuarantineSpec), *key_names(SecuritySpec)}
    named = {"max_refused_percent", "refused_window_rows", "max_new_code_percent", "max_drop_percent", "on_breach"}
    assert named | {"park", "tolerance", "encryption_key", "old_encryption_keys", "keep_d", "max_mib"} <= declared
    assert all(f"`{name}`" in guards for name in named)
    assert f"{fields_of(QuarantineSpec)['keep_d'].default} days" in PAGE
    assert f"{fields_of(QuarantineSpec)['max_mib'].default} MiB" in PAGE
