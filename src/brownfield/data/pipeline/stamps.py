"""Dates and timestamps in a declared spelling, column by column; what the calendar does not have does not fit."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.pipeline.coercions import Cast, lost
from brownfield.integration import SERIALS, tokens_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["dates", "timestamps"]

_PARTS = {
    "yyyy": "year", "yy": "year", "MM": "month", "M": "month", "dd": "day", "d": "day", "DDD": "day_of_year",
    "HH": "hour", "H": "hour", "mm": "minute", "ss": "second",
}  # fmt: skip
_NARROW = frozenset({"M", "d", "H"})
_DAY_US = 86_400_000_000
_EXCEL_EPOCH = -25_569
"""Day 0 of the 1900 system, 1899-12-30, in days since 1970; true from serial 61 on."""
_LAST_SERIAL = 2_958_465


def dates(spelling: str, first_year: int | None) -> Cast:
    """Read dates in one spelling.

    Examples
    --------
    >>> values, bad = dates("dd.MM.yyyy", None)(pa.array(["28.02.2026", "30.02.2026", "2026-02-28", None]))
    >>> values.to_pylist(), bad.tolist()
    ([datetime.date(2026, 2, 28), None, None, None], [False, True, True, False])
    """
    parse = _serial_days if spelling == "excel_serial" else _reader(spelling, first_year)

    def cast(text: pa.Array) -> tuple[pa.Array, "NDArray[np.bool_]"]:
        days, good = parse(text)
        values = pa.array(days.astype(np.int32), pa.int32(), mask=~good).cast(pa.date32())
        return values, lost(text, values)

    return cast


def timestamps(spelling: str, first_year: int | None) -> Cast:
    """Read timestamps in one spelling: local times without a zone, or instants for counts since 1970.

    Examples
    --------
    >>> values, bad = timestamps("yyyyMMddHHmm", None)(pa.array(["202602280930", "202602282530"]))
    >>> values.to_pylist(), bad.tolist()
    ([datetime.datetime(2026, 2, 28, 9, 30), None], [False, True])
    """
    parse = _SERIAL_READERS.get(spelling) or _reader(spelling, first_year, with_time=True)
    kind = pa.timestamp("us", "UTC" if spelling.startswith("epoch") else None)

    def cast(text: pa.Array) -> tuple[pa.Array, "NDArray[np.bool_]"]:
        ticks, good = parse(text)
        values = pa.array(ticks, pa.int64(), mask=~good).cast(kind)
        return values, lost(text, values)

    return cast


def _reader(spelling: str, first_year: int | None, *, with_time: bool = False) -> Any:
    """Give the function that reads a spelling: to days since 1970, or to microseconds."""
    tokens = tokens_of(spelling)
    parts_of = _by_pattern(tokens) if _NARROW & set(tokens) else _by_place(tokens)

    def parse(text: pa.Array) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
        parts, good = parts_of(text)
        if first_year is not None:
            parts["year"] = first_year + (parts["year"] - first_year) % 100
        days, real = _days(parts)
        good &= real
        if not with_time:
            return days, good
        hour, minute, second = (parts.get(name, np.int64(0)) for name in ("hour", "minute", "second"))
        good &= (hour < 24) & (minute < 60) & (second < 60)  # noqa: PLR2004 (the clock's own bounds)
        seconds = (hour * 60 + minute) * 60 + second
        return days * _DAY_US + seconds * 1_000_000 + parts.get("fraction", np.int64(0)), good

    return parse


def _days(parts: "Mapping[str, NDArray[np.int64]]") -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
    """Days since 1970 of year, month and day, and whether the calendar has them."""
    year = parts["year"]
    months = (np.maximum(year, 1) - 1970).astype("M8[Y]").astype("M8[M]")
    if "day_of_year" in parts:
        first, following, day = months, months + 12, parts["day_of_year"]
    else:
        month, day = parts["month"], parts["day"]
        first = months + np.clip(month - 1, 0, 11)
        following = first + 1
    length = (following.astype("M8[D]") - first.astype("M8[D]")).astype(np.int64)
    real = (year >= 1) & (day >= 1) & (day <= length)
    if "month" in parts:
        real &= (parts["month"] >= 1) & (parts["month"] <= 12)  # noqa: PLR2004 (the calendar's own bounds)
    return first.astype("M8[D]").astype(np.int64) + day - 1, real


def _by_place(tokens: "Sequence[str]") -> Any:
    """Read parts that stand at fixed places, from the bytes of the texts as one matrix."""
    width = sum(len(token) for token in tokens)

    def parts_of(text: pa.Array) -> "tuple[dict[str, NDArray[np.int64]], NDArray[np.bool_]]":
        rows = len(text)
        good = pc.fill_null(pc.equal(pc.binary_length(text), width), fill_value=False).to_numpy(zero_copy_only=False)
        good = good.copy()
        fitting = np.flatnonzero(good)
        letters = _matrix(text if len(fitting) == rows else text.take(pa.array(fitting)), width)
        parts, place = {}, 0
        spelt = np.ones(len(fitting), dtype=bool)
        for token in tokens:
            columns = letters[:, place : place + len(token)]
            place += len(token)
            name = _PARTS.get(token) or ("fraction" if set(token) == {"S"} else None)
            if name is None:
                spelt &= (columns == np.frombuffer(token.encode("ascii", "replace"), np.uint8)).all(axis=1)
                continue
            value = np.zeros(len(fitting), dtype=np.int64)
            for column in range(len(token)):
                digit = columns[:, column] - np.uint8(48)
                spelt &= digit < 10  # noqa: PLR2004 (the digits)
                value = value * 10 + digit
            whole = np.ones(rows, dtype=np.int64)
            whole[fitting] = value * 10 ** (6 - len(token)) if name == "fraction" else value
            parts[name] = whole
        good[fitting] &= spelt
        return parts, good

    return parts_of


def _matrix(text: pa.Array, width: int) -> "NDArray[np.uint8]":
    if not len(text):
        return np.empty((0, width), dtype=np.uint8)
    _, offsets, data = text.buffers()
    start = np.frombuffer(offsets, np.int32)[text.offset]
    return np.frombuffer(data, np.uint8)[start : start + len(text) * width].reshape(len(text), width)


def _by_pattern(tokens: "Sequence[str]") -> Any:
    """Read parts of one or two digits between marks."""
    names, pattern = [], ""
    for token in tokens:
        name = _PARTS.get(token) or ("fraction" if set(token) == {"S"} else None)
        if name is None:
            pattern += re.escape(token)
            continue
        names.append((name, len(token)))
        digits = "[0-9]{1,2}" if token in _NARROW else f"[0-9]{{{len(token)}}}"
        pattern += f"(?P<{name}>{digits})"

    def parts_of(text: pa.Array) -> "tuple[dict[str, NDArray[np.int64]], NDArray[np.bool_]]":
        found = pc.extract_regex(text, f"^{pattern}$")
        good = pc.is_valid(found).to_numpy(zero_copy_only=False).copy()
        parts = {}
        for name, length in names:
            digits = pc.if_else(pc.is_valid(found), pc.struct_field(found, name), "1")
            value = digits.cast(pa.int64()).to_numpy(zero_copy_only=False)
            parts[name] = value * 10 ** (6 - length) if name == "fraction" else value
        return parts, good

    return parts_of


def _serial_days(text: pa.Array) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
    ticks, good = _excel(text)
    days = ticks // _DAY_US
    return days, good & (days * _DAY_US == ticks)


def _excel(text: pa.Array) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
    """Read serials of the 1900 system as microseconds since 1970; serial 60 is a day that never was."""
    value, good = _counts(text, r"^[0-9]{1,7}(\.[0-9]+)?$", pa.float64())
    good &= (value >= 1) & (value < _LAST_SERIAL + 1) & ~((value >= 60) & (value < 61))  # noqa: PLR2004 (29 February 1900)
    days = np.where(value < 60, value + 1, value) + _EXCEL_EPOCH  # noqa: PLR2004 (as above)
    return np.rint(days * 86_400_000).astype(np.int64) * 1_000, good


def _epoch(ticks_us: int) -> Any:
    def parse(text: pa.Array) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
        value, good = _counts(text, "^-?[0-9]{1,18}$", pa.int64())
        limit = 253_402_300_800_000_000 // ticks_us
        good &= (value < limit) & (value >= -62_135_596_800_000_000 // ticks_us)
        return np.where(good, value, 0) * ticks_us, good

    return parse


def _counts(text: pa.Array, pattern: str, kind: pa.DataType) -> "tuple[NDArray[Any], NDArray[np.bool_]]":
    spelt = pc.fill_null(pc.match_substring_regex(text, pattern), fill_value=False)
    values = pc.if_else(spelt, text, "1").cast(kind).to_numpy(zero_copy_only=False)
    return values, spelt.to_numpy(zero_copy_only=False).copy()


_SERIAL_READERS = {"excel_serial": _excel, "epoch_s": _epoch(1_000_000), "epoch_ms": _epoch(1_000)}
assert set(_SERIAL_READERS) == set(SERIALS)  # noqa: S101 (the two lists are one)
