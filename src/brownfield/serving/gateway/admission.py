"""Who may wait for a model: a bound on the queue that follows from the deadline, not from a count."""

__all__ = ["Admission"]

_WEIGHT = 1 / 32  # of one answer in the smoothed time per record; answers arrive in batches, so single gaps jump


class Admission:
    """Admits records while the model can answer them, and all before them, in time.

    The time per record is learned from the gaps between answers while the model was busy, so batching and several
    workers are in it. A record that did not wait behind another tells only how long it takes at most, so it can lower
    the estimate and never raise it. An empty queue admits: a wrong estimate heals itself.

    Examples
    --------
    >>> gate = Admission()
    >>> gate.admits(rows=1, left_ns=1_000)
    True
    >>> gate.enter(1)
    >>> gate.leave(1, entered_ns=0, now_ns=640_000, answered=True)
    >>> round(gate.per_row_ns)
    640000
    >>> gate.enter(4)
    >>> gate.admits(rows=1, left_ns=3_100_000), gate.admits(rows=1, left_ns=3_300_000)
    (False, True)
    """

    __slots__ = ("_last_answer_ns", "per_row_ns", "waiting_rows")

    def __init__(self) -> None:
        self.waiting_rows = 0
        self.per_row_ns = 0.0
        self._last_answer_ns = 0

    def admits(self, rows: int, left_ns: float, ahead_rows: int | None = None) -> bool:
        """Whether ``rows`` records would be answered within ``left_ns`` nanoseconds, as far as is known.

        Parameters
        ----------
        rows
            Of the request.
        left_ns
            Until its caller gives up.
        ahead_rows
            Those that are served before it; all that wait when None.
        """
        if self.waiting_rows == 0:
            return True
        ahead = self.waiting_rows if ahead_rows is None else ahead_rows
        return (ahead + rows) * self.per_row_ns <= left_ns

    def enter(self, rows: int) -> None:
        """Count ``rows`` records as waiting."""
        self.waiting_rows += rows

    def leave(self, rows: int, *, entered_ns: int = 0, now_ns: int = 0, answered: bool) -> None:
        """Count them as gone, and learn from their answer."""
        self.waiting_rows -= rows
        if not answered:
            return
        busy = self._last_answer_ns >= entered_ns
        per_row_ns = (now_ns - (self._last_answer_ns if busy else entered_ns)) / rows
        self._last_answer_ns = now_ns
        if not self.per_row_ns:
            self.per_row_ns = per_row_ns
        elif busy or per_row_ns < self.per_row_ns:
            self.per_row_ns += _WEIGHT * (per_row_ns - self.per_row_ns)
