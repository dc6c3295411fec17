"""Reading on in a table to which rows are added: none that commits late is skipped, none comes out twice.

A row is stamped before it commits, so one with an earlier stamp may appear after a later one was read. Every read
therefore begins again ``lag_s`` before the last one did, and passes over the rows that it knows. A cursor for which no
such time can be told (a number that the server gives out, a text) is refused.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from brownfield.data.sources.base import Position
from brownfield.data.sources.dialect import Column, Family
from brownfield.errors import DeclarationError

__all__ = ["Cursor", "Window", "check_cursor", "earliest_wall_time", "from_json", "in_json"]

_QUARTER = timedelta(minutes=15)
_LONGEST_STEP_BACK = timedelta(hours=3)
_LAST_ZONE = ZoneInfo("Etc/GMT+12")
"""Where a day begins last: the safe zone for times whose zone nobody declared."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How a feed knows what it has read.

    Parameters
    ----------
    column
        Stamp of the rows: a timestamp or date that is set when a row is written.
    key
        Columns that, with the stamp, name a row once and for all.
    lag_s
        Longest time between a row's stamp and its commit, differences of clocks included.
    zone
        Zone of a timestamp that carries none; None when the contract does not say.
    """

    column: str
    key: tuple[str, ...]
    lag_s: int
    zone: ZoneInfo | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns by which the rows are read, the stamp first."""
        return tuple(dict.fromkeys((self.column, *self.key)))


def check_cursor(cursor: Cursor, column: Column, where: str) -> None:
    """Refuse a cursor by which rows could be skipped.

    Raises
    ------
    DeclarationError
        With the reason.
    """
    stamps = (Family.DATE, Family.LOCAL, Family.INSTANT)
    if column.family not in stamps:
        reason = "Its values do not tell when a row was written, so late commits would be skipped."
        if column.numbered or column.family is Family.WHOLE:
            reason = "Numbers are given out before their transactions commit, so late commits would be skipped."
        raise DeclarationError(
            where=where,
            path="cursor.column",
            expected="a timestamp or date that is set when a row is written",
            got=f"{column.name}, which is {'numbered by the server' if column.numbered else column.declared}",
            next_step=f"{reason} Name such a column and a lag_s, or ask the owner for one.",
        )
    if cursor.lag_s <= 0:
        raise DeclarationError(
            where=where,
            path="cursor.lag_s",
            expected="more than 0",
            got="0",
            next_step="Rows are stamped before they commit: without a lag, those that commit late would be skipped.",
        )


def earliest_wall_time(moment: datetime, zone: ZoneInfo) -> datetime:
    """Earliest time that a clock in a zone shows at a moment or after it: an hour back before the clocks go back.

    Parameters
    ----------
    moment
        Aware.

    Examples
    --------
    >>> berlin = ZoneInfo("Europe/Berlin")
    >>> earliest_wall_time(datetime(2026, 11, 21, 12, tzinfo=UTC), berlin)
    datetime.datetime(2026, 11, 21, 13, 0)
    >>> earliest_wall_time(datetime(2026, 10, 25, 0, 55, tzinfo=UTC), berlin)  # clocks show 02:55, then 02:00 again
    datetime.datetime(2026, 10, 25, 2, 0)
    """
    after = datetime.min.replace(tzinfo=UTC) + ((moment - datetime.min.replace(tzinfo=UTC)) // _QUARTER + 1) * _QUARTER
    steps = int(_LONGEST_STEP_BACK / _QUARTER)
    moments = [moment, *(after + step * _QUARTER for step in range(steps))]
    return min(each.astimezone(zone).replace(tzinfo=None, fold=0) for each in moments)


class Window:
    """The rows of one read that may still be joined by late ones, and those that are known from earlier reads.

    Parameters
    ----------
    cursor, family
        Of the stamp.
    now_utc
        The server's own time when the read began, in UTC and without a zone.
    after
        Position of the last read.
    """

    def __init__(self, cursor: Cursor, family: Family, now_utc: datetime, after: Position | None) -> None:
        self._known = set() if after is None else set(after["seen"])
        self._fresh: list[str] = []
        self._line = _settled(cursor, family, now_utc)
        self._after = after
        self._family = family

    def start(self, families: Sequence[Family]) -> tuple[list[Any] | None, Any]:
        """Give the key behind which to read, or the stamp from which on; both None for all rows."""
        if self._after is None:
            return None, None
        settled = from_json(self._after["settled"], self._family)
        last = [from_json(value, family) for value, family in zip(self._after["after"], families, strict=True)]
        return (last, None) if last[0] < settled else (None, settled)

    def is_new(self, key: Sequence[Any]) -> bool:
        """Tell whether a row is met for the first time; asked once for each row, in their order."""
        settled = key[0] < self._line
        if settled and not self._known:
            return True
        spelt = msgspec.json.encode([in_json(value) for value in key])
        digest = urlsafe_b64encode(hashlib.blake2b(spelt, digest_size=12).digest()).decode()
        if not settled:
            self._fresh.append(digest)
        if digest in self._known:
            self._known.discard(digest)
            return False
        return True

    def position(self, last: Sequence[Any], *, complete: bool) -> Position:
        """Give the position behind a row; a complete read forgets what it has not met again."""
        seen = self._fresh if complete else [*self._fresh, *self._known]
        return {"after": [in_json(value) for value in last], "settled": in_json(self._line), "seen": list(seen)}


def _settled(cursor: Cursor, family: Family, now_utc: datetime) -> Any:
    """Earliest stamp that a row can carry which is not committed yet."""
    moment = now_utc.replace(tzinfo=UTC) - timedelta(seconds=cursor.lag_s)
    if family is Family.INSTANT:
        return moment
    wall = earliest_wall_time(moment, cursor.zone or _LAST_ZONE)
    return wall.date() if family is Family.DATE else wall


def in_json(value: Any) -> Any:
    """Spell a key's value so that :func:`from_json` reads it back exactly."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def from_json(value: Any, family: Family) -> Any:
    """Read a key's value back.

    Examples
    --------
    >>> from_json(in_json(Decimal("1.50")), Family.DECIMAL)
    Decimal('1.50')
    """
    if family is Family.DECIMAL:
        return Decimal(value)
    if family is Family.DATE:
        return date.fromisoformat(value)
    if family in {Family.LOCAL, Family.INSTANT}:
        return datetime.fromisoformat(value)
    return value
