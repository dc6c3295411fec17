"""How callers are told, each once; what was decided is counted and journalled behind that, all of one turn together."""

import asyncio
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from brownfield.serving.gateway.asks import report

if TYPE_CHECKING:
    from brownfield.errors import BrownfieldError
    from brownfield.serving.gateway.answer import Answer
    from brownfield.serving.gateway.asks import Ask
    from brownfield.serving.gateway.served import Kept, Served
    from brownfield.types import Decision

__all__ = ["Telling"]


class Telling:
    """Tells callers, and keeps what was decided for them."""

    __slots__ = ("_decided",)

    def __init__(self) -> None:
        self._decided: list[tuple[Served, Kept]] = []

    def tell(self, ask: "Ask", result: "Answer | BrownfieldError", decision: "Decision | None" = None) -> None:
        """Tell the caller, unless it was told or has gone; the decision is counted and journalled after the answer."""
        if ask.over:
            return
        ask.over = True
        ask.model_call = None  # no cycle may be left for the garbage collector: its pauses are seen by callers
        try:
            ask.done(ask, result)
        except Exception as error:  # noqa: BLE001 (those who shared its call wait for their answers)
            report(error)
        if decision is not None and ask.counted:
            checked = ask.checked
            self.keep(ask.served, (decision, ask.split, checked.rows, checked.columns))

    def keep(self, served: "Served", kept: "Kept") -> None:
        """Count and journal a decision once the loop is free again: all of one turn together."""
        self._decided.append((served, kept))
        if len(self._decided) == 1:
            asyncio.get_running_loop().call_soon(self.settle)

    def settle(self) -> None:
        """Count and journal what was decided by now: whoever reads counters reads all of a decision, or nothing."""
        decided, self._decided = self._decided, []
        for served, group in groupby(decided, itemgetter(0)):
            kept = [each for _, each in group]
            served.meter.observe(kept)
            if served.record is not None:
                for each in kept:
                    served.record(*each)
