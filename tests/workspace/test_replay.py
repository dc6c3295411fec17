"""Replay from a shell: a dry run first, then for good, and the audit log knows who did it."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from brownfield.data.pipeline import run_pipeline
from brownfield.errors import NotFound
from brownfield.integration import load_workspace
from brownfield.store import open_store
from brownfield.workspace.audit import audit_log
from brownfield.workspace.replay import replay

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: reco
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties: [{name: store_id, logicalType: integer, required: true}]
  - name: response
    logicalType: object
    properties: [{name: items, logicalType: array, required: true, items: {logicalType: string}}]
  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: price, logicalType: number, required: true, logicalTypeOptions: {maximum: 10}}
  - name: lines
    logicalType: object
    properties: [{name: line_id, logicalType: integer, required: true}]
"""
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources: {sales: {feed: true, connection: pos, table: sales, cursor: {column: line_id, key: line_id}}}
unified: {lines: {from: sales}}
fallback: {chain: [{constant: {items: []}}]}
"""


@pytest.fixture
def shop(tmp_path):
    """A till with three lines, two of them too dear for a contract that is then mended for one."""
    folder = tmp_path / "integrations/reco"
    folder.mkdir(parents=True)
    (tmp_path / "brownfield.yaml").write_text("workspace: shop\nconnections: {pos: {kind: sqlite, path: pos.db}}\n")
    (folder / "integration.yaml").write_text(INTEGRATION)
    (folder / "contract.odcs.yaml").write_text(CONTRACT)
    with closing(sqlite3.connect(tmp_path / "pos.db")) as database, database:
        database.execute("CREATE TABLE sales (line_id INTEGER PRIMARY KEY, price)")
        database.executemany("INSERT INTO sales VALUES (?, ?)", [(1, 5), (2, 50), (3, 500)])
    workspace = load_workspace(tmp_path)
    with open_store(tmp_path / "var/brownfield.db") as store:
        run_pipeline(workspace.integrations["reco"], workspace.connections, store, tmp_path / "var/data/reco")
    (folder / "contract.odcs.yaml").write_text(CONTRACT.replace("maximum: 10}", "maximum: 100}"))
    return tmp_path


def brownfield(*arguments):
    """The command line, as a person calls it."""
    command = [sys.executable, "-m", "brownfield", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_f_58_a_replay_is_tried_and_then_applied(shop):
    """F-58: the dry run changes nothing and says so; the second does it, and a third finds nothing to do."""
    dry = brownfield("replay", shop, "--source", "sales")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout == (
        "sales: 2 tried, 1 would be accepted, 1 still bad, 0 not readable, 0 already applied\n    price.range: 1\n"
    )
    assert "nothing was changed" in dry.stderr
    assert audit_log(shop) == []
    done = brownfield("replay", shop, "--source", "sales", "--apply", "--json")
    assert json.loads(done.stdout)["accepted"] == 1
    assert replay(shop, "sales").already_applied == 1
    [entry] = audit_log(shop)
    assert entry.action == "quarantine.replay"
    assert entry.actor.startswith("user:")


def test_records_are_discarded_after_a_look(shop):
    """Discarding, too, is a dry run unless it is applied."""
    assert "2 would be discarded" in brownfield("replay", shop, "--source", "sales", "--discard").stdout
    assert replay(shop, "sales", discard=True, apply=True).discarded == 2
    assert replay(shop, "sales").selected == 0


def test_what_is_not_there_is_told(shop):
    """An unknown feed or integration is a wrong declaration (exit code 2), and names those that there are."""
    wrong = brownfield("replay", shop, "--source", "coupons")
    assert (wrong.returncode, "a feed (sales)" in wrong.stderr) == (2, True)
    with pytest.raises(NotFound, match="There are reco"):
        replay(shop, "sales", integration="other")
