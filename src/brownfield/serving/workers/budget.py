"""How often a call may be made again: a share of all calls, so that faults never multiply the load."""

__all__ = ["RetryBudget"]

_SHARE = 0.1
_LEAST = 3.0  # retries that a quiet system may make as well
_MOST = 100.0


class RetryBudget:
    """Earns a tenth of a retry with each call, and keeps a few for quiet times.

    This is the only place of the prediction path that asks again; callers are told by ``Retry-After`` when they may.

    Examples
    --------
    >>> budget = RetryBudget()
    >>> [budget.spend() for _ in range(4)]
    [True, True, True, False]
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

    def spend(self) -> bool:
        """Whether a call may be made once more; it counts as made."""
        if self._left < 1 - 1e-9:  # ten tenths are one
            return False
        self._left -= 1
        return True
