"""A unified table in PostgreSQL: written back with all of its columns, it is the Parquet table row for row."""

from contextlib import closing

import pytest

from brownfield.data.pipeline import open_tables
from harness.delivery import PostgresSink, Soak, SqliteSource

pytestmark = pytest.mark.full


@pytest.fixture
def soak(tmp_path, request):
    """A till whose unified lines are written into a table of a real PostgreSQL server."""
    with closing(SqliteSource(tmp_path, request)) as source, closing(PostgresSink(tmp_path, request)) as sink:
        yield Soak(tmp_path, source, sink)


def parquet(soak):
    """Rows of the unified table in its files."""
    tables = open_tables(soak.folder / "var" / "data" / "soak")
    with closing(tables):
        return tables.execute("SELECT line_id, amount FROM lines ORDER BY line_id").fetchall()


def parts(soak):
    """Names of the table's parts."""
    with soak.open_store() as store:
        return [part.file for part in store.parts.listed("soak")["lines"]]


def test_the_table_in_postgres_is_the_parquet_table_row_for_row(soak):
    """The same rows in the same number on both sides, over many runs; parts are merged only once they are delivered."""
    for _ in range(12):
        soak.make(7)
        soak.run()
    assert len(parts(soak)) == 12  # nobody has approved it: every part is still to be delivered
    soak.approve()
    soak.run()
    for _ in range(4):
        soak.make(3)
        soak.run()
    assert len(parts(soak)) < 8
    in_files = parquet(soak)
    in_postgres = [tuple(row) for row in soak.sink.rows("SELECT line_id, amount FROM till ORDER BY line_id")]
    assert in_postgres == in_files
    assert len(in_files) > 80
    assert soak.run().write_back["till"].rows == 0
