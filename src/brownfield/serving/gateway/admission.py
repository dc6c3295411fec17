"""Who may wait for a model: a bound on the queue that follows from the deadline, not from a count."""

__all__ = ["Admission"]

_WEIGHT = 1 / 32  # of one answer in the smoothed time per record; answers arrive in batches, so single gaps jump


class Admission:
    """Admits records while the model can answer them, and all before them, in time.

    The time per record is learned from the gaps between answers while the model was busy, so batching and several
    workers are in it. An empty queue always admits: a wrong estimate heals itself.

    Examples
    --------
    >>> gate = Admission()
    >>> gate.admits(rows=1, left_ns=1_000)
    True
    >>> gate.enter(1, now_ns=0)
    >>> gate.leave(1, entered_ns=0, now_ns=640_000, answered=True)
    >>> round(gate.per_row_ns)
    20000
    >>> gate.enter(4, now_ns=700_000)
    >>> gate.admits(rows=1, left_ns=99_000), gate.admits(rows=1, left_ns=101_000)
    (False, True)
    """

    __slots__ = ("_last_answer_ns", "per_row_ns", "waiting_rows")

    def __init__(self) -> None:
        self.waiting_rows = 0
        self.per_row_ns = 0.0
        self._last_answer_ns = 0

    def admits(self, rows: int, left_ns: int) -> bool:
        """Whether ``rows`` records would be answered within ``left_ns`` nanoseconds, as far as is known."""
        return self.waiting_rows == 0 or (self.waiting_rows + rows) * self.per_row_ns <= left_ns

    def enter(self, rows: int, now_ns: int) -> None:
        """Count ``rows`` records as waiting."""
        if self.waiting_rows == 0:
            self._last_answer_ns = now_ns
        self.waiting_rows += rows

    def leave(self, rows: int, *, entered_ns: int, now_ns: int, answered: bool) -> None:
        """Count them as gone, and learn from their answer."""
        self.waiting_rows -= rows
        if answered:
            gap_ns = now_ns - max(self._last_answer_ns, entered_ns)
            self._last_answer_ns = now_ns
            self.per_row_ns += _WEIGHT * (gap_ns / rows - self.per_row_ns)
