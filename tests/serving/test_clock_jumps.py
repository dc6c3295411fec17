"""F-65: a clock of the machine that is set is noticed, told and entered, and changes nothing else."""

import asyncio

import pytest

from brownfield.serving.clock_jumps import ClockJumps
from brownfield.serving.declared import read_declared
from brownfield.serving.manager import Manager
from brownfield.store import open_store
from brownfield.testing import FakeClock


@pytest.mark.parametrize("seconds", [3 * 86_400, -3600, 31, -31], ids=["F-65 days", "F-65 hour", "on", "back"])
def test_f65_a_clock_that_is_set_is_seen_once(seconds):
    """F-65: by how much, to the second; and not again."""
    clock = FakeClock()
    jumps = ClockJumps(clock)
    clock.advance(5)
    clock.jump(seconds)
    assert jumps.look() == pytest.approx(seconds)
    clock.advance(5)
    assert jumps.look() == 0


def test_f65_a_clock_that_is_corrected_is_not_set():
    """F-65: a time server moves it by less between two looks, and long silences are time that went by."""
    clock = FakeClock()
    jumps = ClockJumps(clock)
    for step_s in (0.5, -0.5, 10):
        clock.advance(86_400)
        clock.jump(step_s)
        assert jumps.look() == 0


def test_f65_the_audit_log_notes_a_jump(risk, tmp_path, caplog):
    """F-65: an entry with the seconds, and a line in the log."""
    risk.declare(tmp_path, model_path=None)
    clock = FakeClock()

    async def run():
        manager = Manager(read_declared(tmp_path), tmp_path / "run", drain_s=1, tell=lambda _: None, clock=clock)
        await manager._look_at_clock()
        clock.jump(-3600)
        await manager._look_at_clock()
        manager._clerk.rest()

    asyncio.run(run())
    with open_store(tmp_path / "var" / "brownfield.db") as store:
        [entry] = store.audit.entries(after=0, limit=10)
    assert (entry.action, entry.detail) == ("clock.set", '{"seconds":-3600}')
    assert [record.event for record in caplog.records] == ["BF-SRV-CLOCK-SET"]
