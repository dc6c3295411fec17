"""Which worker is asked, who is asked again, and who counts as hung."""

import asyncio

import pytest

from brownfield.errors import DeadlineExceeded, ModelFailed, WorkerUnavailable
from brownfield.serving.workers.pool import WorkerPool


class Reply(dict):
    """What a channel resolves to."""

    run_us = 7


class Channel:
    """A connection that answers as it is told."""

    def __init__(self, *outcomes, in_flight=0):
        self.outcomes = list(outcomes)
        self.in_flight = in_flight
        self.asked = []

    async def infer(self, tensors, deadline_ns):
        """Give the next outcome."""
        self.asked.append((tensors, deadline_ns))
        outcome = self.outcomes.pop(0) if self.outcomes else Reply()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def pool_of(*channels):
    pool = WorkerPool()
    for channel in channels:
        pool.join(channel)
    return pool


def ask(pool):
    return asyncio.run(pool.infer({"x": 1}, 1, 99))


def test_without_a_worker_nothing_is_asked():
    """It is not ready, and says so at once."""
    pool = WorkerPool()
    assert not pool.ready
    with pytest.raises(WorkerUnavailable):
        ask(pool)


def test_the_least_busy_worker_is_asked():
    """With tensors and deadline as they came; its own time comes back in nanoseconds."""
    busy, idle = Channel(in_flight=3), Channel(in_flight=1)
    assert ask(pool_of(busy, idle)).infer_ns == 7000
    assert (busy.asked, idle.asked) == ([], [({"x": 1}, 99)])


def test_a_death_is_retried_once_on_a_sibling():
    """F-01: the call that was under way succeeds elsewhere."""
    dying, sibling = Channel(WorkerUnavailable("died")), Channel(in_flight=5)
    ask(pool_of(dying, sibling))
    assert len(sibling.asked) == 1


def test_two_deaths_are_not_retried_further():
    """F-05: a request that kills what it touches touches two at most."""
    channels = [Channel(WorkerUnavailable("died"), in_flight=n) for n in range(3)]
    with pytest.raises(WorkerUnavailable):
        ask(pool_of(*channels))
    assert [len(each.asked) for each in channels] == [1, 1, 0]


@pytest.mark.parametrize("error", [ModelFailed("op"), DeadlineExceeded("late")])
def test_other_failures_are_not_retried(error):
    """A model error would come again, and there is no time after the deadline."""
    failing, sibling = Channel(error), Channel(in_flight=1)
    with pytest.raises(type(error)):
        ask(pool_of(failing, sibling))
    assert sibling.asked == []


@pytest.mark.parametrize(
    ("second", "hung"),
    [
        (DeadlineExceeded("late"), True),
        (Reply(), False),
        (ModelFailed("op"), False),
        (WorkerUnavailable("died"), False),
    ],
)
def test_a_silent_worker_is_asked_the_same_again_with_patience(second, hung):
    """F-06, F-07: a slow worker answers that in the end and stays; a hung one does not."""
    silent, told = Channel(DeadlineExceeded("late"), second), []
    pool = WorkerPool()
    pool.join(silent, lambda: told.append(True))

    async def run():
        with pytest.raises(DeadlineExceeded):
            await pool.infer({"x": 1}, 1, 99)
        return await pool.hung(silent, patience_ns=1000, now_ns=500)

    assert asyncio.run(run()) is hung
    assert told
    assert silent.asked == [({"x": 1}, 99), ({"x": 1}, 1500)]


def test_a_worker_that_answered_since_is_not_suspected():
    """One late answer among good ones is no reason to ask twice."""
    channel = Channel(DeadlineExceeded("late"), Reply())
    pool = pool_of(channel)

    async def run():
        with pytest.raises(DeadlineExceeded):
            await pool.infer({"x": 1}, 1, 99)
        await pool.infer({"x": 1}, 1, 99)
        return await pool.hung(channel, patience_ns=1000, now_ns=0)

    assert asyncio.run(run()) is False
    assert len(channel.asked) == 2


def test_a_worker_that_left_is_not_asked():
    """Nor is it hung."""
    channel = Channel()
    pool = pool_of(channel)
    pool.leave(channel)
    assert not pool.ready
    assert asyncio.run(pool.hung(channel, patience_ns=1, now_ns=0)) is False


def test_f79_faults_do_not_multiply_the_load():
    """F-79, R-11: whatever dies under however many calls, workers are asked at most a tenth more often."""
    calls = 2000
    dying = Channel(*[WorkerUnavailable("died")] * calls)
    sibling = Channel(in_flight=1)
    pool = pool_of(dying, sibling)
    answered = 0
    for _ in range(calls):
        try:
            ask(pool)
            answered += 1
        except WorkerUnavailable:
            pass
    assert len(dying.asked) == calls
    assert answered == len(sibling.asked)
    assert 0.1 * calls <= len(sibling.asked) <= 0.1 * calls + 3
