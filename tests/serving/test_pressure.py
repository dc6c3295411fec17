"""What the gateway refuses because it could not answer in time itself."""

import asyncio
from collections import Counter

import pytest

from brownfield.serving.gateway.pressure import Pressure, Verdict, _fair_share
from brownfield.serving.gateway.waiting import Priority


def judged(times_ns, deadline_ns=20_000_000, priority=Priority.INTERACTIVE):
    """Verdicts on requests that are read at these times in one turn of the loop."""

    async def run():
        pressure = Pressure()
        return [pressure.judge(now_ns, deadline_ns, priority) for now_ns in times_ns]

    return asyncio.run(run())


def test_a_turn_beyond_a_quarter_of_the_deadline_is_cut():
    """A thousand requests of 60 microseconds: 4 ms are for the model, 1 ms for fallbacks, the rest is refused."""
    verdicts = judged(range(0, 60_000_000, 60_000))
    assert verdicts.count(Verdict.ASK) == 67
    assert verdicts.count(Verdict.SHED) == 17
    assert verdicts == sorted(verdicts, reverse=True)


def test_a_stall_of_the_machine_refuses_nobody():
    """Few requests of one turn are answered, however long the turn takes."""
    assert set(judged([0, *[500_000_000] * 31])) == {Verdict.ASK}


@pytest.mark.parametrize(("priority", "share"), [(Priority.BATCH, 0.5), (Priority.SHADOW, 0.25)])
def test_lower_priorities_are_refused_sooner(priority, share):
    """Shadow first, then batch."""
    verdicts = judged(range(0, 60_000_000, 60_000), priority=priority)
    assert verdicts.count(Verdict.ASK) == pytest.approx(84 * share, abs=11)


def test_the_next_turn_begins_anew():
    """What was refused says nothing about the next turn."""

    async def run():
        pressure = Pressure()
        first = [pressure.judge(now_ns, 1_000_000, Priority.INTERACTIVE) for now_ns in range(0, 10_000_000, 100_000)]
        await asyncio.sleep(0)
        return first[-1], pressure.judge(20_000_000, 1_000_000, Priority.INTERACTIVE)

    assert asyncio.run(run()) == (Verdict.REFUSE, Verdict.ASK)


def test_turns_shorten_until_the_whole_of_one_fits():
    """What refusals and answers take is learned from full turns that follow one another, and forgotten after them."""

    async def run():
        pressure, shares = Pressure(), []
        for turn in range(20):
            for n in range(300):
                pressure.judge(turn * 15_000_000 + n * 20_000, 20_000_000, Priority.INTERACTIVE)
            shares.append(pressure.share)
            await asyncio.sleep(0)
        pressure.judge(10**9, 20_000_000, Priority.INTERACTIVE)
        await asyncio.sleep(0)
        for n in range(300):
            pressure.judge(2 * 10**9 + n, 20_000_000, Priority.INTERACTIVE)
        return shares, pressure.share

    shares, after = asyncio.run(run())
    assert shares[0] == 1 / 4
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(1 / 64, rel=0.1)
    assert after == 1 / 4


def let_in(turns, requests):
    """Shares of each caller's requests that were let in, in the last of these turns; 10 microseconds each."""

    async def run():
        pressure = Pressure()
        for turn in range(turns):
            asked, admitted = Counter(), Counter()
            for n, caller in enumerate(requests):
                verdict = pressure.judge(turn * 8_000_000 + n * 10_000, 20_000_000, Priority.INTERACTIVE, caller)
                asked[caller] += 1
                admitted[caller] += verdict is Verdict.ASK
            await asyncio.sleep(0)
        return {caller: admitted[caller] / n for caller, n in asked.items()}

    return asyncio.run(run())


def test_f80_a_flood_takes_nothing_from_who_asks_for_little():
    """F-80: 500 requests of one caller are read before the three of another, and those are let in, turn after turn."""
    shares = let_in(20, ["flood"] * 500 + ["calm"] * 3)
    assert shares["calm"] == 1
    assert 0 < shares["flood"] < 0.5


def test_callers_who_ask_for_the_same_are_let_in_alike():
    """Whoever is read first has no more than the others, but for what is never refused."""
    shares = let_in(20, ["first"] * 250 + ["second"] * 250)
    assert shares["second"] == pytest.approx(shares["first"], abs=32 / 250)


@pytest.mark.parametrize(
    ("wishes", "there", "share"),
    [([1, 1, 100], 12, 10), ([5, 5], 10, 0), ([50, 50], 10, 5), ([3], 2, 2)],
    ids=["one flood", "enough for all", "two floods", "one alone"],
)
def test_shares_are_fair(wishes, there, share):
    """Who asks for less than the others' share has it all."""
    assert _fair_share(wishes, there) == share
