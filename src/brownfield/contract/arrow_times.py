"""Arrow timestamps as UTC microseconds, zone rules applied without Arrow's own time zone database."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Ticks", "localised", "microseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a local time on purpose)
_MICROSECOND = timedelta(microseconds=1)
FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECOND = 10**6
_HOUR = 3600 * _SECOND


class Ticks(NamedTuple):
    """Timestamps as microseconds since 1970.

    Parameters
    ----------
    values
        ``int64``, null where the column was null or did not fit.
    outside
        Mask of values outside the years 1 to 9999.
    inexact
        Mask of values with a fraction of a microsecond.
    naive
        The values are local times.
    """

    values: pa.Array
    outside: pa.Array
    inexact: pa.Array
    naive: bool


def microseconds(column: pa.Array) -> Ticks:
    """Microseconds since 1970 of a timestamp column of any unit.

    Examples
    --------
    >>> microseconds(pa.array([1, None], pa.timestamp("s"))).values.to_pylist()
    [1000000, None]
    """
    raw = column.cast(pa.int64())
    rate = _PER_SECOND[column.type.unit]
    low, high = FIRST * rate // _SECOND, LAST * rate // _SECOND
    nothing = pa.array(np.zeros(len(raw), dtype=bool))
    inexact = nothing
    if rate > _SECOND:
        whole = pc.divide(raw, rate // _SECOND)
        inexact = pc.not_equal(pc.multiply(whole, rate // _SECOND), raw)
        return Ticks(whole, nothing, inexact, column.type.tz is None)
    outside = pc.or_(pc.less(raw, low), pc.greater(raw, high))
    raw = pc.if_else(pc.fill_null(outside, fill_value=False), None, raw)
    return Ticks(pc.multiply(raw, _SECOND // rate), outside, nothing, column.type.tz is None)


def localised(local: pa.Array, zone: ZoneInfo) -> tuple[pa.Array, pa.Array, pa.Array]:
    """UTC microseconds of local ones.

    Parameters
    ----------
    local
        Local microseconds since 1970.
    zone
        Their zone.

    Returns
    -------
    tuple
        The shifted values, the mask of local times that the zone has twice or not at all, and the mask of instants
        outside the years 1 to 9999.
    """
    mask = np.asarray(local.is_null()) if local.null_count else np.zeros(len(local), dtype=bool)
    ticks = np.asarray(pc.fill_null(local, 0))
    hours, back = np.unique(ticks // _HOUR, return_inverse=True)
    offsets, steady = _offsets(hours * _HOUR, zone)
    ends, steady_end = _offsets(np.minimum(hours * _HOUR + _HOUR - 1, LAST), zone)
    sure = steady & steady_end & (offsets == ends)
    shift, unclear = offsets[back], np.zeros(len(ticks), dtype=bool)
    doubtful = np.flatnonzero(~sure[back])
    if len(doubtful):
        # The zone changes within this hour: each second is looked at for itself.
        seconds, which = np.unique(ticks[doubtful] // _SECOND, return_inverse=True)
        exact, clear = _offsets(seconds * _SECOND, zone)
        shift[doubtful], unclear[doubtful] = exact[which], ~clear[which]
    shifted = ticks - shift
    outside = (shifted < FIRST) | (shifted > LAST)
    return pa.array(shifted, mask=mask), pa.array(unclear & ~mask), pa.array(outside & ~mask & ~unclear)


def _offsets(ticks: np.ndarray, zone: ZoneInfo) -> tuple[np.ndarray, np.ndarray]:
    """Offset from UTC in microseconds at each local time, and whether the zone has that time exactly once."""
    offsets, once = np.empty(len(ticks), dtype=np.int64), np.empty(len(ticks), dtype=bool)
    for index, tick in enumerate(np.clip(ticks, FIRST, LAST).tolist()):
        moment = (_LOCAL_EPOCH + tick * _MICROSECOND).replace(tzinfo=zone)
        offset, late = moment.utcoffset(), moment.replace(fold=1).utcoffset()
        assert offset is not None  # noqa: S101 (a ZoneInfo always has one)
        offsets[index], once[index] = offset // _MICROSECOND, offset == late
    return offsets, once
