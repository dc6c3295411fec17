"""The journals of a gateway: one task flushes all of them, whatever becomes of one."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from brownfield.clock import SystemClock
from brownfield.serving import journals as journals_module
from brownfield.serving.gateway import Split
from brownfield.serving.journals import Journals
from brownfield.store import read_journal
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
    return Journals(tmp_path, SystemClock())


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
        flushing = asyncio.create_task(journals.keep_flushing())
        for rows in (1, 2):
            for record, name in ((broken, "broken"), (fine, "fine")):
                record(decision(name), Split(0), 1, None)
            await asyncio.wait_for(written(tmp_path / "fine", rows), 30)
        flushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flushing

    asyncio.run(run())
    journals.close()
    assert {(record.event, record.integration) for record in caplog.records} == {("BF-SRV-JOURNAL-FAILED", "broken")}
