"""Which row of a key held at a time: the latest that began by then, and never one from the future of that time."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from brownfield.errors import DeclarationError
    from brownfield.integration import AsOf

__all__ = ["Timeline"]

_DAY = {"d": 1, "us": 86_400_000_000}
"""One day in the units of a date and of a timestamp."""
_ALWAYS = np.iinfo(np.int64).max


class Timeline:
    """The rows of a lookup by key and by the time from which they hold.

    Parameters
    ----------
    as_of
        As declared.
    groups
        Number of the key of each row, shape ``(rows,)``.
    lookup
        The rows, with ``right`` and ``until``; none lacks ``right``.
    refused
        Makes the error for two rows that begin at one time.

    Raises
    ------
    DeclarationError
        When two rows of one key begin at one time.

    Examples
    --------
    >>> from datetime import date
    >>> from brownfield.integration import AsOf
    >>> prices = pa.table({"since": [date(2026, 1, 1), date(2026, 3, 1)]})
    >>> timeline = Timeline(AsOf(left="day", right="since"), pa.array([0, 0]), prices, Exception)
    >>> days = pa.array([date(2025, 12, 31), date(2026, 2, 1), date(2026, 3, 1)])
    >>> timeline.match(pa.array([0, 0, 0]), days).to_pylist()
    [None, 0, 1]
    """

    def __init__(
        self, as_of: "AsOf", groups: pa.Array, lookup: pa.Table, refused: "Callable[..., DeclarationError]"
    ) -> None:
        self.as_of = as_of
        self.kind = lookup[as_of.right].type
        begin = _ticks(lookup[as_of.right])
        group = groups.to_numpy(zero_copy_only=False).astype(np.int64)
        self._order = np.lexsort((begin, group))
        self._begin, self._group = begin[self._order], group[self._order]
        self._times, ranks = np.unique(self._begin, return_inverse=True)
        self._places = self._group * (len(self._times) + 1) + ranks + 1
        if (np.diff(self._places) == 0).any():
            raise refused(
                "rows of one key that begin at different times",
                f"{int((np.diff(self._places) == 0).sum()):,} that begin when another does",
                "as_of",
            )
        self._end = None
        if as_of.until is not None:
            until = lookup[as_of.until]
            self._end = np.where(until.is_null().to_numpy(), _ALWAYS, _ticks(until))[self._order]

    def match(self, groups: pa.Array, times: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Give the row that holds for each key at each time, or null.

        Parameters
        ----------
        groups
            Number of the key of each row; null where the lookup does not have it.
        times
            Its time, of the kind of ``right``; null has no match.
        """
        known = np.asarray(pc.is_valid(groups)) & np.asarray(pc.is_valid(times))
        if not len(self._order):
            return pa.nulls(len(groups), pa.int64())
        group = pc.fill_null(groups, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        ticks = _ticks(times)
        before = np.searchsorted(self._times, ticks, side="left" if self.as_of.strict else "right")
        found = np.searchsorted(self._places, group * (len(self._times) + 1) + before, side="right") - 1
        at = np.maximum(found, 0)
        known &= (found >= 0) & (self._group[at] == group)
        if self._end is not None:
            known &= ticks < self._end[at]
        if self.as_of.max_age_d is not None:
            unit = "d" if pa.types.is_date(self.kind) else "us"
            known &= ticks - self._begin[at] <= self.as_of.max_age_d * _DAY[unit]
        return pa.array(self._order[at], pa.int64(), mask=~known)


def _ticks(times: pa.Array | pa.ChunkedArray) -> "NDArray[np.int64]":
    """Give times as whole numbers: days of dates, microseconds of timestamps; null is 0."""
    kind = pa.int32() if pa.types.is_date(times.type) else pa.int64()
    numbers: NDArray[np.int64] = pc.fill_null(times.cast(kind), 0).to_numpy().astype(np.int64)
    return numbers
