"""Several gateways on one port: killed ones come back, reloads and drains reach all, figures are of all."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from brownfield.serving import background, serve_workspace
from brownfield.store import read_journal
from harness.metrics import count
from harness.processes import descendants
from harness.waiting import until

pytestmark = pytest.mark.full


DEADLINE_MS = 5000  # a stall of the machine is no failed promotion


def by_model(answer):
    return answer["decision"]["source"] == "model"


@pytest.fixture
def two(risk, serving, tmp_path):
    """A workspace served by two gateways."""
    folder = risk.workspace(tmp_path, deadline_ms=DEADLINE_MS)
    (folder / "brownfield.yaml").write_text("workspace: risk\nserving: {gateways: 2}\n", encoding="utf-8")
    return serving(folder), folder


def test_f15_a_killed_gateway_comes_back_and_the_port_is_never_lost(two):
    """F-15: what was in flight there is reset, everybody else is answered, no worker is lost and none is left over."""
    running, _ = two
    models = running.model_pids()
    failed, answered = [], []

    def ask(_):
        with httpx.Client(timeout=30) as client:
            for _ in range(40):
                try:
                    answer = client.post(f"{running.url}/v1/risk/predict", json={"x": [1, 2, 3, 4]})
                except httpx.ConnectError as error:
                    failed.append(repr(error))
                except httpx.TransportError:
                    continue  # it was in flight in the killed process
                else:
                    answered.append(answer.status_code)

    with ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(ask, n) for n in range(4)]
        for name in ("bf-gateway-0", "bf-gateway-1", "bf-gateway-0"):
            killed = until(lambda name=name: running.pid_of(name))
            os.kill(killed, signal.SIGKILL)
            until(lambda name=name, killed=killed: running.pid_of(name) not in (0, killed))
        for each in asked:
            each.result()
    assert failed == []
    assert set(answered) == {200}
    assert running.model_pids() == models
    until(lambda: count(running.url, "brownfield_gateways") == 2)
    assert by_model(running.predict([1, 2, 3, 4]))


def test_f15_a_gateway_that_somebody_else_told_to_end_comes_back_and_the_port_is_open(two):
    """F-15: as watchers of memory do; a drain lets nobody begin a connection to a port that all gateways share."""
    running, _ = two
    ended = running.pid_of("bf-gateway-0")
    os.kill(ended, signal.SIGTERM)
    until(lambda: running.pid_of("bf-gateway-0") not in (0, ended))
    assert all(by_model(running.predict([1, 2, 3, 4])) for _ in range(10))


def test_a_killed_manager_comes_back_while_the_gateways_answer(two, traffic):
    """Its model processes end with it; the fallback answers until they are back, and no request fails."""
    running, _ = two
    callers = traffic(running)
    callers.wait_for(by_model)
    [model] = until(running.model_pids)
    os.kill(running.pid_of("bf-manager"), signal.SIGKILL)
    callers.wait_for(lambda answer: not by_model(answer))
    until(lambda: not psutil.pid_exists(model))
    until(lambda: len(running.model_pids()) == 1)
    until(lambda: by_model(callers.history[-1][2]))
    callers.end()
    assert callers.failures == []


def test_f15_a_killed_supervisor_leaves_nothing_running(two):
    """F-15: gateways, manager and models see the end of its pipe."""
    running, folder = two
    left = descendants(running.pid)
    assert len(left) == 5  # two gateways, the manager, the zygote, the model
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait(10)
    _, alive = psutil.wait_procs(left, timeout=20)
    assert alive == []
    with serve_workspace(folder) as again:
        assert httpx.get(f"{again.url}/v2/health/ready").status_code == 200


def test_r07_a_promotion_reaches_every_gateway_without_a_failed_request(two, risk, traffic):
    """R-07: after the reload no gateway gives an answer of the old version, and a gateway forked later begins anew."""
    running, folder = two
    callers = traffic(running, callers=4)
    callers.wait_for(by_model)
    risk.write_model(folder, "two", "2", risk.model(2.0), weight=2.0)
    risk.declare(folder, model_path="bundles/two", deadline_ms=DEADLINE_MS)
    os.kill(running.pid, signal.SIGHUP)
    callers.wait_for(lambda answer: answer["decision"]["version"] == "2")
    until(lambda: "BF-SRV-RELOADED" in running.log)
    reloaded_at = time.monotonic()
    until(lambda: sum(began > reloaded_at for began, *_ in callers.history) > 100)
    callers.end()
    assert callers.failures == []
    assert not [answer["decision"] for *_, answer in callers.history if not by_model(answer)]
    assert {answer["decision"]["version"] for began, _, answer in callers.history if began > reloaded_at} == {"2"}
    (folder / "integrations" / "risk" / "integration.yaml").write_text("nonsense", encoding="utf-8")
    for name in ("bf-gateway-0", "bf-gateway-1"):
        killed = running.pid_of(name)
        os.kill(killed, signal.SIGKILL)
        until(lambda name=name, killed=killed: running.pid_of(name) not in (0, killed))
    until(lambda: count(running.url, "brownfield_gateways") == 2)
    assert running.predict([1, 2, 3, 4])["decision"]["version"] == "2"


def test_r07_a_drain_of_two_gateways_fails_no_request(two, traffic):
    """R-07, F-16: whichever gateway a caller is connected to."""
    running, _ = two
    callers = traffic(running, callers=8)
    callers.wait_for(by_model)
    os.kill(running.pid, signal.SIGTERM)
    assert running.process.wait(30) == 0
    callers.end()
    assert callers.failures == []


def test_figures_are_those_of_all_gateways(two):
    """A scrape, whichever gateway takes it, counts every answer once; so do statistics."""
    running, _ = two
    for _ in range(30):
        running.predict([1, 2, 3, 4])  # each on a connection of its own
    assert count(running.url, r"brownfield_answers_total\{[^}]*\}") == 30
    assert count(running.url, r'brownfield_request_duration_seconds_count\{integration="risk"\}') == 30
    [told] = httpx.get(f"{running.url}/v2/models/risk/stats").json()["model_stats"]
    assert told["inference_stats"]["success"]["count"] == 30
    assert told["inference_stats"]["fail"] == {"count": 0, "ns": 0}
    assert told["inference_stats"]["success"]["ns"] > 0
    until(lambda: count(running.url, r'brownfield_model_memory_bytes\{integration="risk"\}') > 2**20, 60)
    assert count(running.url, r'brownfield_model_threads\{integration="risk"\}') >= 1
    assert count(running.url, r'brownfield_model_pool_threads\{integration="risk",pool="onnxruntime"\}') == 1
    assert count(running.url, r'brownfield_process_memory_bytes\{process="gateways"\}') > 2**20


def test_f15_what_a_killed_gateway_had_counted_stays_counted(two):
    """F-15: no counter falls, and what is asked afterwards is added."""
    running, _ = two
    for _ in range(30):
        running.predict([1, 2, 3, 4])
    assert count(running.url, r"brownfield_answers_total\{[^}]*\}") == 30
    assert httpx.get(f"{running.url}/v2/models/risk/stats").json()["model_stats"][0]["execution_count"] == 30
    for name in ("bf-gateway-0", "bf-gateway-1"):
        killed = running.pid_of(name)
        os.kill(killed, signal.SIGKILL)
        until(lambda name=name, killed=killed: running.pid_of(name) not in {0, killed})
        until(lambda: count(running.url, "brownfield_gateways") == 2)
        assert count(running.url, r"brownfield_answers_total\{[^}]*\}") == 30
    running.predict([1, 2, 3, 4])
    assert count(running.url, r"brownfield_answers_total\{[^}]*\}") == 31
    assert httpx.get(f"{running.url}/v2/models/risk/stats").json()["model_stats"][0]["execution_count"] == 31


def test_a_gateway_imports_no_pandas(two, traffic):
    """Arrow would, where it is installed, when the first decisions are written: memory and a pause for nothing."""
    running, folder = two
    callers = traffic(running)
    callers.wait_for(by_model)
    until(lambda: any((folder / "var" / "journal").rglob("*.arrows*")))
    callers.end()
    for name in ("bf-gateway-0", "bf-gateway-1"):
        assert "pandas" not in Path(f"/proc/{running.pid_of(name)}/maps").read_text(encoding="utf-8")
    until(lambda: read_journal(folder / "var" / "journal" / "risk").num_rows)


EDITED = """
from brownfield.serving.supervisor import Supervisor

take_over = Supervisor._take_over

def take_over_what_was_edited(self, digest):
    declaration = self._spec.folder / "integrations" / "risk" / "integration.yaml"
    declaration.write_text(declaration.read_text() + "purpose: edited\\n")
    take_over(self, digest)

Supervisor._take_over = take_over_what_was_edited
"""


def test_gateways_that_know_more_than_supervisor_and_manager_begin_anew(risk, serving, tmp_path, monkeypatch):
    """R-07: the manager is killed after a reload that the supervisor did not take over; the model is back."""
    monkeypatch.setattr(background, "_PROGRAM", EDITED + background._PROGRAM)
    folder = risk.workspace(tmp_path, deadline_ms=DEADLINE_MS)
    (folder / "brownfield.yaml").write_text("workspace: risk\nserving: {gateways: 2}\n", encoding="utf-8")
    running = serving(folder)
    names = ("bf-gateway-0", "bf-gateway-1")
    before = [running.pid_of(name) for name in names]
    risk.declare(folder, deadline_ms=DEADLINE_MS + 1)
    (folder / "brownfield.yaml").write_text("workspace: risk\nserving: {gateways: 2}\n", encoding="utf-8")
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: "BF-SRV-RELOADED" in running.log and "BF-SRV-NOT-TAKEN-OVER" in running.log)
    os.kill(running.pid_of("bf-manager"), signal.SIGKILL)
    until(lambda: not {running.pid_of(name) for name in names} & {0, *before}, tell=lambda: running.log)
    until(lambda: running.log.count('"BF-SRV-SERVING"') == 2)
    until(lambda: running.ready_status() == 200)
    assert all(by_model(running.predict([1, 2, 3, 4])) for _ in range(10))


IMPATIENT = """
from brownfield.serving import children
children._SILENT_LOOKS = 2
"""


@pytest.mark.parametrize("hung", ["bf-manager", "bf-gateway-1"])
def test_f18_a_process_that_hangs_is_replaced(risk, serving, tmp_path, monkeypatch, hung):
    """F-18: a manager, and a gateway that has no manager to find it; what is only slow to start is left alone."""
    monkeypatch.setattr(background, "_PROGRAM", IMPATIENT + background._PROGRAM)
    folder = risk.workspace(tmp_path, deadline_ms=DEADLINE_MS)
    (folder / "brownfield.yaml").write_text("workspace: risk\nserving: {gateways: 2}\n", encoding="utf-8")
    running = serving(folder)
    time.sleep(5)  # each has told that it is alive
    before = running.pid_of(hung)
    os.kill(before, signal.SIGSTOP)
    if hung != "bf-manager":
        os.kill(running.pid_of("bf-manager"), signal.SIGKILL)
    until(lambda: running.pid_of(hung) not in {0, before}, tell=lambda: running.log)
    until(lambda: running.log.count('"BF-SRV-SERVING"') == 2)
    until(lambda: all(by_model(running.predict([1, 2, 3, 4])) for _ in range(10)))
    said = [json.loads(line) for line in running.log.splitlines()]
    assert [each["child"] for each in said if each["event"] == "BF-SRV-CHILD-HUNG"] == [hung]


def test_f72_a_reload_that_is_asked_for_without_a_manager_is_made_by_the_next(two):
    """F-72: whoever sends the signal is told that it waits, and it is not lost."""
    running, _ = two
    os.kill(running.pid_of("bf-manager"), signal.SIGKILL)
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: "BF-SRV-RELOADED" in running.log, tell=lambda: running.log)
    assert running.log.count("BF-SRV-RELOAD-WAITS") == 1
    until(lambda: by_model(running.predict([1, 2, 3, 4])))


def test_what_was_unloaded_by_hand_stays_so_over_the_end_of_the_manager(two):
    """Whoever unloaded it is still named, and a load by hand brings it back."""
    running, _ = two
    model = f"{running.url}/v2/repository/models/risk"
    assert httpx.post(f"{model}/unload", json={}, timeout=60).status_code == 200
    os.kill(running.pid_of("bf-manager"), signal.SIGKILL)
    until(lambda: running.log.count('"BF-SRV-SERVING"') == 2, tell=lambda: running.log)
    assert running.model_pids() == []
    [row] = httpx.post(f"{running.url}/v2/repository/index", json={}).json()
    assert (row["state"], row["reason"]) == ("UNAVAILABLE", "it was unloaded by loopback")
    assert not by_model(running.predict([1, 2, 3, 4]))
    assert httpx.post(f"{model}/load", json={}, timeout=60).status_code == 200
    until(lambda: by_model(running.predict([1, 2, 3, 4])))
