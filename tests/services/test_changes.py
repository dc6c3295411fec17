"""Change tables of real servers: the printed DDL is run by the owner, and every change is read exactly once."""

import random
import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest

from brownfield.data.sources import ChangeTable, Cursor, SqliteTable, change_ddl

pytestmark = pytest.mark.full

WANTED = pa.schema([("line_id", pa.int64()), ("price", pa.float64()), ("op", pa.string())])
COLUMNS = ("line_id", "price")
SALES = (
    "DROP TABLE IF EXISTS sales_change",
    "DROP TABLE IF EXISTS sales CASCADE",
    "CREATE TABLE sales (line_id bigint PRIMARY KEY, price double precision, note varchar(9))",
)


def statements(text):
    """The statements of a script, a body between $body$ marks as one."""
    parts, body = [""], False
    for line in text.splitlines():
        parts[-1] += line + "\n"
        body ^= line.count("$body$") % 2
        if line.endswith(";") and not body:
            parts.append("")
    return [part for part in parts if part.strip()]


@pytest.fixture
def followed(server):
    """A table whose changes are noted, as its owner makes it from the printed DDL."""
    schema = "public" if server.kind == "postgres" else ""
    if server.kind == "postgres":
        server.run("DROP FUNCTION IF EXISTS sales_change_note CASCADE")
    server.run(
        *SALES, *statements(change_ddl(server.kind, "sales", "sales_change", COLUMNS, ("line_id",), schema=schema))
    )
    return server


@pytest.fixture
def changes(table):
    """Make a feed of the changes."""

    def make(**options):
        source = table(
            "sales_change", cursor=Cursor("changed_at", ("change_id",), 60), page_rows=options.pop("page_rows", 3)
        )
        return ChangeTable(source, ("line_id",), **options)

    return make


def read(source, after=None, wanted=WANTED):
    """All records as tuples, and the position behind them."""
    got, position = [], after
    for pulled in source.read(wanted, after):
        assert pulled.decoded.rejects == ()
        got += [tuple(row.values()) for row in pulled.decoded.batch.to_pylist()]
        position = pulled.position
    return got, position


STORY = (
    "INSERT INTO sales VALUES (1, 0.5, 'a'), (2, 1.5, 'b')",
    "UPDATE sales SET price = 0.75 WHERE line_id = 1",
    "DELETE FROM sales WHERE line_id = 2",
    "UPDATE sales SET line_id = 7 WHERE line_id = 1",
)
EACH = [(1, 0.5, "c"), (2, 1.5, "c"), (1, 0.75, "u"), (2, 1.5, "d"), (1, 0.75, "d"), (7, 0.75, "u")]


def test_f_51_every_change_comes_out_once_without_a_replication_slot(followed, changes):
    """F-51: inserts, updates, deletions and a changed key, in their order, and the next read goes on behind them."""
    followed.run(*STORY)
    source = changes(deletes="records")
    got, position = read(source)
    assert got == EACH
    assert read(source, position)[0] == []
    followed.run("INSERT INTO sales VALUES (9, 9.5, 'z')")
    assert read(source, position)[0] == [(9, 9.5, "c")]


def test_latest_leaves_the_last_change_of_each_key(followed, changes):
    """Of one read each key stands once; a deleted row is a tombstone or no record, as declared."""
    followed.run(*STORY)
    assert read(changes(give="latest", deletes="records"))[0] == [(2, 1.5, "d"), (1, 0.75, "d"), (7, 0.75, "u")]
    assert read(changes(give="latest"))[0] == [(7, 0.75, "u")]
    without = pa.schema([("line_id", pa.int64())])
    assert read(changes(give="latest"), wanted=without)[0] == [(7,)]


def test_f_49_changes_that_commit_late_are_not_skipped(followed, changes):
    """F-49: transactions that overlap and roll back: the changes that are read rebuild the table, row for row."""
    chance = random.Random(3)  # noqa: S311 (a test that can be run again)
    followed.run("INSERT INTO sales VALUES " + ", ".join(f"({n}, 0, NULL)" for n in range(12)))  # noqa: S608 (numbers)
    source, copy, position = changes(give="latest", deletes="records"), {}, None
    writers = [followed.connect() for _ in range(3)]  # each has rows of its own, so none waits for another

    def follow():
        nonlocal position
        got, position = read(source, position)
        for line, price, op in got:
            copy.pop(line, None)
            if op != "d":
                copy[line] = price

    for n in range(60):
        place = chance.randrange(3)
        line = chance.randrange(4) * 3 + place
        cursor = writers[place].cursor()
        if chance.random() < 0.2:
            cursor.execute(f"DELETE FROM sales WHERE line_id = {line}")  # noqa: S608 (a number)
        else:
            cursor.execute(f"UPDATE sales SET price = {n} WHERE line_id = {line}")  # noqa: S608 (numbers)
        if chance.random() < 0.4:
            writers[place].rollback() if chance.random() < 0.2 else writers[place].commit()
        if chance.random() < 0.15:
            follow()
    for writer in writers:
        writer.commit()
        writer.close()
    follow()
    assert copy == dict(followed.run("SELECT line_id, price FROM sales"))


def test_a_writer_needs_no_rights_on_the_change_table(followed, changes):
    """The legacy program's own role writes its table as before."""
    host = "" if followed.kind == "postgres" else "@'%'"
    word = "PASSWORD" if followed.kind == "postgres" else "IDENTIFIED BY"
    followed.run(f"CREATE USER clerk{host} {word} 'clerk-4711'", f"GRANT INSERT ON sales TO clerk{host}")
    options = {**followed.options, "user": "clerk", "password": "clerk-4711"}
    if followed.kind == "postgres":
        import psycopg as driver
    else:
        import pymysql as driver
    with closing(driver.connect(**options)) as legacy:
        legacy.cursor().execute("INSERT INTO sales VALUES (1, 0.5, 'a')")
        legacy.commit()
    followed.run(*(["DROP OWNED BY clerk"] if not host else []), f"DROP USER clerk{host}")
    assert read(changes())[0] == [(1, 0.5, "c")]


def test_a_letter_that_is_none_is_a_reject(followed, table):
    """A row of the change table that somebody else wrote is named, and stops nothing."""
    followed.run("INSERT INTO sales_change (op, line_id) VALUES ('x', 5), ('c', 6)")
    source = ChangeTable(table("sales_change", cursor=Cursor("changed_at", ("change_id",), 60)), ("line_id",))
    (pulled,) = source.read(WANTED)
    assert [(each.field, b'"line_id":5' in each.raw) for each in pulled.decoded.rejects] == [("op", True)]
    assert pulled.decoded.batch.to_pylist() == [{"line_id": 6, "price": None, "op": "c"}]


def test_sqlite_tells_the_same_story(tmp_path):
    """The same DDL in SQLite's words gives the same records."""
    with closing(sqlite3.connect(tmp_path / "pos.db")) as owner:
        owner.execute("CREATE TABLE sales (line_id INTEGER PRIMARY KEY, price REAL, note TEXT)")
        owner.executescript(change_ddl("sqlite", "sales", "sales_change", COLUMNS, ("line_id",)))
        owner.executescript(";".join(STORY))
    source = ChangeTable(
        SqliteTable(tmp_path / "pos.db", "sales_change", ("change_id",)), ("line_id",), deletes="records"
    )
    got, position = read(source)
    assert got == EACH
    assert read(source, position)[0] == []
