"""The journals of a gateway: one task flushes all of them, whatever becomes of one."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from brownfield.clock import SystemClock
from brownfield.serving import journals as journals_module
from brownfield.serving.gateway import Split
from brownfield.serving.journals import Journals
from brownfield.store import JournalPolicy, read_journal
from brownfield.types import Decision, Reason


def decision(integration):
    """One of an integration."""
    return Decision(
        id="1", integration=integration, source="model", version="1", reason=Reason.STATIC, degraded=False,
        contract="till@1.0.0",
    )  # fmt: skip


@pytest.fixture
def journals(tmp_path, monkeypatch):
    """Journals that are flushed all the time."""
    monkeypatch.setattr(journals_module, "_FLUSH_EVERY_S", 0.01)
    monkeypatch.setattr(journals_module, "_LOOK_EVERY_S", 0.01)
    opened = Journals(tmp_path, SystemClock())
    yield opened
    opened.close()


@contextlib.asynccontextmanager
async def flushed(journals):
    """Their task."""
    flushing = asyncio.create_task(journals.keep_flushing())
    yield
    flushing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await flushing


async def written(folder, rows):
    """Wait until so many decisions are on disk."""
    while not folder.exists() or read_journal(folder).num_rows < rows:  # noqa: ASYNC110 (a thread writes them)
        await asyncio.sleep(0.01)


@pytest.mark.inside
def test_a_journal_that_fails_costs_no_other(journals, retail, tmp_path, monkeypatch, caplog):
    """What one raises is told, and all of them are flushed again and again."""
    broken, fine = (journals.record_for(SimpleNamespace(name=name, contract=retail)) for name in ("broken", "fine"))
    monkeypatch.setattr(journals._open["broken", retail.digest], "_batches", None)

    async def run():
        async with flushed(journals):
            for rows in (1, 2):
                for record, name in ((broken, "broken"), (fine, "fine")):
                    record(decision(name), Split(0), 1, None)
                await asyncio.wait_for(written(tmp_path / "fine", rows), 30)

    asyncio.run(run())
    assert {(record.event, record.integration) for record in caplog.records} == {("BF-SRV-JOURNAL-FAILED", "broken")}


@pytest.mark.inside
def test_callers_come_between_the_portions_of_what_waits(journals, retail, tmp_path, monkeypatch):
    """After a stall thousands of decisions wait: the loop turns after every two thousand, and all are written."""
    record = journals.record_for(SimpleNamespace(name="many", contract=retail))
    journal = journals._open["many", retail.digest]
    monkeypatch.setattr(journal, "_policy", JournalPolicy(envelopes_per_s=10**9))
    for _ in range(10_000):
        record(decision("many"), Split(0), 1, None)
    waiting = []

    async def run():
        async with flushed(journals):
            while not waiting or waiting[-1] > 1:
                waiting.append(journal.portions)
                await asyncio.sleep(0)
            await asyncio.wait_for(written(tmp_path / "many", 10_000), 30)

    asyncio.run(run())
    assert sorted(set(waiting), reverse=True) == [5, 4, 3, 2, 1]


def test_f59_what_was_lost_is_a_metric(journals, retail, tmp_path):
    """F-59: where nothing can be written, each decision is counted by its integration; where it can, none."""
    lost, kept = (journals.record_for(SimpleNamespace(name=name, contract=retail)) for name in ("lost", "kept"))
    (tmp_path / "lost").write_text("a file where the folder should be")
    for record, name in ((lost, "lost"), (lost, "lost"), (kept, "kept")):
        record(decision(name), Split(0), 1, None)
    journals.close()
    assert list(journals.lines())[2:] == [
        'brownfield_journal_dropped_total{integration="kept"} 0',
        'brownfield_journal_dropped_total{integration="lost"} 2',
    ]
