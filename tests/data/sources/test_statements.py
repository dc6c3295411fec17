"""The allow-list of statements, and the condition behind a key: nothing but reading, and no row between two pages."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.data.sources.database import _behind
from brownfield.data.sources.dialect import only_reading
from brownfield.errors import DeclarationError

REFUSED = [
    "",
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET a = 1",
    "DELETE FROM t",
    "DROP TABLE t",
    "TRUNCATE t",
    "CALL p()",
    "DO 1",
    "COPY t TO PROGRAM 'x'",
    "EXPLAIN ANALYZE DELETE FROM t",
    "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
    "SELECT 1; DROP TABLE t",
    "SELECT * FROM t FOR UPDATE",
    "SELECT * INTO u FROM t",
    "SELECT a FROM t INTO OUTFILE 'x'",
    "SELECT nextval('s')",
    "SELECT pg_terminate_backend(1)",
    "SELECT lo_import('x')",
    "SELECT sleep(100)",
    "SELECT 1 -- DROP",
    "SELECT 1 /* x */",
    "SELECT /*!50000 sleep(9) */ 1",
    "SELECT 1 # x",
    "SELECT @a := 1",
    "SELECT 'a\\' FROM t",
    'SELECT "a FROM t',
    "SELECT * FROM t UNION SELECT * FROM u",
    "SELECT (SELECT 1)",
    "select\x00 1",
    "SELECT U&'d' FROM t",
    "SELECT $$x$$",
]


@pytest.mark.parametrize("statement", REFUSED, ids=lambda text: f"S-15-{text[:18]}")
def test_s_17_everything_but_one_plain_select_is_refused(statement):
    """Other verbs, functions, comments, several statements, locks, files and variables."""
    with pytest.raises(DeclarationError, match="only reads"):
        only_reading(statement)


@pytest.mark.parametrize("quoted", ['"drop table"', '"a""; DELETE FROM t --"', "`sleep`(`x`)", "`a``b`"])
def test_b_43_quoted_identifiers_are_names_whatever_they_say(quoted):
    """Inside quotes, any word is a name."""
    statement = f"SELECT {quoted} FROM {quoted} WHERE {quoted} > %s"  # noqa: S608 (never run)
    assert only_reading(statement) == statement


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=20),
    size=st.integers(1, 4),
)
def test_pages_by_a_key_of_several_columns_meet_every_row_once(rows, size):
    """The condition is that of rows behind the last one, in the order of the key."""
    names = ['"a"', '"b"', '"c"']
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a, b, c)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        met, last = [], None
        while True:
            condition, values = ("", []) if last is None else _behind(names, last)
            statement = f"SELECT a, b, c FROM t WHERE 1{condition} ORDER BY a, b, c LIMIT {size}"  # noqa: S608 (our own)
            page = connection.execute(statement.replace("%s", "?"), values).fetchall()
            if not page:
                break
            met += page
            last = page[-1]
    assert met == sorted(rows)
