"""Whatever happens to callers, workers and versions, in any order: every caller is told once, in time, its own answer.

A seed tells the order, and ``BROWNFIELD_ORDERS`` how many are tried. Time passes only while everybody waits, so a
minute of it is over in a moment, and repeats.
"""

import asyncio
import os
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest

from brownfield.contract import Checked
from brownfield.errors import ModelFailed, WorkerUnavailable
from brownfield.model.process import AnswerLate, WorkerDied
from brownfield.model.process.replies import Reply, RunFailed
from brownfield.serving.fallback.constant import Constant
from brownfield.serving.fallback.previous_version import PreviousVersion
from brownfield.serving.gateway import Dataplane, Served, Snapshot, Split, Unanswered, Version
from brownfield.serving.gateway.asks import Ask
from brownfield.serving.gateway.cache import Cache
from brownfield.serving.gateway.costs import CostCurve
from brownfield.serving.gateway.priority import Priority
from brownfield.serving.workers.budget import RetryBudget
from brownfield.serving.workers.pool import WorkerPool
from harness.virtual_time import VirtualClock, run_virtually

SEEDS = int(os.environ.get("BROWNFIELD_ORDERS", "4"))
EVENTS = 400
DEADLINE_MS = 300
LATE_NS = 2_000_000  # from a deadline to the answer: timers are that exact here
CAUSES = ("deadline", "overload")
FAILS, KILLS, IS_NAN = 91, 92, 93  # stores that the model has no good answer for


class Features:
    """The number of the store in; a score of it, by the number of the version, out."""

    def __init__(self, number):
        self.number = number

    def encode(self, columns, rows):
        """One number for each record."""
        return {"x": np.array(columns["store_id"], np.float32).reshape(rows, 1)}

    def decode(self, tensors, columns, rows):  # noqa: ARG002 (as features are asked)
        """The items tell whose record it was, and which version answered."""
        values = tensors["y"].ravel()
        items = [[f"{value:g} by {self.number}"] for value in values]
        return {"items": items, "scores": [[value / 100] for value in values.tolist()]}


def answered(tensors, rows):
    """Give what a process answers."""
    reply = Reply(tensors)
    reply.queue_us, reply.run_us, reply.call_rows = 0, 1000, rows
    return reply


class Worker:
    """A process that takes its time, or keeps silent, or ends under what it cannot bear."""

    def __init__(self, loop, clock, draw):
        self._loop, self._clock, self._draw = loop, clock, draw
        self.lost, self.silent, self.run_s = False, False, draw.choice((0.001, 0.01, 0.05))
        self._free_s = 0.0
        self._held = {}
        self.on_lost = lambda: None

    @property
    def in_flight(self):
        """Of calls whose callers wait."""
        return len(self._held)

    def look(self):
        """Nothing comes before the loop tells of it."""

    def infer(self, tensors, deadline_ns):
        """Answer one call after the other."""
        if self.lost:
            raise WorkerUnavailable("it is gone")
        future = self._loop.create_future()
        self._held[future] = None
        self._free_s = max(self._free_s, self._clock.now_s) + self.run_s * self._draw.random()
        self._loop.call_at(self._free_s, self._answer, future, tensors)
        self._loop.call_at(deadline_ns / 1e9, self._expire, future)
        return future

    def _expire(self, future):
        if future in self._held and self._held[future] is None:
            later = self._held[future] = self._loop.create_future()
            if not future.done():
                future.set_exception(AnswerLate(later))

    def _answer(self, future, tensors):
        if self.lost or future not in self._held:
            return
        if self.silent:
            self._loop.call_later(0.05, self._answer, future, tensors)
            return
        values = tensors["x"].ravel()
        if KILLS in values:
            self.end()
            return
        later = self._held.pop(future)
        if later is not None:
            if not later.done():
                later.set_result(answered({}, len(values)))
        elif not future.done():
            if FAILS in values:
                future.set_exception(ModelFailed("this one"))
            elif len(values) > 12:
                future.set_exception(RunFailed("too large", cause="memory"))
            else:
                output = np.where(values == IS_NAN, np.nan, values).reshape(-1, 1)
                future.set_result(answered({"y": output}, len(values)))

    def end(self):
        """It dies, with all that it holds."""
        self.lost = True
        held, self._held = self._held, {}
        for future, later in held.items():
            if later is not None and not later.done():
                later.set_result(None)
            elif not future.done():
                future.set_exception(WorkerDied("it ended"))
        self.on_lost()


class Order:
    """What happens, in the order of a seed."""

    def __init__(self, seed, retail, clock):
        self.draw, self.clock, self.contract = random.Random(seed), clock, retail  # noqa: S311 (an order that repeats)
        self.asks, self.told, self.problems, self.happened = [], {}, [], []
        self.versions, self.stalled_ns = [], 0

    def version(self):
        """Another version, with a worker or two."""
        draw, number = self.draw, len(self.versions) + 1
        retries = RetryBudget()
        cache = Cache(draw.choice((0.2, 5.0))) if draw.random() < 0.6 else None
        costs = CostCurve({1: 1000, 8: 4000}, most_rows=16) if draw.random() < 0.5 else None
        pool = WorkerPool(retries)
        version = Version(
            str(number), Features(number), pool, draw.choice((1, 8, 16)), cache, costs=costs, retries=retries
        )
        version.keep_within(DEADLINE_MS * 1_000_000)
        self.versions.append(SimpleNamespace(version=version, pool=pool, workers=[], wanted=draw.choice((1, 1, 2))))
        while len(self.versions[-1].workers) < self.versions[-1].wanted:
            self.join(self.versions[-1])
        return version

    def join(self, of):
        """A worker comes."""
        worker = Worker(asyncio.get_running_loop(), self.clock, self.draw)

        def lose():
            of.pool.leave(worker)
            of.workers.remove(worker)

        worker.on_lost = lose
        of.workers.append(worker)
        of.pool.join(worker, lambda: None)
        of.version.worker_joined(self.clock.monotonic_ns())

    def promote(self):
        """The next version takes over; the one before stays in the chain."""
        before = self.versions[-1].version if self.versions else None
        place = PreviousVersion()
        place.version = before
        constant = Constant({"items": ["BREAD"]}, self.contract.schema("response"))
        chain = [(place, constant), (constant,), (place,), ()][self.draw.choice((0, 0, 1, 2, 3))]
        meter = self.served.meter if self.versions else None
        self.served = Served("till", self.contract, DEADLINE_MS, self.version(), chain, meter=meter)
        if hasattr(self, "plane"):
            self.plane.snapshot = Snapshot({"till": self.served})
        else:
            self.plane = Dataplane(Snapshot({"till": self.served}), self.clock)

    def ask(self):
        """A few callers ask in one turn of the loop."""
        draw = self.draw
        for _ in range(draw.choice((1, 1, 3, 20))):
            stores = [draw.randint(1, 12) for _ in range(draw.choice((1, 1, 2, 6, 14)))]
            if draw.random() < 0.06:
                stores[0] = draw.choice((FAILS, KILLS, IS_NAN))
            ask = self._made(stores, draw.choice((1, 5, 20, 100)) if draw.random() < 0.3 else 0)
            ask.priority, ask.caller = draw.choice(tuple(Priority)), draw.choice("ab")
            ask.fresh = draw.random() < 0.1
            self.plane.ask(ask)

    def _made(self, stores, left_ms):
        checked = Checked(len(stores), {"store_id": stores, "items": [[] for _ in stores]})
        split, number = Split(self.clock.monotonic_ns()), len(self.asks)
        deadline_ns = split.started_ns + left_ms * 1_000_000 if left_ms else 0
        ask = Ask(self.served, checked, split, deadline_ns, self.tell, number)
        self.asks.append(SimpleNamespace(ask=ask, stores=stores, cancelled=False))
        return ask

    def tell(self, ask, result):
        """Hold an answer to what was asked."""
        number, one = ask.context, self.asks[ask.context]
        if number in self.told or one.cancelled:
            self.problems.append(f"{number} told again, or after it had left")
        self.told[number] = result
        if self.clock.monotonic_ns() > max(ask.deadline_ns, self.stalled_ns) + LATE_NS:
            self.problems.append(f"{number} told {(self.clock.monotonic_ns() - ask.deadline_ns) / 1e6} ms late")
        if isinstance(result, Exception):
            if not isinstance(result, Unanswered):
                self.problems.append(f"{number} told {result!r}")
            return
        by = result.decision.version
        right = [["BREAD"]] * len(one.stores) if not by else [[f"{store} by {by}"] for store in one.stores]
        if result.checked.columns["items"] != right:
            self.problems.append(f"{number} {one.stores} told {result.checked.columns} of {result.decision}")
        if result.decision.source == "model" and by != ask.served.champion.name:
            self.problems.append(f"{number} told by {result.decision}")
        if self.draw.random() < 0.02:
            self.ask()  # who was told asks again at once

    def leave(self):
        """Some who wait give up."""
        waiting = [one for one in self.asks if one.ask.context not in self.told and not one.cancelled]
        for one in self.draw.sample(waiting, min(len(waiting), self.draw.choice((1, 3, 100)))):
            one.cancelled = True
            one.ask.cancel()

    def _some(self):
        return [worker for of in self.versions for worker in of.workers]

    def die(self):
        """A worker ends."""
        if workers := self._some():
            self.draw.choice(workers).end()

    def hush(self):
        """A worker keeps silent for a while, or computes more slowly."""
        if workers := self._some():
            worker = self.draw.choice(workers)
            worker.silent, worker.run_s = self.draw.random() < 0.5, self.draw.choice((0.001, 0.01, 0.4))

    def mend(self):
        """Workers that are missing come back, and those that are there answer."""
        for of in self.versions[-2:]:
            while len(of.workers) < of.wanted:
                self.join(of)
        for worker in self._some():
            worker.silent, worker.run_s = False, 0.001

    def stall(self):
        """The whole process stands still for a while."""
        self.clock.now_s += self.draw.choice((0.01, 0.2, 1.0))
        self.stalled_ns = self.clock.monotonic_ns()

    def renew(self):
        """A reload begins with an empty cache."""
        version = self.versions[-1].version
        version.cache = Cache(1.0) if self.draw.random() < 0.6 else None

    async def go(self):
        """Let it all happen, and come to rest."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.problems.append(repr(context)))
        self.promote()
        kinds = (self.ask, self.leave, self.die, self.hush, self.mend, self.renew, self.promote, self.stall)
        for kind in self.draw.choices(kinds, (60, 8, 3, 3, 8, 1, 1, 1), k=EVENTS):
            self.happened.append(kind.__name__)
            kind()
            await asyncio.sleep(self.draw.choice((0, 0, 0.001, 0.01, 0.2)))
        self.mend()
        await asyncio.sleep(2)
        self.rested()
        for _ in range(30):  # breakers open, and suspects are tried alone
            self.mend()
            self.ask()
            await asyncio.sleep(5)
        self.rested()
        await self.well()

    def rested(self):
        """Nobody waits, and nothing is kept for anybody."""
        owed = [one.ask.context for one in self.asks if one.ask.context not in self.told and not one.cancelled]
        if owed:
            self.problems.append(f"never told: {owed}")
        for of in self.versions:
            version = of.version
            left = (version.admission.waiting_rows, version.waiting.rows, len(version.calls), len(version.apart))
            flights = len(version.cache.flights) if version.cache is not None else 0
            if any((*left, flights)):
                self.problems.append(f"version {version.name} is left with {left} and {flights} flights")

    async def well(self):
        """The model answers again, in the end."""
        for _ in range(3):
            self.mend()
            ask = self._made([5], 0)
            ask.fresh = True
            self.plane.ask(ask)
            await asyncio.sleep(1)
            if getattr(self.told[ask.context], "decision", None).source == "model":
                return
            await asyncio.sleep(60)
        self.problems.append(f"not well again: {self.told[ask.context]}")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_caller_is_told_once_in_time_and_its_own_answer(retail, monkeypatch, seed):
    """And nothing is left of them, whoever left, died, kept silent or was promoted meanwhile."""
    clock = VirtualClock()
    monkeypatch.setattr(time, "monotonic_ns", clock.monotonic_ns)
    order = Order(seed, retail, clock)
    run_virtually(order.go(), clock)
    assert order.problems == []
    meter = order.served.meter
    assert sum(meter.answers.values()) == len(order.told)
    causes = {each: sum(n for (*_, cause), n in meter.answers.items() if cause == each) for each in CAUSES}
    assert causes["deadline"] <= sum(meter.lates.values())  # of the version before as well
    assert causes["overload"] <= sum(meter.sheds)  # also of those who left then
