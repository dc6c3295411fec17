"""Tables of SQLite databases: read whole, in order, exactly once, and never written."""

import hashlib
import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest

from brownfield.data.sources import SqliteTable
from brownfield.data.sources.sqlite import connect
from brownfield.errors import DeclarationError, RejectionCode, SourceUnavailable
from harness.hostile import IDENTIFIERS

WANTED = pa.schema([("id", pa.int64()), ("price", pa.float64()), ("label", pa.string()), ("sold", pa.bool_())])


@pytest.fixture
def pos(tmp_path):
    """A database that takes a script and gives its path."""

    def create(script):
        path = tmp_path / "pos?x#1.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        return path

    return create


def read(source, wanted=WANTED, after=None):
    """All rows, all rejects as (position, code, field), and the last position."""
    rows, rejects, position = [], [], after
    for pulled in source.read(wanted, after):
        rows += pulled.decoded.batch.to_pylist()
        rejects += [(each.position, each.code, each.field) for each in pulled.decoded.rejects]
        position = pulled.position
    return rows, rejects, position


SALES = """
CREATE TABLE sales (id INTEGER PRIMARY KEY, price REAL, label TEXT, sold, more BLOB);
INSERT INTO sales VALUES (1, 0.5, 'a', 1, NULL), (2, NULL, 'b', 0, NULL), (5, 3, 'ü', NULL, x'00');
INSERT INTO sales VALUES (9, 1.5, '', 1, NULL);
"""


@pytest.mark.parametrize("page_rows", [1, 2, 3, 4, 100])
def test_pages_give_every_row_once_in_order(pos, page_rows):
    """The size of the pages changes nothing about the rows, and reading goes on where it was left."""
    source = SqliteTable(pos(SALES), "sales", page_rows=page_rows)
    rows, rejects, position = read(source)
    assert [row["id"] for row in rows] == [1, 2, 5, 9]
    assert rows[2] == {"id": 5, "price": 3.0, "label": "ü", "sold": None}
    assert rejects == []
    assert position == {"after": [9]}
    assert [row["id"] for row in read(source, after={"after": [2]})[0]] == [5, 9]


def test_s_17_the_legacy_database_is_the_same_to_the_last_bit(pos):
    """After probing and reading, the file's digest and the folder's content are what they were."""
    path = pos(SALES)

    def state():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return digest, path.stat().st_mtime_ns, sorted(path.parent.iterdir())

    before = state()
    SqliteTable(path, "sales").probe()
    read(SqliteTable(path, "sales", page_rows=2))
    assert state() == before


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO sales VALUES (3, 1, 'x', 1, NULL)",
        "UPDATE sales SET price = 0",
        "DELETE FROM sales",
        "DROP TABLE sales",
        "CREATE TABLE t (a)",
        "ATTACH ':memory:' AS m",
        "PRAGMA query_only = 0",
        "PRAGMA journal_mode = WAL",
        "VACUUM",
        "BEGIN",
    ],
)
def test_s_17_nothing_but_reading_is_possible(pos, statement):
    """Every statement that writes, attaches or loosens the connection is refused, by us and by SQLite."""
    path = pos(SALES)
    before = path.read_bytes()
    with closing(connect(path)) as connection, pytest.raises(sqlite3.Error):
        connection.execute(statement)
    assert path.read_bytes() == before


def test_s_17_sqlite_itself_refuses_as_well(pos):
    """Without our authorizer the connection still cannot write: the file is open read-only."""
    with closing(connect(pos(SALES))) as connection:
        connection.set_authorizer(None)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM sales")


@pytest.mark.parametrize(
    "name",
    [
        'sales"; DROP TABLE sales; --',
        "sales.main",
        "Sales",
        "sale",
        "",
        "x" * 300,
        "select",
        "säles",
        "sqlite_master; --",
    ],
    ids=lambda name: f"B-43-{name[:12]}",
)
def test_b_43_an_identifier_that_the_catalogue_lacks_is_refused_with_the_nearest(pos, name):
    """Names are looked up, never run: tables, columns and keys alike."""
    path = pos(SALES)
    with pytest.raises(DeclarationError, match="table of the database"):
        read(SqliteTable(path, name))
    with pytest.raises(DeclarationError, match="column of the database"):
        read(SqliteTable(path, "sales"), pa.schema([(name, pa.int64())]))
    with pytest.raises(DeclarationError, match="column of the database"):
        read(SqliteTable(path, "sales", (name,)))
    assert [row["id"] for row in read(SqliteTable(path, "sales"))[0]] == [1, 2, 5, 9]


def test_s_15_a_table_with_a_hostile_name_is_read(pos):
    """A name that needs quoting is quoted."""
    name = 'a "b"; DROP TABLE c --'
    quoted = '"' + name.replace('"', '""') + '"'
    path = pos(f"CREATE TABLE {quoted} ({quoted} INTEGER PRIMARY KEY); INSERT INTO {quoted} VALUES (1), (2);")  # noqa: S608 (our own text)
    assert read(SqliteTable(path, name), pa.schema([(name, pa.int64())]))[0] == [{name: 1}, {name: 2}]


def test_values_of_another_type_reject_their_row_alone(pos):
    """SQLite keeps any value in any column; one of another type than the contract's is a reject, never guessed."""
    others = ["10, 'cheap', 'c', 1", "11, 1, x'ff', 1", "12, 1, 'd', 'yes'", "13, 1, 'e', 0.5"]
    path = pos(SALES + "".join(f"INSERT INTO sales VALUES ({values}, NULL);" for values in others))  # noqa: S608 (our own text)
    rows, rejects, _ = read(SqliteTable(path, "sales"))
    assert [row["id"] for row in rows] == [1, 2, 5, 9]
    assert rejects == [
        ("id=10", RejectionCode.FIELD_TYPE, "price"),
        ("id=11", RejectionCode.FIELD_TYPE, "label"),
        ("id=12", RejectionCode.FIELD_TYPE, "sold"),
        ("id=13", RejectionCode.FIELD_TYPE, "sold"),
    ]


def test_a_fraction_in_a_whole_column_is_not_cut_off(pos):
    """2.0 is a whole number and 2.5 is a reject."""
    path = pos("CREATE TABLE t (id INTEGER PRIMARY KEY, n); INSERT INTO t VALUES (1, 2.0), (2, 2.5), (3, 1e300);")
    rows, rejects, _ = read(SqliteTable(path, "t"), pa.schema([("n", pa.int64())]))
    assert [row["n"] for row in rows] == [2]
    assert [each[0] for each in rejects] == ["id=2", "id=3"]


def test_b_45_rows_without_a_key_are_rejects_not_lost(pos):
    """A row that no page would find again is refused with its reason."""
    path = pos("CREATE TABLE t (day TEXT, n INTEGER); INSERT INTO t VALUES ('b', 1), (NULL, 2), ('a', 3), (NULL, 4);")
    source = SqliteTable(path, "t", ("day", "n"))
    rows, rejects, _ = read(source, pa.schema([("n", pa.int64())]))
    assert [row["n"] for row in rows] == [3, 1]
    assert rejects == [(f"without key, row {place}", RejectionCode.FIELD_NULL, "day") for place in (1, 2)]


def test_b_45_a_key_that_names_two_rows_stops_the_read(pos):
    """Rows that a page boundary could lose are never passed over silently."""
    path = pos("CREATE TABLE t (day TEXT, n INTEGER); INSERT INTO t VALUES ('a', 1), ('a', 2), ('b', 3);")
    with pytest.raises(DeclarationError, match="two rows with one day"):
        read(SqliteTable(path, "t", ("day",), page_rows=1), pa.schema([("n", pa.int64())]))


@pytest.mark.parametrize(
    ("script", "order"),
    [
        ("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (3), (1);", [3, 1]),
        ("CREATE TABLE t (n INTEGER PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES (3), (1);", [1, 3]),
        ("CREATE TABLE t (n INTEGER, rowid TEXT); INSERT INTO t VALUES (3, 'x'), (1, 'x');", [3, 1]),
    ],
    ids=["rowid", "without-rowid", "column-called-rowid"],
)
def test_tables_without_a_declared_key_are_read_by_the_one_they_have(pos, script, order):
    """The primary key, or else the rowid under a name that no column takes."""
    source = SqliteTable(pos(script), "t", page_rows=1)
    assert [row["n"] for row in read(source, pa.schema([("n", pa.int64())]))[0]] == order


def test_b_47_an_empty_table_gives_no_rows(pos):
    """No rows, no batches, no error."""
    assert read(SqliteTable(pos("CREATE TABLE t (n INTEGER PRIMARY KEY);"), "t"), pa.schema([("n", pa.int64())]))[
        :2
    ] == ([], [])


def test_a_view_needs_a_declared_key(pos):
    """A view has no key of its own; with one it is read like a table."""
    path = pos(SALES + "CREATE VIEW cheap AS SELECT * FROM sales WHERE price < 2;")  # noqa: S608 (our own text)
    with pytest.raises(DeclarationError, match="a view has none"):
        read(SqliteTable(path, "cheap"))
    assert [row["id"] for row in read(SqliteTable(path, "cheap", ("id",)))[0]] == [1, 9]


@pytest.mark.parametrize(
    "content", [None, b"this is no database at all, only text" * 50], ids=["missing", "no-database"]
)
def test_a_database_that_cannot_be_read_is_unavailable(tmp_path, content):
    """A missing file is not created, and one that is no database is named."""
    path = tmp_path / "pos.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceUnavailable, match=r"pos\.db"):
        SqliteTable(path, "sales").probe()
    assert path.exists() == (content is not None)


def test_a_writer_is_not_held_up_between_pages(pos):
    """No transaction stays open while a page is worked on: the legacy program can write."""
    path = pos(SALES)
    pages = SqliteTable(path, "sales", page_rows=1).read(WANTED)
    next(pages)
    with closing(sqlite3.connect(path, timeout=0.1)) as legacy, legacy:
        legacy.execute("INSERT INTO sales VALUES (99, 1, 'late', 1, NULL)")
    assert [pulled.decoded.batch.to_pylist()[0]["id"] for pulled in pages] == [2, 5, 9, 99]


@pytest.mark.parametrize(("column", "page_rows"), [("BLOB", 1), ("BLOB", 4), ("TEXT", 4)])
def test_b_45_binary_keys_over_several_pages_are_refused(pos, column, page_rows):
    """A key that cannot be compared in the order of the pages stops the read; it neither loops nor loses rows."""
    keys = [f"(CAST(x'{byte}' AS {column}), {place})" for place, byte in enumerate(("01", "ff", "fe", "61", "62"))]
    path = pos(f"CREATE TABLE t (id {column} PRIMARY KEY, n INTEGER); INSERT INTO t VALUES {', '.join(keys)};")  # noqa: S608 (our own text)
    with pytest.raises(DeclarationError, match="a key of numbers and texts"):
        read(SqliteTable(path, "t", page_rows=page_rows), pa.schema([("n", pa.int64())]))
    assert len(read(SqliteTable(path, "t"), pa.schema([("n", pa.int64())]))[0]) == 5


def test_b_45_text_keys_are_spelt_so_that_no_two_positions_are_alike(pos):
    """Positions quote texts, so that a key of several columns reads back in one way only."""
    path = pos("CREATE TABLE t (a TEXT, b TEXT, n, PRIMARY KEY (a, b)); INSERT INTO t VALUES ('x, b=y', 'z', 'bad');")
    assert read(SqliteTable(path, "t"), pa.schema([("n", pa.int64())]))[1][0][0] == 'a="x, b=y", b="z"'


def test_s_15_no_identifier_of_an_injectors_list_is_run(pos):
    """S-15: as a table, a column and a key each is looked up and refused, and the database is what it was."""
    path = pos(SALES)
    before = path.read_bytes()
    for name in IDENTIFIERS:
        for source, wanted in (
            (SqliteTable(path, name), WANTED),
            (SqliteTable(path, "sales"), pa.schema([(name, pa.int64())])),
            (SqliteTable(path, "sales", (name,)), WANTED),
        ):
            with pytest.raises(DeclarationError):
                read(source, wanted)
    assert path.read_bytes() == before
