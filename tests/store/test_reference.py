"""The reference page of the store says what is there."""

import re
from pathlib import Path

from brownfield.store import QuarantineState, journal
from brownfield.store.schema import METADATA

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "store.md").read_text()


def rows(heading):
    """Names in the first column of the table that follows a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def test_every_table_and_column_is_documented():
    """Tables of the database, columns of the journal and states of the quarantine are those of the page."""
    assert set(rows("Tables")) == set(METADATA.tables)
    assert rows("The journal") == journal.SCHEMA.names
    assert all(f"`{state}`" in PAGE for state in QuarantineState)


def test_the_example_runs():
    """The page's Python does what it says."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "store.md", "exec"), {})  # noqa: S102 (our own page)
