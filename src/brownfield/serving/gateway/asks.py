"""Callers' records on their way to a model: what came in one turn of the loop shares one call where it may.

Comes in: asks in the order of arrival. Goes out: groups for one call each, their records as one set of columns, and of
the answer each ask's own rows. A group never mixes integrations or priorities, and never passes the row cap.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from brownfield.contract import Checked
from brownfield.errors import BrownfieldError
from brownfield.serving.gateway.priority import Priority
from brownfield.serving.gateway.waiting import NEVER_NS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from brownfield.serving.gateway.answer import Answer
    from brownfield.serving.gateway.enrich import LookupNote
    from brownfield.serving.gateway.flights import Flight
    from brownfield.serving.gateway.latency import Split
    from brownfield.serving.gateway.served import Served, Version

__all__ = ["SAME_DEADLINE_NS", "Ask", "Done", "ModelCall", "halved", "merged", "own_rows", "report", "resolve"]

Done = Callable[["Ask", "Answer | BrownfieldError"], None]
"""Told the answer, or the refusal, of an ask."""

_INTERACTIVE: Final = Priority.INTERACTIVE
_OVER: Final[Any] = object()
SAME_DEADLINE_NS: Final = 1_000_000
"""Callers whose deadlines are this close give up together."""


class Ask:
    """One caller's checked records, and whom to tell the answer.

    Parameters
    ----------
    served
        The integration.
    checked
        Records that passed its request schema.
    split
        The request's latency split so far.
    deadline_ns
        Monotonic time in nanoseconds at which the caller gives up; 0 for the declared deadline.
    done
        Called once with the answer or the refusal, unless the ask was cancelled.
    context
        The caller's own; not looked at.

    Attributes
    ----------
    known
        The records with what lookups add.
    notes
        What those lookups said.
    counted
        Whether its decision is counted and journalled; not for one that stands for several callers.
    fresh
        Whether the caller wants no kept answer, and none kept.
    entered_ns
        When it was admitted.
    expected_ns
        When the answer was expected then; 0 where that was not estimated, or is not true any more.
    priority
        What it is for.
    cause, fallen
        Why it fell back first, and how many of the chain were asked since.
    caller
        Name of the principal, with whom others share the model by rows.
    over
        Whether it was told, or cancelled: nobody is told any more.
    queued
        The version before which it waits; None before and behind that.
    flight
        That stands for it as long as it is under way; None without one.
    """

    __slots__ = (
        "caller",
        "cause",
        "checked",
        "context",
        "counted",
        "deadline_ns",
        "done",
        "entered_ns",
        "expected_ns",
        "fallen",
        "flight",
        "flow",
        "fresh",
        "known",
        "model_call",
        "notes",
        "over",
        "priority",
        "queued",
        "served",
        "split",
    )

    def __init__(
        self, served: "Served", checked: Checked, split: "Split", deadline_ns: int, done: Done, context: Any = None
    ) -> None:
        self.served = served
        self.checked = checked
        self.split = split
        self.deadline_ns = deadline_ns
        self.done = done
        self.context = context
        self.over = False
        self.known = checked
        self.notes: tuple[LookupNote, ...] = ()
        self.counted = True
        self.fresh = False
        self.entered_ns = 0
        self.expected_ns = 0.0
        self.priority = _INTERACTIVE
        self.caller = ""
        self.cause = ""
        self.fallen = 0
        self.flow: tuple[str, bool] = ("", False)
        self.queued: Version | None = None
        self.model_call: ModelCall | None = None
        self.flight: Flight | None = None

    def cancel(self) -> None:
        """Give up: nobody is told, and the model is not asked when it has not been."""
        self.over = True
        if self.queued is not None:
            self.queued.forget(self)
        if self.model_call is not None:
            self.model_call.cancel_when_unwanted()
        if self.flight is not None:
            self.flight.cancel_when_unwanted()


class ModelCall:
    """One call to a model for some asks, under way.

    Its coroutine is stepped by hand, on by the callback of the very future that it awaits: a task would cost a turn of
    the loop before it began. So code on this path has no current task, and must not use ``asyncio.timeout``.

    Attributes
    ----------
    deadline_ns
        When the last of its callers gives up.
    alone
        Whether it was one request, and the workers held no other call for as long as it went.
    rows
        Of all of them.
    sent_ns
        When the model was asked.
    soonest_ns
        When the first of them does, where that is notably sooner; never, where it is not.
    """

    __slots__ = ("_steps", "_waiting", "alone", "asks", "deadline_ns", "rows", "sent_ns", "soonest_ns")

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = asks
        self.alone = False
        self.sent_ns = 0
        self.rows = sum([ask.checked.rows for ask in asks])
        self._steps: Iterator[Any]
        self._waiting: asyncio.Future[Any] | None = None
        deadlines_ns = [ask.deadline_ns for ask in asks]
        self.deadline_ns, self.soonest_ns = max(deadlines_ns), min(deadlines_ns)
        if self.deadline_ns - self.soonest_ns <= SAME_DEADLINE_NS:
            self.soonest_ns = NEVER_NS

    def late(self, now_ns: int) -> list[Ask]:
        """Give those who have given up by now, and note when the next one will."""
        waiting = [ask for ask in self.asks if not ask.over]
        soon = [ask.deadline_ns for ask in waiting if now_ns < ask.deadline_ns < self.deadline_ns - SAME_DEADLINE_NS]
        self.soonest_ns = min(soon, default=NEVER_NS)
        return [ask for ask in waiting if ask.deadline_ns <= now_ns]

    def begin(self, coroutine: "Coroutine[Any, Any, None]") -> None:
        """Run the coroutine that asks the model."""
        self._steps = coroutine.__await__()
        self._step()

    def go_on(self) -> None:
        """Take in an answer that is there, without waiting for the loop to tell of it."""
        if self._waiting is not None and self._waiting.done():
            self._step(self._waiting)

    def cancel_when_unwanted(self) -> None:
        """End it when the last caller has left."""
        if self._waiting is not None and all(ask.over for ask in self.asks):
            self._waiting.cancel()

    def _step(self, told: object = None) -> None:
        if told is not self._waiting:
            return  # it went on without waiting to be told
        self._waiting = None
        try:
            future = next(self._steps, _OVER)  # a StopIteration would be given a traceback each time
        except asyncio.CancelledError:
            return
        if future is _OVER:
            return
        self._waiting = future
        if future is None:  # a bare yield: once around the loop
            asyncio.get_running_loop().call_soon(self._step)
            return
        future._asyncio_future_blocking = False  # noqa: SLF001 (the protocol between futures and their drivers)
        future.add_done_callback(self._step)


def halved(asks: Sequence[Ask]) -> list[list[Ask]]:
    """Give those who still wait in two groups, or fewer where fewer wait."""
    waiting = [ask for ask in asks if not ask.over]
    middle = (len(waiting) + 1) // 2
    return [half for half in (waiting[:middle], waiting[middle:]) if half]


_ARRAYS: Final = {np.ndarray}


def merged(asks: Sequence[Ask], rows: int) -> Checked:
    """Give the records of all asks, ``rows`` together, one after another, as one set of columns."""
    columns: dict[str, Any] = {}
    for name in asks[0].known.columns:
        parts = [ask.known.columns[name] for ask in asks]
        if set(map(type, parts)) == _ARRAYS:
            columns[name] = _joined(parts)
        else:
            columns[name] = [value for part in parts for value in _plain(part)]
    return Checked(rows, columns)


def own_rows(response: Checked, begin: int, rows: int) -> Checked:
    """Give the rows of one ask out of the answer to all."""
    end = begin + rows
    columns = {}
    for name, values in response.columns.items():
        columns[name] = values[begin:end]
    return Checked(rows, columns)


def resolve(ask: Ask, result: "Answer | BrownfieldError") -> None:
    """Tell a coroutine that waits for the answer: the context of its ask is the future."""
    future: asyncio.Future[Answer] = ask.context
    if future.done():
        return
    if isinstance(result, BrownfieldError):
        future.set_exception(result)
    else:
        future.set_result(result)


def report(error: Exception) -> None:
    """Hand to the loop what went wrong with giving an answer: others are still to get theirs."""
    message = {"message": "an answer could not be given", "exception": error}
    asyncio.get_running_loop().call_exception_handler(message)


def _joined(parts: list[Any]) -> Any:
    """Join arrays of records; where those of another caller have another shape, give each record's own."""
    try:
        return np.concatenate(parts)
    except ValueError:  # features of a fixed width do not read such a field, or shape each record of it alike
        return [record for part in parts for record in part]


def _plain(values: Any) -> Any:
    return values.tolist() if isinstance(values, np.ndarray) else values
