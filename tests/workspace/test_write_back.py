"""Looking at what would be written back, approving it and giving it up, from a shell."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from brownfield.data.sinks import ledger_ddl
from brownfield.errors import DeclarationError
from brownfield.workspace.audit import audit_log
from brownfield.workspace.check import check
from brownfield.workspace.pull import pull
from brownfield.workspace.write_back import approve, discard, preview


@pytest.fixture
def writing(till):
    """The till, with a table that its lines are written back to; one column is personal."""
    with closing(sqlite3.connect(till / "out.db")) as database:
        database.executescript("CREATE TABLE seen (line_id INTEGER PRIMARY KEY, price REAL);" + ledger_ddl("sqlite"))
    settings = till / "brownfield.yaml"
    settings.write_text(
        settings.read_text().replace("path: pos.db}", "path: pos.db}, out: {kind: sqlite, path: out.db}")
    )
    home = till / "integrations/reco"
    contract = (home / "contract.odcs.yaml").read_text()
    line = "properties: [{name: line_id, logicalType: integer, required: true}]\n"
    price = "{name: price, logicalType: number, classification: pii}"
    contract = contract.replace(line, line.replace("required: true}]", f"primaryKey: true, required: true}}, {price}]"))
    (home / "contract.odcs.yaml").write_text(contract)
    declared = home / "integration.yaml"
    declared.write_text(
        declared.read_text()
        + "write_back: {seen: {from: lines, connection: out, table: seen, key: line_id, columns: [line_id, price]}}\n"
    )
    return till


def brownfield(*arguments):
    """The command line, as a person calls it."""
    command = [sys.executable, "-m", "brownfield", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rows(writing):
    """What was written."""
    with closing(sqlite3.connect(writing / "out.db")) as database:
        return database.execute("SELECT * FROM seen").fetchall()


@pytest.mark.full
def test_s_17_look_approve_write(writing):
    """S-17: the pull writes nothing and exits 1; the dry run shows masked rows and how to approve; then it writes."""
    first = brownfield("score", writing, "--pull")
    assert first.returncode == 1, first.stderr
    assert "seen: 0 written back, 1 wait\n    not written: nobody has approved it" in first.stdout
    shown = brownfield("score", writing, "--pull", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "seen: 1 rows wait and 0 are new, for out: seen (line_id, price; upsert by line_id)" in shown.stdout
    assert "{'line_id': 1, 'price': '9.9'}" in shown.stdout
    assert "for the owner of the database to run once" in shown.stdout
    [line] = [line for line in shown.stdout.splitlines() if "--approve" in line]
    assert brownfield("score", writing, "--approve", "seen=000000000000").returncode == 2
    assert rows(writing) == []
    done = brownfield(*line.split("brownfield ")[1].split())
    assert (done.returncode, done.stdout) == (0, "seen: approved; the next run writes what waits\n")
    assert brownfield("score", writing, "--pull").returncode == 0
    assert rows(writing) == [(1, 5.0)]
    assert [entry.action for entry in audit_log(writing)] == ["write_back.approve"]


@pytest.mark.full
def test_the_options_do_not_mix(writing):
    """One thing at a time: a dry run is a pull, an approval is none."""
    for options in ((), ("--pull", "--approve", "x=y"), ("--dry-run",), ("--pull", "--dry-run", "--rebuild")):
        assert brownfield("score", writing, *options).returncode == 2


def test_what_waits_is_given_up(writing):
    """Nothing is written of what a person gave up, and the log says who did."""
    pull(writing)
    assert discard(writing, "seen") == 1
    [shown] = preview(writing)
    approve(writing, "seen", shown.digest)
    assert pull(writing).write_back["seen"].rows == 0
    assert [entry.action for entry in audit_log(writing)] == ["write_back.discard", "write_back.approve"]
    with pytest.raises(DeclarationError, match="one of seen"):
        approve(writing, "other", shown.digest)


@pytest.mark.full
def test_check_prints_what_is_promised(writing):
    """Mechanism and claim stand in the report for each pair of feed and sink, as text and as JSON."""
    report = check(writing)
    assert report.passed, report.findings
    [promise] = json.loads(report.to_json())["deliveries"]
    assert promise == {
        "source": "sales", "source_kind": "sqlite", "sink": "seen", "sink_kind": "sqlite",
        "mechanism": "outbox; rows and effect ledger in one transaction of the sink", "claim": "exactly-once effect",
    }  # fmt: skip
    text = "sales (sqlite) -> seen (sqlite): exactly-once effect, by outbox; rows and effect ledger in one transaction"
    assert text in brownfield("check", writing).stdout


def test_s_17_a_connection_that_another_integration_reads_is_refused_by_check(writing):
    """S-17: the credential that writes here must not be one that is read elsewhere."""
    other = writing / "integrations/other"
    other.mkdir()
    home = writing / "integrations/reco"
    (other / "contract.odcs.yaml").write_text((home / "contract.odcs.yaml").read_text())
    declared = (home / "integration.yaml").read_text().split("write_back")[0]
    (other / "integration.yaml").write_text(
        declared.replace("integration: reco", "integration: other").replace("connection: pos", "connection: out")
    )
    [error] = [each for each in check(writing).findings if each.level == "error"]
    assert (error.path, error.message) == ("write_back.seen.connection", "out is read by the integration other")
