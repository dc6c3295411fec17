"""Keeping a process: restarts with pauses, quarantine after quick deaths."""

import asyncio
import errno
import threading
import time
from pathlib import Path

import pytest

from brownfield.errors import WorkerUnavailable
from brownfield.model.process import StartFailed
from brownfield.serving.workers import keeper as keeper_module
from brownfield.serving.workers.keeper import Keeper, WorkerState
from harness.waiting import eventually


class Process:
    """A process of paper."""

    socket_path = Path("nowhere")

    def __init__(self, killed=None):
        self.ended = 0
        self.killed = killed  # by somebody else, if at all

    def wait(self, _timeout_s):
        """Say how it ended, if it did."""
        if not self.killed:
            raise TimeoutError
        self.ended += 1
        return self.killed

    def kill(self):
        """End it."""
        self.ended += 1
        return "SIGKILL"

    def stop(self, _grace_s):
        """Let it end."""
        return self.kill()


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
        async def connect(_path, *, on_lost=None, **_):
            if on_lost is None:
                return Channel(lambda: None)  # a heartbeat
            made.append(Channel(on_lost))
            return made[-1]

    monkeypatch.setattr(keeper_module, "ModelChannel", Connect)
    monkeypatch.setattr(keeper_module, "_FIRST_PAUSE_S", 0.0)
    return made


def test_a_process_that_ends_is_replaced(channels):
    """Who listens is told each time it changes, and the old process is cleared away."""
    processes, told = [], []

    def start():
        processes.append(Process())
        return processes[-1]

    async def run():
        keeper = Keeper(start, label="till 1", on_change=lambda: told.append(keeper.socket))
        await keeper.begin()
        channels[0].lose()
        await eventually(lambda: len(channels) == 2 and keeper.state is WorkerState.READY)
        await keeper.end()
        return keeper.state

    assert asyncio.run(run()) is WorkerState.STOPPED
    assert [each.ended for each in processes] == [1, 1]
    assert told == ["nowhere", "", "nowhere"]


def test_a_crash_loop_ends_in_quarantine(channels):
    """F-04: after five restarts it is started no more; never a busy loop."""
    starts = []

    def start():
        starts.append(True)
        return Process()

    async def run():
        keeper = Keeper(start, label="till 1")
        await keeper.begin()
        while keeper.state is not WorkerState.QUARANTINED:
            if channels[-1].connected:
                channels[-1].lose()
            await asyncio.sleep(0.001)
        assert keeper.socket == ""
        await keeper.end()

    asyncio.run(run())
    assert len(starts) == 1 + keeper_module.MAX_QUICK_DEATHS


@pytest.mark.parametrize(
    ("ended", "oom_kills", "quarantined"),
    [("SIGKILL", 0, False), ("SIGKILL", 1, True), ("SIGKILL", None, True), ("SIGSEGV", 0, True)],
    ids=["by somebody", "for want of memory", "nobody knows", "crash"],
)
def test_f01_kills_by_somebody_else_never_end_in_quarantine(channels, monkeypatch, ended, oom_kills, quarantined):
    """F-01, F-04, F-12: an outsider's kills are no crash loop; the kernel's, for want of memory, and crashes are."""
    starts, told = [], iter(range(1000)) if oom_kills else None
    monkeypatch.setattr(keeper_module, "oom_kills", lambda: next(told) if told else oom_kills)

    def start():
        starts.append(True)
        return Process(ended)

    async def run():
        keeper = Keeper(start, label="till 1")
        await keeper.begin()
        while keeper.state is not WorkerState.QUARANTINED and len(starts) < 4 * keeper_module.MAX_QUICK_DEATHS:
            if channels[-1].connected:
                channels[-1].lose()
            await asyncio.sleep(0.001)
        assert (keeper.state is WorkerState.QUARANTINED) is quarantined
        await keeper.end()

    asyncio.run(run())
    assert (len(starts) == 1 + keeper_module.MAX_QUICK_DEATHS) is quarantined


def test_failing_starts_count_as_quick_deaths(channels):
    """F-04: also a process that never comes up."""
    starts = []

    def start():
        starts.append(True)
        if len(starts) > 1:
            raise WorkerUnavailable("it does not load")
        return Process()

    async def run():
        keeper = Keeper(start, label="till 1")
        await keeper.begin()
        channels[0].lose()
        await eventually(lambda: keeper.state is WorkerState.QUARANTINED)
        await keeper.end()

    asyncio.run(run())
    assert len(starts) == 1 + keeper_module.MAX_QUICK_DEATHS


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WorkerUnavailable("it does not load"), {}),
        (
            StartFailed("it ended: a line of its own", cause="memory", ended="SIGKILL"),
            {"cause": "memory", "ended": "SIGKILL"},
        ),
    ],
)
def test_a_start_that_fails_says_why_without_the_words_of_the_model(channels, caplog, error, told):
    """F-04: a closed list of causes and how the process ended; what a model prints may hold values of records."""
    starts = []

    def start():
        starts.append(True)
        if len(starts) == 2:
            raise error
        return Process()

    async def run():
        keeper = Keeper(start, label="till 1")
        await keeper.begin()
        channels[0].lose()
        await eventually(lambda: len(channels) == 2)
        await keeper.end()

    asyncio.run(run())
    [record] = [each for each in caplog.records if getattr(each, "event", "") == "BF-WRK-NOT-STARTED"]
    assert {name: getattr(record, name) for name in ("cause", "ended") if hasattr(record, name)} == told
    assert record.reason == error.code
    assert "a line of its own" not in str(vars(record))


def test_a_first_start_that_fails_is_told(channels):
    """F-26: whoever asked for it learns why, and nothing is kept."""

    def start():
        raise WorkerUnavailable("it does not load")

    with pytest.raises(WorkerUnavailable):
        asyncio.run(Keeper(start, label="till 1").begin())


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
        keepers = [Keeper(start, label=str(n), starts=lambda: starts) for n in range(6)]
        await asyncio.gather(*(keeper.begin() for keeper in keepers))
        await asyncio.gather(*(keeper.end() for keeper in keepers))

    asyncio.run(run())
    assert max(most) == 1


@pytest.mark.parametrize(("greets", "replaced"), [(False, True), (True, False)])
def test_f06_a_silent_process_is_replaced_and_a_slow_one_is_not(channels, monkeypatch, greets, replaced):
    """F-06, F-07: a process that greets nobody hangs; one that greets was only slow. Neither needs a request for it."""
    starts = []

    async def greeted(_process, _patience_s):
        return greets or len(channels) > 1

    def start():
        starts.append(True)
        return Process()

    monkeypatch.setattr(keeper_module, "_greets", greeted)
    monkeypatch.setattr(keeper_module, "_HEARTBEAT_S", 0.01)

    async def run():
        keeper = Keeper(start, label="till 1")
        await keeper.begin()
        if replaced:
            await eventually(lambda: len(starts) == 2 and keeper.state is WorkerState.READY)
        else:
            keeper.suspect()
            await asyncio.sleep(0.05)
        await keeper.end()

    asyncio.run(run())
    assert (len(starts) == 2) is replaced


def test_f06_a_suspicion_does_not_wait_for_the_patience_of_a_heartbeat(channels, monkeypatch):
    """F-06: a request is left without an answer while a heartbeat waits; the process is asked anew, once, and found."""
    patience_s = []

    async def silent(_process, within_s):
        patience_s.append(within_s)
        await asyncio.sleep(0.2 if within_s == keeper_module._PATIENCE_S else 60)
        return False

    monkeypatch.setattr(keeper_module, "_greets", silent)
    monkeypatch.setattr(keeper_module, "_HEARTBEAT_S", 0.01)

    async def run():
        keeper = Keeper(Process, label="till 1", patience_s=10.0)
        await keeper.begin()
        await eventually(lambda: patience_s == [10.0])
        keeper.suspect()
        await eventually(lambda: patience_s == [10.0, 1.0])
        keeper.suspect()  # who asks already is not interrupted
        await eventually(lambda: keeper.restarts == 1)
        assert patience_s[:2] == [10.0, 1.0]
        await keeper.end()

    asyncio.run(run())


def test_f07_a_process_may_be_silent_for_as_long_as_a_call_may_take(channels, monkeypatch):
    """F-07: it hears nothing else meanwhile; whoever gave up on it sooner says nothing about it."""
    patience_s = []

    async def greeted(_process, within_s):
        patience_s.append(within_s)
        return True

    monkeypatch.setattr(keeper_module, "_greets", greeted)
    monkeypatch.setattr(keeper_module, "_HEARTBEAT_S", 0.01)

    async def run():
        keeper = Keeper(Process, label="till 1", patience_s=10.0)
        keeper.longest_call_s = 20.0
        await keeper.begin()
        keeper.suspect()
        await eventually(lambda: len(patience_s) > 2)
        await keeper.end()

    asyncio.run(run())
    assert set(patience_s) == {20.0}


def test_f06_a_suspicion_begins_no_wait_of_minutes_anew(channels, monkeypatch):
    """F-06: where a call may take as long as that, a process that hangs is found when its heartbeat is over."""
    asked_s, over = [], asyncio.Event()

    async def silent(_process, within_s):
        asked_s.append(within_s)
        await over.wait()
        return False

    monkeypatch.setattr(keeper_module, "_greets", silent)
    monkeypatch.setattr(keeper_module, "_HEARTBEAT_S", 0.01)

    async def run():
        keeper = Keeper(Process, label="till 1", patience_s=10.0)
        keeper.longest_call_s = 120.0
        await keeper.begin()
        await eventually(lambda: asked_s == [120.0])
        keeper.suspect()  # a caller has gone without an answer, as late as that
        await asyncio.sleep(0.05)
        assert asked_s == [120.0]
        over.set()
        await eventually(lambda: keeper.restarts == 1)
        await keeper.end()

    asyncio.run(run())


def test_what_was_ended_is_no_process_any_more(channels):
    """Its number may be another process's by then; whether it began or did not get that far."""

    async def run():
        keeper = Keeper(Process, label="till 1")
        await keeper.begin()
        assert keeper.process is not None
        await keeper.end()
        return keeper.process

    assert asyncio.run(run()) is None


def test_a_host_that_lacks_something_ends_no_supervision(channels):
    """No process, no descriptor, no memory just now: a start that failed, and the next is made after its pause."""
    starts = []

    def start():
        starts.append(True)
        if len(starts) == 2:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return Process()

    async def run():
        keeper = Keeper(start, label="till 1")
        await keeper.begin()
        channels[-1].lose()
        await eventually(lambda: len(starts) == 3 and keeper.state is WorkerState.READY)
        await keeper.end()

    asyncio.run(run())


class SlowStart:
    """Takes a while to start a process; ``entered`` is set as soon as it begins."""

    def __init__(self):
        self.processes, self.entered = [], threading.Event()

    def __call__(self):
        """Start one."""
        self.entered.set()
        time.sleep(0.05)
        self.processes.append(Process())
        return self.processes[-1]


def test_what_is_ended_while_it_begins_is_not_left_running(channels):
    """A reload ends it in the middle of a start by hand: the process is ended once it is there."""
    start = SlowStart()

    async def run():
        keeper = Keeper(start, label="till 1")
        beginning = asyncio.create_task(keeper.begin())
        await asyncio.to_thread(start.entered.wait)
        await keeper.end()
        await beginning
        assert keeper.state is WorkerState.STOPPED
        assert not channels[-1].connected

    asyncio.run(run())
    assert [each.ended for each in start.processes] == [1]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("wakes", ["a suspicion", "its end"])
def test_what_is_ended_in_the_moment_in_which_it_is_looked_at_is_ended(channels, wakes, turns):
    """In whichever turn of the loop the two meet: nobody would wait for it in vain, and nothing is started anew."""

    async def run():
        keeper = Keeper(Process, label="till 1")
        await keeper.begin()
        await asyncio.sleep(0.01)
        if wakes == "a suspicion":
            keeper.suspect()
        else:
            channels[-1].lose()
        for _ in range(turns):
            await asyncio.sleep(0)
        ending = asyncio.create_task(keeper.end())
        _, left = await asyncio.wait([ending], timeout=1.0)
        ending.cancel()
        assert not left
        assert (keeper.state, len(channels)) == (WorkerState.STOPPED, 1)

    asyncio.run(run())


@pytest.mark.parametrize(("late", "greets"), [(True, True), (False, False)], ids=["own loop was late", "no greeting"])
def test_f18_a_loop_that_was_blocked_ends_no_process_by_mistake(monkeypatch, late, greets):
    """F-18: when this loop itself did not listen in time, the process is asked once more before it is called hung."""
    asked = []

    class Connect:
        @staticmethod
        async def connect(_path, *, timeout_s):
            asked.append(timeout_s)
            if len(asked) == 1:
                if late:
                    time.sleep(2 * timeout_s)  # noqa: ASYNC251 (the loop is blocked)
                raise WorkerUnavailable("no greeting")
            return Channel(lambda: None)

    monkeypatch.setattr(keeper_module, "ModelChannel", Connect)
    assert asyncio.run(keeper_module._greets(Process(), 0.02 if late else 5.0)) is greets
    assert len(asked) == 1 + late


def test_a_keeper_begins_again_after_its_end(channels):
    """Unloaded and loaded again: another process, and the first is gone."""
    processes = []

    def start():
        processes.append(Process())
        return processes[-1]

    async def run():
        keeper = Keeper(start, label="till 1")
        for _ in range(2):
            await keeper.begin()
            assert keeper.socket == "nowhere"
            await keeper.end()
            assert keeper.state is WorkerState.STOPPED

    asyncio.run(run())
    assert [each.ended for each in processes] == [1, 1]


def test_f11_another_process_takes_over_before_the_first_is_ended(channels):
    """F-11: whoever asks is told of the new one while the old one still answers; both are kept no longer than that."""
    processes, told = [], []

    def start():
        processes.append(Process())
        return processes[-1]

    async def run():
        keeper = Keeper(start, label="till 1")
        await keeper.begin()

        async def tell():
            told.append((keeper.state, [each.ended for each in processes], keeper.process is processes[-1]))

        await keeper.renew(tell)
        assert [each.ended for each in processes] == [1, 0]
        channels[-1].lose()
        await eventually(lambda: len(processes) == 3 and keeper.state is WorkerState.READY)
        await keeper.end()

    asyncio.run(run())
    assert told == [(WorkerState.READY, [0, 0], True)]
    assert [each.ended for each in processes] == [1, 1, 1]


def test_f11_when_another_process_does_not_start_the_first_is_kept(channels):
    """F-11: it answers as before, and is replaced when it ends."""
    starts = []

    def start():
        starts.append(True)
        if len(starts) == 2:
            raise WorkerUnavailable("it does not load")
        return Process()

    async def run():
        keeper = Keeper(start, label="till 1")
        await keeper.begin()
        first = keeper.process
        with pytest.raises(WorkerUnavailable):
            await keeper.renew(lambda: asyncio.sleep(0))
        assert (keeper.process, keeper.state, first.ended) == (first, WorkerState.READY, 0)
        channels[0].lose()
        await eventually(lambda: len(starts) == 3 and keeper.state is WorkerState.READY)
        await keeper.end()

    asyncio.run(run())


def test_a_start_that_nobody_waits_for_leaves_no_process(channels):
    """Ended in the middle of a start: the process is ended as soon as it is there."""
    start = SlowStart()

    async def run():
        task = asyncio.create_task(Keeper(start, label="till 1").begin())
        await asyncio.to_thread(start.entered.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [each.ended for each in start.processes] == [1]
