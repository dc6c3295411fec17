"""The journals of a gateway: one for each integration and contract, flushed by one task."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.clock import Clock
from brownfield.serving.gateway import Split
from brownfield.serving.gateway.metrics import family, labelled
from brownfield.store import Journal, Today

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec
    from brownfield.serving.gateway.served import Record
    from brownfield.types import Columns, Decision

__all__ = ["Journals"]

_log = logging.getLogger(__name__)

_FLUSH_EVERY_S = 1.0
_LOOK_EVERY_S = 0.1


class Journals:
    """The journals of every integration.

    Parameters
    ----------
    folder
        One folder for each integration is made in it; several gateways write beside each other.
    clock
        Stamps the decisions.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._today = Today(clock)  # kept over reloads: a journal begun under a wrong clock would believe it
        self._open: dict[tuple[str, str], Journal] = {}

    def record_for(self, spec: "IntegrationSpec") -> "Record":
        """Give the function that keeps the decisions of an integration under its contract."""
        key = (spec.name, spec.contract.digest)
        journal = self._open.get(key)
        if journal is None:
            folder = self._folder / spec.name
            journal = Journal(
                folder, integration=spec.name, contract=spec.contract, clock=self._clock, today=self._today
            )
            self._open[key] = journal
        append = journal.append

        def record(decision: "Decision", split: Split, rows: int, columns: "Columns | None") -> None:
            append(decision, split.in_us, rows, columns)

        return record

    def lines(self) -> Iterator[str]:
        """Give the metric of what was lost, as Prometheus text."""
        name = "brownfield_journal_dropped_total"
        yield from family(name, "counter", "Decisions that the journal lost: too many waited, or it was not writable.")
        dropped: Counter[str] = Counter()
        for (integration, _), journal in sorted(self._open.items(), key=itemgetter(0)):
            dropped[integration] += journal.dropped
        for integration, n in dropped.items():
            yield f"{name}{{{labelled(integration=integration)}}} {n}"

    async def keep_flushing(self) -> None:
        """Write what was kept every second, and sooner where there is much."""
        looks = round(_FLUSH_EVERY_S / _LOOK_EVERY_S)
        while True:
            for look in range(1, looks + 1):
                await asyncio.sleep(_LOOK_EVERY_S)
                due = [key for key, journal in self._open.items() if look == looks or journal.has_many]
                for key in due:
                    for _ in range(self._open[key].portions):
                        self._attempt(Journal.gather, key)
                        await asyncio.sleep(0)  # callers come between
                if due:
                    await asyncio.to_thread(self._each, Journal.write)

    def close(self) -> None:
        """Write what is left."""
        self._each(Journal.close)

    def _each(self, action: Callable[[Journal], None]) -> None:
        for key in tuple(self._open):
            self._attempt(action, key)

    def _attempt(self, action: Callable[[Journal], None], key: tuple[str, str]) -> None:
        """Do it with one journal; what that raises costs neither the others nor what comes later."""
        try:
            action(self._open[key])
        except Exception:  # noqa: BLE001 (the others are to be written whatever it is)
            extra = {"event": "BF-SRV-JOURNAL-FAILED", "integration": key[0]}
            _log.exception("a journal failed and lost decisions", extra=extra)
