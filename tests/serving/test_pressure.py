"""What the gateway refuses because it could not answer in time itself."""

import asyncio
from collections import Counter

import pytest

from brownfield.serving.gateway.pressure import Pressure
from brownfield.serving.gateway.priority import Priority
from brownfield.serving.gateway.rounds import Verdict, _fair_share
from harness.gateway_loop import Loop

DEADLINE_NS = 20_000_000


def judged(times_ns, priority=Priority.INTERACTIVE):
    """Verdicts on requests that are read at these times in one turn of the loop."""

    async def run():
        pressure = Pressure(lambda: 0)
        return [pressure.judge(now_ns, DEADLINE_NS, priority) for now_ns in times_ns]

    return asyncio.run(run())


def test_a_turn_beyond_half_of_the_deadline_is_cut():
    """A thousand requests of 60 microseconds: 10 ms are for the model, an eighth more for fallbacks, then no more."""
    verdicts = judged(range(0, 60_000_000, 60_000))
    assert verdicts.count(Verdict.ASK) == 167
    assert verdicts.count(Verdict.SHED) == 21
    assert verdicts == sorted(verdicts, reverse=True)


def test_a_stall_of_the_machine_refuses_nobody():
    """Few requests of one turn are answered, however long the turn takes."""
    assert set(judged([0, *[500_000_000] * 31])) == {Verdict.ASK}


@pytest.mark.parametrize(("priority", "share"), [(Priority.BATCH, 5 / 8), (Priority.SHADOW, 5 / 16)])
def test_lower_priorities_are_refused_sooner(priority, share):
    """Shadow first, then batch."""
    verdicts = judged(range(0, 60_000_000, 60_000), priority=priority)
    assert verdicts.count(Verdict.ASK) == pytest.approx(167 * share, abs=1)


def test_the_next_turn_begins_anew():
    """What one long turn refused says nothing about the next."""

    async def run():
        pressure = Pressure(lambda: 0)
        first = [pressure.judge(now_ns, 1_000_000, Priority.INTERACTIVE) for now_ns in range(0, 10_000_000, 100_000)]
        await asyncio.sleep(0)
        return first[-1], pressure.judge(20_000_000, 1_000_000, Priority.INTERACTIVE)

    assert asyncio.run(run()) == (Verdict.REFUSE, Verdict.ASK)


def test_f77_at_half_the_capacity_nobody_is_turned_away():
    """F-77: neither by the load nor by stalls of the machine that are longer than a deadline."""
    loop = Loop(stall_every_s=0.25, stall_s=0.03)
    loop.run((0.45 * loop.capacity, 4.0))
    assert not loop.took_s[Verdict.SHED] + loop.took_s[Verdict.REFUSE]


@pytest.mark.full
@pytest.mark.parametrize(("connections", "faster"), [(256, 1), (512, 1), (1000, 1), (512, 0.5), (1000, 0.5)])
def test_f77_under_overload_the_deadline_is_kept(connections, faster):
    """F-77: once it is found out, p99 from the moment a request was due; whatever a request costs."""
    loop = Loop(13e-6 * faster, 20e-6 * faster, 24e-6 * faster, 14e-6 * faster, connections)
    loop.run((1.3 / faster / 33e-6, 1.5))
    assert loop.p99_s(Verdict.ASK, since_s=0.5) < 0.02
    assert loop.p99_s(Verdict.REFUSE, since_s=0.5) < 0.02
    assert loop.p99_s(Verdict.SHED, since_s=0.5) < 0.02
    assert loop.rate(Verdict.ASK, 0.5, 1.5) > 0.65 * loop.capacity


@pytest.mark.parametrize("connections", [256, 512, 1000])
def test_f77_twice_the_capacity_is_found_out_in_two_deadlines(connections):
    """F-77: and half a deadline of it is not enough: so much gathers in a stall of the machine."""
    short, long = (Loop(connections=connections) for _ in range(2))
    short.run((2 * short.capacity, 0.01))
    long.run((2 * long.capacity, 0.04))
    assert not short.pressure.pressed
    assert long.pressure.pressed


@pytest.mark.parametrize(("every_s", "before_s"), [(0.1, 0.3), (0.3, 0.3), (0.3, 0.0)])
def test_bursts_that_are_answered_in_time_are_no_overload(every_s, before_s):
    """A tenth of the capacity, 250 requests at once: nobody is turned away, also when there was an overload before."""
    loop = Loop(connections=1000)
    burst = [(250 / 0.0005, 0.0005), (0.0, every_s - 0.0005)]
    loop.run((1.5 * loop.capacity, before_s), (0.0, 0.05), *burst * 20)
    assert bool(loop.took_s[Verdict.REFUSE]) == bool(before_s)
    assert loop.rate(Verdict.REFUSE, before_s + 0.05, 9.0) == loop.rate(Verdict.SHED, before_s + 0.05, 9.0) == 0
    assert loop.p99_s(Verdict.ASK, since_s=before_s + 0.05) < 0.01


def test_f77_after_an_overload_all_is_normal():
    """F-77: half a second after more than it could even refuse, nobody is turned away and nobody waits."""
    loop = Loop()
    loop.run((3 * loop.capacity, 0.2), (0.0, 0.5), (0.5 * loop.capacity, 0.3))
    assert loop.rate(Verdict.REFUSE, 0.0, 0.2) > 0
    assert loop.rate(Verdict.REFUSE, 0.7, 1.0) == loop.rate(Verdict.SHED, 0.7, 1.0) == 0
    assert loop.p99_s(Verdict.ASK, since_s=0.7) < 0.002


def test_few_callers_who_ask_again_at_once_are_never_refused():
    """Forty connections keep the loop busy without a pause, and each has its answer after a round trip of theirs."""
    loop = Loop(connections=40)
    loop.run((2 * loop.capacity, 0.5))
    assert not loop.took_s[Verdict.SHED] + loop.took_s[Verdict.REFUSE]
    assert not loop.pressure.pressed


def test_more_than_can_even_be_refused_leaves_some_to_the_model():
    """Where refusing does not keep up either, a round begins after a deadline all the same."""
    loop = Loop(connections=256)
    loop.run((4 * loop.capacity, 0.5))
    assert loop.pressure.pressed
    assert loop.rate(Verdict.ASK, 0.2, 0.5) > 0.1 * loop.capacity


def let_in(requests, turns=60):
    """Shares of each caller's requests that were let in, under the same pressure turn after turn; 10 us each."""

    async def run():
        pressure = Pressure(lambda: 0)
        pressure.pressed = True
        asked, admitted = Counter(), Counter()
        for turn in range(turns):
            for n, caller in enumerate(requests):
                now_ns = (turn + 1) * 8_000_000 + n * 10_000
                verdict = pressure.judge(now_ns, DEADLINE_NS, Priority.INTERACTIVE, caller, 200)
                if turn >= turns // 2:
                    asked[caller] += 1
                    admitted[caller] += verdict is Verdict.ASK
            await asyncio.sleep(0)
        return {caller: admitted[caller] / n for caller, n in asked.items()}

    return asyncio.run(run())


def test_f80_a_flood_takes_nothing_from_who_asks_for_little():
    """F-80: 500 requests of one caller are read before the three of another, and those are let in, turn after turn."""
    shares = let_in(["flood"] * 500 + ["calm"] * 3)
    assert shares["calm"] == 1
    assert 0 < shares["flood"] < 0.5


def test_callers_who_ask_for_the_same_are_let_in_alike():
    """Whoever is read first has hardly more than the others."""
    shares = let_in(["first"] * 250 + ["second"] * 250)
    assert shares["second"] == pytest.approx(shares["first"], rel=0.25)
    assert shares["second"] > 0


@pytest.mark.parametrize(
    ("wishes", "there", "share"),
    [([1, 1, 100], 12, 10), ([5, 5], 10, 0), ([50, 50], 10, 5), ([3], 2, 2)],
    ids=["one flood", "enough for all", "two floods", "one alone"],
)
def test_shares_are_fair(wishes, there, share):
    """Who asks for less than the others' share has it all."""
    assert _fair_share(wishes, there) == share
