"""Tables appear whole or not at all, and are queried by an engine that can do nothing else."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline import open_tables
from brownfield.data.pipeline.tables import TableWriter
from brownfield.errors import Unavailable

ROWS = pa.table({"n": [1, 2]})


def write(path, rows=ROWS):
    """Write and publish a table."""
    with TableWriter(path, ROWS.schema) as writer:
        writer.write(rows)
        writer.seal()
        writer.publish()


def test_a_table_is_seen_when_it_is_published_and_not_before(tmp_path):
    """Readers see the old table until the new one is whole; a writer that gives up leaves nothing."""
    path = tmp_path / "data" / "t.parquet"
    write(path)
    with TableWriter(path, ROWS.schema) as writer:
        writer.write(pa.table({"n": [3]}))
        writer.seal()
        assert pq.read_table(path).equals(ROWS)
    assert pq.read_table(path).equals(ROWS)
    assert [each.name for each in path.parent.iterdir()] == ["t.parquet"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_b_47_a_table_without_rows_has_its_columns(tmp_path):
    """An empty table is a table."""
    write(tmp_path / "t.parquet", ROWS.slice(0, 0))
    assert pq.read_table(tmp_path / "t.parquet").schema.names == ["n"]


def test_a_table_is_written_by_one_run_at_a_time(tmp_path):
    """A second writer is refused; what a killed one left behind is written over."""
    path = tmp_path / "t.parquet"
    path.with_name("t.parquet.part").write_bytes(b"left behind by a killed run" * 1000)
    with TableWriter(path, ROWS.schema) as writer:
        with pytest.raises(Unavailable, match="another run"):
            TableWriter(path, ROWS.schema)
        writer.write(ROWS)
        writer.seal()
        writer.publish()
    assert pq.read_table(path).equals(ROWS)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('{other}')",
        "SELECT * FROM read_text('{other}')",
        "SELECT * FROM read_parquet('{other}')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "COPY (SELECT 1 AS n) TO '{table}'",
        "ATTACH '{folder}/new.db'",
        "EXPORT DATABASE '{folder}/export'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_paths = ['{other}']",
    ],
    ids=lambda text: f"S-16-{text.split(' (')[0][:24]}",
)
def test_s_16_the_engine_reads_the_tables_and_nothing_else(tmp_path, statement):
    """Files, extensions, other databases and the lock itself are refused; the tables stay readable and unchanged."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "t.parquet")
    other = tmp_path / "other.parquet"
    pq.write_table(ROWS, other)
    before = (tmp_path / "data" / "t.parquet").read_bytes()
    connection = open_tables(tmp_path / "data")
    with pytest.raises(duckdb.Error):
        connection.execute(statement.format(other=other, folder=tmp_path, table=tmp_path / "data" / "t.parquet"))
    assert connection.execute("SELECT sum(n) FROM t").fetchall() == [(3,)]
    assert (tmp_path / "data" / "t.parquet").read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "other.parquet"]
