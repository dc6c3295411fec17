"""Runs killed with SIGKILL while messages come in: no message is lost, none has its effect twice.

20 kills for each broker in the full suite; ``make soak`` sets BROWNFIELD_KILLS to 1,000.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.queue_shop import sale
from harness.queues import left

pytestmark = [pytest.mark.full, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("BROWNFIELD_KILLS", "20"))
RUNNER = """
import sys
from pathlib import Path
from brownfield.data.pipeline import run_pipeline
from brownfield.errors import SourceUnavailable
from brownfield.integration import load_workspace
from brownfield.store import open_store

import os, signal

shop = Path(sys.argv[1])
workspace = load_workspace(shop)
while sys.stdin.readline():  # one child at a time: what is imported is kept
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        while True:
            with open_store(shop / "var/brownfield.db") as store:
                try:
                    run_pipeline(workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco")
                except SourceUnavailable:
                    pass
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status), flush=True)
"""


def test_f_40_killed_at_random_moments_each_message_has_one_effect(shop, legacy):
    """F-40, R-05: kill -9 in the middle of runs over a filling queue; table, quarantine, inbox and counts agree."""
    chance = random.Random(20261121)  # noqa: S311 (moments of kills)
    shop.keep_trying(KILLS)
    sent = 0
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(shop.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with runner:
        for _ in range(KILLS):
            runner.stdin.write("go\n")
            runner.stdin.flush()
            child = int(runner.stdout.readline())
            for _ in range(chance.randrange(1, 3)):
                more = chance.randrange(1, 40)
                legacy.send(sale(line, line % 5) for line in range(sent, sent + more))
                sent += more
                time.sleep(chance.uniform(0.0, 0.3))
            os.kill(child, signal.SIGKILL)
            assert runner.stdout.readline() == "9\n"
        runner.stdin.close()
    deadline = time.monotonic() + 60
    while True:
        shop.run()
        if left(legacy, 0.1) == 0 or time.monotonic() > deadline:
            break
    accepted = [line for line in range(sent) if line % 5]
    assert shop.lines() == accepted
    refused = sorted(int(each.position.split(",")[0].removeprefix("message m")) for each in shop.quarantined())
    assert refused == [line for line in range(sent) if line % 5 == 0]
    assert {each.code for each in shop.quarantined()} <= {"BF-RUL-001"}
    assert shop.totals() == (sent, len(accepted), len(refused))
    assert list(Path(shop.folder / "var/data/reco").rglob("*.part")) == []
