"""F-10: rows that come back in another order than they were sent are found by a record whose answer is known."""

import asyncio
import contextlib
import time

import numpy as np
import pytest

from brownfield.errors import WorkerUnavailable
from brownfield.serving.workers.pool import WorkerPool
from brownfield.serving.workers.sentinel import Sentinel

FAR_NS = 2**62
GOLDEN_IN, GOLDEN_OUT = {"x": np.array([[7.0, 1.0]])}, {"y": np.array([[8.0]]), "label": np.array([3])}


def answer(tensors):
    """Give the sum of each row, and which of ten it is."""
    sums = tensors["x"].sum(axis=1, keepdims=True)
    return {"y": sums, "label": np.where(sums[:, 0] == 8, 3, 0)}


class Reply(dict):
    """As a channel gives it."""

    run_us = 5
    call_rows = 0


class Channel:
    """A connected worker of paper that gives its rows in some order, and numbers that are off by a factor."""

    in_flight = 0

    def __init__(self, order=lambda sums: np.arange(len(sums)), factor=1.0):
        self.order, self.factor = order, factor
        self.asked_rows = []

    async def infer(self, tensors, _deadline_ns):
        """Answer."""
        self.asked_rows.append(len(tensors["x"]))
        outputs = answer(tensors)
        order = self.order(outputs["y"][:, 0])
        return Reply({name: rows[order] * self.factor for name, rows in outputs.items()})


def pool_over(channel, seed=0):
    """A pool whose golden record travels along in calls of 2 to 31 rows."""
    pool = WorkerPool(sentinel=Sentinel(GOLDEN_IN, GOLDEN_OUT, most_rows=32, seed=seed), label="till 3")
    pool.join(channel)
    return pool


def ask(pool, rows):
    x = np.arange(rows * 2, dtype=float).reshape(rows, 2) + 100
    return x, asyncio.run(pool.infer({"x": x}, rows, FAR_NS))


@pytest.mark.parametrize("rows", [2, 5, 31])
def test_everybody_gets_their_own_rows(rows):
    """With the golden record among them, and without it: the same answers, as many as were asked for."""
    channel = Channel()
    pool = pool_over(channel)
    for _ in range(2):
        x, inference = ask(pool, rows)
        assert inference.outputs["y"].ravel().tolist() == x.sum(axis=1).tolist()
        assert len(inference.outputs["label"]) == rows
    assert channel.asked_rows == [rows + 1, rows]  # once a second
    assert pool.ready


@pytest.mark.parametrize("rows", [1, 32, 100])
def test_one_alone_and_full_calls_travel_without_it(rows):
    """There is nothing to be mixed up with, or no room."""
    channel = Channel()
    ask(pool_over(channel), rows)
    assert channel.asked_rows == [rows]


@pytest.mark.parametrize(
    "order",
    [
        lambda sums: np.arange(len(sums))[::-1],
        lambda sums: np.roll(np.arange(len(sums)), 1),
        lambda sums: np.argsort(-sums),
    ],
    ids=["F-10 reversed", "F-10 one further", "F-10 sorted"],
)
def test_f10_rows_in_another_order_are_discarded_and_the_version_is_suspended(order, caplog):
    """F-10: nobody gets an answer of that call, nobody is asked any more, and the log says why."""
    pool = pool_over(Channel(order), seed=3)
    with pytest.raises(WorkerUnavailable, match="not in the order"):
        ask(pool, 5)
    assert not pool.ready
    [line] = caplog.records
    assert (line.event, line.version) == ("BF-WRK-ROWS-MIXED", "till 3")


def test_f10_two_rows_that_change_places_are_found_soon(monkeypatch):
    """F-10: when only two of nine change places, one call in five shows it: it is suspended soon."""
    now = iter(range(0, 2**62, 2_000_000_000))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(now))

    pool = pool_over(Channel(lambda sums: [1, 0, *range(2, len(sums))]))
    for _ in range(60):
        if pool.ready:
            with contextlib.suppress(WorkerUnavailable):
                ask(pool, 9)
    assert not pool.ready


def test_an_answer_that_is_merely_off_suspends_nobody():
    """Wrong numbers are not a wrong order: the contract, the probe and monitors judge those."""
    pool = pool_over(Channel(factor=1.5))
    ask(pool, 5)
    assert pool.ready


def test_a_caller_who_asks_for_the_golden_record_confuses_nobody():
    """The known answer stands at its own place, whoever else got it too."""
    pool = pool_over(Channel())
    x = np.repeat(GOLDEN_IN["x"], 6, axis=0)
    assert len(asyncio.run(pool.infer({"x": x}, 6, FAR_NS)).outputs["y"]) == 6
    assert pool.ready


def test_a_wrong_class_of_the_golden_record_suspends_nobody():
    """Its right class elsewhere in the call is another record's own: only floats tell one record from another."""
    pool = pool_over(Channel())
    channel = pool._members[0].channel
    asked = channel.infer

    async def infer(tensors, deadline_ns):
        reply = await asked(tensors, deadline_ns)
        reply["label"] = 3 - reply["label"]  # of the golden record 0, of all others 3
        return reply

    channel.infer = infer
    ask(pool, 5)
    assert channel.asked_rows == [6]
    assert pool.ready


def test_where_there_are_classes_alone_nothing_travels_along():
    """They would not tell a wrong place from a wrong class."""
    sentinel = Sentinel(GOLDEN_IN, {"label": np.array([3])}, most_rows=32)
    assert not sentinel.is_due(5)
