"""A table of sales on a server, and what every kind of source of its rows is tried with alike."""

from contextlib import closing
from dataclasses import replace

import pyarrow as pa
import pytest

from brownfield.data.sources.database import _look_up, _Pages
from brownfield.errors import DeclarationError, SourceUnavailable
from harness.hostile import IDENTIFIERS

SALES = (
    "DROP TABLE IF EXISTS sales",
    "CREATE TABLE sales (id integer PRIMARY KEY, price numeric(8,2), label varchar(9))",
    "INSERT INTO sales VALUES (1, 0.5, 'a'), (2, NULL, 'b'), (5, 3, 'ü'), (9, 1.5, '')",
)
WANTED = pa.schema([("id", pa.int64()), ("price", pa.float64()), ("label", pa.string())])
PROCEDURES = {
    "postgres": ["CREATE OR REPLACE PROCEDURE wipe() LANGUAGE sql AS 'DELETE FROM sales'"],
    "mysql": ["DROP PROCEDURE IF EXISTS wipe", "CREATE PROCEDURE wipe() DELETE FROM sales"],
}


def numbered(server, dialect, name: str) -> pa.Schema:
    """Make a table with one column, both of this name, that holds 1 to 3; give what is read of it."""
    quoted = dialect.quoted(name).replace("%%", "%")
    server.run(
        f"DROP TABLE IF EXISTS {quoted}",
        f"CREATE TABLE {quoted} ({quoted} integer PRIMARY KEY)",
        f"INSERT INTO {quoted} VALUES (1), (2), (3)",  # noqa: S608 (our own text)
    )
    return pa.schema([(name, pa.int64())])


def read_behind_a_lock(server, read) -> None:
    """Read the sales while another holds their lock: the server ends the statement."""
    server.run(*SALES)
    lock = "LOCK TABLE sales IN ACCESS EXCLUSIVE MODE" if server.kind == "postgres" else "LOCK TABLES sales WRITE"
    with closing(server.connect()) as legacy:
        legacy.cursor().execute(lock)
        with pytest.raises(SourceUnavailable, match=r"longer than 1 s|refused the statement"):
            read()
        legacy.rollback()


def try_identifiers(server, source) -> None:
    """Try an injector's list as tables and as columns: each is refused, and the database is what it was."""
    server.run(*SALES)
    before = server.dump()
    with source.line() as line:
        shape = line.look_up()
        for name in IDENTIFIERS:
            with pytest.raises(DeclarationError):
                _look_up(replace(line.source, table=name), line.session, line.address, line.where)
            with pytest.raises(DeclarationError):
                _Pages(line, shape, pa.schema([(name, pa.int64())]))
    assert server.dump() == before
