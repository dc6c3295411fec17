"""Feeds whose rows commit in another order than they are stamped: none is skipped, none comes out twice (F-49)."""

import random
from contextlib import closing
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from brownfield.data.sources import Cursor
from brownfield.errors import DeclarationError

pytestmark = pytest.mark.full

WANTED = pa.schema([("id", pa.int64())])
STAMPED = Cursor("at_", ("id",), lag_s=2)


@pytest.fixture
def events(server):
    """An empty table of events, stamped when a row is written and numbered by the server."""
    if server.kind == "postgres":
        columns = "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at_ timestamptz DEFAULT clock_timestamp()"
    else:
        columns = "id bigint AUTO_INCREMENT PRIMARY KEY, at_ timestamp(6) NOT NULL DEFAULT current_timestamp(6)"
    server.run("DROP TABLE IF EXISTS events", f"CREATE TABLE events ({columns}, n integer)")
    return server


def ids(source, after=None):
    """Numbers of the rows that a read gives, and the position behind them."""
    found, position = [], after
    for pulled in source.read(WANTED, after):
        found += pulled.decoded.batch.column("id").to_pylist()
        position = pulled.position
    return found, position


def naive(server, last):
    """What polling by the greatest number gives, as one would write it by hand."""
    return [row[0] for row in server.run(f"SELECT id FROM events WHERE id > {last} ORDER BY id")]  # noqa: S608 (a number)


def insert(connection, n):
    """Write one row in a transaction that stays open."""
    connection.cursor().execute(f"INSERT INTO events (n) VALUES ({n})")  # noqa: S608 (a number)


def test_f_49_a_row_that_commits_late_is_not_skipped(events, table):
    """One transaction writes first and commits last: polling by number loses its row, a lag does not."""
    with closing(events.connect()) as slow, closing(events.connect()) as quick:
        insert(slow, 1)
        insert(quick, 2)
        quick.commit()
        by_number = naive(events, 0)
        got, position = ids(table("events", cursor=STAMPED))
        assert got == by_number == [2]
        slow.commit()
    assert naive(events, max(by_number)) == []
    late, position = ids(table("events", cursor=STAMPED), position)
    assert late == [1]
    assert ids(table("events", cursor=STAMPED), position)[0] == []


@pytest.mark.parametrize("seed", [1, 2])
def test_f_49_many_writers_that_overlap_lose_nothing(events, table, seed):
    """Writers commit and roll back in any order while we read on: each row comes out exactly once."""
    chance = random.Random(seed)  # noqa: S311 (a test that can be run again)
    writers = [events.connect() for _ in range(6)]
    patient = Cursor("at_", ("id",), lag_s=60)
    got, by_number, position = [], [], None
    try:
        for n in range(150):
            insert(chance.choice(writers), n)
            if chance.random() < 0.4:
                ender = chance.choice(writers)
                ender.rollback() if chance.random() < 0.2 else ender.commit()
            if chance.random() < 0.2:
                more, position = ids(table("events", cursor=patient, page_rows=chance.choice([1, 7, 100])), position)
                got += more
                by_number += naive(events, max(by_number, default=0))
    finally:
        for writer in writers:
            writer.commit()
            writer.close()
    got += ids(table("events", cursor=patient), position)[0]
    by_number += naive(events, max(by_number, default=0))
    truth = [row[0] for row in events.run("SELECT id FROM events ORDER BY id")]
    assert sorted(got) == truth
    assert len(by_number) < len(truth), "the naive way lost nothing, so this test proved nothing"


def test_f_45_reading_on_from_any_page_gives_the_rest_once(events, table):
    """Whichever page was the last that was safe, what follows completes it, late rows included."""
    for n in range(10):
        events.run(f"INSERT INTO events (n) VALUES ({n})")  # noqa: S608 (a number)
    truth = {row[0] for row in events.run("SELECT id FROM events")}
    source = table("events", cursor=STAMPED, page_rows=2)
    done = set()
    for pulled in source.read(WANTED):
        done |= set(pulled.decoded.batch.column("id").to_pylist())
        rest, _ = ids(source, pulled.position)
        assert len(rest) == len(set(rest))
        assert set(rest) == truth - done


def test_f_49_what_lies_beyond_the_lag_is_not_read_again(events, table):
    """The position forgets what is settled, and rows stamped in the future are neither lost nor repeated."""
    events.run("INSERT INTO events (at_, n) VALUES ('2020-01-01 00:00:00', 1), ('2020-01-02 00:00:00', 2)")
    events.run("INSERT INTO events (at_, n) VALUES ('2037-01-01 00:00:00', 3)")
    source = table("events", cursor=STAMPED)
    got, position = ids(source)
    assert len(got) == 3
    assert len(position["seen"]) == 1
    events.run("INSERT INTO events (n) VALUES (4)")
    late, position = ids(source, position)
    assert late == [row[0] for row in events.run("SELECT id FROM events WHERE n = 4")]
    assert ids(source, position)[0] == []


def test_f_49_rows_without_a_stamp_of_use_are_rejects(events, table):
    """A stamp beyond the calendar is refused with its reason, and stops nothing."""
    if events.kind == "postgres":
        events.run("INSERT INTO events (at_, n) VALUES (NULL, 1), ('infinity', 2), ('-infinity', 3), (now(), 4)")
    else:
        events.run("SET sql_mode = ''", "INSERT INTO events (at_, n) VALUES ('0000-00-00', 1), (now(), 4)")
    rejects, rows = [], 0
    for pulled in table("events", cursor=STAMPED).read(WANTED):
        rejects += [each.field for each in pulled.decoded.rejects]
        rows += pulled.decoded.batch.num_rows
    assert rows == 1
    assert rejects == ["at_"] * (3 if events.kind == "postgres" else 1)


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_f_49_a_row_that_is_added_without_a_stamp_stops_the_next_read(events, table):
    """A nullable cursor is no silent loss: what was there is a reject, and a new row without a stamp is an error."""
    events.run("INSERT INTO events (at_, n) VALUES (NULL, 1), (now(), 2)")
    source = table("events", cursor=STAMPED)
    _, position = ids(source)
    assert ids(source, position)[0] == []
    events.run("INSERT INTO events (at_, n) VALUES (NULL, 3), (NULL, 4), (now(), 5)")
    with pytest.raises(DeclarationError, match="2 new rows without one"):
        ids(source, position)
    events.run("UPDATE events SET at_ = now() WHERE n IN (3, 4)")
    got, position = ids(source, position)
    assert sorted(got) == [row[0] for row in events.run("SELECT id FROM events WHERE n > 2 ORDER BY id")]
    assert position["unordered"] == 1


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        (Cursor("id", ("id",), 300), "given out before their transactions commit"),
        (Cursor("n", ("id",), 300), "given out before their transactions commit"),
        (Cursor("at_", ("id",), 0), "without a lag"),
    ],
    ids=["numbered", "number", "no-lag"],
)
def test_f_49_an_unsafe_cursor_is_refused_with_the_reason(events, table, cursor, reason):
    """Probing tells it before the first row is read."""
    with pytest.raises(DeclarationError, match=reason):
        table("events", cursor=cursor).probe()


def test_a_stamp_in_local_time_is_read_in_its_zone(server, table):
    """Rows stamped by a wall clock are found again within the lag, in whichever zone the clock is."""
    kind = "timestamp" if server.kind == "postgres" else "datetime(6)"
    zone = ZoneInfo("Pacific/Auckland")
    server.run("DROP TABLE IF EXISTS walls", f"CREATE TABLE walls (id integer PRIMARY KEY, at_ {kind})")
    source = table("walls", cursor=Cursor("at_", ("id",), 60, zone))
    now = server_now(server).astimezone(zone).replace(tzinfo=None)
    server.run(f"INSERT INTO walls VALUES (1, '{now}'), (2, '{now - timedelta(hours=1)}')")  # noqa: S608 (our own times)
    got, position = ids(source)
    assert got == [2, 1]
    server.run(f"INSERT INTO walls VALUES (3, '{now - timedelta(seconds=20)}')")  # noqa: S608 (our own times)
    assert ids(source, position)[0] == [3]
    assert len(position["seen"]) == 1


def server_now(server):
    """The server's own time."""
    sql = "SELECT clock_timestamp() AT TIME ZONE 'UTC'" if server.kind == "postgres" else "SELECT utc_timestamp(6)"
    return server.run(sql)[0][0].replace(tzinfo=UTC)
