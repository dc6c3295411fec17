"""Pipelines beside a served workspace: rhythm, liveness, what is told of them, and new bindings without a restart."""

import os
import signal
import sqlite3
from contextlib import closing

import httpx
import pytest

from brownfield.serving import serve_workspace
from brownfield.workspace.pull import pull
from harness.delivery import Soak, SqliteSink, SqliteSource
from harness.processes import descendants
from harness.shadows import Shadows
from harness.waiting import until

pytestmark = pytest.mark.full


class Moved(SqliteSource):
    """A till whose place stands in a file: whoever moves it writes the new place there."""

    def connection(self):
        """Name the place by reference."""
        (self.folder / "place").write_text("pos.db")
        return "{kind: sqlite, path: {file: place}}"


@pytest.fixture
def till(tmp_path):
    """A till whose lines are to be pulled and written back five times a second."""
    made = Soak(tmp_path, Moved(tmp_path, None), SqliteSink(tmp_path, None))
    made.redeclare("fallback:", "pipeline: {every_s: 0.2}\nfallback:")
    made.run()
    made.approve()
    return made


@pytest.fixture
def shop(till):
    """It is served."""
    with serve_workspace(till.folder) as served:
        till.url = served.url
        till.served = served.process
        yield till


def state(shop):
    """What the gateway knows of the pipeline."""
    return httpx.get(f"{shop.url}/v1/soak/pipeline").json()


def written(shop):
    """Rows in the written table."""
    with closing(sqlite3.connect(shop.folder / "out.db")) as database:
        return database.execute("SELECT count(*) FROM till").fetchone()[0]


def children(shop):
    """Processes of pipelines."""
    return descendants(shop.served.pid, "pipeline.continuous")


def test_what_is_new_arrives_by_itself_and_the_metrics_say_so(shop):
    """Rows go from the till to the table in the declared rhythm; JSON and Prometheus tell of it."""
    shop.make(30)
    until(lambda: written(shop) == 28)
    until(lambda: state(shop)["delivered"].get("till") == 28)
    told = state(shop)
    assert (told["rows"], told["refused"], told["pending"], told["code"]) == (30, 2, {"till": 0}, "")
    text = httpx.get(f"{shop.url}/metrics").text
    for line in (
        'brownfield_pipeline_up{integration="soak"} 1',
        'brownfield_pipeline_rows_total{integration="soak"} 30',
        'brownfield_write_back_rows_total{integration="soak",sink="till"} 28',
        'brownfield_write_back_pending_rows{integration="soak",sink="till"} 0',
    ):
        assert line in text
    shop.make(12)
    report = pull(shop.folder)  # by hand, while it is served: waits for its turn
    assert sum(source.rows_in for source in report.sources.values()) in {0, 12}
    until(lambda: written(shop) == 39)


def test_f_40_a_killed_pipeline_is_started_again_and_nothing_is_twice(shop):
    """F-40: kill -9 of the process costs nothing; a stopped supervisor takes the process with it."""
    shop.make(30)
    [child] = until(lambda: children(shop))
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: written(shop) == 28)
    until(lambda: state(shop)["restarts"] == 1)
    [child] = until(lambda: children(shop))
    shop.served.terminate()
    assert shop.served.wait(30) == 0
    assert not child.is_running()
    shop.settle()
    shop.check()


def test_f_42_a_moved_source_is_bound_anew_without_a_restart(shop):
    """F-42: while the till is away the feed is paused and says why; its new place is read with the next run."""
    shop.make(5)
    until(lambda: written(shop) == 5)
    (shop.folder / "pos.db").rename(shop.folder / "moved.db")
    until(lambda: state(shop)["state"] == "failed" or state(shop)["code"] == "BF-ERR-SOURCE")
    assert 'brownfield_pipeline_paused{integration="soak"} 1' in httpx.get(f"{shop.url}/metrics").text
    before = [child.pid for child in children(shop)]
    (shop.folder / "place").write_text("moved.db")
    shop.source.path = shop.folder / "moved.db"
    shop.make(5)
    shop.served.send_signal(signal.SIGHUP)
    until(lambda: written(shop) == 10)
    assert [child.pid for child in children(shop)] == before
    until(lambda: state(shop)["code"] == "")


def test_a_reload_starts_what_changed_and_ends_what_is_gone(shop):
    """Another declaration is another process; without a pipeline there is none."""
    [before] = until(lambda: children(shop))
    shop.redeclare("every_s: 0.2", "every_s: 0.3")
    shop.served.send_signal(signal.SIGHUP)
    until(lambda: [child.pid for child in children(shop)] not in ([before.pid], []))
    shop.redeclare("pipeline: {every_s: 0.3}\n", "")
    shop.served.send_signal(signal.SIGHUP)
    until(lambda: children(shop) == [])
    until(lambda: state(shop)["state"] == "none")


def test_no_file_of_the_current_folder_is_a_module(till, tmp_path_factory, monkeypatch):
    """Named as modules are, they are imported by none of the processes; what ``PYTHONPATH`` says is heeded."""
    shadows = Shadows(tmp_path_factory.mktemp("shadows"), monkeypatch)
    with serve_workspace(till.folder):
        till.make(5)
        until(lambda: written(till) == 5)
    assert shadows.begun("pipeline.continuous")
    assert shadows.begun("serving.clerk")
    assert not shadows.imported
