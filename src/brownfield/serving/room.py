"""How much memory there is for another model: within what all may take together, and within what the machine has left.

What is promised to one that is being loaded is reserved, so two that are loaded at a time are never promised the same.
"""

import math
from collections.abc import Callable

__all__ = ["Room"]

_SPARE_SHARE = 0.05  # of what is free stays free


class Room:
    """Memory that models of one workspace may still take.

    Parameters
    ----------
    held_mib
        What their processes take, as last measured.
    used_mib
        Measures what all our processes take.
    free_mib
        Says how much memory the machine has left.
    cap_mib
        Most that all our processes may take; None for what the machine has.

    Attributes
    ----------
    reserved_mib
        What was promised, by the name of who is being loaded.

    Examples
    --------
    >>> room = Room(lambda: 100.0, lambda: 150.0, lambda: 1000.0, cap_mib=500.0)
    >>> room.left_mib()
    350.0
    >>> room.reserve("a", 300.0)
    >>> room.has(51.0), room.has(50.0)
    (False, True)
    >>> room.release("a")
    """

    def __init__(
        self,
        held_mib: Callable[[], float],
        used_mib: Callable[[], float],
        free_mib: Callable[[], float],
        *,
        cap_mib: float | None = None,
    ) -> None:
        self.cap_mib = cap_mib
        self.reserved_mib: dict[str, float] = {}
        self._held_mib = held_mib
        self._used_mib = used_mib
        self._free_mib = free_mib
        self._own_mib = math.inf  # of all processes but those of models, when that was last looked at

    def reserve(self, name: str, need_mib: float) -> None:
        """Promise memory to one that is being loaded."""
        self.reserved_mib[name] = need_mib

    def release(self, name: str) -> None:
        """Promise it no more: its process is there and counts, or did not come."""
        self.reserved_mib.pop(name, None)

    def has(self, need_mib: float) -> bool:
        """Whether there is memory for so much more; processes are measured only in doubt: each takes 1 ms."""
        known_mib = self._held_mib() + self._own_mib + self._promised_mib()
        if self.cap_mib is not None and known_mib + need_mib <= self.cap_mib:
            return need_mib <= self._left_free_mib()
        return need_mib <= self.left_mib()

    def left_mib(self) -> float:
        """Measure how much is left; less than nothing where too much is taken already."""
        left_mib = self._left_free_mib()
        if self.cap_mib is not None:
            used_mib = self._used_mib()
            self._own_mib = used_mib - self._held_mib()
            left_mib = min(left_mib, self.cap_mib - used_mib - self._promised_mib())
        return left_mib

    def over_mib(self) -> float:
        """Measure by how much all together take more than they may; less than nothing where they do not."""
        if self.cap_mib is None:
            return -math.inf
        return self._used_mib() + self._promised_mib() - self.cap_mib

    def _left_free_mib(self) -> float:
        return self._free_mib() * (1 - _SPARE_SHARE) - self._promised_mib()

    def _promised_mib(self) -> float:
        return sum(self.reserved_mib.values())
