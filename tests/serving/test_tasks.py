"""Tasks that nobody awaits."""

import asyncio
import itertools

from brownfield.serving import tasks as tasks_module
from brownfield.serving.tasks import Tasks


def test_what_is_done_again_and_again_goes_on_after_an_error(monkeypatch, caplog):
    """Leaking processes, hung gateways and the reader of lookups are looked after for as long as it lives."""
    monkeypatch.setattr(tasks_module, "_ONCE_MORE_S", 0.0)
    turns, enough = itertools.count(1), asyncio.Event()

    async def look():
        turn = next(turns)
        if turn == 1:
            raise OSError("Too many open files")
        enough.set()

    async def run():
        tasks = Tasks()
        tasks.keep_on(look, 0.0)
        await asyncio.wait_for(enough.wait(), 10)
        tasks.cancel()

    asyncio.run(run())
    assert [(record.event, record.task) for record in caplog.records] == [("BF-SRV-WENT-WRONG", "look")]
