"""A served workspace on old sites: folders are cleared, streams are closed, names are in old letters."""

import os
import shutil
import signal
import subprocess
import sys

import httpx
import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import load_workspace
from brownfield.serving import Supervisor
from harness.ports import free_port
from harness.waiting import until

pytestmark = pytest.mark.full


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
