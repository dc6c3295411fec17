"""What becomes of a call whose callers have all given up."""

import asyncio
import gc

import pytest

from brownfield.model.process import AnswerLate, Reply
from brownfield.serving.fallback.breaker import Breaker
from brownfield.serving.gateway import Dataplane, Snapshot, Split
from brownfield.serving.gateway.admission import Admission
from brownfield.serving.gateway.asks import Ask
from brownfield.serving.gateway.costs import CostCurve
from harness.virtual_time import VirtualClock, run_virtually

DEADLINE_S = 0.1


class LatePool:
    """Each call's deadline passes; its answer comes so many seconds after that, or never."""

    ready = True

    def __init__(self, clock):
        self.clock = clock
        self.workers = 1
        self.late_by_s = []  # of each call; None for one that is refused at that moment
        self.asked_s = []

    def look(self):
        """Do nothing."""

    async def infer(self, _tensors, rows, deadline_ns):
        """Let the deadline pass."""
        loop, number = asyncio.get_running_loop(), len(self.asked_s)
        self.asked_s.append(self.clock.now_s)
        await asyncio.sleep(deadline_ns / 1e9 - self.clock.now_s)
        later = loop.create_future()
        if number < len(self.late_by_s):
            late_s, reply = self.late_by_s[number], Reply()
            refused = late_s is None
            reply.queue_us, reply.run_us, reply.call_rows = 0, 0 if refused else 80_000, 0 if refused else rows
            loop.call_later(late_s or 0, lambda: later.done() or later.set_result(reply))
        raise AnswerLate(later)


@pytest.fixture
def late(served):
    """Ask once at each of these moments, with a model that computes one call at a time; when each was answered."""
    clock = VirtualClock()
    served.deadline_ns = round(DEADLINE_S * 1e9)
    champion = served.champion
    pool = champion.pool = LatePool(clock)
    champion.costs = CostCurve({1: 1000}, deadline_ns=served.deadline_ns)
    champion.admission = Admission(champion.costs)
    champion.row_cap = 8
    plane = Dataplane(Snapshot({served.name: served}), clock)
    checked = served.request.rows.check([{"store_id": 1, "items": ["MILK"]}])
    began_s = clock.now_s

    def ask(moments_s, late_by_s=()):
        pool.late_by_s = late_by_s
        told = []

        def note(_, answer):
            told.append((round(clock.now_s - began_s, 3), answer.decision.cause))

        async def main():
            for moment_s in moments_s:
                await asyncio.sleep(began_s + moment_s - clock.now_s)
                split = Split(clock.monotonic_ns())
                plane.ask(Ask(served, checked, split, 0, note))
            await asyncio.sleep(1)

        run_virtually(main(), clock)
        assert (champion.admission.waiting_rows, len(champion.calls)) == (0, 0)
        return told, [round(asked_s - began_s, 3) for asked_s in pool.asked_s]

    return ask


def test_f06_callers_are_told_at_their_deadline_and_the_model_is_asked_when_it_has_answered(late):
    """F-06: the next call is made when the late answer has come, not into the process that is busy."""
    told, asked_s = late([0, 0.05], late_by_s=[0.03])
    assert told == [(0.1, "deadline"), (0.15, "deadline")]
    assert asked_s == [0, 0.13]


def test_f06_a_process_that_says_nothing_for_half_a_deadline_is_not_waited_for(late):
    """F-06: it may hang, so it is asked again, for callers who have time yet."""
    told, asked_s = late([0, 0.08])
    assert told == [(0.1, "deadline"), (0.18, "deadline")]
    assert asked_s == [0, 0.15]


def test_f06_beside_others_a_process_that_is_silent_keeps_nothing_from_them(late, served):
    """F-06: with two workers the next call is made at the deadline, for the other one is free."""
    served.champion.pool.workers = 2
    _, asked_s = late([0, 0.05], late_by_s=[0.03])
    assert asked_s == [0, 0.1]


def test_f07_what_the_process_refused_for_it_came_to_it_too_late_teaches_nothing(late, served):
    """F-07: it was at others meanwhile."""
    _, asked_s = late([0, 0.05], late_by_s=[None, None])
    assert asked_s == [0, 0.1]
    assert served.champion.costs.time_ns(1) == 1e6


def test_no_cycle_is_left_for_the_garbage_collector(late):
    """Of calls that were answered late, refused and never answered."""
    gc.collect()
    gc.disable()
    try:
        late([0, 0.3, 0.6], late_by_s=[0.03, None])
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [each for each in gc.garbage if isinstance(each, Reply | asyncio.Future)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


def test_f07_what_came_too_late_is_learned_at_once(late, served):
    """F-07: a quarter of the way from the millisecond that was measured to the 80 that it took."""
    late([0], late_by_s=[0.03])
    assert served.champion.costs.time_ns(1) > 15e6


def test_f07_a_model_that_was_at_another_call_meanwhile_is_not_blamed(late, served):
    """F-07: of two late calls with the model the second began when the first was answered, with too little time."""
    served.champion.row_cap = 1  # full calls: the second is sent behind the first
    served.champion.breaker = Breaker(minimum_calls=2, sustained_s=0)
    _, asked_s = late([0, 0.05], late_by_s=[0.03, 0.01])
    assert asked_s == [0, 0.05]
    assert served.champion.breaker.openings == 0
