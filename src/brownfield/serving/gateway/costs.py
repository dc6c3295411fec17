"""What one call to a model costs by its rows, and how many rows of one call still pay.

In: the curve that the bundle brings (measured by fit), then every call's own time. Out: the time of a call, and a cap.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

__all__ = ["CostCurve", "curve_of"]

_SIZES = 10  # calls of 1, 2 to 3, 4 to 7, ... rows are remembered together; the last holds all that are larger
_TRIED = (*range(1, 16), *(16 * 2**n + 4 * 2**n * step for n in range(6) for step in range(4)))
_WEIGHT = 1 / 16  # of one call in the smoothed time of its size
_WEIGHT_LATE = 1 / 4  # of one that ended after its deadline
_FIRST_CALLS = 3  # of a size: engines plan and take memory in them (47 ms for two rows that take 13 afterwards)
_RELEARN_CALLS = 16
_STALE_CALLS = 128  # without one of its size: what is known of it may have been a stall, or another machine's
_ENOUGH = 0.95  # of the best rate that was seen
_BESIDE_NS = 50_000  # that a call costs gateway and worker beside the engine, about
_SHARE_OF_DEADLINE = 4  # one shared call takes no more than this part of the deadline


class CostCurve:
    """Time of a call over its rows.

    The cap is the fewest rows that reach 95 % of the best measured rate, what a call costs beside the engine included,
    as long as one call stays within a quarter of the deadline. It never goes beyond twice the largest call seen, so an
    unknown model is tried out step by step.
    Of larger calls than the cap, what is known gets stale when nobody makes them: they are tried out step by step anew.

    Parameters
    ----------
    measured_us
        Microseconds in the engine by rows of the call; empty where nothing was measured.
    deadline_ns
        Declared deadline; 0 for none.
    most_rows
        Bound of the cap.

    Attributes
    ----------
    cap
        Rows that a shared call may have now.
    cap_ns
        What such a call takes; 0 when nothing was ever measured.

    Examples
    --------
    >>> CostCurve({1: 7307, 8: 48_786, 32: 208_788}, most_rows=32).cap  # a transformer on one core
    3
    >>> CostCurve({1: 4.4, 8: 5.2, 32: 8.2}, most_rows=32).cap  # a small perceptron
    32
    >>> curve = CostCurve(most_rows=32)
    >>> curve.cap
    2
    """

    __slots__ = ("_calls", "_deadline_ns", "_most_rows", "_repeated", "_sizes", "_stale", "_unseen", "cap", "cap_ns")

    def __init__(
        self, measured_us: Mapping[int, float] | None = None, *, deadline_ns: int = 0, most_rows: int = 32
    ) -> None:
        self._sizes: list[list[float] | None] = [None] * _SIZES  # rows and nanoseconds
        self._unseen = [0] * _SIZES  # calls since one of each
        self._repeated = [0] * _SIZES  # calls of each beyond its first
        self._stale = [False] * _SIZES  # whether the cap goes by what is known of each no more
        self._deadline_ns = deadline_ns
        self._most_rows = most_rows
        self._calls = 0
        for rows, time_us in (measured_us or {}).items():
            self._sizes[_size(rows)] = [float(rows), time_us * 1000.0]
        self._choose()

    def keep_within(self, deadline_ns: int) -> None:
        """Go by another deadline from now on; what was learned stays."""
        self._deadline_ns = deadline_ns
        self._choose()

    def observe(self, rows: int, run_ns: int) -> None:
        """Learn from a call of ``rows`` rows that took ``run_ns`` nanoseconds in the engine."""
        size = _size(rows)
        known = self._sizes[size]
        self._unseen[size] = 0
        if known is None or self._stale[size]:
            self._sizes[size] = [float(rows), float(run_ns)]
            self._repeated[size] = self._calls = 0
            self._stale[size] = False
            self._choose()
            return
        self._repeated[size] += 1
        if self._repeated[size] < _FIRST_CALLS and run_ns / rows < known[1] / known[0]:
            known[0], known[1] = float(rows), float(run_ns)
        known[0] += _WEIGHT * (rows - known[0])
        known[1] += _WEIGHT * (run_ns - known[1])
        self._calls += 1
        if self._calls == _RELEARN_CALLS:
            self._calls = 0
            self._grow_stale()
            self._choose()

    def late(self, rows: int, run_ns: int) -> None:
        """Learn at once from a call that was answered after its deadline, or that a model is silent about so long."""
        self.observe(rows, run_ns)
        known = self._sizes[_size(rows)]
        if known is not None and run_ns / rows > known[1] / known[0]:
            known[0] += _WEIGHT_LATE * (rows - known[0])
            known[1] += _WEIGHT_LATE * (run_ns - known[1])
        self._choose()

    def time_ns(self, rows: int) -> float:
        """Nanoseconds that a call of ``rows`` rows takes; 0 when nothing was ever measured.

        Examples
        --------
        >>> CostCurve({1: 10, 8: 24}).time_ns(4)
        16000.0
        """
        return _time_ns(self._points(stale=rows > self.cap), rows)

    def is_guess(self, rows: int) -> bool:
        """Whether what so many rows take is only thought to be, from calls of less than half as many.

        Examples
        --------
        >>> CostCurve({1: 10, 8: 24}).is_guess(16), CostCurve({1: 10, 8: 24}).is_guess(17)
        (False, True)
        """
        points = self._points(stale=True)
        return bool(points) and rows > 2 * points[-1][0]

    def _points(self, *, stale: bool) -> list[tuple[float, float]]:
        """Rows and nanoseconds of what is known, or of what is known and not stale."""
        sizes = zip(self._sizes, self._stale, strict=True)
        return [(known[0], known[1]) for known, old in sizes if known is not None and (stale or not old)]

    def _grow_stale(self) -> None:
        """Put aside what is known of larger calls than are made; single large requests are still estimated by it."""
        for size in range(_size(self.cap) + 1, _SIZES):
            self._unseen[size] += _RELEARN_CALLS
            self._stale[size] = self._stale[size] or self._unseen[size] > _STALE_CALLS

    def _choose(self) -> None:
        self.cap = self._best_cap()
        self.cap_ns = self.time_ns(self.cap)

    def _best_cap(self) -> int:
        points = self._points(stale=False)
        largest = max(1, int(points[-1][0])) if points else 1
        # Between two points the rate only rises or only falls, so the best of all rows lies beside a point.
        beside = [rows for few, _ in points for rows in (int(few), int(few) + 1) if 0 < rows <= largest]
        enough = _ENOUGH * max([_rate(points, rows) for rows in (1, *beside)])
        tried = [rows for rows in _TRIED if rows < largest]
        cap = next((rows for rows in tried if _rate(points, rows) >= enough), largest)
        if 2 * cap > largest:  # the rate may rise further: try it out
            cap = 2 * largest
        cap = min(cap, self._most_rows)
        if self._deadline_ns:
            while cap > 1 and _time_ns(points, cap) * _SHARE_OF_DEADLINE > self._deadline_ns:
                cap -= 1
        return cap


def _rate(points: list[tuple[float, float]], rows: int) -> float:
    return rows / (_BESIDE_NS + _time_ns(points, rows))


def _time_ns(points: list[tuple[float, float]], rows: int) -> float:
    if not points:
        return 0.0
    for (few, short), (many, long) in pairwise(points):
        if rows <= many:
            line = short + (long - short) * (rows - few) / (many - few)
            return line if rows >= few else max(line, short * rows / few)  # fewer are no quicker for a row
    last_rows, last_ns = points[-1]
    return last_ns * max(1.0, rows / last_rows)


def _size(rows: float) -> int:
    return min(_SIZES, int(rows).bit_length()) - 1


def curve_of(provenance: Mapping[str, Any]) -> dict[int, float]:
    """Give the cost curve that ``fit`` wrote into a manifest; empty where there is none.

    Examples
    --------
    >>> curve_of({"fit": {"cost_curve_us": {"1": 4.4, "8": 5.2}}})
    {1: 4.4, 8: 5.2}
    >>> curve_of({"seed": 7})
    {}
    """
    fitted = provenance.get("fit")
    curve = fitted.get("cost_curve_us") if isinstance(fitted, Mapping) else None
    if not isinstance(curve, Mapping):
        return {}
    return {
        int(rows): float(time_us)
        for rows, time_us in curve.items()
        if str(rows).isdigit() and int(rows) > 0 and isinstance(time_us, int | float) and time_us > 0
    }
