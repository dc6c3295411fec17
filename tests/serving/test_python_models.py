"""Python classes that are served: what they do wrong costs a fallback, never a caller and never the host."""

import json
import os
import signal
import stat
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from brownfield.host import data_mib
from brownfield.model import Environments
from harness.harmful import HARM
from harness.python_models import bundle_class, bundle_harmful
from harness.waiting import until
from harness.wheels import downloaded, lock_of

pytestmark = pytest.mark.full

VERSIONED = """
import numpy as np

class Versioned:
    inputs = {"x": ("float32", (None, 4))}
    outputs = {"y": ("float32", (None, 1))}

    def load(self, folder):
        self.version = np.float32(".".join(np.__version__.split(".")[:2]))

    def predict(self, inputs):
        return {"y": np.full((len(inputs["x"]), 1), self.version)}
"""

STEADY = """
class Steady:
    inputs = {"x": ("float32", (None, 4))}
    outputs = {"y": ("float32", (None, 1))}

    def load(self, folder):
        pass

    def predict(self, inputs):
        return {"y": inputs["x"].sum(axis=1, keepdims=True)}
"""

FRAGILE = "import os\n" + STEADY.replace(
    "        return", "        if inputs['x'][0, 0] == 1:\n            os.abort()\n        return"
)


MIXING = STEADY.replace("keepdims=True)}", "keepdims=True)[:: -1 if len(inputs['x']) > 3 else 1].copy()}")


def by_model(answer):
    return answer["decision"]["source"] == "model"


def events(running, name):
    return [line for line in map(json.loads, running.log.splitlines()) if line.get("event") == name]


def gateways(running):
    """How many gateways answer the manager; 0 while the one that is asked has just begun."""
    text = httpx.get(f"{running.url}/metrics").text
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("brownfield_gateways ")), 0)


def wait_until_back(running, callers):
    callers.wait_for(by_model, since=len(callers.history))


@pytest.fixture
def harmful_workspace(risk, tmp_path):
    """Serves the sum of four numbers, and harm on demand, with the constant 0.5 behind it."""

    def make(**target) -> Path:
        risk.declare(tmp_path, deadline_ms=1000)
        bundle_harmful(tmp_path, **target)
        declaration = tmp_path / "integrations" / "risk" / "integration.yaml"
        declaration.write_text(declaration.read_text() + "constraints: {memory_mib: 400}\n")
        return tmp_path

    return make


def test_s10_a_hostile_class_gets_nowhere_and_is_seen(harmful_workspace, serving, tmp_path):
    """S-10: key, sockets, foreign files, parent, tracing: all fail, the fallback answers, the log names the kinds."""
    key, outside = tmp_path / "key.pem", tmp_path / "outside"
    key.write_text("secret-4711")
    outside.mkdir(mode=0o700)
    stamped_at = key.stat().st_mtime_ns
    running = serving(harmful_workspace(target=(str(key), str(outside))))
    answer = running.predict([HARM["escape"], 0, 0, 0])
    assert answer["prediction"] == {"y": [0.5]}
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("constant", "model")
    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700
    assert key.stat().st_mtime_ns == stamped_at
    assert psutil.pid_exists(running.pid)
    assert by_model(running.predict([1, 2, 3, 4]))
    told = {event["attempt"] for event in events(running, "BF-WRK-ATTEMPT")}
    [failed] = events(running, "BF-GTW-MODEL-FAILED")
    assert (failed["version"], failed["reason"]) == ("risk one", "the model answered with an error: PermissionError")
    assert told == {f"{kind} while answering" for kind in ("network", "process", "read", "signal", "trace", "write")}
    assert "4711" not in running.log


@pytest.mark.parametrize(
    ("harms", "cause"),
    [
        (("segfault", "abort", "exit", "memory", "frames"), "worker"),
        (("nan", "shape", "rows", "text", "leave", "forks", "threads"), "model"),
        (("loop",), "deadline"),
    ],
    ids=["F-08-F-12-F-14-ends", "F-09-F-10-F-13-lives", "F-06-hangs"],
)
def test_harm_costs_a_fallback_and_no_caller(harmful_workspace, serving, traffic, harms, cause):
    """F-06, F-08 to F-10, F-12 to F-14: the caller gets the fallback, all others an answer, the model comes back."""
    running = serving(harmful_workspace())
    callers = traffic(running)
    callers.wait_for(by_model)
    causes = {"memory": {"worker", "model", "deadline"}, "nan": {"output"}, "threads": {"worker", "model", "deadline"}}
    assert running.predict([HARM["garbage"], 0, 0, 0])["prediction"] == {"y": [906.0]}
    for harm in harms:
        answer = running.predict([HARM[harm], 0, 0, 0])
        assert answer["prediction"] == {"y": [0.5]}, harm
        assert answer["decision"]["cause"] in causes.get(harm, {cause}), harm
        wait_until_back(running, callers)
    callers.end()
    assert callers.failures == []
    assert httpx.get(f"{running.url}/v2/models/risk").json()["platform"] == "python"
    assert {tuple(answer["prediction"]["y"]) for *_, answer in callers.history} <= {(10.0,), (0.5,)}
    assert running.ready_status() == 200
    assert "4711" not in running.log


def test_f10_a_model_that_mixes_rows_is_found_while_it_is_served(risk, serving, tmp_path):
    """F-10: golden records do not show it; the first call that it mixes is discarded, and it is asked no more."""
    risk.declare(tmp_path, deadline_ms=5000)
    (tmp_path / "mixing.py").write_text(MIXING)
    bundle_class(tmp_path, "one", tmp_path / "mixing.py", "Steady")
    running = serving(tmp_path)
    assert by_model(running.predict([1, 2, 3, 4]))
    asked = [{"x": [number, 0, 0, 0]} for number in range(5)]
    answer = httpx.post(f"{running.url}/v1/risk/predict", json=asked).json()
    assert answer["predictions"] == [{"y": [0.5]}] * 5
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("constant", "worker")
    [told] = events(running, "BF-WRK-ROWS-MIXED")
    assert told["version"] == "risk one"
    assert not by_model(running.predict([1, 2, 3, 4]))
    assert 'brownfield_model_ready{integration="risk"} 0' in httpx.get(f"{running.url}/metrics").text


def test_f11_a_model_that_leaks_is_replaced_and_nobody_fails(harmful_workspace, serving, traffic):
    """F-11: 10 MiB for each request, until it has taken nearly all it may; another takes over, and fallbacks rest."""
    running = serving(harmful_workspace())
    [before] = running.model_pids()
    callers = traffic(running)
    callers.wait_for(by_model)
    ends = time.monotonic() + 120
    while before in running.model_pids() and data_mib(before) < 0.92 * 400:  # it may be replaced on the way
        assert time.monotonic() < ends
        assert running.predict([HARM["leak"], 0, 0, 0])["prediction"]["y"] in ([915.0], [0.5])
    wait_until_back(running, callers)
    until(lambda: events(running, "BF-SRV-RECYCLED"))
    until(lambda: len(running.model_pids()) == 1 and running.model_pids() != [before])
    seen = len(callers.history)
    callers.wait_for(by_model, since=seen)
    callers.end()
    assert callers.failures == []
    assert {answer["decision"]["source"] for *_, answer in callers.history} == {"model"}
    assert running.model_pids() != [before]
    assert events(running, "BF-WRK-QUARANTINED") == []


@pytest.mark.parametrize("harm", ["abort", "loop"], ids=["F-05-crash", "F-05-hang"])
def test_f05_a_poison_request_is_blocked_and_others_keep_their_model(harmful_workspace, serving, traffic, harm):
    """F-05: sent again and again it ends a process once in company and twice alone, then it is refused unasked."""
    running = serving(harmful_workspace())
    callers = traffic(running)
    callers.wait_for(by_model)
    poison, causes = [HARM[harm], 0, 0, 0], []
    for _ in range(20):
        answer = running.predict(poison)
        assert answer["prediction"] == {"y": [0.5]}
        causes.append(answer["decision"]["cause"])
        if causes[-1] == "poison":
            break
        wait_until_back(running, callers)
    assert causes[-1] == "poison", causes
    assert [event["worker"] for event in events(running, "BF-WRK-POISON")] == ["risk one"]
    wait_until_back(running, callers)
    deaths = len(events(running, "BF-WRK-ENDED"))
    assert deaths <= 3
    refused_from = len(callers.history)
    assert {running.predict(poison)["decision"]["cause"] for _ in range(20)} == {"poison"}
    wait_until_back(running, callers)
    callers.end()
    assert callers.failures == []
    assert len(events(running, "BF-WRK-ENDED")) == deaths
    assert {answer["decision"]["source"] for *_, answer in callers.history[refused_from:]} == {"model"}


def test_f05_a_poison_request_is_blocked_on_every_gateway(harmful_workspace, serving, traffic):
    """F-05: with three gateways, asked on a new connection each time, and also on a gateway that began afterwards."""
    folder = harmful_workspace()
    (folder / "brownfield.yaml").write_text("workspace: risk\nserving: {gateways: 3}\n")
    running = serving(folder)
    callers = traffic(running)
    callers.wait_for(by_model)
    poison, causes = [HARM["abort"], 0, 0, 0], []
    while causes.count("poison") < 6 and len(causes) < 30:
        causes.append(running.predict(poison)["decision"]["cause"])
        if causes[-1] != "poison":
            wait_until_back(running, callers)
    assert causes.count("worker") <= 4, causes
    assert causes[-6:] == ["poison"] * 6
    deaths = len(events(running, "BF-WRK-ENDED"))
    for name in ("bf-gateway-0", "bf-gateway-1", "bf-gateway-2"):
        killed = running.pid_of(name)
        os.kill(killed, signal.SIGKILL)
        until(lambda name=name, killed=killed: running.pid_of(name) not in (0, killed) and gateways(running) == 3)
    assert {running.predict(poison)["decision"]["cause"] for _ in range(12)} <= {"poison"}
    assert len(events(running, "BF-WRK-ENDED")) == deaths


def test_incompatible_locks_serve_side_by_side_built_offline(risk, serving, tmp_path):
    """One integration on numpy 1.26, one on numpy 2.4, each in its environment, built from a folder of wheels."""
    wheels = tmp_path / "wheels"
    old, new = downloaded("numpy", "1.26.4", wheels), downloaded("numpy", "2.4.2", wheels)
    (tmp_path / "versioned.py").write_text(VERSIONED)
    workspace = tmp_path / "workspace"
    risk.declare(workspace, model_path="bundles/old")
    home = workspace / "integrations"
    environments = Environments(workspace / "var" / "environments")
    for name, wheel in (("old", old), ("new", new)):
        lock = lock_of(wheel)
        environments.build(lock, wheels=wheels)
        bundle_class(workspace, name, tmp_path / "versioned.py", "Versioned", lock=lock, environments=environments)
    (home / "risk2" / "bundles").mkdir(parents=True)
    (home / "risk" / "bundles" / "new").rename(home / "risk2" / "bundles" / "new")
    text = (home / "risk" / "integration.yaml").read_text()
    (home / "risk2" / "integration.yaml").write_text(
        text.replace("integration: risk", "integration: risk2").replace("bundles/old", "bundles/new")
    )
    (home / "risk2" / "contract.odcs.yaml").write_text((home / "risk" / "contract.odcs.yaml").read_text())
    running = serving(workspace)
    answers = {
        name: httpx.post(f"{running.url}/v1/{name}/predict", json={"x": [1, 2, 3, 4]}).json()
        for name in ("risk", "risk2")
    }
    assert all(map(by_model, answers.values()))
    assert np.isclose(answers["risk"]["prediction"]["y"][0], 1.26)
    assert np.isclose(answers["risk2"]["prediction"]["y"][0], 2.4)


def test_a_missing_environment_is_said_and_the_fallback_answers(risk, serving, tmp_path, monkeypatch):
    """Serving never builds: the log says what to run, and callers get the fallback."""
    (tmp_path / "versioned.py").write_text(VERSIONED)
    workspace = tmp_path / "workspace"
    risk.declare(workspace)
    lock = b"numpy==2.4.2 --hash=sha256:" + b"0" * 64
    monkeypatch.setattr(Environments, "find", lambda *_: None)
    bundle_class(
        workspace, "one", tmp_path / "versioned.py", "Versioned", lock=lock, environments=Environments(tmp_path)
    )
    running = serving(workspace)
    answer = running.predict([1, 2, 3, 4])
    assert answer["decision"]["source"] == "constant"
    [refusal] = events(running, "BF-SRV-MODEL-REFUSED")
    assert "brownfield bundle" in refusal["reason"]
    assert "--build-environment" in refusal["reason"]
    assert not (workspace / "var" / "environments").exists()


def test_f04_a_crash_loop_is_quarantined_and_the_previous_version_serves(risk, serving, tmp_path):
    """F-04: version 2 dies on what everybody asks; before and after its quarantine version 1 answers, and says so."""
    risk.declare(tmp_path, deadline_ms=2000, model_path="bundles/1")
    declaration = tmp_path / "integrations" / "risk" / "integration.yaml"
    text = declaration.read_text().replace("chain: [", "chain: [previous_version, ")
    declaration.write_text(text)
    for version, module in (("1", STEADY), ("2", FRAGILE)):
        (tmp_path / f"model{version}.py").write_text(module)
        bundle_class(tmp_path, version, tmp_path / f"model{version}.py", "Steady")
    running = serving(tmp_path)
    assert running.predict([1, 2, 3, 4])["decision"]["version"] == "1"
    declaration.write_text(text.replace("bundles/1", "bundles/2"))
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: events(running, "BF-SRV-RELOADED"), 90)
    assert running.predict([0, 2, 3, 4])["decision"]["version"] == "2"
    asked, ends = 0, time.monotonic() + 90
    while not events(running, "BF-WRK-QUARANTINED"):
        assert time.monotonic() < ends
        asked += 1
        answer = running.predict([1, asked, 0, 0])
        assert answer["prediction"] == {"y": [1.0 + asked]}, answer
        assert (answer["decision"]["source"], answer["decision"]["version"]) == ("previous_version", "1")
        time.sleep(0.05)
    answer = running.predict([0, 2, 3, 4])
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("previous_version", "worker")
    assert running.ready_status() == 200
