"""A served workspace under faults: real processes, real signals, callers that never pause."""

import contextlib
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from brownfield.errors import DeclarationError, StoreError
from brownfield.integration import load_workspace
from brownfield.model import open_bundle
from brownfield.security import new_token
from brownfield.serving import Supervisor
from brownfield.store import open_store, read_journal, workspace_lock
from harness.metrics import count
from harness.ports import free_port
from harness.processes import descendants
from harness.python_models import bundle_class
from harness.waiting import until

pytestmark = pytest.mark.full


def by_model(answer):
    return answer["decision"]["source"] == "model"


def by_fallback(answer):
    return answer["decision"]["source"] == "constant"


def test_killing_the_only_worker_fails_no_request(risk, serving, traffic, tmp_path):
    """F-02, R-01, R-03: the fallback answers at once, says why, and the model is back by itself."""
    running = serving(risk.workspace(tmp_path, deadline_ms=5000))
    callers = traffic(running)
    callers.wait_for(by_model)
    os.kill(running.model_pids()[0], signal.SIGKILL)
    callers.wait_for(lambda answer: by_fallback(answer) and answer["prediction"] == {"y": [0.5]})
    callers.wait_for(by_model, since=len(callers.history))
    callers.end()
    assert callers.failures == []
    causes = {answer["decision"]["cause"] for _, _, answer in callers.history}
    assert causes <= {"", "worker"}
    assert {tuple(answer["prediction"]["y"]) for *_, answer in callers.history} == {(10.0,), (0.5,)}


def test_a_hung_worker_is_answered_for_and_replaced(risk, serving, traffic, tmp_path):
    """F-06, R-04: every caller gets an answer by the deadline, the process is ended and another takes its place."""
    running = serving(risk.workspace(tmp_path, deadline_ms=100))
    [pid] = running.model_pids()
    callers = traffic(running)
    callers.wait_for(by_model)
    os.kill(pid, signal.SIGSTOP)
    callers.wait_for(lambda answer: answer["decision"]["cause"] == "deadline", since=len(callers.history))
    until(lambda: pid not in running.model_pids())
    callers.wait_for(by_model, since=len(callers.history))
    callers.end()
    assert callers.failures == []
    late = [ended - began for began, ended, answer in callers.history if answer["decision"]["cause"] == "deadline"]
    assert statistics.median(late) < 1  # a single one may wait for a busy machine


def test_a_drain_fails_no_request(risk, traffic, tmp_path, serving):
    """F-16: on SIGTERM readiness goes first, what was accepted is answered, and the exit status is 0."""
    running = serving(risk.workspace(tmp_path))
    callers = traffic(running)
    callers.wait_for(by_model)
    os.kill(running.pid, signal.SIGTERM)
    assert running.ready_status() in {503, None}
    callers.end()
    assert callers.failures == []
    assert callers.history


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGTERM], id="F-16"),
        pytest.param([signal.SIGINT, signal.SIGTERM], id="F-17", marks=pytest.mark.full),
    ],
)
def test_the_end_leaves_no_process_and_status_0(risk, serving, tmp_path, signals):
    """F-16, F-17: also when a second signal follows at once; nothing is left running, every decision is kept."""
    folder = risk.workspace(tmp_path)
    running = serving(folder)
    models = running.model_pids()
    given = [running.predict([n, 0, 0, 0])["decision"]["id"] for n in range(3)]
    for number in signals:
        running.process.send_signal(number)
    assert running.process.wait(60) == 0, running.log
    assert models
    assert not any(psutil.pid_exists(pid) for pid in models)
    assert not list((folder / "var" / "run").glob("*.sock"))
    assert read_journal(folder / "var" / "journal" / "risk")["decision"].to_pylist() == given
    assert all(json.loads(line)["event"].startswith("BF-") for line in running.log.splitlines())


def ready_status(url):
    """Status of the readiness call, None when nobody listens."""
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=60).status_code
    except httpx.TransportError:
        return None


SLOW = """
import time

class Slow:
    inputs = {"x": ("float32", (None, 4))}
    outputs = {"y": ("float32", (None, 1))}

    def load(self, folder):
        pass

    def predict(self, inputs):
        if inputs["x"][0, 0] == 1:
            time.sleep(600)
        return {"y": inputs["x"].sum(axis=1, keepdims=True)}
"""
PATIENT = """
import sys
from pathlib import Path
from brownfield.integration import load_workspace
from brownfield.serving import Supervisor
spec = load_workspace(Path(sys.argv[1]))
sys.exit(Supervisor(spec, port=0, drain_s=600, on_ready=lambda url: print(url, flush=True)).run())
"""


def ask_until_nobody_listens(url):
    """Ask what takes ten minutes, again each time it is cut off; how often it was."""
    cut = 0
    while True:
        try:
            httpx.post(f"{url}/v1/risk/predict", json={"x": [1, 0, 0, 0]}, timeout=600)
        except httpx.ConnectError:
            return cut
        except httpx.TransportError:
            cut += 1


@pytest.mark.parametrize("accepts", [True, False], ids=["F-17 while it accepts still", "F-17 while it waits"])
def test_f17_a_second_signal_cuts_a_drain_of_ten_minutes_short(risk, tmp_path, accepts):
    """F-17: whoever waits or comes yet is cut off; status 0, journal and audit log are sound, and nothing is left."""
    risk.declare(tmp_path, deadline_ms=600_000)
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    bundle_class(tmp_path, "one", tmp_path / "slow.py", "Slow")
    with subprocess.Popen([sys.executable, "-c", PATIENT, str(tmp_path)], stdout=subprocess.PIPE) as process:
        try:
            url = process.stdout.readline().decode().strip()
            answer = httpx.post(f"{url}/v1/risk/predict", json={"x": [0, 2, 3, 4]}, timeout=60).json()
            assert by_model(answer)
            left = descendants(process.pid)
            with ThreadPoolExecutor(4) as callers:
                asked = [callers.submit(ask_until_nobody_listens, url) for _ in range(4)]
                until(lambda: count(url, r"brownfield_waiting_rows\{[^}]*\}") == 4)
                process.send_signal(signal.SIGTERM)
                until(lambda: ready_status(url) in ({503, None} if accepts else {None}))
                assert not any(each.done() for each in asked)
                process.send_signal(signal.SIGINT)
                assert all(each.result(60) >= 1 for each in asked)
            assert process.wait(20) == 0  # no call that nobody waits for is waited for
        finally:
            process.kill()
    assert psutil.wait_procs(left, timeout=60)[1] == []
    assert read_journal(tmp_path / "var" / "journal" / "risk")["decision"].to_pylist() == [answer["decision"]["id"]]
    with open_store(tmp_path / "var" / "brownfield.db") as store:
        assert store.audit.verify().sound


def test_what_begins_to_answer_is_entered(risk, serving, tmp_path):
    """A start enters the bundle's digest in the registry and the declaration's in the sealed audit log."""
    folder = risk.workspace(tmp_path)
    serving(folder)
    digest = open_bundle(load_workspace(folder).integrations["risk"].file("bundles/one")).digest
    with open_store(folder / "var" / "brownfield.db") as store:
        assert [each.digest for each in store.registry.admissions("risk")] == [digest]
        (entry,) = store.audit.entries(after=0, limit=10)
        assert (entry.action, entry.subject) == ("workspace.served", "risk")
        assert digest in entry.detail
        assert store.audit.verify().sound


def test_f21_health_is_told_on_a_port_of_its_own_while_the_other_is_crowded(risk, serving, tmp_path):
    """F-21: idle connections fill the door, which refuses further ones; the port for health tells of nothing else."""
    folder = risk.workspace(tmp_path)
    port = free_port()
    text = f"workspace: risk\nserving: {{health_port: {port}, gateways: 2, limits: {{connections: 20}}}}\n"
    (folder / "brownfield.yaml").write_text(text, encoding="utf-8")
    running = serving(folder)
    door = ("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    health = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        while running.ready_status() != 503:
            for _ in range(50):
                stack.enter_context(socket.create_connection(door, timeout=10))
        for path in ("live", "ready"):
            assert {httpx.get(f"{health}/v2/health/{path}").status_code for _ in range(10)} == {200}
        for path in ("/metrics", "/docs", "/v1/risk/predict", "/v2/models/risk"):
            assert httpx.get(health + path).status_code == 404
    until(lambda: running.ready_status() == 200)
    os.kill(running.pid, signal.SIGTERM)
    assert running.process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{health}/v2/health/live")


FEW_DESCRIPTORS = """#!/bin/sh
ulimit -Sn 64
exec {python} "$@"
"""


def test_f22_with_few_descriptors_a_workspace_refuses_politely_and_recovers(risk, serving, tmp_path, monkeypatch):
    """F-22: under a bound of 64 descriptors for each process it starts, refuses what is too much, and answers again."""
    folder = risk.workspace(tmp_path / "workspace")
    bounded = tmp_path / "python"
    bounded.write_text(FEW_DESCRIPTORS.format(python=sys.executable))
    bounded.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(bounded))
        running = serving(folder)
    assert resource.prlimit(running.pid, resource.RLIMIT_NOFILE)[0] == 64
    door = ("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    with contextlib.ExitStack() as crowd:
        while running.ready_status() != 503:
            crowd.enter_context(socket.create_connection(door, timeout=10))
    until(lambda: running.ready_status() == 200)
    assert by_model(running.predict([1, 2, 3, 4]))
    assert "BF-SRV-CHILD" not in running.log


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77
exec "$2" -m brownfield serve "$1" --port 0
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a read-only mount takes root")
def test_f63_a_read_only_file_system_is_served_from(risk, tmp_path):
    """F-63: with a verified bundle there the model answers; nothing is kept, as the log says, and nothing is left."""
    folder, scratch = tmp_path / "workspace", tmp_path / "scratch"
    scratch.mkdir()
    risk.workspace(folder)
    command = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(folder), sys.executable]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        events = {}
        for line in process.stderr:
            told = json.loads(line)
            events[told["event"]] = told
            if told["event"] == "BF-SRV-SERVING":
                break
        served = events["BF-SRV-SERVING"]
        url = f"http://{served['address']}:{served['port']}"
        assert by_model(httpx.post(f"{url}/v1/risk/predict", json={"x": [1, 2, 3, 4]}).json())
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        assert list(scratch.iterdir())
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert "BF-SRV-SERVE-ONLY" in events
    assert not (folder / "var").exists()
    assert list(scratch.iterdir()) == []


def test_f63_a_store_that_cannot_be_written_does_not_stop_the_answers(risk, serving, tmp_path):
    """F-63: what cannot be entered is told in the log, and the model answers."""
    folder = risk.workspace(tmp_path)
    (folder / "var" / "brownfield.db").mkdir(parents=True)
    running = serving(folder)
    assert running.predict([1, 2, 3, 4])["decision"]["source"] == "model"
    assert "BF-SRV-HISTORY-LOST" in running.log


def test_declared_tokens_are_asked_for(risk, serving, tmp_path, monkeypatch):
    """S-01: on loopback as well, once there is one; health stays open."""
    folder = risk.workspace(tmp_path)
    token = new_token().reveal()
    monkeypatch.setenv("TILL_TOKEN", token)
    text = "workspace: risk\naccess: {tokens: [{name: till, role: caller, token: {env: TILL_TOKEN}}]}\n"
    (folder / "brownfield.yaml").write_text(text, encoding="utf-8")
    running = serving(folder)
    url = f"{running.url}/v1/risk/predict"
    assert httpx.post(url, json={"x": [1, 2, 3, 4]}).status_code == 401
    assert httpx.post(url, json={"x": [1, 2, 3, 4]}, headers={"Authorization": "Bearer bf_wrong"}).status_code == 401
    answer = httpx.post(url, json={"x": [1, 2, 3, 4]}, headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["prediction"] == {"y": [10.0]}
    assert running.ready_status() == 200
    assert token not in running.log


def test_a_listener_beyond_loopback_needs_a_token(risk, tmp_path):
    """S-01: refused before anything listens, with what to do."""
    risk.declare(tmp_path, model_path=None)
    with pytest.raises(DeclarationError, match=r"access\.tokens"):
        Supervisor(load_workspace(tmp_path), host="0.0.0.0", port=0).run()  # noqa: S104 (it is refused)


def test_a_port_that_is_taken_is_named(risk, tmp_path):
    """With what to do about it, and nothing is left running."""
    risk.declare(tmp_path, model_path=None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(DeclarationError, match="a free address"):
        Supervisor(load_workspace(tmp_path), port=taken.getsockname()[1]).run()


def test_a_second_supervisor_is_refused(risk, tmp_path):
    """Two on one workspace would write the same journals; the words say what to do."""
    risk.declare(tmp_path, model_path=None)
    with workspace_lock(tmp_path), pytest.raises(StoreError, match="being served already"):
        Supervisor(load_workspace(tmp_path), port=0).run()


def test_a_reload_is_whole_or_not_at_all(risk, serving, traffic, tmp_path):
    """F-72, R-07: a broken declaration or bundle changes nothing; a good one is swapped in without a failed request."""
    folder = risk.workspace(tmp_path, deadline_ms=5000)  # a stall of the machine is no failed reload
    running = serving(folder)
    callers = traffic(running, callers=2)
    callers.wait_for(by_model)
    declaration = folder / "integrations" / "risk" / "integration.yaml"
    good = declaration.read_text(encoding="utf-8")

    declaration.write_text(good + "colour: red\n", encoding="utf-8")
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: running.log.count("BF-SRV-RELOAD-REFUSED") == 1)
    risk.declare(folder, model_path="bundles/none", deadline_ms=5000)
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: running.log.count("BF-SRV-RELOAD-REFUSED") == 2)
    callers.wait_for(by_model, since=len(callers.history))
    assert {answer["decision"]["version"] for *_, answer in callers.history} == {"1"}

    risk.write_model(folder, "two", "2", risk.model(2.0), weight=2.0)
    risk.declare(folder, model_path="bundles/two", deadline_ms=5000)
    os.kill(running.pid, signal.SIGHUP)
    swapped_at = callers.wait_for(lambda answer: answer["decision"]["version"] == "2")
    until(lambda: any(began > swapped_at for began, *_ in callers.history))
    callers.end()
    assert callers.failures == []
    assert not [answer["decision"] for *_, answer in callers.history if not by_model(answer)]
    answers = {(answer["decision"]["version"], *answer["prediction"]["y"]) for *_, answer in callers.history}
    assert answers == {("1", 10.0), ("2", 20.0)}
    assert all(answer["decision"]["version"] == "2" for began, _, answer in callers.history if began > swapped_at)
    until(lambda: len(running.model_pids()) == 1)  # the old version's process is gone


def test_a_bundle_that_does_not_answer_as_recorded_is_not_served(risk, serving, tmp_path):
    """F-27: the probe refuses it before any caller sees it; the fallback answers."""
    risk.write_model(tmp_path, "one", "1", risk.model(weight=3.0), weight=1.0)
    risk.declare(tmp_path)
    running = serving(tmp_path)
    answer = running.predict([1, 2, 3, 4])
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("constant", "no_model")


def test_a_model_that_answers_nan_is_answered_for(risk, serving, tmp_path):
    """F-09: the logarithm of a negative number never reaches a caller."""
    risk.write_model(tmp_path, "one", "1", risk.model(0.25, then="Log"), weight=0.0, rows=1)
    risk.declare(tmp_path)
    running = serving(tmp_path)
    assert by_model(running.predict([1, 1, 1, 1]))
    answer = running.predict([-1, 0, 0, 0])
    assert answer["prediction"] == {"y": [0.5]}
    assert answer["decision"]["cause"] == "output"


def test_without_a_model_the_fallback_serves_at_once(risk, serving, tmp_path):
    """Contract before model."""
    risk.declare(tmp_path, model_path=None)
    running = serving(tmp_path)
    answer = running.predict([1, 2, 3, 4])
    assert answer["decision"] | {"id": ""} == {
        "id": "",
        "integration": "risk",
        "source": "constant",
        "version": "",
        "reason": "FALLBACK",
        "degraded": True,
        "contract": "risk@1.0.0",
        "cause": "no_model",
    }
