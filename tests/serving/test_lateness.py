"""What becomes of a call whose callers have all given up."""

import asyncio

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

    ready = loaded = True

    def __init__(self, clock):
        self.clock = clock
        self.late_by_s = []
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
            reply = Reply()
            reply.queue_us, reply.run_us, reply.call_rows = 0, 80_000, rows
            loop.call_later(self.late_by_s[number], lambda: later.done() or later.set_result(reply))
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
