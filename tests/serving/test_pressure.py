"""What the gateway refuses because it could not answer in time itself."""

import asyncio

import pytest

from brownfield.serving.gateway.pressure import Pressure
from brownfield.serving.gateway.waiting import Priority


def admitted(times_ns, deadline_ns=20_000_000, priority=Priority.INTERACTIVE):
    """Verdicts on requests that are read at these times in one turn of the loop."""

    async def run():
        pressure = Pressure()
        return [pressure.admits(now_ns, deadline_ns, priority) for now_ns in times_ns]

    return asyncio.run(run())


def test_a_turn_beyond_a_quarter_of_the_deadline_is_cut():
    """A thousand requests of 60 microseconds in one turn: the first 4 ms of work are done, the rest is refused."""
    verdicts = admitted(range(0, 60_000_000, 60_000))
    assert sum(verdicts) == 67
    assert verdicts == sorted(verdicts, reverse=True)


def test_a_stall_of_the_machine_refuses_nobody():
    """Few requests of one turn are answered, however long the turn takes."""
    assert all(admitted([0, *[500_000_000] * 31]))


@pytest.mark.parametrize(("priority", "share"), [(Priority.BATCH, 0.5), (Priority.SHADOW, 0.25)])
def test_lower_priorities_are_refused_sooner(priority, share):
    """Shadow first, then batch."""
    assert sum(admitted(range(0, 60_000_000, 60_000), priority=priority)) == pytest.approx(84 * share, abs=11)


def test_the_next_turn_begins_anew():
    """What was refused says nothing about the next turn."""

    async def run():
        pressure = Pressure()
        first = [pressure.admits(now_ns, 1_000_000, Priority.INTERACTIVE) for now_ns in range(0, 10_000_000, 100_000)]
        await asyncio.sleep(0)
        return first[-1], pressure.admits(20_000_000, 1_000_000, Priority.INTERACTIVE)

    assert asyncio.run(run()) == (False, True)


def test_turns_shorten_until_the_whole_of_one_fits():
    """What refusals and answers take is learned from full turns that follow one another, and forgotten after them."""

    async def run():
        pressure, shares = Pressure(), []
        for turn in range(20):
            for n in range(300):
                pressure.admits(turn * 15_000_000 + n * 20_000, 20_000_000, Priority.INTERACTIVE)
            shares.append(pressure.share)
            await asyncio.sleep(0)
        pressure.admits(10**9, 20_000_000, Priority.INTERACTIVE)
        await asyncio.sleep(0)
        for n in range(300):
            pressure.admits(2 * 10**9 + n, 20_000_000, Priority.INTERACTIVE)
        return shares, pressure.share

    shares, after = asyncio.run(run())
    assert shares[0] == 1 / 4
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(1 / 64, rel=0.1)
    assert after == 1 / 4
