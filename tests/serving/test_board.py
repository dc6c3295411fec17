"""What one gateway serves under one declaration."""

import asyncio
import time

import numpy as np
import pytest
import uvloop

from brownfield.errors import WorkerUnavailable
from brownfield.model import open_bundle
from brownfield.model.process.frames import HELLO, encode_message
from brownfield.serving import board as boards
from brownfield.serving.board import Board
from brownfield.serving.declared import read_declared
from brownfield.serving.plan import Placement, Plan

CURVE_US = {1: 1000.0, 4: 3000.0, 16: 10_000.0, 64: 36_000.0}  # 28 rows reach 95 % of the best rate


@pytest.fixture
def take(tmp_path, risk):
    """Have a board serve a model that took so long when it was tried; the version that its integration asks then."""
    risk.workspace(tmp_path)

    def taken(curve_us, *, deadline_ms=2000, earlier=None):
        risk.declare(tmp_path, deadline_ms=deadline_ms)
        board = Board(read_declared(tmp_path), tmp_path, tell=lambda *_: None, earlier=earlier)
        bundle = open_bundle(tmp_path / "integrations" / "risk" / "bundles" / "one")
        placement = Placement(
            integration="risk", state="ready", fingerprint="same", bundle=str(bundle.folder), digest=bundle.digest,
            version="1", shares_batches=True, cost_curve_us=curve_us,
        )  # fmt: skip
        asyncio.run(board.take(Plan(declaration=board.declared.digest, started=True, placements=(placement,))))
        return board, board.snapshot["risk"].champion

    return taken


def test_calls_are_shared_from_the_start_as_was_measured_when_the_model_was_tried(take):
    """Nobody waits for a model to be learned that was measured before."""
    assert take({})[1].call_rows == 2
    assert take(CURVE_US)[1].call_rows == 28
    assert take({1: 1000.0, 4: 4000.0, 16: 16_000.0})[1].call_rows == 1


def test_a_reload_with_another_deadline_bounds_shared_calls_by_that(take):
    """A call takes no more than a quarter of the deadline, and what was learned is not lost."""
    board, version = take(CURVE_US)
    _, again = take(CURVE_US, deadline_ms=40, earlier=board)
    assert again is version
    assert again.call_rows == 16


GREETING = encode_message(
    HELLO,
    0,
    {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 1]}],
        "batched": True,
        "engine": "none",
        "engine_version": "1",
        "threads": 1,
        "max_batch_rows": 1,
        "pid": 1,
        "resident_mib": 1.0,
        "sandbox": {"layers": {}, "warnings": []},
    },
)


class Worker:
    """A model's process that greets or not, and hangs up when it is told to."""

    def __init__(self, path):
        self.path = path
        self.connections = []
        self.greets = True
        self.hangs_up = False

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self._take, self.path)
        return self

    async def __aexit__(self, *_):
        self.end()
        await self.server.wait_closed()

    async def _take(self, _, writer):
        self.connections.append(writer)
        if self.hangs_up:
            writer.close()
        elif self.greets:
            writer.write(GREETING)

    def lose(self):
        """Hang up, and live on."""
        for writer in self.connections:
            writer.close()

    def end(self):
        """Hang up, and listen no more."""
        self.server.close()
        self.lose()


@pytest.fixture
def named(tmp_path, risk):
    """A board whose integration has its worker at the sockets of a plan; what the board tells."""
    risk.workspace(tmp_path)
    told = []
    board = boards.Board(read_declared(tmp_path), tmp_path, tell=lambda *news: told.append(news))
    bundle = open_bundle(tmp_path / "integrations" / "risk" / "bundles" / "one")

    async def take(*sockets, **state):
        one = Placement(
            integration="risk", bundle=str(bundle.folder), digest=bundle.digest, version="1",
            sockets=sockets, **{"state": "ready", "fingerprint": "same", **state},
        )  # fmt: skip
        await board.take(Plan(declaration=board.declared.digest, started=True, placements=(one,)))
        return board.snapshot["risk"].champion.pool

    take.board = board
    return take, told


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine on the loop of either kind."""

    def run_on_loop(coroutine):
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(coroutine)

    return run_on_loop


async def until(condition, timeout_s=10.0):
    """Wait until it holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (what is waited for sets no event)
            await asyncio.sleep(0.005)


def others():
    """Give the tasks that run beside this one, those of the worker excepted."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return [task for task in tasks if "Worker" not in repr(task)]


def test_a_connection_that_a_living_process_closes_is_made_again(run, named, tmp_path):
    """No plan has to come for it, however often it is lost; nothing runs on once it is there."""
    take, _ = named

    async def main():
        async with Worker(tmp_path / "one.sock") as worker:
            pool = await take("one.sock")
            for connections in (1, 2, 3):
                await until(lambda wanted=connections: pool.workers and len(worker.connections) == wanted)
                worker.lose()
                await until(lambda: not pool.workers)
            await until(lambda: pool.workers)
            await until(lambda: not others())

    run(main())


@pytest.mark.parametrize("trait", ["silent", "hangs up"])
def test_a_process_that_does_not_greet_at_first_is_asked_when_it_does(run, named, tmp_path, monkeypatch, trait):
    """A process in a long call greets late: who did not wait for it tries again, and has it."""
    monkeypatch.setattr(boards, "_FIRST_GREETING_S", 0.05, raising=False)
    take, _ = named

    async def main():
        async with Worker(tmp_path / "one.sock") as worker:
            worker.greets, worker.hangs_up = trait != "silent", trait == "hangs up"
            pool = await take("one.sock")
            assert not pool.workers
            worker.greets, worker.hangs_up = True, False
            await until(lambda: pool.workers)
            assert len(worker.connections) == 2

    run(main())


def test_tries_end_with_the_plan_that_names_the_process(run, named, tmp_path):
    """A try goes on as long as plans name the process, and ends with the first that does not; the next is asked."""
    take, _ = named

    async def main():
        async with Worker(tmp_path / "one.sock") as worker, Worker(tmp_path / "two.sock"):
            pool = await take("one.sock")
            worker.greets = False
            worker.lose()
            await until(lambda: len(worker.connections) == 2)
            assert others()
            await take("one.sock")
            assert len(worker.connections) == 2
            assert await take("two.sock") is pool
            await until(lambda: not others())
            assert pool.workers
            assert len(worker.connections) == 2

    run(main())


def test_a_process_that_has_ended_is_not_tried_for_long(run, named, tmp_path, caplog):
    """Where nobody listens there is nobody to come back; nothing is logged of it, and the next process is asked."""
    take, _ = named

    async def main():
        async with Worker(tmp_path / "one.sock") as worker, Worker(tmp_path / "two.sock"):
            pool = await take("one.sock")
            worker.end()
            await until(lambda: not pool.workers)
            await asyncio.sleep(0.15)  # the first try is over
            worker.path.unlink(missing_ok=True)
            async with Worker(worker.path) as stranger:
                await asyncio.sleep(0.5)
                assert not stranger.connections
            assert await take("two.sock") is pool
            assert pool.workers

    run(main())
    assert not caplog.records


def test_a_model_is_wanted_again_when_it_was_unloaded_after_it_was_wanted(run, named):
    """Who asked for it while it was up was not heeded; the plan that unloads it has it asked for again."""
    take, told = named

    async def main():
        pool = await take(on_demand=True)
        until_ns = time.monotonic_ns() + 10**10
        asking = asyncio.create_task(pool.infer({"x": np.zeros((1, 4), "f4")}, 1, until_ns))
        await until(lambda: told == [("want", "risk")])
        await take(on_demand=True)
        assert told == [("want", "risk")]
        await take(on_demand=True, state="unloaded")
        assert told == [("want", "risk")] * 2
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(main())


def test_nobody_waits_for_a_version_that_a_plan_in_force_does_not_name(run, named):
    """A reload took its place, or another manager tries it anew: the fallback answers at once."""
    take, told = named

    async def main():
        pool = await take(on_demand=True)
        until_ns = time.monotonic_ns() + 10**11
        asking = asyncio.create_task(pool.infer({"x": np.zeros((1, 4), "f4")}, 1, until_ns))
        await until(lambda: told == [("want", "risk")])
        assert await take(on_demand=True, fingerprint="another") is not pool
        assert not asking.done(), "as long as it is only prepared"
        take.board.let_go()
        async with asyncio.timeout(5):
            with pytest.raises(WorkerUnavailable):
                await asking
            with pytest.raises(WorkerUnavailable):  # also of those that were queued behind
                await pool.infer({"x": np.zeros((1, 4), "f4")}, 1, until_ns)
        assert told == [("want", "risk")]

    run(main())
