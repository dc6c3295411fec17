"""What Oracle is asked, word for word: no server is at hand, so a recorder stands where the driver would."""

import re
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from brownfield.data.sources import Address, Budget, Cursor, DatabaseTable, Odbc, Oracle
from brownfield.data.sources.dialect import Column, Family, Refused, only_reading, with_marks
from brownfield.data.sources.oracle import _Session, _translated
from brownfield.errors import DeclarationError

ADDRESS = Address("db", 1521, ("10.0.0.9",), "POS", "READER", "secret-4711", "off", schema="TILL")
COLUMNS = [
    ("LINE_ID", "NUMBER", 12, 0, "N", "YES"),
    ("PRICE", "NUMBER", 8, 2, "Y", "NO"),
    ("SOLD_AT", "TIMESTAMP(6) WITH LOCAL TIME ZONE", None, 6, "N", "NO"),
    ("AT_TILL", "TIMESTAMP(6) WITH TIME ZONE", None, 6, "Y", "NO"),
    ("DAY", "DATE", None, None, "Y", "NO"),
    ("PICTURE", "BLOB", None, None, "Y", "NO"),
]
NOW = datetime(2026, 11, 21, 12, 0, 0)  # noqa: DTZ001 (as the server gives it)


class Recorder:
    """A session that answers the catalogue's questions and notes every statement as the driver would get it."""

    def __init__(self, rows):
        self.rows = rows
        self.asked = []

    def select(self, statement, parameters=()):
        """Note a statement that passed the allow-list, and answer it."""
        self.asked.append((" ".join(with_marks(only_reading(statement), ":{}").split()), list(parameters)))
        text = self.asked[-1][0]
        for mark, answer in {
            "all_objects": [("SALES",), ("OTHER",)],
            "all_tab_columns": COLUMNS,
            "all_cons_columns": [("LINE_ID",)],
            "systimestamp": [(NOW,)],
            "max(": [(datetime(2026, 11, 21, 11, 59, tzinfo=UTC),)],
            "count(*)": [(1,)],
        }.items():
            if mark in text:
                return answer
        return self.rows.pop(0) if self.rows else []

    def close(self):
        """Do nothing."""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Read a table whose session is recorded; the statements that were sent."""

    def read(rows, wanted, after=None, **options):
        session = Recorder(rows)
        monkeypatch.setattr(Oracle, "connect", lambda _self, _address: session)
        budget = Budget(tmp_path / "b", "db", rows_per_s=10_000_000)
        source = DatabaseTable(Oracle(), lambda: ADDRESS, "SALES", budget, page_rows=2, **options)
        read.rows = [row for pulled in source.read(wanted, after) for row in pulled.decoded.batch.to_pylist()]
        return session.asked

    return read


WANTED = pa.schema([("LINE_ID", pa.int64()), ("PRICE", pa.float64())])
PAGES = [[(1, Decimal("0.5"), 1), (2, None, 2), (3, Decimal(1), 3)], [(3, Decimal(1), 3)]]


def test_a_table_is_read_page_by_page(asked):
    """The whole conversation: catalogue, first page, one row at its end, next page behind it."""
    sent = asked([list(page) for page in PAGES], WANTED)
    head = 'SELECT "LINE_ID", "PRICE", "LINE_ID" FROM "TILL"."SALES" WHERE "LINE_ID" IS NOT NULL'
    assert [text for text, _ in sent[3:]] == [
        f'{head} ORDER BY "LINE_ID" FETCH FIRST 3 ROWS ONLY',
        'SELECT count(*) FROM "TILL"."SALES" WHERE "LINE_ID" = :1',
        f'{head} AND "LINE_ID" >= :1 AND ("LINE_ID" > :2) ORDER BY "LINE_ID" FETCH FIRST 3 ROWS ONLY',
    ]
    assert [values for _, values in sent] == [["TILL"], ["TILL", "SALES"], ["TILL", "SALES"], [], [2], [2, 2]]
    assert [row["LINE_ID"] for row in asked.rows] == [1, 2, 3]


def test_f_49_a_feed_asks_for_the_servers_own_time(asked):
    """A cursor's window is bounded by the server's clock in UTC and by the newest stamp that there is."""
    stamp = datetime(2026, 11, 21, 11, 58, tzinfo=UTC)
    sent = asked([[], [(7, None, stamp, 7)]], WANTED, cursor=Cursor("SOLD_AT", ("LINE_ID",), 60))
    texts = [text for text, _ in sent]
    assert "SELECT sys_extract_utc(systimestamp) FROM dual" in texts
    assert texts[-1] == (
        'SELECT "LINE_ID", "PRICE", "SOLD_AT", "LINE_ID" FROM "TILL"."SALES" WHERE "SOLD_AT" IS NOT NULL AND '
        '"LINE_ID" IS NOT NULL AND "SOLD_AT" >= :1 AND "SOLD_AT" <= :2 AND "SOLD_AT" <= :3 '
        'ORDER BY "SOLD_AT", "LINE_ID" FETCH FIRST 3 ROWS ONLY'
    )


def test_every_statement_is_oracles_own_sql(asked):
    """An independent parser of Oracle's grammar reads each statement as one SELECT of the declared table."""
    asked_texts = [text for text, _ in asked([list(page) for page in PAGES], WANTED)]
    asked_texts += [text for text, _ in asked([[], []], WANTED, cursor=Cursor("SOLD_AT", ("LINE_ID",), 60))]
    for text in asked_texts:
        named = re.sub(r":(\d)", r":p\1", text)  # the parser knows marks by name only
        (tree,) = sqlglot.parse(named, dialect="oracle")
        assert isinstance(tree, exp.Select)
        again = sqlglot.parse_one(tree.sql(dialect="oracle"), dialect="oracle")
        assert again == tree
        if re.search("FETCH", text):
            assert isinstance(tree.args["limit"], exp.Fetch)


def test_the_catalogue_tells_what_columns_hold(asked):
    """Whole numbers by their scale, dates with a time, zones that the driver would lose not at all."""
    columns, key = Oracle().columns(Recorder([]), ADDRESS, "SALES")
    assert {each.name: (each.declared, each.family, each.nullable, each.numbered) for each in columns} == {
        "LINE_ID": ("number(12,0)", Family.WHOLE, False, True),
        "PRICE": ("number(8,2)", Family.DECIMAL, True, False),
        "SOLD_AT": ("timestamp(6) with local time zone", Family.INSTANT, False, False),
        "AT_TILL": ("timestamp(6) with time zone", None, True, False),
        "DAY": ("date", Family.LOCAL, True, False),
        "PICTURE": ("blob", None, True, False),
    }
    assert key == ["LINE_ID"]
    with pytest.raises(DeclarationError, match=r"timestamp\(6\) with time zone"):
        asked([], pa.schema([("AT_TILL", pa.timestamp("us"))]))


@pytest.mark.parametrize("name", ['SALES"; DROP TABLE SALES; --', "sales", "", "x" * 300, "SELECT"])
def test_b_43_s_15_an_identifier_that_the_catalogue_lacks_is_refused(asked, name):
    """B-43, S-15: no statement but the catalogue's is sent."""
    with pytest.raises(DeclarationError, match="column of the database"):
        asked([], pa.schema([(name, pa.int64())]))
    with pytest.raises(DeclarationError, match="without a quote"):
        Oracle().quoted('a"b')


class Connection:
    """Notes what a session runs, as the driver's connection would."""

    def __init__(self):
        self.ran = []

    def cursor(self):
        """Give itself: cursor and connection in one."""
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def execute(self, statement, *_):
        """Note a statement."""
        self.ran.append(statement)

    def fetchall(self):
        """No rows."""
        return []

    def commit(self):
        """Note the end of a transaction."""
        self.ran.append("commit")


def test_s_17_every_transaction_is_read_only():
    """S-17: the allow-list is asked first, and each transaction begins with the server's own lock."""
    connection = Connection()
    session = _Session(connection, ADDRESS)
    assert session.select('SELECT "A" FROM "T" WHERE "B" = %s', [1]) == []
    assert connection.ran == ["SET TRANSACTION READ ONLY", 'SELECT "A" FROM "T" WHERE "B" = :1', "commit"]
    for statement in ("INSERT INTO t VALUES (1)", "BEGIN p; END;", "SELECT dbms_lock.sleep(9) FROM dual"):
        with pytest.raises(DeclarationError, match="only reads"):
            session.select(statement)


def test_errors_are_named_by_number_never_by_text():
    """What the driver says may hold values."""
    import oracledb

    error = oracledb.DatabaseError(type("E", (), {"code": 942, "isrecoverable": False, "message": "secret-4711"})())
    assert isinstance(_translated(error, ADDRESS), Refused)
    assert "secret-4711" not in str(_translated(error, ADDRESS))


def test_a_missing_driver_is_said(tmp_path, monkeypatch):
    """Without the package the error names the extra."""
    (tmp_path / "oracledb.py").write_text("raise ImportError('none')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "oracledb", raising=False)
    with pytest.raises(DeclarationError, match=r"brownfield\[oracle\]"):
        Oracle().connect(ADDRESS)


PAGED = {
    "mssql": ("tsql", " OFFSET 0 ROWS FETCH NEXT 3 ROWS ONLY", "SELECT sysutcdatetime()"),
    "oracle": ("oracle", " FETCH FIRST 3 ROWS ONLY", "SELECT sys_extract_utc(systimestamp) FROM dual"),
    "db2": (None, " FETCH FIRST 3 ROWS ONLY", "SELECT current timestamp - current timezone FROM sysibm.sysdummy1"),
}


@pytest.mark.parametrize("dialect", PAGED)
def test_the_words_of_servers_that_are_not_at_hand(dialect):
    """Behind ODBC: quoting, paging and the clock of SQL Server, Oracle and Db2, read by an independent parser."""
    parser, end, now = PAGED[dialect]
    source = Odbc(dialect, lambda: "DSN=x")
    table = source.qualified(ADDRESS, 'a"b')
    assert (source.limited(3), source.now, table) == (end, now, '"TILL"."a""b"')
    column = Column("C", "int", Family.WHOLE, nullable=False)
    statement = f'SELECT {source.selected(column)} FROM {table} ORDER BY "C"{source.limited(3)}'  # noqa: S608 (never run)
    assert only_reading(statement) == statement
    assert only_reading(now) == now
    tree = sqlglot.parse_one(statement, dialect=parser)
    assert (tree.find(exp.Table).name, isinstance(tree.args["limit"], exp.Fetch)) == ('a"b', True)
