"""A served workspace on old sites: folders are cleared, streams are closed, names are in old letters."""

import inspect
import os
import shutil
import signal
import subprocess
import sys

import httpx
import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import load_workspace
from brownfield.model.probe import probe
from brownfield.model.process import ModelProcess
from brownfield.serving import Supervisor, serve_workspace
from harness.ports import free_port
from harness.processes import MODEL, command_of, descendants
from harness.python_models import bundle_class
from harness.waiting import until

pytestmark = pytest.mark.full

READER = """
import os

class Reader:
    inputs = {"x": ("float32", (None, 4))}
    outputs = {"y": ("float32", (None, 1))}

    def load(self, folder):
        if os.path.exists("MISSING"):
            raise FileNotFoundError("no file f" + chr(0xDCFC) + "r Kassen")

    def predict(self, inputs):
        return {"y": inputs["x"].sum(axis=1, keepdims=True)}
"""

SLOW = """
import os, time

class Reader:
    inputs = {"x": ("float32", (None, 4))}
    outputs = {"y": ("float32", (None, 1))}

    def load(self, folder):
        if os.path.exists("MARK"):
            time.sleep(LOAD_S)

    def predict(self, inputs):
        return {"y": inputs["x"].sum(axis=1, keepdims=True)}
"""


def by_model(answer):
    return answer["decision"]["source"] == "model"


@pytest.mark.parametrize("then", [("bf-gateway-0",), ("bf-manager",), ("bf-manager", "bf-gateway-0")], ids=" ".join)
def test_f15_after_var_was_cleared_killed_processes_find_each_other_again(risk, serving, tmp_path, then):
    """F-15: who clears ``var/`` to make room ends nothing; what is started again afterwards gets ready by itself."""
    running = serving(risk.workspace(tmp_path))
    before = running.pid_of("bf-gateway-0")
    shutil.rmtree(tmp_path / "var" / "run")
    for name in then:
        os.kill(running.pid_of(name), signal.SIGKILL)
    until(lambda: "bf-gateway-0" not in then or running.pid_of("bf-gateway-0") not in (0, before))
    until(lambda: running.ready_status() == 200 and by_model(running.predict([1, 2, 3, 4])))
    until((tmp_path / "var" / "run" / "control.sock").is_socket)


def test_of_a_workspace_that_was_moved_nothing_is_made_at_its_old_place(risk, serving, tmp_path):
    """Else it could not be moved back; where it is back, everything goes on."""
    running = serving(risk.workspace(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    gateway = running.pid_of("bf-gateway-0")
    os.kill(gateway, signal.SIGKILL)
    until(lambda: running.pid_of("bf-gateway-0") not in (0, gateway))
    assert running.predict([1, 2, 3, 4])["prediction"] == {"y": [0.5]}
    assert not (tmp_path / "here" / "var" / "run").exists()


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_a_workspace_is_served_whatever_standard_streams_are_closed(risk, tmp_path, closed):
    """As init scripts and schedulers close them: it is served, and its end is in order in all of its processes."""
    folder, port, traced = risk.workspace(tmp_path / "workspace"), free_port(), tmp_path / "ends"
    command = [sys.executable, "-m", "brownfield", "serve", str(folder), "--port", str(port)]
    with traced.open("wb") as errors:
        process = subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *command], stderr=errors)

    def answers():
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/risk/predict", json={"x": [1, 2, 3, 4]}).json()
        except httpx.TransportError:
            assert process.poll() is None
            return False
        return by_model(answer)

    try:
        until(answers)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert "Assertion" not in traced.read_text()


def test_a_path_in_another_encoding_is_refused_before_anything_is_started(risk, tmp_path):
    """Such as a folder that an older system named in Latin-1: it is said what to do, by ``check`` as well."""
    folder = risk.workspace(tmp_path / os.fsdecode(b"f\xfcr Kassen"))
    with pytest.raises(DeclarationError, match="path in UTF-8") as refused:
        Supervisor(load_workspace(folder), port=0).run()
    assert refused.value.where.endswith("f\\xfcr Kassen")
    command = [sys.executable, "-m", "brownfield", "check", str(folder), "--json"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 2
    assert "Rename the folder" in checked.stdout
    assert checked.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_signals_of_log_rotators_change_nothing(risk, serving, tmp_path, number):
    """SIGUSR1 and SIGUSR2 end neither the supervisor, without its drain, nor any process that it started."""
    running = serving(risk.workspace(tmp_path))
    kept = ("bf-gateway-0", "bf-manager")
    pids = [running.pid, *map(running.pid_of, kept), *running.model_pids()]
    for pid in pids:
        os.kill(pid, number)
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: "BF-SRV-RELOADED" in running.log)
    assert by_model(running.predict([1, 2, 3, 4]))
    assert [running.pid, *map(running.pid_of, kept), *running.model_pids()] == pids


def managers(pid):
    return {each.pid for each in descendants(pid) if each.is_running() and each.name() == "bf-manager"}


def socks(folder):
    return sorted(each.name for each in (folder / "var" / "run").glob("*.sock"))


def heard_by_reader(fifo):
    """Give a descriptor of a pipe that somebody reads; nothing while nobody does."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return 0


def test_a_reload_asked_for_during_the_start_is_made_when_it_is_ready(risk, tmp_path):
    """As an init script sends it after each start: it neither ends the start nor is lost."""
    folder, log = risk.workspace(tmp_path / "workspace"), tmp_path / "log"
    text = "workspace: risk\naccess: {tokens: [{name: till, role: caller, token: {file: token}}]}\n"
    (folder / "brownfield.yaml").write_text(text)
    os.mkfifo(folder / "token", 0o600)
    (folder / "kept").write_text("t" * 32)
    (folder / "kept").chmod(0o600)
    command = [sys.executable, "-m", "brownfield", "serve", str(folder), "--port", str(free_port())]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors)
    try:
        with os.fdopen(until(lambda: heard_by_reader(folder / "token")), "w") as start:  # it waits for the token
            process.send_signal(signal.SIGUSR1)
            process.send_signal(signal.SIGHUP)
            (folder / "kept").replace(folder / "token")
            start.write("t" * 32)
        until(lambda: process.poll() is not None or "BF-SRV-RELOADED" in log.read_text(), tell=log.read_text)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_an_address_in_another_encoding_is_refused(risk, tmp_path):
    """Such as a host named in Latin-1 in the environment: what is wrong is said, without a traceback."""
    folder = risk.workspace(tmp_path)
    text = "workspace: risk\naccess: {tokens: [{name: till, role: caller, token: {env: TILL_TOKEN}}]}\n"
    (folder / "brownfield.yaml").write_text(text)
    command = [sys.executable, "-m", "brownfield", "serve", str(folder), "--host", os.fsdecode(b"s\xfcd")]
    environment = {**os.environ, "TILL_TOKEN": "t" * 32}
    refused = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert refused.returncode == 2
    assert "expected a free address and port, got s\\udcfcd:8080 (no name of a host)" in refused.stderr


def test_no_address_is_not_every_address(risk, tmp_path):
    """``--host ""``, as an unset variable gives it: the kernel would listen everywhere."""
    command = [sys.executable, "-m", "brownfield", "serve", str(risk.workspace(tmp_path)), "--host", ""]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--host: expected an address or a name, got nothing" in refused.stderr


def test_a_model_whose_complaint_is_no_text_costs_the_others_nothing(risk, serving, tmp_path):
    """F-08: a class misses a file whose name is in another encoding; the workspace gets ready and says so."""
    risk.declare(tmp_path)
    missing, source = tmp_path / "missing", tmp_path / "reader.py"
    source.write_text(READER.replace("MISSING", str(missing)))
    bundle_class(tmp_path, "one", source, "Reader")
    missing.touch()
    running = serving(tmp_path)
    assert running.predict([1, 2, 3, 4])["prediction"] == {"y": [0.5]}
    [row] = httpx.post(f"{running.url}/v2/repository/index").json()
    assert row["state"] == "UNAVAILABLE"
    assert row["reason"].endswith("FileNotFoundError: no file f\\udcfcr Kassen")


def test_what_a_probe_admits_has_the_time_to_be_served():
    """A model that loads in three quarters of a minute passed its probe, was given up after half a one, and so on."""
    allowed = inspect.signature(probe).parameters["timeout_s"].default
    assert inspect.signature(ModelProcess.start).parameters["ready_timeout_s"].default > allowed


@pytest.fixture
def slow(risk, tmp_path):
    """A workspace whose model loads slowly from now on, for so many seconds, and what ``serve`` of it logs."""
    folder, marks = tmp_path / "workspace", tmp_path / "marks"
    started = []

    def start(load_s: int, *, then: bool = False):
        risk.declare(folder)
        marks.mkdir()
        source = tmp_path / "reader.py"
        source.write_text(SLOW.replace("MARK", str(marks / "slow")).replace("LOAD_S", str(load_s)))
        bundle_class(folder, "one", source, "Reader")
        if not then:
            (marks / "slow").touch()
        command = [sys.executable, "-m", "brownfield", "serve", str(folder), "--port", str(free_port())]
        with (tmp_path / "log").open("wb") as errors:
            started.append(subprocess.Popen(command, stderr=errors, start_new_session=True))
        until(lambda: descendants(started[-1].pid, MODEL))
        if then:
            until(lambda: "BF-SRV-SERVING" in (tmp_path / "log").read_text())
            bundle_class(folder, "two", source, "Reader")
            risk.declare(folder, model_path="bundles/two")
            (marks / "slow").touch()
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


def test_a_reload_asked_for_while_models_are_loaded_is_made_afterwards(slow, tmp_path):
    """Whoever mends a declaration meanwhile need not look for the moment in which it is heard."""
    process, log = slow(3), tmp_path / "log"
    process.send_signal(signal.SIGHUP)
    until(lambda: "BF-SRV-RELOADED" in log.read_text() or "REFUSED" in log.read_text(), tell=log.read_text)
    assert "REFUSED" not in log.read_text()
    process.terminate()
    assert process.wait(30) == 0


def test_a_model_that_loads_slowly_does_not_hold_up_the_end(slow):
    """F-18: who ends a service that is only starting waits seconds, not as long as a load may take."""
    process = slow(60)
    models = descendants(process.pid, MODEL)
    process.terminate()
    assert process.wait(15) == 0
    until(lambda: not any(map(command_of, models)))


def test_a_reload_that_loads_slowly_does_not_hold_up_the_end(slow):
    """F-18: nobody waits for what is being loaded when the service is ended; it took as long as its process may."""
    process = slow(60, then=True)
    before = {each.pid for each in descendants(process.pid, MODEL)}
    process.send_signal(signal.SIGHUP)
    until(lambda: {each.pid for each in descendants(process.pid, MODEL)} - before)
    models = descendants(process.pid, MODEL)
    process.terminate()
    assert process.wait(10) == 0
    until(lambda: not any(map(command_of, models)))


def test_a_reload_in_which_the_manager_ends_is_told(slow, tmp_path):
    """F-72: whoever asked for it is told that it was not made; the next manager serves what was in force."""
    process, log = slow(60, then=True), tmp_path / "log"
    before = {each.pid for each in descendants(process.pid, MODEL)}
    process.send_signal(signal.SIGHUP)
    until(lambda: {each.pid for each in descendants(process.pid, MODEL)} - before)
    (tmp_path / "marks" / "slow").unlink()
    for times in (2, 3):
        os.kill(until(lambda: next(iter(managers(process.pid)), 0)), signal.SIGKILL)
        until(lambda times=times: log.read_text().count("BF-SRV-SERVING") == times, tell=log.read_text)
    assert log.read_text().count("BF-SRV-RELOAD-LOST") == 1
    process.terminate()
    assert process.wait(30) == 0


def test_who_ends_all_processes_at_once_finds_no_error_in_the_log(slow, tmp_path):
    """F-18: as service managers do; it is an end like any other."""
    process = slow(0, then=True)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    assert '"level":"error"' not in (tmp_path / "log").read_text()


def test_f03_killed_managers_leave_no_sockets(risk, tmp_path):
    """F-03: each would leave one for every model, until the workspace is served anew; the end leaves none at all."""
    folder = risk.workspace(tmp_path)
    with serve_workspace(folder) as background:
        running = [0]
        for _ in range(2):
            running.append(until(lambda: next(iter(managers(background.process.pid) - set(running)), 0)))
            until(lambda: len(socks(folder)) == 2, tell=lambda: socks(folder))
            os.kill(running[-1], signal.SIGKILL)
        until(lambda: managers(background.process.pid) - set(running))
        until(lambda: len(socks(folder)) == 2, tell=lambda: socks(folder))
    assert socks(folder) == []
