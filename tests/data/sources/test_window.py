# ruff: noqa: DTZ001 (wall times carry no zone)
"""The window of a feed: late rows come once, within the lag, over any restarts and any change of clocks."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.data.sources import Cursor
from brownfield.data.sources.dialect import Family
from brownfield.data.sources.window import Window, earliest_wall_time, from_json, in_json

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 11, 21, 12)


def pages(visible, window, size):
    """Read what is visible as the source does: pages in the order of stamp and key, from where the window says."""
    last, begin = window.start([Family.INSTANT, Family.WHOLE])
    rows = sorted(visible)
    if last is not None:
        rows = [row for row in rows if list(row) > last]
    if begin is not None:
        rows = [row for row in rows if row[0] >= begin]
    for at in range(0, len(rows), size):
        page = rows[at : at + size]
        new = [row for row in page if window.is_new(row)]
        yield new, window.position(page[-1], complete=at + size >= len(rows))


@pytest.mark.full
@settings(max_examples=300, deadline=None)
@given(
    data=st.data(),
    delays=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 30)), min_size=1, max_size=40),
    reads=st.lists(st.integers(0, 130), min_size=1, max_size=8, unique=True),
    size=st.integers(1, 5),
)
def test_f_49_every_row_that_commits_within_the_lag_comes_out_once(data, delays, reads, size):
    """Rows are stamped and commit up to the lag later; reads stop after any page and go on from its position."""
    cursor = Cursor("at", ("id",), lag_s=30)
    rows = [
        (START.replace(tzinfo=UTC) + timedelta(seconds=at), place, at + late) for place, (at, late) in enumerate(delays)
    ]
    got, position = [], None
    for read_at in [*sorted(reads), 200]:
        visible = [(stamp, place) for stamp, place, commits in rows if commits <= read_at]
        window = Window(cursor, Family.INSTANT, START + timedelta(seconds=read_at), position)
        for new, after in pages(visible, window, size):
            got += [place for _, place in new]
            position = json.loads(json.dumps(after))
            if read_at < 200 and data.draw(st.booleans()):
                break
    assert sorted(got) == list(range(len(rows)))


@pytest.mark.parametrize(
    ("moment", "earliest"),
    [
        (datetime(2026, 10, 24, 22, 0, tzinfo=UTC), datetime(2026, 10, 25, 0, 0)),
        (datetime(2026, 10, 25, 0, 0, tzinfo=UTC), datetime(2026, 10, 25, 2, 0)),
        (datetime(2026, 10, 25, 0, 59, 59, tzinfo=UTC), datetime(2026, 10, 25, 2, 0)),
        (datetime(2026, 10, 25, 1, 20, tzinfo=UTC), datetime(2026, 10, 25, 2, 20)),
        (datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 3, 29, 1, 30)),
    ],
)
def test_f_49_the_hour_that_comes_twice_is_read_twice(moment, earliest):
    """Before the clocks go back, the window begins where they will stand then."""
    assert earliest_wall_time(moment, BERLIN) == earliest


def test_without_a_declared_zone_the_window_begins_where_the_day_begins_last():
    """A wall time of unknown zone is not older than that of the last zone on earth."""
    window = Window(Cursor("at", ("id",), 60), Family.LOCAL, START, None)
    assert window.position([START, 1], complete=True)["settled"] == "2026-11-20T23:59:00"
    days = Window(Cursor("day", ("id",), 60), Family.DATE, START, None)
    assert days.position([START.date(), 1], complete=True)["settled"] == "2026-11-20"


@pytest.mark.parametrize(
    ("value", "family"),
    [
        (2**62 + 1, Family.WHOLE),
        (Decimal("123456789012345678901234567890.10"), Family.DECIMAL),
        ("a'\\ü😀 ", Family.TEXT),
        (date(2026, 2, 28), Family.DATE),
        (datetime(2026, 2, 28, 1, 2, 3, 4), Family.LOCAL),
        (datetime(2026, 2, 28, 1, 2, 3, 4, UTC), Family.INSTANT),
    ],
)
def test_a_position_survives_json_exactly(value, family):
    """Keys are read back as they were, to the last digit."""
    back = from_json(json.loads(json.dumps(in_json(value))), family)
    assert back == value
    assert type(back) is type(value)
