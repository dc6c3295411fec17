"""Nothing is lost and nothing is counted twice, wherever a run is killed or whatever it cannot write."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy.engine.default import DefaultDialect

from brownfield.data.pipeline import run_pipeline
from brownfield.data.pipeline.parts import listed_files
from brownfield.errors import BrownfieldError
from brownfield.integration import load_workspace
from brownfield.store import Selection, open_store
from harness.shop import WORKSPACE, contract, declare, fill

KILLS = int(os.environ.get("BROWNFIELD_KILLS", "20"))

INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  sales: {feed: true, connection: pos, table: sales, cursor: {column: line_id, key: line_id}}
  products: {lookup: product_id, connection: drop, path: products.csv, format: csv}
unified:
  lines:
    from: sales
    join: [{source: products, on: product_id, take: [kind]}]
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = contract(
    """
{name: quantity, logicalType: integer, required: true, logicalTypeOptions: {exclusiveMinimum: 0}}
{name: ticket, logicalType: integer, required: true, unique: true}
""",
)


@pytest.fixture
def shop(tmp_path):
    """A till that has sold nothing yet, and three products."""
    declare(tmp_path, WORKSPACE, INTEGRATION, CONTRACT)
    fill(tmp_path, "0,MILK\n1,BREAD\n2,\n", ("product_id", "quantity", "ticket"))
    return tmp_path


def sell(shop, lines):
    """New lines at the till: some of a product that nobody knows, some of nothing, some with a ticket used before."""
    with closing(sqlite3.connect(shop / "pos.db")) as database, database:
        (last,) = database.execute("SELECT coalesce(max(line_id), 0) FROM sales").fetchone()
        rows = [
            (line, line % 4 if line % 11 else 0, line % 7, line - 1 if line % 9 == 2 else line)
            for line in range(last + 1, last + 1 + lines)
        ]
        database.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", rows)


def run(shop):
    """One run in this process."""
    workspace = load_workspace(shop)
    with open_store(shop / "var/brownfield.db") as store:
        return run_pipeline(workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco")


def seen(shop):
    """Line numbers in the unified table, as a reader of its files finds them."""
    folder = shop / "var/data/reco/lines"
    return sorted(line for file in listed_files(folder) for line in pq.read_table(file)["line_id"].to_pylist())


def check_whole(shop):
    """Compare table, quarantine and counts with plain SQL over the till."""
    with closing(sqlite3.connect(shop / "pos.db")) as database:
        before = "SELECT 1 FROM sales o WHERE o.line_id = sales.ticket AND o.quantity > 0 AND o.product_id < 3"
        good = f"quantity > 0 AND product_id < 3 AND NOT (ticket <> line_id AND EXISTS ({before}))"
        accepted = [line for (line,) in database.execute(f"SELECT line_id FROM sales WHERE {good} ORDER BY 1")]  # noqa: S608 (our own text)
        lines = [line for (line,) in database.execute("SELECT line_id FROM sales ORDER BY 1")]
    assert seen(shop) == accepted
    with open_store(shop / "var/brownfield.db") as store:
        entries = store.quarantine.select("reco", Selection(source="sales"), limit=10**6)
        runs = store.ledger.runs("reco", limit=10**6)
        counts = [each for run in runs for each in store.ledger.counts(run.run_id) if each.source == "sales"]
    refused = sorted(int(each.position.removeprefix("line_id=")) for each in entries)
    assert refused == sorted(set(lines) - set(accepted))
    totals = tuple(sum(getattr(each, name) for each in counts) for name in ("rows_in", "accepted", "quarantined"))
    assert totals == (len(lines), len(accepted), len(refused))
    assert list((shop / "var/data/reco").rglob("*.part")) == []
    assert {each.status for each in runs} <= {"done", "failed"}


FOLDERS = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[2])))
KILLER = """
import os, random, signal, sqlite3, sys, time
from pathlib import Path
from brownfield.data.pipeline import run_pipeline
from brownfield.integration import load_workspace
from brownfield.store import open_store

sys.path[:0] = sys.argv[1].split(os.pathsep)
from test_kill import run, sell
shop, kills, randomly = Path(sys.argv[2]), int(sys.argv[3]), random.Random(20261121)
for _ in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            run(shop)
    for _ in range(randomly.randrange(1, 6)):
        sell(shop, randomly.randrange(1, 40))
        time.sleep(randomly.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


@pytest.mark.full
@pytest.mark.timeout(120 + 2 * KILLS)
def test_r_05_f_40_killed_at_random_moments_nothing_is_lost_or_doubled(shop):
    """R-05, F-40, I3: kill -9 in the middle of runs over a growing feed; then one run makes everything whole."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, FOLDERS, str(shop), str(KILLS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run(shop)
    check_whole(shop)
    with open_store(shop / "var/brownfield.db") as store:
        statuses = [each.status for each in store.ledger.runs("reco", limit=10**6)]
    assert statuses.count("failed") >= 1
    assert run(shop).sources["sales"].rows_in == 0


class Failing:
    """Lets durable operations pass until the n-th, which fails as on a full disk."""

    def __init__(self, monkeypatch):
        self.left = 0
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "open"), (os, "unlink")):
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name), OSError(errno.ENOSPC, "disk full")))
        for name in ("write_table", "close"):
            real = getattr(pq.ParquetWriter, name)
            monkeypatch.setattr(pq.ParquetWriter, name, self.counted(real, OSError(errno.ENOSPC, "disk full")))
        commit = self.counted(DefaultDialect.do_commit, sqlite3.OperationalError("database or disk is full"))
        monkeypatch.setattr(DefaultDialect, "do_commit", commit)

    def counted(self, real, error):
        """Wrap an operation: its turn may be the one that fails."""

        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                raise error
            return real(*arguments, **options)

        return call


@pytest.mark.full
def test_r_06_f_60_every_durable_operation_may_fail(shop, monkeypatch):
    """R-06, F-60: each write, fsync, rename, removal and commit of a run fails in turn; the table is never wrong."""
    failing = Failing(monkeypatch)
    sell(shop, 20)
    failed = 0
    for n in count(1):
        before = seen(shop)
        failing.left = n
        try:
            run(shop)
        except (OSError, BrownfieldError):
            failed += 1
        hit, failing.left = failing.left <= 0, 0
        now = seen(shop)
        assert now[: len(before)] == before
        assert len(now) == len(set(now))
        run(shop)
        check_whole(shop)
        if not hit:
            break
        sell(shop, 5)
    assert failed > 15
    assert any("m.parquet" in file.name for file in listed_files(shop / "var/data/reco/lines"))


ZOMBIE = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from sqlalchemy.engine.default import DefaultDialect

sys.path[:0] = sys.argv[1].split(":")
from test_kill import run
left = int(sys.argv[3])

def stopping(real):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(*arguments, **options)
    return call

for owner, name in ((os, "fsync"), (os, "replace"), (pq.ParquetWriter, "write_table"), (DefaultDialect, "do_commit")):
    setattr(owner, name, stopping(getattr(owner, name)))
run(Path(sys.argv[2]))
"""


@pytest.mark.full
def test_f_41_while_a_run_stands_still_no_other_goes_past_it(shop):
    """F-41: stopped before a durable step, a run keeps its tables to itself; woken it ends, and I3 holds behind it."""
    sell(shop, 20)
    refused: list[tuple[str, int]] = []
    for n in count(1, 6):
        zombie = subprocess.Popen(
            [sys.executable, "-c", ZOMBIE, f"{Path(__file__).parent}:{Path(__file__).parents[2]}", str(shop), str(n)],
            stderr=subprocess.DEVNULL,
        )
        _, status = os.waitpid(zombie.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            zombie.returncode = os.waitstatus_to_exitcode(status)
            break
        try:
            run(shop)  # the other one had not begun to write
        except BrownfieldError as error:
            refused.append((str(error), zombie.pid))
        finally:
            os.kill(zombie.pid, signal.SIGCONT)
            assert zombie.wait(60) == 0
        run(shop)
        check_whole(shop)
        sell(shop, 5)
    assert sum(f"process {pid}" in message for message, pid in refused) > 2
