"""``init --from``: what is drafted from silos that are there, what is proposed, and what is never written."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from brownfield.cli import app
from brownfield.data.pipeline import run_pipeline
from brownfield.errors import DeclarationError, NotFound
from brownfield.integration import load_workspace
from brownfield.store import open_store
from brownfield.workspace.check import check
from brownfield.workspace.discover import accept_mappings, discover
from brownfield.workspace.profile import profile_column

WORKSPACE = """
workspace: shop
connections:
  till: {kind: sqlite, path: legacy/till.db}
  drop: {kind: folder, path: legacy/drop}
"""
COPYBOOK = "       01  P.\n           05  ITEM-NO  PIC X(6).\n           05  SHELF  PIC 9(3).\n"
NAME = "Ursula Canary-Montgomery"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A till, a table of items as text with leading zeros, a host file and a parquet file."""
    drop = tmp_path / "legacy" / "drop"
    drop.mkdir(parents=True)
    (tmp_path / "brownfield.yaml").write_text(WORKSPACE)
    with closing(sqlite3.connect(tmp_path / "legacy" / "till.db")) as database, database:
        database.execute("CREATE TABLE sales (line INTEGER PRIMARY KEY, item TEXT NOT NULL, qty INTEGER, until TEXT)")
        rows = [
            (n, str(n % 90 + 1), -1 if n % 50 == 0 else n % 7, "9999-12-31" if n % 10 else "2026-11-20")
            for n in range(300)
        ]
        database.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", rows)
    lines = [f"{n:05d};{n},50;J" if n % 2 else f"{n:05d};{n},25;N" for n in range(1, 100)]
    (drop / "items.csv").write_text("ITEM_NO;PREIS;AKTIV\n" + "\n".join(lines) + "\n")
    (drop / "SHELF.DAT").write_bytes("".join(f"{n:06d}{n % 20:03d}" for n in range(1, 100)).encode("cp037"))
    (drop / "shelf.cpy").write_text(COPYBOOK)
    people = {"member_no": pa.array(range(60)), "last_name": [NAME] * 30 + ["Y"] * 30}
    pq.write_table(pa.table(people), drop / "members.parquet")
    return tmp_path


@pytest.mark.full
def test_a_draft_is_refused_until_a_person_approves_it_and_then_runs(shop):
    """Check names every unapproved file with its line; once accepted, the sources are read to their last row."""
    found = discover(shop, ["till", "drop"], "found")
    assert set(found.sources) == {"sales", "items", "shelf", "members"}
    findings = [finding for finding in check(shop).findings if finding.level == "error"]
    assert {(each.where.rpartition(":")[0].rpartition("/")[2], each.path) for each in findings} == {
        (f"{name}.yaml", "approved") for name in found.sources
    }
    assert accept_mappings(shop, "found") == ["items.yaml", "members.yaml", "sales.yaml", "shelf.yaml"]
    assert accept_mappings(shop, "found") == []
    assert [finding for finding in check(shop).findings if finding.level == "error"] == []
    workspace = load_workspace(shop)
    with open_store(shop / "var" / "brownfield.db") as store:
        report = run_pipeline(workspace.integrations["found"], workspace.connections, store, shop / "var" / "data")
    counts = {name: (each.rows_in, each.quarantined) for name, each in report.sources.items()}
    assert counts == {"sales": (300, 0), "items": (99, 0), "shelf": (99, 0), "members": (60, 0)}


@pytest.mark.full
def test_joins_between_silos_are_found_raw_and_normalised(shop):
    """Keys that differ by leading zeros are found, with the share of values as they are and normalised."""
    found = discover(shop, ["till", "drop"], "found")
    best = {frozenset({each.left, each.right}): each for each in found.joins[:3]}
    pair = best[frozenset({"sales.item", "items.ITEM_NO"})]
    assert (pair.overlap, pair.overlap_normalised, pair.cardinality) == (0.0, 1.0, "n:1")
    assert frozenset({"items.ITEM_NO", "shelf.item_no"}) in best
    draft = (shop / "integrations/found/integration.yaml").read_text()
    assert f"#   {pair.left} -> {pair.right}: score" in draft


def test_b34_values_that_may_stand_for_none_are_reported_and_not_applied(shop):
    """B-34: undeclared sentinels are found with their rows and stand in the mapping file as a question."""
    found = discover(shop, ["till"], "found")
    assert found.suspects == {"sales.qty": {"-1": 6}, "sales.until": {"9999-12-31": 270}}
    mapping = (shop / "integrations/found/mapping/sales.yaml").read_text()
    assert '# "9999-12-31" stands in 270 of 300 rows. Missing?' in mapping
    assert "sentinels:" not in "".join(line for line in mapping.splitlines() if "#" not in line)


@pytest.mark.full
def test_no_value_of_personal_data_is_written(shop):
    """What looks personal by its name is classified, and none of its values stands in any file or in the JSON."""
    found = discover(shop, ["till", "drop"], "found")
    contract = (shop / "integrations/found/contract.odcs.yaml").read_text()
    assert "{name: last_name, logicalType: string, classification: pii}" in contract
    written = [path.read_text() for path in (shop / "integrations/found").rglob("*") if path.is_file()]
    assert not any("Canary" in text for text in [*written, json.dumps(found.to_dict())])


def test_nothing_is_overwritten_and_the_silos_stay_as_they_were(shop):
    """A second draft of the same name is refused, a wrong connection too, and no legacy file changes."""
    before = {path: path.read_bytes() for path in (shop / "legacy").rglob("*") if path.is_file()}
    discover(shop, ["till"], "found")
    with pytest.raises(DeclarationError, match="no integration of this name"):
        discover(shop, ["drop"], "found")
    with pytest.raises(DeclarationError, match="a connection of the workspace"):
        discover(shop, ["tills"], "other")
    assert sorted(path.name for path in (shop / "integrations").iterdir()) == ["found"]
    assert {path: path.read_bytes() for path in (shop / "legacy").rglob("*") if path.is_file()} == before


@pytest.mark.full
def test_the_command_drafts_and_accepts(shop):
    """The verb prints what it found as JSON, and approves what a person names."""
    run = CliRunner()
    done = run.invoke(app, ["init", str(shop), "--from", "till", "--from", "drop", "--name", "found", "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["joins"][0]["score"] > 0.8
    assert run.invoke(app, ["check", str(shop)]).exit_code == 2
    nobody = run.invoke(app, ["init", str(shop), "--name", "fuond", "--accept"])
    assert isinstance(nobody.exception, NotFound)
    assert "an integration with mapping files (found), got fuond" in str(nobody.exception)
    (mapping,) = shop.glob("integrations/found/mapping/items.yaml")
    assert "brownfield init DIR --accept --name NAME" in mapping.read_text()
    mapping.write_text(mapping.read_text().replace("approved: false", "approved: false  # not yet"))
    assert "items.yaml" in run.invoke(app, ["init", str(shop), "--name", "found", "--accept"]).stdout
    assert run.invoke(app, ["check", str(shop)]).exit_code == 0


@pytest.mark.parametrize(
    "values",
    [[], [7], [None, None], [5] * 100, ["same"] * 100, ["x", None], [float("nan"), float("inf")], [""] * 3],
    ids=[
        "B-47-empty",
        "B-47-one-row",
        "B-47-all-null",
        "B-47-constant",
        "B-47-duplicates",
        "B-47-half",
        "B-47-nan",
        "B-47-blank",
    ],
)
def test_b47_a_profile_is_finite_whatever_the_column(values):
    """B-47: no rows, one row, nulls alone, one value: every figure is finite and nothing divides by zero."""
    kind = None if any(value is not None for value in values) else pa.int64()
    profile = profile_column("n", pa.chunked_array([pa.array(values, kind)]))
    assert 0 <= profile.null_percent <= 100
    assert 0 <= profile.unique_share <= 1
    assert all(bound is None or abs(bound) < float("inf") for bound in (profile.minimum, profile.maximum))
    assert profile.rows == len(values)
