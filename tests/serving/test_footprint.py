"""What the processes of a served workspace hold: each has what it needs at that moment, and no library beside it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from harness.processes import CLERK, ZYGOTE, descendants
from harness.waiting import until

pytestmark = pytest.mark.full

NOWHERE = {
    *("sqlalchemy", "alembic", "mako", "duckdb", "sqlglot", "onnx", "google.protobuf", "onnxruntime", "openvino"),
    *("cryptography", "lxml", "pandas", "scipy", "plotly", "pyarrow.compute", "pyarrow.parquet", "pyarrow.dataset"),
}
"""Modules that the processes that stay never import for a plain workspace."""
LIBRARIES = re.compile(
    r"/(sqlalchemy|duckdb|onnx|google|cryptography|lxml|pandas|scipy|openvino)/|/_(?:compute|parquet)\."
)
ENGINE = re.compile("/onnxruntime/")
ARROW = re.compile("/pyarrow/")

SERVE = """
import sys
from brownfield.serving import Supervisor
Supervisor.run = lambda self: print(*sys.modules) or 0
from brownfield.cli import main
sys.argv = ["brownfield", "serve", sys.argv[1]]
main()
"""


def libraries(pid):
    """Files that a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")


def test_what_is_forked_from_has_imported_no_library_that_only_others_need(risk, tmp_path):
    """The command line brings the supervisor up without a database, a reader of graphs or an engine."""
    folder = risk.workspace(tmp_path)
    done = subprocess.run([sys.executable, "-c", SERVE, str(folder)], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {"brownfield.serving.supervisor", "numpy", "pyarrow.lib"} <= imported
    assert not imported & NOWHERE


def test_no_process_that_stays_holds_what_it_does_not_need(risk, serving, tmp_path):
    """After answers, a flushed journal, a reload, and a model that was moved by hand and is entered in the store."""
    folder = risk.workspace(tmp_path)
    running = serving(folder)
    assert running.predict([1, 2, 3, 4])["decision"]["source"] == "model"
    until(lambda: list((folder / "var" / "journal" / "risk").glob("*.arrows*")))
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: "BF-SRV-RELOADED" in running.log)
    for action in ("unload", "load"):
        assert httpx.post(f"{running.url}/v2/repository/models/risk/{action}", timeout=60).status_code == 200
    until(lambda: not descendants(running.pid, CLERK))  # what brought the libraries has ended, and not only they
    stay = {name: running.pid_of(name) for name in ("bf-gateway-0", "bf-manager")} | {"supervisor": running.pid}
    for name, pid in stay.items():
        assert not LIBRARIES.search(libraries(pid)), name
        assert not ENGINE.search(libraries(pid)), name
    models = running.model_pids()
    [zygote] = [each.pid for each in descendants(running.pid, ZYGOTE)]
    assert models
    for pid in (zygote, *models):
        assert ENGINE.search(libraries(pid))
        assert not ARROW.search(libraries(pid))
        assert not LIBRARIES.search(libraries(pid))
    everybody = {*stay.values(), zygote, *models}
    until(lambda: {each.pid for each in descendants(running.pid)} <= everybody)


def test_the_gateway_has_no_huge_pages_and_what_others_fork_may(risk, serving, tmp_path):
    """An allocator's few bytes take no page of 2 MiB there; models keep what the host gives."""
    running = serving(risk.workspace(tmp_path))
    assert "THP_enabled:\t0" in Path(f"/proc/{running.pid_of('bf-gateway-0')}/status").read_text()
    for pid in (running.pid, *running.model_pids()):
        assert "THP_enabled:\t1" in Path(f"/proc/{pid}/status").read_text()
