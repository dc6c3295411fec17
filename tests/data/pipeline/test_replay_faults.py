"""Replay, parking and expiry lose and double nothing, wherever they are killed and whatever they cannot write."""

import errno
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy.engine.default import DefaultDialect

from brownfield.clock import SystemClock
from brownfield.data.pipeline import Custody, run_pipeline
from brownfield.errors import BrownfieldError, StoreError
from brownfield.integration import load_workspace
from brownfield.store import open_store
from harness.bank import allow, book, history, make, on_store, replay, run

KILLS = int(os.environ.get("BROWNFIELD_KILLS", "20"))
GOOD, BAD, NEVER = 1, 500, 90_000
"""Amounts that are accepted, that are once larger ones are allowed, and that never are."""


def check_whole(bank, told):
    """Hold table, quarantine, and the counts of all runs against what was booked."""
    accepted = history(bank)
    assert len(accepted) == len(set(accepted))
    found = on_store(bank, lambda _i, _c, store, _o: store.quarantine.select("reco", limit=10**6))
    is_open = [int(each.position.removeprefix("line=")) for each in found if each.state == "open"]
    assert sorted([*accepted, *is_open]) == list(range(1, told + 1))

    def totals(_i, _c, store, _o):
        counts = [each for one in store.ledger.runs("reco", limit=10**6) for each in store.ledger.counts(one.run_id)]
        return {
            name: tuple(
                sum(getattr(each, what) for each in counts if each.source == name)
                for what in ("rows_in", "accepted", "quarantined")
            )
            for name in ("events", "history")
        }

    assert on_store(bank, totals) == {
        "events": (told, len(accepted), len(is_open)),
        "history": (len(accepted), len(accepted), 0),
    }
    assert list((bank / "var/data/reco").rglob("*.part")) == []


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from harness.bank import book, replay, run

bank, kills, randomly = Path(sys.argv[1]), int(sys.argv[2]), random.Random(20261121)
for _ in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            run(bank)
            replay(bank)
    for _ in range(randomly.randrange(1, 4)):
        book(bank, *[(randomly.choice("abcdefgh"), randomly.choice([1, 1, 500, 90_000])) for _ in range(8)])
        time.sleep(randomly.uniform(0.0, 0.15))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


@pytest.mark.full
@pytest.mark.timeout(120 + 2 * KILLS)
def test_f_58_i3_killed_at_random_moments_a_replay_has_at_most_one_effect(tmp_path):
    """F-58, I3: kill -9 in the middle of runs and replays of parked keys; then one of each makes everything whole."""
    bank = make(tmp_path)
    book(bank, ("a", BAD))
    run(bank)
    allow(bank, 600)
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(bank), str(KILLS)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run(bank)
    replay(bank)
    (told,) = sqlite3.connect(bank / "pos.db").execute("SELECT count(*) FROM events").fetchone()
    check_whole(bank, told)
    assert replay(bank)[0] == 0


class Failing:
    """Lets durable operations pass until the n-th, which fails as on a full disk or a broken one."""

    def __init__(self, monkeypatch):
        self.left = 0
        for name in ("fsync", "replace", "unlink"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name), OSError(errno.EIO, "input/output error")))
        for name in ("write_table", "close"):
            real = getattr(pq.ParquetWriter, name)
            monkeypatch.setattr(pq.ParquetWriter, name, self.counted(real, OSError(errno.ENOSPC, "disk full")))
        full = sqlite3.OperationalError("database or disk is full")
        monkeypatch.setattr(DefaultDialect, "do_commit", self.counted(DefaultDialect.do_commit, full))

    def counted(self, real, error):
        """Wrap an operation: its turn may be the one that fails."""

        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                raise error
            return real(*arguments, **options)

        return call


def each_failure(failing, work, check):
    """Let each durable operation of a piece of work fail in turn, and look after every one; returns the failures."""
    failed = 0
    for n in count(1):
        failing.left = n
        try:
            work()
        except (OSError, BrownfieldError):
            failed += 1
        hit, failing.left = failing.left <= 0, 0
        check()
        if not hit:
            return failed
    raise AssertionError("there is no end to it")


@pytest.mark.full
def test_f_60_every_durable_operation_of_a_replay_may_fail(tmp_path, monkeypatch):
    """F-60, R-06: each write, fsync, rename and commit fails in turn while parked keys are let in; all stays whole."""
    bank = make(tmp_path)
    told = [0]

    def prepare():
        allow(bank, 100)
        book(bank, ("a", BAD), ("a", GOOD), ("b", GOOD), ("c", NEVER), ("c", GOOD))
        told[0] += 5
        run(bank)
        allow(bank, 600)

    def check():
        replay(bank)
        check_whole(bank, told[0])
        prepare()

    prepare()
    assert each_failure(Failing(monkeypatch), lambda: replay(bank), check) > 6


class Later(SystemClock):
    """The system's clock, a year on."""

    def now_utc(self):
        """Now, and a year."""
        return datetime.now(UTC) + timedelta(days=365)


@pytest.mark.full
def test_f_60_every_statement_of_an_expiry_may_fail(tmp_path, monkeypatch):
    """F-60: an expiry is done with its run and its audit entry, or not at all."""
    bank = make(tmp_path)
    book(bank, ("a", BAD), ("b", GOOD))
    run(bank)
    failing = Failing(monkeypatch)

    def expire():
        workspace = load_workspace(bank)
        with open_store(bank / "var/brownfield.db", clock=Later()) as store:
            run_pipeline(
                workspace.integrations["reco"], workspace.connections, store, bank / "var/data/reco",
                clock=Later(), custody=Custody(keep_d=30),
            )  # fmt: skip

    def check():
        kept, entries = on_store(
            bank, lambda _i, _c, store, _o: (store.quarantine.select("reco"), store.audit.entries())
        )
        assert (kept[0].raw is None) == (str(kept[0].state) == "expired") == bool(entries)

    assert each_failure(failing, expire, check) >= 3
    assert on_store(bank, lambda _i, _c, store, _o: store.quarantine.select("reco"))[0].raw is None


LIMITED = """
import resource, signal, sys
from pathlib import Path
from harness.bank import replay, run

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
(run if sys.argv[3] == "run" else replay)(Path(sys.argv[1]))
"""


@pytest.mark.full
@pytest.mark.parametrize("what", ["run", "replay"])
@pytest.mark.parametrize("limit_bytes", [200, 60_000])
def test_f_59_without_room_nothing_is_half_written(tmp_path, what, limit_bytes):
    """F-59: where no file may grow any more, parts or store, the work ends with an error; with room it is done once."""
    bank = make(tmp_path)
    book(bank, ("a", BAD), ("a", GOOD))
    run(bank)
    allow(bank, 600)
    book(bank, *[("b", 7)] * 2_000, *[("c", NEVER)] * 200)
    if what == "replay":
        run(bank)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(bank), str(limit_bytes), what], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    run(bank)
    replay(bank)
    check_whole(bank, 2_202)
    assert len(history(bank)) == 2_002


@pytest.mark.full
def test_f_61_a_torn_part_is_told_and_a_rebuild_makes_it_whole(tmp_path):
    """F-61: cut at many lengths, a listed part is never read as a shorter table: runs stop until it is restored."""
    bank = make(tmp_path)
    book(bank, *[("a", 7)] * 50)
    run(bank)
    [part] = (bank / "var/data/reco/history").glob("*.parquet")
    whole = part.read_bytes()
    for length in {0, 1, 3, 4, 8, len(whole) // 2, *range(len(whole) - 12, len(whole))}:
        part.write_bytes(whole[:length])
        book(bank, ("a", 1))
        with pytest.raises(StoreError, match="torn"):
            run(bank)
        part.write_bytes(whole)
    assert run(bank)[0] > 10
    part.write_bytes(whole[:-1])
    run(bank, rebuild=True)
    (told,) = sqlite3.connect(bank / "pos.db").execute("SELECT count(*) FROM events").fetchone()
    assert sorted(history(bank)) == list(range(1, told + 1))
