"""Bringing records in from a shell: again and again, with guards that a person may let pass."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from brownfield.errors import NotFound
from brownfield.workspace.audit import audit_log
from brownfield.workspace.pull import pull


def brownfield(*arguments):
    """The command line, as a person calls it."""
    command = [sys.executable, "-m", "brownfield", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def sell(till, line, price):
    """One more line at the till."""
    with closing(sqlite3.connect(till / "pos.db")) as database, database:
        database.execute("INSERT INTO sales VALUES (?, ?)", (line, price))


@pytest.mark.full
def test_only_what_is_new_is_brought_in(till):
    """The first call reads all lines, the second one the new line; both say what became of them."""
    first = brownfield("score", till, "--pull")
    assert first.returncode == 0, first.stderr
    assert first.stdout == (
        "sales: 3 in, 1 accepted, 2 in quarantine\n"
        "    price.range: 2 (expected at most 10)\n"
        "lines: 1 in, 1 accepted, 0 in quarantine\n"
    )
    sell(till, 4, 1)
    second = json.loads(brownfield("score", till, "--pull", "--json").stdout)
    assert (second["sources"]["sales"]["rows_in"], second["tables"]["lines"]["rows_total"]) == (1, 2)


@pytest.mark.full
def test_a_guard_stops_the_command_and_a_person_may_let_it_pass(till):
    """A changed column is exit code 2 with what was and is; accepted once, it is in the audit log."""
    pull(till)
    with closing(sqlite3.connect(till / "pos.db")) as database, database:
        database.execute("ALTER TABLE sales RENAME TO old")
        database.execute("CREATE TABLE sales (line_id INTEGER PRIMARY KEY, price REAL)")
        database.execute("INSERT INTO sales SELECT * FROM old")
    stopped = brownfield("score", till, "--pull")
    assert (stopped.returncode, "got REAL" in stopped.stderr) == (2, True)
    assert stopped.stderr.endswith("then let it pass: --accept shape.\n")
    assert brownfield("score", till, "--pull", "--accept", "shape").returncode == 0
    [entry] = audit_log(till)
    assert entry.action == "pipeline.accept"


@pytest.mark.full
def test_a_lookup_that_was_not_read_from_its_first_place_says_so(till):
    """The report for people names the state and the moment, as the one for machines does."""
    with closing(sqlite3.connect(till / "shop.db")) as database, database:
        database.execute("CREATE TABLE kinds (kind_id INTEGER PRIMARY KEY, kind TEXT)")
        database.execute("INSERT INTO kinds VALUES (1, 'food')")
    declaration = till / "brownfield.yaml"
    places = "gone: {kind: sqlite, path: gone.db}, there: {kind: sqlite, path: shop.db}, "
    declaration.write_text(declaration.read_text().replace("connections: {", f"connections: {{{places}"))
    [integration] = till.glob("integrations/*/integration.yaml")
    chain = "[{connection: gone, table: kinds}, {connection: there, table: kinds, lag_s: 60}]"
    lookup = f"kinds: {{lookup: kind_id, failover: {{failures: 1}}, chain: {chain}}}, "
    integration.write_text(integration.read_text().replace("sources: {", f"sources: {{{lookup}"))
    contract = integration.with_name("contract.odcs.yaml")
    schema = """  - name: kinds
    logicalType: object
    properties:
      - {name: kind_id, logicalType: integer, primaryKey: true}
      - {name: kind, logicalType: string}
"""
    contract.write_text(contract.read_text() + schema)
    done = brownfield("score", till, "--pull")
    assert done.returncode == 0, done.stderr
    assert "kinds: 1 in, 1 accepted, 0 in quarantine\n    read from REPLICA, as of 20" in done.stdout


def test_a_rebuild_is_audited(till):
    """Reading anew from the beginning moves a position back, so the audit log says who did it."""
    pull(till)
    assert pull(till, rebuild=True).sources["sales"].rows_in == 3
    [entry] = audit_log(till)
    assert (entry.action, entry.actor.startswith("user:")) == ("pipeline.rebuild", True)


def test_without_pull_the_verb_says_what_it_can_do(till):
    """There is no scoring of tables yet, and the command does not pretend."""
    assert brownfield("score", till).returncode == 2
    with pytest.raises(NotFound, match=r"There is reco\."):
        pull(till, integration="other")
