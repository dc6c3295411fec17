"""What must hold of a served workspace, seen from outside: decisions, timing, tokens, journal, reload, network."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import product

import httpx
import psutil
import pytest

from brownfield.security import new_token
from brownfield.serving.gateway import ROUTES
from brownfield.store import read_journal
from harness.waiting import until

pytestmark = pytest.mark.full

NAME = "store-recommendations"
PREDICT = f"/v1/{NAME}/predict"
INFER = f"/v2/models/{NAME}/infer"
BASKET = {"store_id": 367, "items": ["BANANAS", "FLUID MILK WHITE ONLY"]}
TENSORS = {
    "inputs": [
        {"name": "store_id", "shape": [1], "datatype": "INT64", "data": [367]},
        {"name": "items", "shape": [1, 2], "datatype": "BYTES", "data": BASKET["items"]},
    ]
}


@pytest.fixture(scope="module")
def client(retail):
    """Keeps one connection, as a till would."""
    with httpx.Client(base_url=retail.url, timeout=10) as client:
        yield client


CALLS = {
    "one record": ("POST", PREDICT, BASKET),
    "many records": ("POST", PREDICT, [BASKET] * 50),
    "V2": ("POST", INFER, TENSORS),
    "a refusal": ("POST", PREDICT, {"store_id": "x"}),
    "a V2 refusal": ("POST", INFER, {}),
    "no such path": ("GET", "/nix", None),
    "no such method": ("DELETE", PREDICT, None),
    "health": ("GET", "/v2/health/live", None),
    "metadata": ("GET", f"/v2/models/{NAME}", None),
    "docs": ("GET", "/docs", None),
    "metrics": ("GET", "/metrics", None),
}


@pytest.mark.parametrize(("method", "path", "body"), CALLS.values(), ids=CALLS.keys())
def test_server_timing_sums_to_the_whole(client, timing, method, path, body):
    """On every kind of answer and refusal the parts of ``Server-Timing`` are its whole."""
    answer = client.request(method, path, json=body) if body is not None else client.request(method, path)
    total, parts = timing(answer.headers["server-timing"])
    assert total > 0
    assert parts == pytest.approx(total, abs=0.0005)


def test_every_answer_carries_its_decision(client):
    """Version, reason, degraded and contract stand on both doors, the same identifier in header and body."""
    named = client.post(PREDICT, json=BASKET)
    decision = named.json()["decision"]
    assert decision["id"] == named.headers["brownfield-decision"]
    assert (decision["source"], decision["degraded"], decision["cause"]) == ("model", False, "")
    assert decision["contract"] == f"{NAME}@1.0.0"
    assert decision["version"]
    v2 = client.post(INFER, json=TENSORS)
    parameters = v2.json()["parameters"]
    assert parameters["brownfield_decision"] == v2.headers["brownfield-decision"] != decision["id"]
    for key in ("source", "reason", "degraded", "contract", "cause"):
        assert parameters[f"brownfield_{key}"] == decision[key], key
    assert v2.json()["model_version"] == decision["version"]
    answers = {output["name"]: output["data"] for output in v2.json()["outputs"]}
    assert answers["items"] == named.json()["prediction"]["items"]


def test_a_killed_model_never_gives_a_client_an_error(retail, client, timing):
    """F-01, F-02: around the kill every answer is a 200, and the fallback's says that it is one, with its timing."""
    (model,) = retail.models
    model.send_signal(signal.SIGKILL)
    seen = []
    ends_s = time.monotonic() + 60
    while time.monotonic() < ends_s and not (len(seen) > 1 and seen[-1] == "model"):
        answer = client.post(PREDICT, json=BASKET)
        assert answer.status_code == 200, answer.text
        decision = answer.json()["decision"]
        assert decision["degraded"] == (decision["source"] != "model")
        assert decision["reason"] == ("FALLBACK" if decision["degraded"] else decision["reason"])
        total, parts = timing(answer.headers["server-timing"])
        assert parts == pytest.approx(total, abs=0.0005)
        seen.append(decision["source"])
        time.sleep(0.005)
    assert "constant" in seen
    assert seen[-1] == "model", "a new process took over"


def test_the_journal_is_readable_after_kill_9(serve, retail, tmp_path):
    """F-40: what was journalled before the machine's end is read afterwards, and the next start goes on beside it."""
    folder = shutil.copytree(retail.folder, tmp_path / "retail", ignore=shutil.ignore_patterns("var"))
    served = serve(folder)
    ids = [httpx.post(served.url + PREDICT, json=BASKET).json()["decision"]["id"] for _ in range(20)]
    journal = folder / "var" / "journal" / NAME
    until(lambda: journal.is_dir() and len(read_journal(journal)) == len(ids))
    models = served.models
    served.process.kill()
    served.process.wait()
    assert read_journal(journal)["decision"].to_pylist() == ids
    until(lambda: all(ended(model) for model in models))
    again = serve(folder)
    ids.append(httpx.post(again.url + PREDICT, json=BASKET).json()["decision"]["id"])
    assert again.end() == 0
    assert sorted(read_journal(journal)["decision"].to_pylist()) == sorted(ids)


def ended(process):
    """Whether a process is gone, or has only to be taken notice of."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def closed(serve, retail, tmp_path_factory):
    """The retail workspace on every address of the machine, with one token."""
    folder = tmp_path_factory.mktemp("closed") / "retail"
    shutil.copytree(retail.folder, folder, ignore=shutil.ignore_patterns("var"))
    token = new_token().reveal()
    access = "access: {tokens: [{name: till, role: caller, token: {env: TILL_TOKEN}}]}\n"
    (folder / "brownfield.yaml").write_text((folder / "brownfield.yaml").read_text() + access)
    return serve(folder, "--host", "0.0.0.0", env={"TILL_TOKEN": token}), token  # noqa: S104 (that is the point)


def test_s01_every_route_and_method_asks_for_the_token(closed):
    """S-01: from the route table itself: a stranger gets 401 for every path and method, known or not, but health."""
    served, token = closed
    authorized = {"Authorization": f"Bearer {token}"}
    assert httpx.post(served.url + PREDICT, json=BASKET, headers=authorized).json()["decision"]["source"] == "model"
    paths = {route.path.format(integration=NAME, version="1") for route in ROUTES} | {"/nix", "/v2/models/other"}
    with httpx.Client(base_url=served.url) as stranger:
        for path, method in product(sorted(paths), METHODS):
            is_open = path.startswith("/v2/health/") and method in {"GET", "HEAD"}
            answer = stranger.request(method, path)
            assert answer.status_code == (200 if is_open else 401), (method, path)
            assert NAME not in answer.text
    assert token not in served.log


RELOADS = {
    "unknown key": ("integration.yaml", "fallback:", "falback:"),
    "broken YAML": ("integration.yaml", "doors:", "doors: ["),
    "contract": ("contract.odcs.yaml", "logicalType: integer", "logicalType: nix"),
    "no bundle": ("integration.yaml", "bundles/store-recommender", "bundles/nix"),
    "no table": ("integration.yaml", "popular_by_store.csv", "nix.csv"),
}


def test_f72_a_reload_is_whole_or_not_at_all(serve, retail, tmp_path):
    """F-72: every kind of mistake leaves the old declaration in force and is one log line; no process is restarted."""
    folder = shutil.copytree(retail.folder, tmp_path / "retail", ignore=shutil.ignore_patterns("var"))
    served = serve(folder)
    (model,) = [one.pid for one in served.models]
    home = folder / "integrations" / NAME
    for count, (file, old, new) in enumerate(RELOADS.values(), 1):
        text = (home / file).read_text()
        assert old in text
        (home / file).write_text(text.replace(old, new, 1))
        served.process.send_signal(signal.SIGHUP)
        until(lambda count=count: served.log.count("BF-SRV-RELOAD-REFUSED") == count)
        (home / file).write_text(text)
        assert httpx.post(served.url + PREDICT, json=BASKET).json()["decision"]["source"] == "model"
    assert [one.pid for one in served.models] == [model], "nothing was restarted for nothing"
    assert "Traceback" not in served.log


STRACE = shutil.which("strace")


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_no_outbound_connection_is_attempted(retail, tmp_path):
    """Promise 7: from start to end neither the server nor its model process connects or sends beyond this machine."""
    folder = shutil.copytree(retail.folder, tmp_path / "retail", ignore=shutil.ignore_patterns("var"))
    calls = tmp_path / "calls"
    trace = [STRACE, "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(calls)]
    command = [*trace, sys.executable, "-m", "brownfield", "serve", str(folder), "--port", "0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        until(lambda: "BF-SRV-SERVING" in (tmp_path / "log").read_text(), 60)
        port = re.search(r'"port":(\d+)', (tmp_path / "log").read_text())[1]
        until(lambda: answers(port), 30)
        answer = httpx.post(f"http://127.0.0.1:{port}{PREDICT}", json=BASKET)
        assert answer.json()["decision"]["source"] == "model"
        (server,) = psutil.Process(process.pid).children()
        os.kill(server.pid, signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
    lines = calls.read_text().splitlines()
    assert any("AF_UNIX" in line for line in lines), "the gateway's call to its model process was seen"
    assert [line for line in lines if "AF_INET" in line] == []


def answers(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_s37_what_is_written_is_private(retail, client):
    """S-37: below ``var`` every folder is 0700 and every file and socket 0600."""
    client.post(PREDICT, json=BASKET)
    paths = [retail.folder / "var", *(retail.folder / "var").rglob("*")]
    assert [path for path in paths if path.is_socket()], "the model's socket is among them"
    open_to_others = [f"{path} {path.stat().st_mode & 0o777:o}" for path in paths if path.stat().st_mode & 0o077]
    assert open_to_others == []


def test_s35_distinct_inputs_add_no_series(client):
    """S-35: stores, items, paths and headers that nobody has seen add nothing to what is measured."""

    def series():
        text = client.get("/metrics").text
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    def ask(numbers):
        for number in numbers:
            client.post(PREDICT, json={"store_id": number, "items": [f"ITEM {number}"]}, headers={"x-q": str(number)})
            client.get(f"/nix/{number}")
        return series()

    assert ask(range(1, 9)) == ask(range(9, 90))


def test_s18_a_token_of_the_environment_does_not_reach_the_models(closed):
    """S-18: the model's process has neither the token nor anything else in its environment and command line."""
    served, token = closed
    (model,) = served.models
    assert token not in " ".join(model.cmdline())
    assert not [name for name in model.environ() if "TOKEN" in name]
    assert token not in " ".join(model.environ().values())


def test_logs_are_json_lines_in_utc(retail):
    """Every line is one JSON object with its time in UTC, a level, an event and words; the basket is in none."""
    lines = [json.loads(line) for line in retail.log.splitlines()]
    assert lines
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["at"])
        assert {"level", "event", "message"} <= line.keys()
    assert "BANANAS" not in retail.log
