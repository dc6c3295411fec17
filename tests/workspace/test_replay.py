"""Replay from a shell: a dry run first, then for good, and the audit log knows who did it."""

import json
import subprocess
import sys

import pytest

from brownfield.errors import NotFound
from brownfield.workspace.audit import audit_log
from brownfield.workspace.pull import pull
from brownfield.workspace.replay import replay


@pytest.fixture
def shop(till):
    """A till that was read when two of three lines were too dear; the contract was then mended for one of them."""
    pull(till)
    contract = till / "integrations/reco/contract.odcs.yaml"
    contract.write_text(contract.read_text().replace("maximum: 10}", "maximum: 100}"))
    return till


def brownfield(*arguments):
    """The command line, as a person calls it."""
    command = [sys.executable, "-m", "brownfield", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.full
def test_f_58_a_replay_is_tried_and_then_applied(shop):
    """F-58: the dry run changes nothing and says so; the second does it, and a third finds nothing to do."""
    dry = brownfield("replay", shop, "--source", "sales")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout == (
        "sales: 2 tried, 1 would be accepted, 1 still bad, 0 not readable, 0 already applied\n"
        "rule         were refused  are refused  expected\n"
        "price.range             2            1  at most 100\n"
    )
    assert "nothing was changed" in dry.stderr
    assert audit_log(shop) == []
    done = brownfield("replay", shop, "--source", "sales", "--apply", "--json")
    assert json.loads(done.stdout)["accepted"] == 1
    assert replay(shop, "sales").already_applied == 1
    [entry] = audit_log(shop)
    assert entry.action == "quarantine.replay"
    assert entry.actor.startswith("user:")


@pytest.mark.full
def test_records_are_discarded_after_a_look(shop):
    """Discarding, too, is a dry run unless it is applied."""
    assert "2 would be discarded" in brownfield("replay", shop, "--source", "sales", "--discard").stdout
    assert replay(shop, "sales", discard=True, apply=True).discarded == 2
    assert replay(shop, "sales").selected == 0


@pytest.mark.full
def test_what_is_not_there_is_told(shop):
    """An unknown feed or integration is a wrong declaration (exit code 2), and names those that there are."""
    wrong = brownfield("replay", shop, "--source", "coupons")
    assert (wrong.returncode, "expected one of sales" in wrong.stderr) == (2, True)
    with pytest.raises(NotFound, match=r"There is reco\."):
        replay(shop, "sales", integration="other")
