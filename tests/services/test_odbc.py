"""The same servers behind their ODBC drivers: nothing is cut off, nothing is written, nothing is skipped."""

import random
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from brownfield.data.sources import Address, Budget, Cursor, DatabaseTable, Odbc, connection_parts
from brownfield.errors import DeclarationError
from harness.sales_table import PROCEDURES, SALES, WANTED, numbered, read_behind_a_lock, try_identifiers

pytestmark = pytest.mark.full

DRIVERS = {"postgres": ("postgresql", "PostgreSQL Unicode"), "mysql": ("mysql", "MariaDB Unicode")}


@pytest.fixture
def dialect(server):
    """The server's driver."""
    spoken, driver = DRIVERS[server.kind]
    where = f"Driver={{{driver}}};Server={server.host};Port={server.port};Database={server.database}"
    return Odbc(spoken, lambda: where)


@pytest.fixture
def odbc(dialect, address, tmp_path):
    """Make a source of a table behind the driver."""

    def make(name, **options):
        budget = options.pop("budget", Budget(tmp_path / "budget", "odbc", rows_per_s=10_000_000))
        place = replace(address, statement_timeout_s=options.pop("statement_timeout_s", 30))
        return DatabaseTable(dialect, lambda: place, name, budget, **options)

    return make


def rows_of(source, wanted=WANTED, after=None):
    """All rows, and the last position."""
    rows, position = [], after
    for pulled in source.read(wanted, after):
        assert pulled.decoded.rejects == ()
        rows += pulled.decoded.batch.to_pylist()
        position = pulled.position
    return rows, position


@pytest.mark.parametrize("page_rows", [1, 3, 100])
def test_pages_give_every_row_once_in_order(server, odbc, page_rows):
    """The size of the pages changes nothing about the rows."""
    server.run(*SALES)
    rows, _ = rows_of(odbc("sales", page_rows=page_rows))
    assert [row["id"] for row in rows] == [1, 2, 5, 9]
    assert [row["label"] for row in rows] == ["a", "b", "ü", ""]


def test_types_come_out_as_the_servers_own_driver_gives_them(server, odbc, table):
    """Decimals, wide numbers, truth values, dates and both kinds of timestamps: equal to the native source's."""
    mysql = server.kind == "mysql"
    at = "timestamp(6) NULL" if mysql else "timestamptz"
    local = "datetime(6)" if mysql else "timestamp"
    given = "'2026-07-01 10:00:00.000001'" if mysql else "'2026-07-01 12:00:00.000001+02'"
    server.run(
        *(["SET time_zone = '+00:00'"] if mysql else []),
        "DROP TABLE IF EXISTS kinds",
        f"CREATE TABLE kinds (id bigint PRIMARY KEY, exact numeric(30,10), d double precision, yes boolean,"
        f" padded char(5), day date, at_ {at}, wall {local})",
        "INSERT INTO kinds VALUES (9007199254740993, 12345678901234567890.0123456789, 0.1, true, 'a', '2026-02-28',"  # noqa: S608 (our own text)
        f" {given}, '2026-07-01 12:00:00.5')",
        "INSERT INTO kinds VALUES (9007199254740994, NULL, NULL, false, NULL, NULL, NULL, NULL)",
    )
    wanted = pa.schema(
        [
            ("id", pa.int64()), ("exact", pa.float64()), ("d", pa.float64()), ("yes", pa.bool_()),
            ("padded", pa.string()), ("day", pa.date32()), ("at_", pa.timestamp("us", "UTC")),
            ("wall", pa.timestamp("us", "UTC")),
        ]
    )  # fmt: skip
    full, empty = rows_of(odbc("kinds", page_rows=1), wanted)[0]
    assert full == {
        "id": 9007199254740993, "exact": Decimal("12345678901234567890.0123456789"), "d": 0.1, "yes": True,
        "padded": "a", "day": date(2026, 2, 28), "at_": datetime(2026, 7, 1, 10, 0, 0, 1, UTC),
        "wall": datetime(2026, 7, 1, 12, 0, 0, 500_000),  # noqa: DTZ001 (a wall time)
    }  # fmt: skip
    assert [full, empty] == rows_of(table("kinds"), wanted)[0]


@pytest.mark.parametrize("length", [255, 8_190, 8_191, 70_000, 3_000_000])
def test_no_driver_cuts_a_value_off(server, odbc, length):
    """The longest value is written, and read back to its last letter, at the lengths where drivers' buffers end."""
    kind = "longtext" if server.kind == "mysql" else "text"
    server.run("DROP TABLE IF EXISTS wide", f"CREATE TABLE wide (id integer PRIMARY KEY, v {kind})")
    value = "x" * (length - 2) + "ü😀"
    with closing(server.connect()) as legacy:
        legacy.cursor().execute("INSERT INTO wide VALUES (1, %s)", (value,))
        legacy.commit()
    rows, _ = rows_of(odbc("wide"), pa.schema([("v", pa.string())]))
    assert rows[0]["v"] == value


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO sales VALUES (3, 1, 'x')", "UPDATE sales SET price = 0", "DROP TABLE sales", "CALL wipe()"],
)
def test_s_17_writing_is_refused_twice(server, dialect, address, statement):
    """S-17: our allow-list refuses before anything is sent; without it, the server's transaction mode does."""
    server.run(*SALES)
    server.run(*PROCEDURES[server.kind])
    before = server.dump()
    with closing(dialect.connect(address)) as session:
        with pytest.raises(DeclarationError, match="only reads"):
            session.select(statement)
        session._run("START TRANSACTION READ ONLY")
        with pytest.raises(Exception, match=r"(?i)read[- ]only"):
            session._run(statement)
        session._run("ROLLBACK")
    assert server.dump() == before


@pytest.mark.parametrize("name", ['sales"; DROP TABLE sales; --', "Sales", "", "x" * 300, "select", "a`b", "%s", "?"])
def test_b_43_s_15_an_identifier_that_the_catalogue_lacks_is_refused(server, odbc, name):
    """Names are looked up exactly, never run."""
    server.run(*SALES)
    with pytest.raises(DeclarationError, match="table of the database"):
        rows_of(odbc(name))
    with pytest.raises(DeclarationError, match="column of the database"):
        rows_of(odbc("sales"), pa.schema([(name, pa.int64())]))


def test_s_15_a_table_with_a_hostile_name_is_read(server, dialect, odbc):
    """Question marks and percent signs of a name are no parameters."""
    name = 'a "b" `c`; 100%s ? --'
    wanted = numbered(server, dialect, name)
    rows, _ = rows_of(odbc(name, page_rows=1), wanted)
    assert [row[name] for row in rows] == [1, 2, 3]


def test_f_49_writers_that_overlap_lose_nothing(server, odbc):
    """F-49: late commits are found again by the cursor's lag, and no row comes out twice."""
    kind = "timestamp(6) NOT NULL DEFAULT current_timestamp(6)"
    number = "bigint AUTO_INCREMENT PRIMARY KEY"
    if server.kind == "postgres":
        kind, number = "timestamptz DEFAULT clock_timestamp()", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    server.run("DROP TABLE IF EXISTS events", f"CREATE TABLE events (id {number}, at_ {kind}, n integer)")
    source = odbc("events", cursor=Cursor("at_", ("id",), 60), page_rows=7)
    wanted = pa.schema([("id", pa.int64())])
    chance = random.Random(1)  # noqa: S311 (a test that can be run again)
    writers = [server.connect() for _ in range(3)]
    got, position = [], None
    for n in range(60):
        chance.choice(writers).cursor().execute(f"INSERT INTO events (n) VALUES ({n})")  # noqa: S608 (a number)
        if chance.random() < 0.4:
            chance.choice(writers).commit()
        if chance.random() < 0.2:
            more, position = rows_of(source, wanted, position)
            got += [row["id"] for row in more]
    for writer in writers:
        writer.commit()
        writer.close()
    got += [row["id"] for row in rows_of(source, wanted, position)[0]]
    assert sorted(got) == [row[0] for row in server.run("SELECT id FROM events ORDER BY id")]


def test_f_44_a_slow_statement_is_ended_by_the_server(server, odbc):
    """F-44: a lock that another holds does not keep us waiting beyond the declared time."""
    read_behind_a_lock(server, lambda: rows_of(odbc("sales", statement_timeout_s=1)))


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_the_drivers_own_catalogue_serves_a_server_of_no_known_dialect(server, address, tmp_path):
    """Tables, columns, types and the primary key as the driver tells them; pages in the words of the standard."""
    server.run(*SALES)
    where = f"Driver={{PostgreSQL Unicode}};Server={server.host};Port={server.port};Database={server.database}"
    budget = Budget(tmp_path / "budget", "odbc", rows_per_s=10_000_000)
    source = DatabaseTable(Odbc("generic", lambda: where), lambda: address, "sales", budget, page_rows=3)
    rows, _ = rows_of(source)
    assert [row["id"] for row in rows] == [1, 2, 5, 9]
    assert source.shape() == {"id": "int4 NOT NULL", "price": "numeric(8,2)", "label": "varchar(9)"}
    server.run("ALTER TABLE sales ADD COLUMN at_ timestamp NOT NULL DEFAULT now()")
    with pytest.raises(DeclarationError, match="clock"):
        list(replace(source, cursor=Cursor("at_", ("id",), 60)).read(WANTED))


def test_a_driver_that_is_not_installed_is_said(address, tmp_path):
    """The driver manager does not know the name: the error says where to look, and no password."""
    dialect = Odbc("db2", lambda: "Driver={IBM DB2 ODBC DRIVER};Server=x")
    with pytest.raises(DeclarationError, match="not installed") as caught:
        dialect.connect(address)
    assert address.password not in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "step"), [("libodbc.so.2: cannot open", "apt install unixodbc"), ("No module", "brownfield.odbc")]
)
def test_a_missing_driver_manager_is_a_typed_error(address, tmp_path, monkeypatch, missing, step):
    """Without unixODBC or pyodbc the error names what to install."""
    (tmp_path / "pyodbc.py").write_text(f"raise ImportError({missing!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyodbc", raising=False)
    with pytest.raises(DeclarationError, match=step):
        Odbc("generic", lambda: "DSN=x").connect(Address("h", 1, (), "d", "u"))


@pytest.mark.parametrize(
    "text", ["", "pos.example", "Server=x", "Driver={A};UID=me", "DSN=x;pwd=secret-4711", "Driver={A"]
)
def test_a_connection_string_that_is_none_is_refused(text):
    """Neither driver nor data source, a user or password in it, or no pairs at all; its text is not told."""
    with pytest.raises(DeclarationError) as caught:
        connection_parts(text)
    assert "secret-4711" not in str(caught.value)


def test_s_15_no_identifier_of_an_injectors_list_is_run(server, odbc):
    """S-15: as a table and as a column each is looked up and refused, and the database is what it was."""
    try_identifiers(server, odbc("sales"))
