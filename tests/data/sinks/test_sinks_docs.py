"""The reference page of the sinks names what there is."""

from pathlib import Path

from brownfield.data import sinks
from brownfield.data.sinks import ledger_ddl

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/sinks.md").read_text(encoding="utf-8")


def test_every_public_name_is_documented() -> None:
    """Each public class and function of the room stands in the page."""
    assert [name for name in sinks.__all__ if name not in PAGE] == []


def test_the_ledgers_columns_are_documented() -> None:
    """Each column of the ledger's tables stands in the page."""
    columns = [line.split()[0] for line in ledger_ddl("sqlite").splitlines() if line.startswith("  ")]
    assert len(columns) == 7
    assert [name for name in columns if f"`{name}`" not in PAGE] == []
