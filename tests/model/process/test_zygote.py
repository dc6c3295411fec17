"""What is forked from a zygote; that it is what a process started by itself is, the other tests of this folder hold."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest

from brownfield.host import pss_mib
from brownfield.model.process import ModelProcess, Program, StartFailed, Zygote, call
from brownfield.model.process import zygote as module

X = {"x": np.ones((1, 2), "f4")}


@pytest.fixture
def fork(model_folder, tmp_path):
    """Start processes from a zygote of their own; they are ended after the test."""
    with Zygote() as zygote:
        started = []

        def start(**options):
            folder = model_folder("batched")
            started.append(ModelProcess.start(folder, runtime_folder=tmp_path / "run", zygote=zygote, **options))
            return started[-1]

        start.zygote = zygote
        yield start
        for process in started:
            process.kill()


def test_the_engine_is_held_in_memory_once(fork):
    """Two more models cost less than one that is started by itself."""
    processes = [fork() for _ in range(3)]
    assert [call(each.socket_path, X)["y"].tolist() for each in processes] == [[[11.0, 11.0]]] * 3
    together = sum(pss_mib(each.pid) for each in processes) + pss_mib(fork.zygote.pid)
    assert together < 2 * processes[0].hello.resident_mib


def test_it_can_be_forked_and_holds_what_the_engine_sets_up(fork):
    """It has one thread, for no other would be in what is forked, and needs nothing of a model to be ready."""
    fork()
    assert psutil.Process(fork.zygote.pid).num_threads() == 1
    maps = Path(f"/proc/{fork.zygote.pid}/maps").read_text()
    assert "onnxruntime_pybind11_state" in maps
    assert ".onnx" not in maps


def test_confined_before_the_model_is_opened_and_the_zygote_is_not(fork):
    """Each has the layers of the sandbox for itself, and a session of its own."""
    process = fork()
    seccomp = {pid: _status(pid, "Seccomp") for pid in (process.pid, fork.zygote.pid)}
    assert seccomp == {process.pid: "2", fork.zygote.pid: "0"}
    assert os.getsid(process.pid) == process.pid
    assert not _descriptors(process.pid) & _descriptors(fork.zygote.pid)


def test_a_model_outlives_its_zygote_and_the_next_has_a_new_one(fork):
    """F-14: when the zygote dies, what it forked answers on and can be ended; another one is started when needed."""
    first, other = fork(), fork()
    before = fork.zygote.pid
    os.kill(before, signal.SIGKILL)
    assert call(first.socket_path, X)["y"].tolist() == [[11.0, 11.0]]
    assert first.alive
    assert first.kill() == "SIGKILL"
    second = fork()
    assert fork.zygote.pid != before
    assert call(second.socket_path, X)["y"].tolist() == [[11.0, 11.0]]
    assert other.kill() == "SIGKILL"


def test_where_nothing_can_be_forked_a_process_is_started_by_itself(fork, monkeypatch, caplog):
    """A zygote that ends at once costs a warning, not the model."""
    monkeypatch.setattr(module, "_WARM", "/dev/null")
    process = fork()
    assert call(process.socket_path, X)["y"].tolist() == [[11.0, 11.0]]
    assert psutil.Process(process.pid).ppid() == os.getpid()
    assert [record.event for record in caplog.records] == ["BF-MDL-NO-ZYGOTE"]


def test_what_the_zygote_is_not_made_for_is_started_by_itself(fork, tmp_path):
    """Another Python, a Python class: nothing is forked, and no zygote is started for it."""
    with pytest.raises(StartFailed, match="ENOENT"):
        fork(program=Program(python=tmp_path / "python"))
    with pytest.raises(StartFailed):
        fork(program=Program(module="missing.py", class_name="Model"))
    assert fork.zygote.pid == 0


def test_waiting_is_bounded(fork):
    """As for any child."""
    process = fork()
    with pytest.raises(TimeoutError):
        process.wait(0.01)
    with pytest.raises(subprocess.TimeoutExpired):
        process._process.wait(0.01)


def _status(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:  # noqa: PTH123 (a line of the kernel's)
        return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _descriptors(pid):
    """Pipes and sockets of a process."""
    folder = f"/proc/{pid}/fd"
    found = {os.readlink(f"{folder}/{each}") for each in os.listdir(folder)}  # noqa: PTH115, PTH208 (as above)
    return {each for each in found if each.startswith(("pipe", "socket"))}


@pytest.mark.parametrize("length", [10, 400], ids=["short", "longer than there is room"])
def test_the_list_of_processes_says_which_model_is_served(model_folder, tmp_path, length):
    """The command of what was forked ends with the folder of its model, or with the end of a path that is longer."""
    deep = tmp_path.joinpath(*["d" * 100] * (length // 100), "model")
    shutil.copytree(model_folder("batched"), deep)
    with Zygote() as zygote, ModelProcess.start(deep, runtime_folder=tmp_path / "run", zygote=zygote) as process:
        command = psutil.Process(process.pid).cmdline()
        waits = psutil.Process(zygote.pid).cmdline()
    assert command[-1].rstrip() == str(deep)[-255:]
    assert (command[-3].rpartition("/")[2], waits[-3].rpartition("/")[2]) == ("__main__.py", "__warm__.py")
    assert command[-2] == waits[-2]
    assert not waits[-1].strip()
