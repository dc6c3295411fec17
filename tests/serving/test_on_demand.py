"""Models that are loaded when they are asked for: real processes, a small memory, people who load and unload."""

import os
import signal
import threading
import time

import httpx
import psutil
import pytest

from brownfield.store import open_store
from harness.metrics import count
from harness.python_models import bundle_class
from harness.waiting import until

pytestmark = pytest.mark.full

HEAVY = """
import numpy as np

class Heavy:
    inputs = {"x": ("float32", (None, 4))}
    outputs = {"y": ("float32", (None, 1))}

    def load(self, folder):
        self.held = np.ones(256 * 2**17)  # 256 MiB, each page written

    def predict(self, inputs):
        return {"y": inputs["x"].sum(axis=1, keepdims=True)}
"""
ROOM_FOR_ONE_MIB = 480
"""Less than what two of them hold; beside one it leaves 224 MiB, and all that is ours was measured at 85 MiB."""


@pytest.fixture
def shelf(risk, tmp_path):
    """Makes a workspace of several equal models that are loaded on demand."""

    def make(names, serving="{}", module=""):
        for name in names:
            risk.declare(tmp_path, deadline_ms=20_000)
            if module:
                (tmp_path / "model.py").write_text(module, encoding="utf-8")
                bundle_class(tmp_path, "one", tmp_path / "model.py", "Heavy")
            else:
                risk.write_model(tmp_path, "one", "1", risk.model())
            home = (tmp_path / "integrations" / "risk").rename(tmp_path / "integrations" / name)
            declared = (home / "integration.yaml").read_text(encoding="utf-8")
            declared = declared.replace("integration: risk", f"integration: {name}")
            declared = declared.replace("bundles/one}", "bundles/one, keep_loaded: false}")
            (home / "integration.yaml").write_text(declared, encoding="utf-8")
        (tmp_path / "brownfield.yaml").write_text(f"workspace: risk\nserving: {serving}\n", encoding="utf-8")
        return tmp_path

    return make


def ask(running, name, x=1, **fields):
    """Who answered a request, and its cause."""
    url = f"{running.url}/v1/{name}/predict"
    answer = httpx.post(url, json={"x": [x, 2, 3, 4]}, headers=fields, timeout=60).json()
    return answer["decision"]["source"], answer["decision"]["cause"]


def states(running):
    """State of every model, as the repository index gives it."""
    rows = httpx.post(f"{running.url}/v2/repository/index", json={}).json()
    return {row["name"]: row["state"] for row in rows}


def test_a_model_is_loaded_for_the_first_who_asks_and_all_wait_for_it(shelf, serving):
    """Nothing runs before; then one process, whoever many asked, and each got the model's own answer."""
    running = serving(shelf(["till"]))
    assert running.model_pids() == []
    assert states(running) == {"till": "UNAVAILABLE"}
    assert running.ready_status() == 200
    answers = []
    callers = [threading.Thread(target=lambda: answers.append(ask(running, "till"))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [("model", "")] * 8
    assert len(running.model_pids()) == 1
    assert states(running) == {"till": "READY"}


def test_who_cannot_wait_gets_the_fallback_and_the_model_comes(shelf, serving):
    """A deadline shorter than the loading: answered in time, by the fallback, and later by the model."""
    running = serving(shelf(["till"]))
    assert ask(running, "till", **{"brownfield-timeout-ms": "2"}) in [("constant", "worker"), ("constant", "deadline")]
    until(lambda: ask(running, "till") == ("model", ""))


def test_a_small_memory_holds_one_model_at_a_time(shelf, serving):
    """Each is answered by its model, the other's process is gone, and the figures tell of it."""
    running = serving(shelf(["one", "two"], f"{{memory_mib: {ROOM_FOR_ONE_MIB}}}", HEAVY))
    for name in ("one", "two"):
        until(lambda name=name: ask(running, name) == ("model", ""), tell=lambda: running.log)
        assert len(running.model_pids()) == 1
    assert states(running) == {"one": "UNAVAILABLE", "two": "READY"}
    assert count(running.url, r"brownfield_model_evictions_total\{[^}]*\}") == 1


def test_models_that_are_kept_loaded_start_as_far_as_there_is_memory(shelf, serving):
    """Those declared first; the index says of the others why not, and the fallback answers for them."""
    folder = shelf(["a", "b", "c"], f"{{memory_mib: {ROOM_FOR_ONE_MIB + 280}}}", HEAVY)
    for declared in folder.glob("integrations/*/integration.yaml"):
        declared.write_text(declared.read_text(encoding="utf-8").replace(", keep_loaded: false", ""), encoding="utf-8")
    running = serving(folder)
    assert states(running) == {"a": "READY", "b": "READY", "c": "UNAVAILABLE"}
    assert [ask(running, name) for name in "abc"] == [("model", ""), ("model", ""), ("constant", "worker")]
    left = next(row for row in httpx.post(f"{running.url}/v2/repository/index", json={}).json() if row["name"] == "c")
    assert left["reason"].startswith("it could not be loaded: there is not enough memory: it takes ")
    assert "BF-SRV-MEMORY-EXCEEDED" not in running.log
    assert httpx.post(f"{running.url}/v2/repository/models/a/unload", content=b"{}", timeout=60).status_code == 200
    assert httpx.post(f"{running.url}/v2/repository/models/c/load", timeout=60).status_code == 200
    assert ask(running, "c") == ("model", "")


def test_f07_an_impatient_caller_ends_no_process_that_computes(shelf, serving):
    """F-07: a call of three seconds under a deadline of twenty; who gives up after 50 ms leaves it as it is."""
    slow = HEAVY.replace("import numpy", "import time\nimport numpy").replace(
        "        return {", "        time.sleep(3.0 if inputs['x'][0, 0] == 3 else 0.0)\n        return {"
    )
    running = serving(shelf(["till"], module=slow))
    until(lambda: ask(running, "till") == ("model", ""))
    [model] = running.model_pids()
    assert ask(running, "till", x=3, **{"brownfield-timeout-ms": "50"}) == ("constant", "deadline")
    assert ask(running, "till") == ("model", "")  # once the call that nobody waits for is done
    assert running.model_pids() == [model]


def test_people_load_and_unload(shelf, serving):
    """Unload is the end of the process; it stays so until somebody loads it, and the audit log says who."""
    folder = shelf(["till"])
    running = serving(folder)
    repository = f"{running.url}/v2/repository/models/till"
    assert httpx.post(f"{repository}/load", timeout=60).status_code == 200
    [model] = running.model_pids()
    assert httpx.post(f"{repository}/unload", content=b"{}", timeout=60).status_code == 200
    assert not psutil.pid_exists(model)
    assert ask(running, "till") == ("constant", "worker")
    assert running.model_pids() == []
    [row] = httpx.post(f"{running.url}/v2/repository/index", json={}).json()
    assert row["reason"] == "it was unloaded by loopback"
    assert httpx.post(f"{running.url}/v2/repository/index", json={"ready": True}).json() == []
    assert httpx.post(f"{repository}/load", json={"parameters": {"config": "{}"}}).status_code == 400
    assert httpx.post(f"{repository}/load", timeout=60).status_code == 200
    assert ask(running, "till") == ("model", "")
    with open_store(folder / "var" / "brownfield.db") as store:
        actions = [entry.action for entry in store.audit.entries(after=0, limit=10)]
    assert actions == ["workspace.served", "model.loaded", "model.unloaded", "model.loaded"]


def test_a_reload_brings_back_what_was_unloaded_by_hand_once_it_is_in_force(shelf, serving):
    """One that is refused changes nothing: what an operator took from the callers stays so."""
    folder = shelf(["one", "two"])
    declared = {name: folder / "integrations" / name / "integration.yaml" for name in ("one", "two")}
    for path in declared.values():
        path.write_text(path.read_text("utf-8").replace("keep_loaded: false", "keep_loaded: true"), "utf-8")
    running = serving(folder)
    assert httpx.post(f"{running.url}/v2/repository/models/one/unload", content=b"{}", timeout=60).status_code == 200
    [model] = running.model_pids()
    good = declared["two"].read_text("utf-8")
    declared["two"].write_text(good.replace("bundles/one", "bundles/none"), "utf-8")
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: "BF-SRV-RELOAD-REFUSED" in running.log)
    assert running.model_pids() == [model]
    assert ask(running, "one") == ("constant", "worker")
    declared["two"].write_text(good, "utf-8")
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: ask(running, "one") == ("model", ""), tell=lambda: running.log)
    assert len(running.model_pids()) == 2


def test_f26_a_reload_brings_the_next_version_before_it_ends_the_one_that_is_asked(shelf, serving, risk):
    """F-26: also on demand no caller waits for a load that is not the first; what nobody asked for stays away."""
    folder = shelf(["till", "other"])
    running = serving(folder)
    assert ask(running, "till") == ("model", "")
    for name in ("till", "other"):
        home = (folder / "integrations" / name).rename(folder / "integrations" / "risk")
        risk.write_model(folder, "two", "2", risk.model(weight=2.0), weight=2.0)
        home = home.rename(folder / "integrations" / name)
        path = home / "integration.yaml"
        path.write_text(path.read_text("utf-8").replace("bundles/one", "bundles/two"), "utf-8")
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: "BF-SRV-RELOADED" in running.log, tell=lambda: running.log)
    assert states(running) == {"till": "READY", "other": "UNAVAILABLE"}
    assert ask(running, "till") == ("model", "")
    until(lambda: len(running.model_pids()) == 1)


def test_f38_loading_and_unloading_beside_traffic_fails_no_request(shelf, serving):
    """F-38: the model answers or the fallback does, and no process is left over."""
    running = serving(shelf(["till"]))
    repository, answers, ended = f"{running.url}/v2/repository/models/till", [], threading.Event()

    def traffic():
        while not ended.is_set():
            answers.append(ask(running, "till"))

    caller = threading.Thread(target=traffic)
    caller.start()
    for _ in range(5):
        for action in ("load", "unload"):
            assert httpx.post(f"{repository}/{action}", timeout=60).status_code == 200
    ended.set()
    caller.join()
    assert {source for source, _ in answers} == {"model", "constant"}
    assert running.model_pids() == []


def test_who_has_less_time_than_the_first_loading_takes_does_not_wait_for_it(shelf, serving):
    """How long it takes is known since it was tried: the fallback answers at once while the model comes."""
    slow = HEAVY.replace("import numpy", "import time\nimport numpy").replace(
        "        self.held", "        time.sleep(3.0)\n        self.held"
    )
    running = serving(shelf(["till"], module=slow))
    began = time.monotonic()
    assert ask(running, "till", **{"brownfield-timeout-ms": "2500"}) == ("constant", "worker")
    assert time.monotonic() - began < 2
    until(lambda: ask(running, "till") == ("model", ""))


def test_a_reload_without_memory_for_two_ends_the_model_before_first(shelf, risk, serving):
    """It is said, the fallback answers in between, and the new one is kept loaded."""
    folder = shelf(["till"], f"{{memory_mib: {ROOM_FOR_ONE_MIB}}}", HEAVY)
    declaration = folder / "integrations" / "till" / "integration.yaml"
    declared = declaration.read_text(encoding="utf-8").replace(", keep_loaded: false", "")
    declaration.write_text(declared, encoding="utf-8")
    running = serving(folder)
    [before] = until(running.model_pids)
    risk.declare(folder / "other")
    bundle_class(folder / "other", "two", folder / "model.py", "Heavy").rename(declaration.parent / "bundles" / "two")
    declaration.write_text(declared.replace("bundles/one", "bundles/two"), encoding="utf-8")
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: "BF-SRV-RELOADED" in running.log)
    assert before not in running.model_pids()
    until(lambda: ask(running, "till") == ("model", ""), tell=lambda: running.log)
    assert "BF-SRV-NOT-BESIDE" in running.log
    assert "BF-SRV-NOT-LOADED" not in running.log
    assert "BF-SRV-MEMORY-EXCEEDED" not in running.log
