"""Tables of real PostgreSQL and MariaDB servers: read whole, in order, exactly once, and never written."""

from dataclasses import replace

import pyarrow as pa
import pytest

from brownfield.data.sources import Address, Budget, DatabaseTable, Mysql, Postgres

pytestmark = pytest.mark.full

DIALECTS = {"postgres": Postgres(), "mysql": Mysql()}
WANTED = pa.schema([("id", pa.int64()), ("price", pa.float64()), ("label", pa.string())])


def address_of(server):
    """The server as a source knows it."""
    schema = "public" if server.kind == "postgres" else ""
    return Address(
        server.host, server.port, (server.host,), server.database, server.user, server.password, "off", schema=schema
    )


@pytest.fixture
def table(server, tmp_path):
    """Make a source of a table of the server."""

    def make(name, **options):
        address = address_of(server)
        where = {field: options.pop(field) for field in ("port", "statement_timeout_s") if field in options}
        budget = options.pop("budget", Budget(tmp_path / "budget", "db", rows_per_s=10_000_000))
        return DatabaseTable(DIALECTS[server.kind], lambda: replace(address, **where), name, budget, **options)

    return make


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
