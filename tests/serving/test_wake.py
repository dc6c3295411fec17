"""``serving.cpu_wake_us``: asked of the kernel while requests come, and only then."""

import asyncio
import os
import sys
from types import SimpleNamespace

import pytest

from brownfield.clock import SystemClock
from brownfield.serving import front
from brownfield.wake import DEVICE
from harness.waiting import eventually, until

_NOTHING_US = 2_000_000_000


def asked(path):
    """What is asked of a device, in microseconds; a device gives four bytes, no file's length."""
    with path.open("rb", buffering=0) as file:
        return int.from_bytes(file.read(4), sys.byteorder)


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    """A gateway that serves nothing, with a file in the device's place."""
    monkeypatch.setattr(front, "DEVICE", tmp_path / "device")
    monkeypatch.setattr(front, "_LOOK_EVERY_S", 0.01)
    declared = SimpleNamespace(spec=SimpleNamespace(folder=tmp_path))
    made = front.Front(0, declared, tmp_path, host="127.0.0.1")
    made.handler = SimpleNamespace(pressure=SimpleNamespace(began_ns=0))
    return made


def test_it_is_held_while_requests_come(gateway, tmp_path):
    """Before the first request nothing is asked for, a second after the last one nothing any more."""
    (tmp_path / "device").write_bytes(b"")

    async def follow():
        task = asyncio.create_task(gateway._keep_awake(7))
        await asyncio.sleep(0.1)
        assert (tmp_path / "device").read_bytes() == b""
        gateway.handler.pressure.began_ns = SystemClock().monotonic_ns()
        for expected in (7, _NOTHING_US):
            await eventually(lambda expected=expected: asked(tmp_path / "device") == expected)
        task.cancel()

    asyncio.run(follow())


def test_a_host_that_does_not_let_us_is_served_all_the_same(gateway, caplog):
    """One line of the log says where, and the gateway goes on."""
    asyncio.run(gateway._keep_awake(0))
    [record] = caplog.records
    assert (record.event, record.path, record.reason) == (
        "BF-SRV-CPU-WAKE",
        str(front.DEVICE),
        "No such file or directory",
    )


def test_nothing_is_asked_unless_it_is_declared(gateway, caplog):
    """Where the key is absent no device is touched."""
    asyncio.run(gateway._keep_awake(None))
    assert not caplog.records


@pytest.mark.full
def test_a_workspace_asks_for_it(risk, serving, tmp_path):
    """The kernel shows it while a running workspace is asked, or its log says that it may not ask."""
    folder = risk.workspace(tmp_path)
    (folder / "brownfield.yaml").write_text("workspace: risk\nserving: {cpu_wake_us: 0}\n", encoding="utf-8")
    running = serving(folder)
    may = os.access(DEVICE, os.W_OK)

    def is_seen():
        assert running.predict([1, 2, 3, 4])["decision"]["source"] == "model"
        return asked(DEVICE) == 0 if may else "BF-SRV-CPU-WAKE" in running.log

    until(is_seen)
