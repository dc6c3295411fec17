"""Which worker is asked, who is asked again, and who counts as hung."""

import asyncio
import time

import pytest

from brownfield.errors import DeadlineExceeded, ModelFailed, Overloaded, WorkerUnavailable
from brownfield.serving.workers.pool import WorkerPool


class Reply(dict):
    """What a channel resolves to."""

    run_us = 7
    call_rows = 0


class Channel:
    """A connection that answers as it is told."""

    def __init__(self, *outcomes, in_flight=0):
        self.outcomes = list(outcomes)
        self.in_flight = in_flight
        self.asked = []
        self.looks = 0

    def look(self):
        """Count."""
        self.looks += 1

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


def ask(pool, deadline_ns=2**62):
    return asyncio.run(pool.infer({"x": 1}, 1, deadline_ns))


def test_without_a_worker_nothing_is_asked():
    """It is not ready, and says so at once."""
    pool = WorkerPool()
    assert not pool.ready
    with pytest.raises(WorkerUnavailable):
        ask(pool)


def test_the_least_busy_worker_is_asked():
    """With tensors and deadline as they came; its own time comes back in nanoseconds."""
    busy, idle = Channel(in_flight=3), Channel(in_flight=1)
    assert ask(pool_of(busy, idle), 99).infer_ns == 7000
    assert (busy.asked, idle.asked) == ([], [({"x": 1}, 99)])


def test_it_looks_at_all_workers_for_answers():
    """In the middle of a turn of the loop."""
    channels = [Channel(), Channel()]
    pool_of(*channels).look()
    assert [each.looks for each in channels] == [1, 1]


def test_a_death_is_retried_once_on_a_sibling():
    """F-01: the call that was under way succeeds elsewhere."""
    dying, sibling = Channel(WorkerUnavailable("died")), Channel(in_flight=5)
    ask(pool_of(dying, sibling))
    assert len(sibling.asked) == 1


def test_a_death_after_the_deadline_is_not_retried():
    """Nobody waits any more, and a sibling without time would be told to be silent."""
    dying, sibling, told = Channel(WorkerUnavailable("died")), Channel(in_flight=5), []
    pool = pool_of(dying)
    pool.join(sibling, lambda: told.append(True))
    with pytest.raises(WorkerUnavailable):
        ask(pool, time.monotonic_ns())
    assert (sibling.asked, told) == ([], [])


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


def test_silence_until_the_deadline_is_told():
    """F-06: whoever keeps the process looks at it then."""
    silent, told = Channel(DeadlineExceeded("late"), Reply()), []
    pool = WorkerPool()
    pool.join(silent, lambda: told.append(True))

    async def run():
        with pytest.raises(DeadlineExceeded):
            await pool.infer({"x": 1}, 1, 99)
        await pool.infer({"x": 1}, 1, 99)

    asyncio.run(run())
    assert told == [True]


def test_a_worker_that_kept_silent_is_not_taken_for_an_idle_one():
    """F-06: what it lets pass its deadline is in flight no more, so it would be the one that is asked next."""
    silent, sibling = Channel(DeadlineExceeded("late")), Channel(in_flight=5)
    pool = pool_of(silent, sibling)
    with pytest.raises(DeadlineExceeded):
        ask(pool)
    ask(pool)
    assert (len(silent.asked), len(sibling.asked)) == (1, 1)


def test_a_worker_that_does_not_read_leaves_its_calls_to_its_sibling():
    """F-06: nobody is overloaded as long as one of them reads; and it is asked no more for a while."""
    stopped, sibling = Channel(Overloaded("does not read")), Channel(in_flight=5)
    pool = pool_of(stopped, sibling)
    ask(pool)
    ask(pool)
    assert (len(stopped.asked), len(sibling.asked)) == (1, 2)


def test_of_two_that_kept_silent_the_least_busy_is_asked():
    """A machine that stood still is no reason to ask nobody."""
    first, second = Channel(DeadlineExceeded("late"), in_flight=1), Channel(DeadlineExceeded("late"), in_flight=2)
    pool = pool_of(first, second)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            ask(pool)
    ask(pool)
    assert (len(first.asked), len(second.asked)) == (2, 1)


def test_a_worker_that_left_is_not_asked():
    """The pool is not ready any more."""
    channel = Channel()
    pool = pool_of(channel)
    pool.leave(channel)
    assert not pool.ready


def soon_ns(seconds=10.0):
    return time.monotonic_ns() + round(seconds * 1e9)


def test_a_request_has_its_model_loaded_and_waits_for_it():
    """The first who comes asks for it, once; all who came meanwhile are answered by it."""
    wanted, channel = [], Channel()

    async def run():
        pool = WorkerPool()
        pool.on_demand = lambda: wanted.append(True)
        assert pool.ready
        asked = [asyncio.create_task(pool.infer({"x": 1}, 1, soon_ns())) for _ in range(3)]
        await asyncio.sleep(0)
        pool.join(channel)
        return await asyncio.gather(*asked)

    assert [answer.infer_ns for answer in asyncio.run(run())] == [7000] * 3
    assert wanted == [True]


@pytest.mark.parametrize(("load_s", "left_s"), [(0.0, 0.02), (60.0, 10.0)])
def test_nobody_waits_longer_for_a_model_than_the_deadline(load_s, left_s):
    """Nor at all where loading is known to take longer: the fallback answers at once, and loading goes on."""
    wanted = []

    async def run():
        pool = WorkerPool()
        pool.on_demand, pool.load_s = (lambda: wanted.append(True)), load_s
        with pytest.raises(WorkerUnavailable):
            await pool.infer({"x": 1}, 1, soon_ns(left_s))

    asyncio.run(run())
    assert wanted == [True]


def test_who_waits_is_told_that_the_model_cannot_be_loaded():
    """The fallback answers before the deadline."""

    async def run():
        pool = WorkerPool()
        pool.on_demand = lambda: None
        asked = asyncio.create_task(pool.infer({"x": 1}, 1, soon_ns(60)))
        await asyncio.sleep(0)
        pool.fail_arrival()
        with pytest.raises(WorkerUnavailable):
            await asked

    asyncio.run(run())


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
    assert 0.1 * calls <= len(sibling.asked) <= 0.1 * calls + 10
