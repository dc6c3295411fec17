"""A supervisor that cannot fork, or whose processes end in ways that nobody foresaw, keeps the others running."""

import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from brownfield.integration import load_workspace
from brownfield.serving import Supervisor, background
from brownfield.serving import supervisor as supervisor_module
from brownfield.serving.children import Child
from harness.waiting import until

NARROW = """
import errno, os, sys
from pathlib import Path

full, fork = Path(sys.argv[1]) / "full", os.fork

def fork_if_there_is_room():
    if full.exists():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = fork_if_there_is_room
"""
NOT_STARTED = "BF-SRV-CHILD-NOT-STARTED"


@pytest.fixture
def narrow(risk, tmp_path, monkeypatch):
    """A workspace with two gateways that is served by a process which forks no other while ``full`` is there."""
    risk.declare(tmp_path, model_path=None)
    (tmp_path / "brownfield.yaml").write_text("workspace: risk\nserving: {gateways: 2}\n", encoding="utf-8")
    monkeypatch.setattr(background, "_PROGRAM", NARROW + background._PROGRAM)
    return tmp_path


@pytest.mark.full
def test_a_gateway_that_cannot_be_forked_is_tried_again_and_the_others_go_on(narrow, serving):
    """The log says what could not be started and why; whoever asks meanwhile is answered."""
    running = serving(narrow)
    names = ("bf-gateway-0", "bf-gateway-1", "bf-manager")
    before = {name: running.pid_of(name) for name in names}
    (narrow / "full").touch()
    os.kill(before["bf-gateway-0"], signal.SIGKILL)
    until(lambda: running.log.count(NOT_STARTED) >= 3, tell=lambda: running.log)
    assert running.predict([1, 2, 3, 4])["prediction"] == {"y": [0.5]}
    (narrow / "full").unlink()
    until(lambda: running.pid_of("bf-gateway-0"))
    assert {name: running.pid_of(name) for name in names[1:]} == {name: before[name] for name in names[1:]}
    assert '"child":"bf-gateway-0","reason":"Resource temporarily unavailable"' in running.log


@pytest.mark.full
def test_a_workspace_that_cannot_fork_at_first_waits_for_room_or_for_its_end(narrow):
    """A signal to end is heard meanwhile; the second time there is room at last."""
    command = [sys.executable, "-c", background._PROGRAM, str(narrow), "0"]
    for has_room in (False, True):
        (narrow / "full").touch()
        with (narrow / "log").open("w+b") as log, subprocess.Popen(command, stdout=-1, stderr=log) as process:
            until(lambda log=log: os.pread(log.fileno(), 2**20, 0).count(NOT_STARTED.encode()) >= 9)
            assert process.poll() is None
            if has_room:
                (narrow / "full").unlink()
                assert process.stdout.readline().startswith(b"http://")
            process.terminate()
            assert process.wait(60) == 0


@pytest.mark.full
def test_a_gateway_that_a_signal_without_a_name_ended_is_started_again(narrow, serving):
    """Most real-time signals have none; the log gives the number."""
    running = serving(narrow)
    killed = running.pid_of("bf-gateway-0")
    os.kill(killed, signal.SIGRTMIN + 3)
    until(lambda: running.pid_of("bf-gateway-0") not in (0, killed), tell=lambda: running.log)
    assert f'"ended":"signal {signal.SIGRTMIN + 3}"' in running.log


@pytest.mark.full
def test_a_model_that_a_signal_without_a_name_ended_is_started_again(risk, serving, tmp_path):
    """Timers of libraries use such signals."""
    running = serving(risk.workspace(tmp_path))
    [killed] = running.model_pids()
    os.kill(killed, signal.SIGRTMIN + 3)
    until(lambda: set(running.model_pids()) - {killed}, tell=lambda: running.log)
    assert f'"ended":"signal {signal.SIGRTMIN + 3}"' in running.log


def test_pauses_between_starts_grow_to_some_seconds_and_no_further():
    """At once after the first quick end; also after thousands; and at once again for one that lived long."""
    child = Child("one", lambda: 0)
    pauses_s = []
    for _ in range(3000):
        child.begin()
        child.put_off()
        pauses_s.append(round(child.start_at_s - child._began_s, 2))
    assert pauses_s[:4] == [0, 0.1, 0.2, 0.4]
    assert set(pauses_s[8:]) == {5.0}
    child._began_s = time.monotonic() - 60
    child.put_off()
    assert child.start_at_s <= time.monotonic()


class Signals(list):
    """Signals that were noted, of which one more comes while they are read."""

    late = (signal.SIGTERM,)

    def __iter__(self):
        """Give them, and have another come before the last one is given."""
        yield from list.__iter__(self)
        coming, self.late = self.late, ()
        self.extend(coming)

    def pop(self, *at):
        """Give one, and have another come at once."""
        coming, self.late = self.late, ()
        self.extend(coming)
        return super().pop(*at)


def test_a_signal_that_comes_while_others_are_handled_is_not_lost(risk, tmp_path, monkeypatch):
    """F-17: the one that ends a workspace, in the moment in which one of its processes has ended."""
    risk.declare(tmp_path, model_path=None)
    supervisor = Supervisor(load_workspace(tmp_path), port=0)
    supervisor._signals, ended = Signals([signal.SIGCHLD]), []
    monkeypatch.setattr(supervisor, "_end", lambda: ended.append(True))
    supervisor._handle_signals()
    supervisor._handle_signals()
    assert ended == [True]


def test_f17_a_second_signal_lets_nothing_run_as_long_as_a_drain(risk, tmp_path, monkeypatch):
    """F-17: what does not end by itself is killed after the grace, and a third signal does not put that off."""
    risk.declare(tmp_path, model_path=None)
    supervisor, killed = Supervisor(load_workspace(tmp_path), port=0, drain_s=600), []
    now_s = iter([1000.0, 1001.0, 1014.0, 1015.0, 1016.0])
    monkeypatch.setattr(supervisor_module, "time", SimpleNamespace(monotonic=lambda: next(now_s)))
    monkeypatch.setattr(Child, "send", lambda *_: None)
    supervisor._listeners = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr(supervisor, "_kill_all", lambda: killed.append(True))
    supervisor._ending_s, supervisor._told = 0.0, False
    supervisor._manager = Child("bf-manager", lambda: 0, pid=1)
    supervisor._children = [Child("bf-gateway-0", lambda: 0, pid=1), supervisor._manager]
    for _ in range(3):
        supervisor._end()
    supervisor._end_by_and_by()
    assert not killed
    supervisor._end_by_and_by()
    assert killed


def test_the_last_words_of_a_manager_are_its_own(risk, tmp_path, caplog):
    """R-07: it ends right after it has begun a reload, with more said before than is heard at once."""
    risk.declare(tmp_path, model_path=None)
    supervisor = Supervisor(load_workspace(tmp_path), port=0)
    supervisor._listeners, supervisor._ending_s = SimpleNamespace(begin_again=lambda: None), 0.0
    supervisor._declared = SimpleNamespace(digest="")
    supervisor._ears, supervisor._mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    supervisor._ears.setblocking(False)
    manager = supervisor._manager = Child("bf-manager", lambda: 0)
    supervisor._children = [manager]
    with supervisor._ears, supervisor._mouth:
        manager.pid = os.fork()
        if not manager.pid:
            for message in ({"held": {}}, {"held": {}}, {"reloading": 1}):
                supervisor._tell_from_manager(message)
            os._exit(0)
        until(lambda: supervisor._reap() or not manager.pid)
        manager.begin()
        supervisor._hear_all()
    assert not manager.reloads
    assert [each.event for each in caplog.records] == ["BF-SRV-CHILD-ENDED", "BF-SRV-RELOAD-LOST"]
