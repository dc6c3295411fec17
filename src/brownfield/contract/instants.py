"""Dates and timestamps: strict ISO text in, dates and UTC instants out.

Refused: any other spelling, a local time without a zone, and a local time that its zone has twice or not at all.
"""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

__all__ = ["ZoneUnclear", "localise", "parse_date", "parse_timestamp"]

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)


class ZoneUnclear(ValueError):
    """A local time whose instant cannot be told."""


def parse_date(text: str) -> date:
    """Date from ``YYYY-MM-DD``.

    Raises
    ------
    ValueError
        For any other spelling, and for days that the calendar does not have.

    Examples
    --------
    >>> parse_date("2026-02-28")
    datetime.date(2026, 2, 28)
    """
    if not _DATE.fullmatch(text):
        raise ValueError("not a date")
    return date.fromisoformat(text)


def parse_timestamp(text: str, zone: ZoneInfo | None) -> datetime:
    """UTC instant from ``YYYY-MM-DDTHH:MM:SS[.ffffff][Z|±HH:MM]`` (a space may stand for the T).

    Parameters
    ----------
    text
        The spelling.
    zone
        Zone for text without an offset; None refuses it.

    Raises
    ------
    ZoneUnclear
        Without an offset and without a zone, or when the zone has the local time twice or not at all.
    ValueError
        For any other spelling, and for times that do not exist.

    Examples
    --------
    >>> parse_timestamp("2026-07-01T12:00:00+02:00", None).isoformat()
    '2026-07-01T10:00:00+00:00'
    """
    if not _TIMESTAMP.fullmatch(text):
        raise ValueError("not a timestamp")
    return localise(datetime.fromisoformat(text), zone)


def localise(moment: datetime, zone: ZoneInfo | None) -> datetime:
    """UTC instant of a moment that may lack its zone; raises as :func:`parse_timestamp`."""
    if moment.tzinfo is None:
        if zone is None:
            raise ZoneUnclear("no zone")
        early, late = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
        if early.utcoffset() != late.utcoffset():
            raise ZoneUnclear("twice or not at all")
        moment = early
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999") from error
