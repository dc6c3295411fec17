"""Tables of real PostgreSQL and MariaDB servers: read whole, in order, exactly once, and never written."""

import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from brownfield.data.sources.dialect import ConnectionLost, Refused
from brownfield.errors import DeclarationError, RejectionCode, SourceUnavailable
from harness.sales_table import PROCEDURES, SALES, WANTED, numbered, read_behind_a_lock, try_identifiers

pytestmark = pytest.mark.full


def read(source, wanted=WANTED, after=None):
    """All rows, all rejects as (position, code, field), and the last position."""
    rows, rejects, position = [], [], after
    for pulled in source.read(wanted, after):
        rows += pulled.decoded.batch.to_pylist()
        rejects += [(each.position, each.code, each.field) for each in pulled.decoded.rejects]
        position = pulled.position
    return rows, rejects, position


@pytest.mark.parametrize("page_rows", [1, 2, 3, 4, 100])
def test_pages_give_every_row_once_in_order(server, table, page_rows):
    """The size of the pages changes nothing about the rows."""
    server.run(
        "DROP TABLE IF EXISTS sales",
        "CREATE TABLE sales (id integer PRIMARY KEY, price numeric(8,2), label char(4))",
        "INSERT INTO sales VALUES (9, 1.5, 'd'), (1, 0.1, 'a'), (2, NULL, 'ü'), (5, 3, NULL)",
    )
    rows, rejects, _ = read(table("sales", page_rows=page_rows))
    assert [row["id"] for row in rows] == [1, 2, 5, 9]
    assert [row["label"] for row in rows] == ["a", "ü", None, "d"]
    assert rejects == []


def contents(server, table):
    """Every row of a table with its physical place or change number, as the server itself hashes it."""
    if server.kind == "postgres":
        hashed = "md5(string_agg(t::text || ctid || xmin, '|' ORDER BY ctid))"
        return server.run(f"SELECT count(*), {hashed} FROM {table} t")  # noqa: S608 (our own name)
    return server.run(f"CHECKSUM TABLE {table} EXTENDED")


def test_i4_s_17_the_legacy_tables_are_the_same_to_the_last_bit(server, table):
    """After probing and reading, every row, its place and its change number are what they were."""
    server.run(*SALES)
    before = contents(server, "sales")
    table("sales").probe()
    assert len(read(table("sales", page_rows=2))[0]) == 4
    assert contents(server, "sales") == before


WRITES = [
    "INSERT INTO sales VALUES (3, 1, 'x')",
    "UPDATE sales SET price = 0",
    "DELETE FROM sales",
    "DROP TABLE sales",
    "CREATE TABLE more (a integer)",
    "TRUNCATE TABLE sales",
    "ALTER TABLE sales ADD COLUMN more integer",
    "CREATE INDEX more ON sales (label)",
    "CALL wipe()",
]


@pytest.mark.parametrize("statement", WRITES)
def test_s_17_writing_is_refused_twice(server, dialect, address, statement):
    """Our allow-list refuses before anything is sent; without it, the server's own transaction mode does."""
    server.run(*SALES)
    server.run(*PROCEDURES[server.kind])
    before = server.dump()
    with closing(dialect.connect(address)) as session:
        with pytest.raises(DeclarationError, match="only reads"):
            session.select(statement)
        for begin in ("START TRANSACTION READ ONLY", None):  # inside a page's transaction, and outside of any
            if begin:
                session._run(begin)
            with pytest.raises(Exception, match=r"(?i)read[- ]only"):
                session._run(statement)
            session._run("ROLLBACK")
    assert server.dump() == before


@pytest.mark.parametrize("statement", WRITES)
def test_s_17_the_role_itself_may_only_read(server, dialect, address, statement):
    """With the role that the page asks for, writing is refused a third time, whatever mode the session is in."""
    server.run(*SALES)
    server.run(*PROCEDURES[server.kind])
    host = "" if server.kind == "postgres" else f"@'{address.host}'"
    word = "PASSWORD" if server.kind == "postgres" else "IDENTIFIED BY"
    server.run(f"CREATE USER reader{host} {word} 'reader-4711'", f"GRANT SELECT ON sales TO reader{host}")
    try:
        place = replace(address, user="reader", password="reader-4711")  # noqa: S106 (of a test's own server)
        with closing(dialect.connect(place)) as session:
            assert len(session.select(f"SELECT * FROM {dialect.qualified(address, 'sales')}")) == 4  # noqa: S608 (our own name)
            writable = "SET default_transaction_read_only = off" if not host else "SET SESSION TRANSACTION READ WRITE"
            session._run(writable)
            with pytest.raises(Exception, match=r"(?i)denied|must be owner"):
                session._run(statement)
    finally:
        server.run(*(["DROP OWNED BY reader"] if not host else []), f"DROP USER reader{host}")
    assert len(server.run("SELECT * FROM sales")) == 4


HOSTILE = ['sales"; DROP TABLE sales; --', "sales.main", "Sales", "sale", "", "x" * 300, "select", "säles", "a`b", "%s"]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: f"B-43-{name[:12]}")
def test_b_43_s_15_an_identifier_that_the_catalogue_lacks_is_refused(server, table, name):
    """Names are looked up exactly, never run: tables, columns and keys alike."""
    server.run(*SALES)
    with pytest.raises(DeclarationError, match="table of the database"):
        read(table(name))
    with pytest.raises(DeclarationError, match="column of the database"):
        read(table("sales"), pa.schema([(name, pa.int64())]))
    with pytest.raises(DeclarationError, match="column of the database"):
        read(table("sales", key=(name,)))
    assert len(read(table("sales"))[0]) == 4


def test_s_15_a_table_with_a_hostile_name_is_read(server, dialect, table):
    """A name that needs quoting is quoted, in the catalogue's own spelling."""
    name = 'a "b" `c`; DROP %s --'
    wanted = numbered(server, dialect, name)
    assert [row[name] for row in read(table(name, page_rows=1), wanted)[0]] == [1, 2, 3]


def test_types_come_out_exactly(server, table):
    """Decimals, wide numbers, floats, truth values, texts, dates and both kinds of timestamps lose nothing."""
    mysql = server.kind == "mysql"
    instant = "timestamp(6) NULL" if mysql else "timestamptz"
    local = "datetime(6)" if mysql else "timestamp"
    given = "'2026-07-01 10:00:00.000001'" if mysql else "'2026-07-01 12:00:00.000001+02'"
    floats = "f float, d double" if mysql else "f real, d float8"
    numbers = "9007199254740993, 12345678901234567890.0123456789, -9223372036854775808, -3, 0.1, 0.1"
    session = ["SET time_zone = '+00:00'"] if mysql else []
    server.run(
        *session,
        "DROP TABLE IF EXISTS kinds",
        f"CREATE TABLE kinds (id bigint PRIMARY KEY, exact numeric(30,10), wide bigint, small smallint, {floats},"
        f" yes boolean, padded char(5), text_ text, day date, at_ {instant}, wall {local})",
        f"INSERT INTO kinds VALUES ({numbers}, true, 'a', 'ü😀 ', '2026-02-28', {given}, '2026-07-01 12:00:00.5')",  # noqa: S608 (our own text)
        "INSERT INTO kinds VALUES (9007199254740994, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    wanted = pa.schema(
        [
            ("id", pa.int64()), ("exact", pa.float64()), ("wide", pa.int64()), ("small", pa.int32()),
            ("f", pa.float64()), ("d", pa.float64()), ("yes", pa.bool_()), ("padded", pa.string()),
            ("text_", pa.string()), ("day", pa.date32()), ("at_", pa.timestamp("us", "UTC")),
            ("wall", pa.timestamp("us", "UTC")),
        ]
    )  # fmt: skip
    rows, rejects, _ = read(table("kinds", page_rows=1), wanted)
    assert rejects == []
    full, empty = rows
    assert full == {
        "id": 9007199254740993, "exact": Decimal("12345678901234567890.0123456789"), "wide": -(2**63), "small": -3,
        "f": float(np.float32(0.1)), "d": 0.1, "yes": True, "padded": "a", "text_": "ü😀 ", "day": date(2026, 2, 28),
        "at_": datetime(2026, 7, 1, 10, 0, 0, 1, UTC), "wall": datetime(2026, 7, 1, 12, 0, 0, 500_000),  # noqa: DTZ001 (a wall time)
    }  # fmt: skip
    assert set(empty.values()) == {None, 9007199254740994}


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("blob", pa.string()),
        ("text", pa.int64()),
        ("integer", pa.string()),
        ("date", pa.bool_()),
        ("integer", pa.date32()),
    ],
)
def test_f_46_b_46_a_column_of_another_type_stops_before_the_first_row(server, table, declared, kind):
    """The message names the column, what it is and what the contract says; bytes are never read."""
    if server.kind == "postgres":
        declared = declared.replace("blob", "bytea")
    server.run("DROP TABLE IF EXISTS odd", f"CREATE TABLE odd (id integer PRIMARY KEY, c {declared})")
    with pytest.raises(DeclarationError, match=rf"c: expected a column that holds .*, got {declared[:3]}"):
        read(table("odd"), pa.schema([("c", kind)]))


def test_dates_beyond_the_calendar_are_rejects(server, table):
    """A date that no calendar has rejects its row alone."""
    odd = "'infinity'" if server.kind == "postgres" else "'0000-00-00'"
    mode = [] if server.kind == "postgres" else ["SET sql_mode = ''"]
    server.run(
        *mode,
        "DROP TABLE IF EXISTS days",
        "CREATE TABLE days (id integer PRIMARY KEY, day date)",
        f"INSERT INTO days VALUES (1, '2026-01-01'), (2, {odd})",  # noqa: S608 (our own text)
    )
    rows, rejects, _ = read(table("days"), pa.schema([("day", pa.date32())]))
    assert rows == [{"day": date(2026, 1, 1)}]
    assert rejects == [("id=2", RejectionCode.FIELD_TYPE, "day")]


def test_b_45_keys_of_texts(server, table):
    """Blanks at the end, leading zeros, emoji and letters of both cases keep every row, at any page size."""
    unlike = "" if server.kind == "postgres" else " COLLATE utf8mb4_bin"
    server.run(
        "DROP TABLE IF EXISTS codes",
        f"CREATE TABLE codes (a varchar(8){unlike}, b char(3){unlike}, PRIMARY KEY (a, b))",
        "INSERT INTO codes VALUES ('007', 'x'), ('7', 'x'), ('😀', ''), ('A', 'b'), ('a', 'b'), ('a', 'c')",
        "INSERT INTO codes VALUES ('''\\\\', 'd')",
    )
    wanted = pa.schema([("a", pa.string()), ("b", pa.string())])
    whole = read(table("codes"), wanted)[0]
    assert len({(row["a"], row["b"]) for row in whole}) == 7
    assert read(table("codes", page_rows=1), wanted)[0] == whole


def test_b_45_keys_that_the_server_takes_for_one_stop_the_read(server, table):
    """Two rows that a collation calls equal are not split by a page's end: the read stops and says so."""
    server.run("DROP TABLE IF EXISTS twins", "CREATE TABLE twins (a varchar(8), n integer)")
    twin = "'a'" if server.kind == "postgres" else "'A '"
    server.run(f"INSERT INTO twins VALUES ('a', 1), ({twin}, 2), ('b', 3), (NULL, 4)")  # noqa: S608 (our own text)
    wanted = pa.schema([("n", pa.int64())])
    with pytest.raises(DeclarationError, match="2 rows with one a"):
        read(table("twins", key=("a",), page_rows=1), wanted)
    rows, rejects, _ = read(table("twins", key=("a",)), wanted)
    assert sorted(row["n"] for row in rows) == [1, 2, 3]
    assert rejects == [("without key, row 1", RejectionCode.FIELD_NULL, "a")]


def test_a_table_without_a_key_says_what_to_declare(server, table):
    """Neither a primary key nor a declared one: there is no order that is the same on each read."""
    server.run("DROP TABLE IF EXISTS bare", "CREATE TABLE bare (n integer)")
    with pytest.raises(DeclarationError, match="no primary key"):
        table("bare").probe()


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        ("", []),
        ("(1, 7)", [7]),
        ("(1, NULL), (2, NULL), (3, NULL)", [None] * 3),
        ("(1, 7), (2, 7), (3, 7)", [7] * 3),
    ],
    ids=["B-47-empty", "B-47-one-row", "B-47-all-null", "B-47-constant"],
)
def test_b_47_small_and_even_tables(server, table, rows, values):
    """No rows, one row, nulls alone, one value alone: as they are, without an error."""
    server.run("DROP TABLE IF EXISTS even", "CREATE TABLE even (id integer PRIMARY KEY, n integer)")
    if rows:
        server.run(f"INSERT INTO even VALUES {rows}")  # noqa: S608 (our own numbers)
    got, rejects, _ = read(table("even", page_rows=2), pa.schema([("n", pa.int64())]))
    assert ([row["n"] for row in got], rejects) == (values, [])


def test_b_46_a_table_of_a_thousand_columns_and_large_values(server, table):
    """Only the declared columns are read: bytes of eight megabytes beside them, generated ones too, cost nothing."""
    blob, made = (
        ("bytea", "repeat('x', 8388608)::bytea") if server.kind == "postgres" else ("longblob", "repeat('x', 8388608)")
    )
    many = ", ".join(f"c{place} smallint" for place in range(1_000))
    server.run(
        "DROP TABLE IF EXISTS broad",
        f"CREATE TABLE broad (id integer PRIMARY KEY, {many}, picture {blob},"
        " twice integer GENERATED ALWAYS AS (id * 2) STORED)",
        f"INSERT INTO broad (id, c999, picture) VALUES (1, 5, {made})",  # noqa: S608 (our own text)
    )
    wanted = pa.schema([("c999", pa.int64()), ("twice", pa.int64())])
    assert read(table("broad"), wanted)[0] == [{"c999": 5, "twice": 2}]
    with pytest.raises(DeclarationError, match="picture"):
        read(table("broad"), pa.schema([("picture", pa.string())]))


# Loss


def big(server, rows=3_000):
    """A table of some hundred kilobytes."""
    server.run("DROP TABLE IF EXISTS big", "CREATE TABLE big (id integer PRIMARY KEY, label varchar(200))")
    values = ", ".join(f"({place}, '{'x' * 100}{place}')" for place in range(rows))
    server.run(f"INSERT INTO big VALUES {values}")  # noqa: S608 (our own text)
    return pa.schema([("id", pa.int64()), ("label", pa.string())])


def test_f_45_a_page_that_is_cut_off_is_read_again(server, table, proxy):
    """The connection is lost in the middle of a page: the page is discarded, and every row comes out once."""
    wanted = big(server)
    pages = table("big", port=proxy.port, page_rows=1_000).read(wanted)
    got = next(pages).decoded.batch.column("id").to_pylist()
    proxy.cut_after = 50_000
    for pulled in pages:
        got += pulled.decoded.batch.column("id").to_pylist()
    assert got == list(range(3_000))
    assert len(proxy.opened_at) == 2


def test_f_42_a_server_that_stays_away_is_unavailable_with_the_next_step(server, table, proxy):
    """Lost and not coming back: a few tries, then an error that says what to do; nothing half is given."""
    wanted = big(server)
    pages = table("big", port=proxy.port, page_rows=1_000).read(wanted)
    next(pages)
    proxy.refusing, proxy.cut_after = True, 50_000
    with pytest.raises(SourceUnavailable, match="out of reach") as caught:
        next(pages)
    assert "Look whether it runs" in str(caught.value)
    assert server.password not in str(caught.value)


def test_f_43_a_server_that_is_away_is_tried_less_and_less(server, table, proxy):
    """However often it is asked for, the server sees few tries; the callers are told when the next one is."""
    server.run(*SALES)
    proxy.refusing = True
    begun = time.monotonic()
    while time.monotonic() - begun < 4:
        with pytest.raises(SourceUnavailable):
            table("sales", port=proxy.port).probe()
    assert 2 <= len(proxy.opened_at) <= 8


def test_a_wrong_password_is_no_reason_to_try_again(server, dialect, address, proxy):
    """The server says no: it is asked once, and neither the password nor another secret is told."""
    address = replace(address, port=proxy.port, password="wrong-4712")  # noqa: S106 (wrong on purpose)
    with pytest.raises(Refused) as caught:
        dialect.connect(address)
    assert "wrong-4712" not in str(caught.value)
    assert len(proxy.opened_at) == 1


def test_f_44_a_slow_statement_is_ended_by_the_server(server, table):
    """A lock that another holds does not keep us waiting beyond the declared time."""
    read_behind_a_lock(server, lambda: read(table("sales", statement_timeout_s=1)))


def test_f_52_f_50_a_writer_is_not_held_up_between_pages(server, table):
    """While a page is worked on there is no transaction of ours: the legacy program writes, and even alters."""
    server.run(*SALES)
    pages = table("sales", page_rows=1).read(WANTED)
    next(pages)
    server.run("INSERT INTO sales VALUES (99, 1, 'late')", "ALTER TABLE sales ADD COLUMN more integer")
    if server.kind == "postgres":
        busy = server.run(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'brownfield' AND xact_start IS NOT NULL"
        )
    else:
        busy = server.run("SELECT count(*) FROM information_schema.innodb_trx")
    assert busy[0][0] == 0
    assert [pulled.decoded.batch.to_pylist()[0]["id"] for pulled in pages] == [2, 5, 9, 99]


def test_f_46_a_column_that_is_dropped_between_pages_stops_the_read(server, table):
    """The page behind the change is an error, not a column of nulls."""
    server.run(*SALES)
    pages = table("sales", page_rows=1).read(WANTED)
    next(pages)
    server.run("ALTER TABLE sales DROP COLUMN label")
    with pytest.raises((DeclarationError, SourceUnavailable)):
        list(pages)


def test_f_52_a_writer_works_on_while_we_read(server, table):
    """Many short writes beside reads of the same rows: none waits for a lock of ours, none fails."""
    wanted = big(server)
    wait = "SET lock_timeout = '200ms'" if server.kind == "postgres" else "SET innodb_lock_wait_timeout = 1"
    done = threading.Event()
    writes, failed = [], []

    def legacy():
        with closing(server.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(wait)
            while not done.is_set():
                place = len(writes) % 3_000
                try:
                    cursor.execute(f"UPDATE big SET label = 'w' WHERE id = {place}")  # noqa: S608 (a number)
                    connection.commit()
                except Exception as error:  # noqa: BLE001 (each driver has errors of its own)
                    failed.append(error)
                    return
                writes.append(place)

    writer = threading.Thread(target=legacy)
    writer.start()
    source = table("big", page_rows=300)
    while len(writes) < 50 and not failed:
        time.sleep(0.01)
    before = len(writes)
    for _ in range(5):
        assert sum(pulled.decoded.batch.num_rows for pulled in source.read(wanted)) == 3_000
    during = len(writes) - before
    done.set()
    writer.join()
    assert failed == []
    assert during > 20


@pytest.mark.parametrize("mode", ["verify", "encrypt"])
def test_s_29_what_must_be_encrypted_is_never_sent_in_clear(dialect, address, proxy, mode):
    """A server without encryption is refused, before the role's name or password leaves us."""
    with pytest.raises((Refused, ConnectionLost)):
        dialect.connect(replace(address, port=proxy.port, tls=mode))
    assert address.user.encode() not in proxy.asked


def test_f_44_a_server_that_falls_silent_is_given_up(server, table, proxy, monkeypatch):
    """Nothing comes and nothing ends the connection: the read does not wait beyond the declared time for each try."""
    for kind in ("postgres", "mysql"):
        monkeypatch.setattr(f"brownfield.data.sources.{kind}._CONNECT_TIMEOUT_S", 2)
    wanted = big(server)
    pages = table("big", port=proxy.port, page_rows=1_000, statement_timeout_s=1).read(wanted)
    next(pages)
    proxy.silent = True
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable, match="out of reach"):
        next(pages)
    assert time.monotonic() - begun < 40


def test_s_15_no_identifier_of_an_injectors_list_is_run(server, table):
    """S-15: as a table and as a column each is looked up and refused, and the database is what it was."""
    try_identifiers(server, table("sales"))
