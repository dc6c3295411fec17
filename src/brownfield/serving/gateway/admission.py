"""Who may wait for a model: a bound on the queue that follows from the deadline, not from a count."""

from brownfield.serving.gateway.costs import CostCurve

__all__ = ["Admission"]

_WEIGHT = 1 / 16  # of one call in the smoothed times
_WEIGHT_LATER, _WEIGHT_SOONER = 1 / 4, 1 / 256  # of one answer in what is left for those that come later
_FEWEST_CALLS, _MOST_CALLS = 2, 4
_BESIDE_SHARE = 1 / 16  # of a call in the engine: what may pass between two
_GATEWAY_NS = 20_000  # that a request costs the gateway, about


class Admission:
    """Admits records while the model can answer them, and all before them, in time.

    What an answer takes has two parts. The engine's own time is learned per record and, by the cost curve, per size of
    a call. The rest (the hop, and the gateway's own work) is learned per call, from the gaps between answers while the
    model was busy; a call that did not wait behind another tells only how long that takes at most, so it can lower the
    estimate and never raise it, and one that was given up tells how long it takes at least.
    An empty queue admits: a wrong estimate heals itself.

    How much later answers come than was estimated is learned too, and is what an estimate must leave of the deadline:
    an expectile (Newey and Powell, "Asymmetric least squares estimation and testing", 1987), so that few come later.

    Parameters
    ----------
    costs
        What calls cost by their rows; None to go by the mean time of a record.

    Attributes
    ----------
    waiting_rows
        Records admitted and not answered yet, those that are with the model included.
    row_ns, call_ns
        Smoothed nanoseconds in the engine per record, and beside it per call.
    margin_ns
        Nanoseconds by which answers come later than was estimated, but for few.
    last_answer_ns
        When the model answered last, on the monotonic clock; 0 before.

    Examples
    --------
    >>> gate = Admission()
    >>> gate.wait_ns(rows=1, cap=8)
    0.0
    >>> gate.enter(8)
    >>> gate.leave(8, sent_ns=0, now_ns=1_000_000, run_ns=800_000)
    >>> gate.row_ns, gate.call_ns
    (100000.0, 200000.0)
    >>> gate.wait_ns(rows=9, cap=8)  # two calls, and nine records in the engine
    1300000.0
    """

    __slots__ = ("call_ns", "costs", "last_answer_ns", "margin_ns", "row_ns", "waiting_rows")

    def __init__(self, costs: CostCurve | None = None) -> None:
        self.costs = costs
        self.waiting_rows = 0
        self.row_ns = 0.0
        self.call_ns = 0.0
        self.margin_ns = 0.0
        self.last_answer_ns = 0

    def wait_ns(self, rows: int, cap: int, calls: int = 0, sent_rows: int = 0) -> float:
        """Estimate the time until so many queued records are answered, as far as is known.

        Parameters
        ----------
        rows
            Of the queue up to the request, and its own.
        cap
            Most rows of a shared call.
        calls, sent_rows
            That are with the model already.
        """
        queued = -(-rows // cap)
        if self.costs is not None:
            full_ns = self.full_ns(cap)
            engine_ns = full_ns * (rows + sent_rows) / cap
            if queued * cap > rows:  # the last call may be shared by then, and ends for all at once
                engine_ns += full_ns * (queued * cap - rows) / cap
        else:
            engine_ns = self.row_ns * (rows + sent_rows)
        return engine_ns + self.call_ns * (queued + calls)

    def engine_ns(self, rows: int) -> float:
        """Give what one call of so many rows takes in the engine, as far as is known."""
        return self.costs.time_ns(rows) if self.costs is not None else self.row_ns * rows

    def window(self, cap: int, full: bool = False) -> int:  # noqa: FBT001, FBT002 (on the path of every request)
        """Give how many calls keep the model busy while an answer is on its way.

        A model that needs less for a record than the gateway itself is not what callers wait for: what comes while it
        computes makes its next call larger, and each call costs the gateway as much as several requests. A model whose
        calls take many times what lies beside them loses next to nothing between two calls, and more by small ones.
        Both end where what waits fills a call (``full``).
        """
        engine_ns = self.full_ns(cap)
        if not full and (0 < self.row_ns < _GATEWAY_NS or self.call_ns < _BESIDE_SHARE * engine_ns):
            return 1
        if not engine_ns:
            return _FEWEST_CALLS
        return min(_MOST_CALLS, max(_FEWEST_CALLS, 1 + round(self.call_ns / engine_ns)))

    def full_ns(self, cap: int) -> float:
        """Give what a call of so many rows takes in the engine; 0 when nothing is known."""
        costs = self.costs
        if costs is None:
            return self.row_ns * cap
        return costs.cap_ns if cap == costs.cap else costs.time_ns(cap)

    def enter(self, rows: int) -> None:
        """Count ``rows`` records as waiting."""
        self.waiting_rows += rows

    def forget(self, rows: int) -> None:
        """Count them as gone without an answer."""
        self.waiting_rows -= rows

    def leave(self, rows: int, *, sent_ns: int, now_ns: int, run_ns: int, call_rows: int = 0) -> None:
        """Count the records of an answered call as gone, and learn from it.

        Parameters
        ----------
        rows
            Of the call.
        sent_ns, now_ns
            When the model was asked, and when it answered.
        run_ns
            That the engine took.
        call_rows
            Records that it took so long for, where the worker joined calls; those of this call by default.
        """
        row_ns = run_ns / (call_rows or rows)
        self.waiting_rows -= rows
        busy = self.last_answer_ns >= sent_ns
        beside_ns = max(0, now_ns - (self.last_answer_ns if busy else sent_ns) - run_ns)
        self.last_answer_ns = now_ns
        if not self.row_ns:
            self.row_ns, self.call_ns = row_ns, float(beside_ns)
            return
        self.row_ns += _WEIGHT * (row_ns - self.row_ns)
        if busy or beside_ns < self.call_ns:
            self.call_ns += _WEIGHT * (beside_ns - self.call_ns)

    def compare(self, expected_ns: float, now_ns: int) -> None:
        """Learn from an answer how far it came from when it was expected; monotonic times in nanoseconds.

        Examples
        --------
        >>> gate = Admission()
        >>> for _ in range(100):
        ...     gate.compare(expected_ns=5_000_000, now_ns=7_000_000)
        >>> round(gate.margin_ns)
        2000000
        """
        beyond_ns = max(0.0, now_ns - expected_ns) - self.margin_ns
        self.margin_ns += (_WEIGHT_LATER if beyond_ns > 0 else _WEIGHT_SOONER) * beyond_ns

    def give_up(self, rows: int, *, sent_ns: int, now_ns: int) -> None:
        """Count the records of a call as gone that was waited for in vain, and learn that it takes longer than that."""
        self.waiting_rows -= rows
        waited_ns = now_ns - max(self.last_answer_ns, sent_ns)
        engine_ns = self.engine_ns(rows)
        if waited_ns - engine_ns > self.call_ns:
            self.call_ns += _WEIGHT * (waited_ns - engine_ns - self.call_ns)
            if self.costs is not None:
                self.costs.late(rows, waited_ns)
