"""A pipeline in a process of its own: its rhythm, its signals, and what it tells."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from brownfield.data.pipeline.continuous import _Loop, next_pause_s
from brownfield.testing import FakeClock
from harness.delivery import Soak, SqliteSink, SqliteSource

pytestmark = pytest.mark.full


@pytest.fixture
def shop(tmp_path):
    """A till whose pipeline runs once an hour unless it is hurried."""
    made = Soak(tmp_path, SqliteSource(tmp_path, None), SqliteSink(tmp_path, None))
    made.redeclare("fallback:", "pipeline: {every_s: 3600}\nfallback:")
    made.run()
    made.approve()
    return made


@contextmanager
def started(shop):
    """The process, and a function that gives the next line with a state."""
    command = [sys.executable, "-m", "brownfield.data.pipeline.continuous", str(shop.folder), "soak"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def told():
            while True:
                line = json.loads(process.stdout.readline())
                if line.get("state", "running") != "running":
                    return line

        try:
            yield process, told
        finally:
            process.kill()


def test_it_tells_what_each_run_did_and_hurries_when_told(shop):
    """Rows read, refused, written and waiting; SIGHUP begins the next run at once; SIGTERM ends it with status 0."""
    shop.make(30)
    with started(shop) as (process, told):
        first = told()
        assert (first["state"], first["rows"], first["refused"]) == ("done", 30, 2)
        assert first["write_back"]["till"] == {"rows": 28, "pending_rows": 0, "waiting": ""}
        assert (first["next_run_s"], first["within_s"]) == (3600, 60)
        shop.make(10)
        process.send_signal(signal.SIGHUP)
        assert told()["rows"] == 10
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    shop.check()


def test_it_ends_with_the_supervisor(shop):
    """When the pipe from the supervisor closes, the process is gone at once."""
    with started(shop) as (process, told):
        told()
        process.stdin.close()
        assert process.wait(20) == 1


def test_f_42_a_source_that_is_gone_is_told_and_found_again(shop):
    """F-42: the run fails with its reason, tries later, and goes on from its position when the source is back."""
    shop.make(5)
    (shop.folder / "pos.db").rename(shop.folder / "away.db")
    with started(shop) as (process, told):
        failed = told()
        assert (failed["state"], failed["code"]) == ("failed", "BF-ERR-SOURCE")
        (shop.folder / "away.db").rename(shop.folder / "pos.db")
        process.send_signal(signal.SIGHUP)
        assert told()["rows"] == 5


def test_a_run_by_hand_beside_it_is_waited_for(shop):
    """While another process holds the tables the run waits for its next turn; that is no failure."""
    from brownfield.data.pipeline.parts import one_run

    with one_run(shop.folder / "var/data/soak"), started(shop) as (_, told):
        line = told()
    assert (line["state"], "another run" in line["reason"]) == ("waiting", True)


def test_f66_runs_do_not_go_by_the_time_of_day(shop, monkeypatch):
    """F-66: while the clock of the machine is set back and forth, a pause is as long as declared, and ends once."""
    loop = _Loop(shop.folder, "soak")
    loop._clock = clock = FakeClock()
    waits = []

    def wait(seconds):
        waits.append(seconds)
        clock.advance(seconds)
        clock.jump(3600 if len(waits) % 2 else -7200)
        return False

    monkeypatch.setattr(loop._wake, "wait", wait)
    monkeypatch.setattr(loop, "_tell", lambda *_: None)
    loop._wait(3600.0)
    assert sum(waits) == pytest.approx(3600)


def test_pauses_grow_with_failures_and_stay_within_bounds():
    """Never sooner than declared, never later than a quarter of an hour unless that is the rhythm."""
    assert next_pause_s(10, 0) == 10
    for failures in range(1, 40):
        assert 10 <= next_pause_s(10, failures) <= 900
        assert next_pause_s(5000, failures) == 5000
