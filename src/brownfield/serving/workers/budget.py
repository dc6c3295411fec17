"""How often a call may be made again: a share of all calls, so that faults never multiply the load."""

__all__ = ["RetryBudget"]

_SHARE = 0.1
_LEAST = 10.0  # retries that a quiet system may make as well: by halves, they find one at fault among 32
_MOST = 100.0


class RetryBudget:
    """Earns a tenth of a retry with each call, and keeps a few for quiet times.

    Whatever asks again on the prediction path draws on the one budget of its model version: a sibling's turn after the
    death of a worker, and the parts of a shared call that failed. Callers are told by ``Retry-After`` when they may.

    Examples
    --------
    >>> budget = RetryBudget()
    >>> budget.spend(8), budget.spend(), budget.spend(2), budget.spend(), budget.spend()
    (True, True, False, True, False)
    >>> for _ in range(10):
    ...     budget.earn()
    >>> budget.spend(), budget.spend()
    (True, False)
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _LEAST

    def earn(self) -> None:
        """Count a call."""
        if self._left < _MOST:
            self._left += _SHARE

    def spend(self, calls: int = 1) -> bool:
        """Whether so many calls may be made once more, all or none; they count as made."""
        if self._left < calls - 1e-9:  # ten tenths are one
            return False
        self._left -= calls
        return True
