"""F-18: an event loop that is stuck is seen, said where, and taken for nothing else."""

import asyncio
import logging
import threading

from brownfield.serving.watchdog import Watchdog


class Heard(logging.Handler):
    """Lets another thread wait for a log line."""

    def __init__(self):
        super().__init__()
        self.came = threading.Event()
        self.records = []

    def emit(self, record):
        """Keep it."""
        self.records.append(record)
        self.came.set()


def test_f18_a_loop_that_is_stuck_is_said_with_its_stack():
    """F-18: while it is stuck, once, by files, lines and functions."""
    heard = Heard()
    logger = logging.getLogger("brownfield.serving.watchdog")
    logger.addHandler(heard)

    async def run():
        dog = Watchdog(patience_s=0.05)
        dog.watch()

        def call_that_blocks(secret):
            return heard.came.wait(60)

        assert call_that_blocks("4711")
        dog.end()

    try:
        asyncio.run(run())
    finally:
        logger.removeHandler(heard)
    record = heard.records[0]
    assert record.event == "BF-SRV-LOOP-STUCK"
    assert any(each.endswith(" call_that_blocks") for each in record.stack)
    assert "4711" not in "".join(record.stack)


def test_f18_a_process_that_was_stopped_is_not_stuck():
    """F-18, F-67: when the watching thread is as late as the loop, nothing ran, and nothing is said."""
    now = iter([0.0, 0.25, 0.5, 100.0, 100.25, 100.5, 100.75, 101.0, 101.25])
    dog = Watchdog(patience_s=1.0, now_s=lambda: next(now))
    assert [dog.looks_stuck() for _ in range(8)] == [False] * 7 + [True]
