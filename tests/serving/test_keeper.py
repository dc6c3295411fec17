"""Keeping a process: restarts with pauses, quarantine after quick deaths."""

import asyncio
import time

import pytest

from brownfield.errors import WorkerUnavailable
from brownfield.serving.workers import keeper as keeper_module
from brownfield.serving.workers.keeper import Keeper, WorkerState
from brownfield.serving.workers.pool import WorkerPool


class Process:
    """A process of paper."""

    socket_path = "nowhere"

    def __init__(self):
        self.ended = 0

    def kill(self):
        """End it."""
        self.ended += 1
        return "SIGKILL"

    stop = kill


class Channel:
    """Its connection."""

    in_flight = 0

    def __init__(self, on_lost):
        self.connected = True
        self.on_lost = on_lost

    def lose(self):
        """Break it off."""
        self.connected = False
        self.on_lost()

    def close(self):
        """Close it."""
        self.connected = False


@pytest.fixture
def channels(monkeypatch):
    """Every connection made, in order; pauses take no time."""
    made = []

    class Connect:
        @staticmethod
        async def connect(_path, *, on_lost):
            made.append(Channel(on_lost))
            return made[-1]

    monkeypatch.setattr(keeper_module, "ModelChannel", Connect)
    monkeypatch.setattr(keeper_module, "_FIRST_PAUSE_S", 0.0)
    return made


async def until(condition):
    """Let the keeper work until something holds."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came")


def test_a_process_that_ends_is_replaced(channels):
    """The pool has the new connection, and the old process is cleared away."""
    processes, ready = [], []

    def start():
        processes.append(Process())
        return processes[-1]

    async def run():
        pool = WorkerPool()
        keeper = Keeper(start, pool, label="till 1", on_ready=lambda: ready.append(True))
        await keeper.begin()
        channels[0].lose()
        await until(lambda: len(channels) == 2 and keeper.state is WorkerState.READY)
        assert pool.ready
        await keeper.end()
        assert not pool.ready
        return keeper.state

    assert asyncio.run(run()) is WorkerState.STOPPED
    assert [each.ended for each in processes] == [1, 1]
    assert len(ready) == 2


def test_a_crash_loop_ends_in_quarantine(channels):
    """F-04: after five restarts it is started no more; never a busy loop."""
    starts = []

    def start():
        starts.append(True)
        return Process()

    async def run():
        pool = WorkerPool()
        keeper = Keeper(start, pool, label="till 1")
        await keeper.begin()
        while keeper.state is not WorkerState.QUARANTINED:
            if channels[-1].connected:
                channels[-1].lose()
            await asyncio.sleep(0.001)
        assert not pool.ready
        await keeper.end()

    asyncio.run(run())
    assert len(starts) == 1 + keeper_module.MAX_QUICK_DEATHS


def test_failing_starts_count_as_quick_deaths(channels):
    """F-04: also a process that never comes up."""
    starts = []

    def start():
        starts.append(True)
        if len(starts) > 1:
            raise WorkerUnavailable("it does not load")
        return Process()

    async def run():
        keeper = Keeper(start, WorkerPool(), label="till 1")
        await keeper.begin()
        channels[0].lose()
        await until(lambda: keeper.state is WorkerState.QUARANTINED)
        await keeper.end()

    asyncio.run(run())
    assert len(starts) == 1 + keeper_module.MAX_QUICK_DEATHS


def test_a_first_start_that_fails_is_told(channels):
    """F-26: whoever asked for it learns why, and nothing is kept."""

    def start():
        raise WorkerUnavailable("it does not load")

    with pytest.raises(WorkerUnavailable):
        asyncio.run(Keeper(start, WorkerPool(), label="till 1").begin())


def test_processes_start_one_after_another(channels):
    """F-03: no thundering restart."""
    running, most = [], []

    def start():
        running.append(True)
        time.sleep(0.005)  # in a thread of its own
        most.append(len(running))
        running.pop()
        return Process()

    async def run():
        starts = asyncio.Lock()
        keepers = [Keeper(start, WorkerPool(), label=str(n), starts=starts) for n in range(6)]
        await asyncio.gather(*(keeper.begin() for keeper in keepers))
        await asyncio.gather(*(keeper.end() for keeper in keepers))

    asyncio.run(run())
    assert max(most) == 1
