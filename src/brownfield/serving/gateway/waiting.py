"""Who waits for a model version, and who is next: priority before fairness before age.

In go admitted asks; out come groups for one call each. A higher priority is served first, always. Within one priority
callers share by rows, not by requests: whoever floods the queue waits behind its own records, and requests larger than
a shared call wait in a line of their own, so the small ones of the same caller pass between them.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from brownfield.serving.gateway.priority import Priority

if TYPE_CHECKING:
    from brownfield.serving.gateway.asks import Ask

__all__ = ["NEVER_NS", "Waiting"]

NEVER_NS: Final = 2**63
"""A monotonic time that is never reached."""


class _Flow:
    """The asks of one caller; ``served_rows`` is how much it has had, on the scale of the line."""

    __slots__ = ("asks", "rows", "served_rows")

    def __init__(self, served_rows: int) -> None:
        self.asks: deque[Ask] = deque()
        self.rows = 0
        self.served_rows = served_rows


class _Line:
    """The asks of one priority: the flow that has had the fewest rows is next.

    What a flow has had is remembered while others wait, so who asks for one thing after another has no more than them.
    """

    __slots__ = ("_had_rows", "_served_rows", "flows", "rows")

    def __init__(self) -> None:
        self.flows: dict[tuple[str, bool], _Flow] = {}
        self.rows = 0
        self._served_rows = 0
        self._had_rows: dict[tuple[str, bool], int] = {}

    def put(self, key: tuple[str, bool], ask: "Ask", rows: int) -> None:
        flow = self.flows.get(key)
        if flow is None:
            flow = self.flows[key] = _Flow(self._begins_at(key))
        flow.asks.append(ask)
        flow.rows += rows
        self.rows += rows

    def ahead(self, key: tuple[str, bool], rows: int) -> int:
        """Rows that will be served before a new ask of so many rows."""
        flow = self.flows.get(key)
        own, had = (flow.rows, flow.served_rows) if flow is not None else (0, self._begins_at(key))
        until = had + own + rows  # who has had less by then goes first
        others = sum(
            min(other.rows, max(0, until - other.served_rows)) for other in self.flows.values() if other is not flow
        )
        return own + others

    def take(self, most_rows: int) -> "list[Ask]":
        group: list[Ask] = []
        left = most_rows
        flows, served = self.flows, None
        while self.rows:
            key, flow = min(flows.items(), key=_had) if len(flows) > 1 else next(iter(flows.items()))
            asks, ask = flow.asks, flow.asks[0]
            if ask.over:
                asks.popleft()
                continue
            rows = ask.checked.rows
            if group and (rows > left or ask.served is not served):
                break
            served = ask.served
            group.append(asks.popleft())
            left -= rows
            self.rows -= rows
            self._served_rows = flow.served_rows
            flow.served_rows += rows
            flow.rows -= rows
            if not flow.rows:
                self._end(key, flow)
        return group

    def forget(self, key: tuple[str, bool], flow: _Flow, rows: int) -> None:
        flow.rows -= rows
        self.rows -= rows
        if not flow.rows:
            self._end(key, flow)

    def _begins_at(self, key: tuple[str, bool]) -> int:
        had_rows = self._had_rows
        return max(self._served_rows, had_rows.get(key, 0)) if had_rows else self._served_rows

    def _end(self, key: tuple[str, bool], flow: _Flow) -> None:
        del self.flows[key]
        if self.rows:
            self._had_rows[key] = flow.served_rows
        elif self._had_rows:
            self._had_rows.clear()


def _had(item: tuple[tuple[str, bool], _Flow]) -> int:
    return item[1].served_rows


class Waiting:
    """The queue before one model version.

    Attributes
    ----------
    rows
        Records that wait.
    soonest_ns
        No ask in the queue gives up before this monotonic time in nanoseconds.
    """

    __slots__ = ("_lines", "rows", "soonest_ns")

    def __init__(self) -> None:
        self._lines = tuple(_Line() for _ in Priority)
        self.rows = 0
        self.soonest_ns = NEVER_NS

    def put(self, ask: "Ask", row_cap: int) -> int:
        """Let an ask wait; ``row_cap`` is the most rows of a shared call. Its own rows."""
        rows = ask.checked.rows
        ask.flow = (ask.caller, rows > row_cap)
        self._lines[ask.priority].put(ask.flow, ask, rows)
        self.rows += rows
        if ask.deadline_ns < self.soonest_ns:  # noqa: PLR1730 (a call would cost more)
            self.soonest_ns = ask.deadline_ns
        return rows

    def ahead(self, ask: "Ask", row_cap: int) -> int:
        """Give the records that would be served before an ask that has not been put."""
        if not self.rows:
            return 0
        rows = ask.checked.rows
        higher = sum(line.rows for line in self._lines[: ask.priority])
        return higher + self._lines[ask.priority].ahead((ask.caller, rows > row_cap), rows)

    def take(self, most_rows: int) -> "list[Ask]":
        """Take who is next: asks of one integration and priority with ``most_rows`` together, or one that has more."""
        for line in self._lines:
            if line.rows:
                before = line.rows
                group = line.take(most_rows)
                self.rows -= before - line.rows
                if not self.rows:
                    self.soonest_ns = NEVER_NS
                return group
        return []

    def forget(self, ask: "Ask") -> None:
        """Take out one whose caller has left; what it held counts no more from now on."""
        line = self._lines[ask.priority]
        rows = ask.checked.rows
        line.forget(ask.flow, line.flows[ask.flow], rows)
        self.rows -= rows

    def expired(self, now_ns: int) -> "list[Ask]":
        """Take out all who have given up by now."""
        late: list[Ask] = []
        self.soonest_ns = NEVER_NS
        for line in self._lines:
            for flow in tuple(line.flows.values()):
                for ask in flow.asks:
                    if ask.over:
                        continue
                    if ask.deadline_ns <= now_ns:
                        late.append(ask)
                    elif ask.deadline_ns < self.soonest_ns:
                        self.soonest_ns = ask.deadline_ns
        return late
