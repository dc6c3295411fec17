"""Unified tables are queried by an engine that reads their files and can do nothing else."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline import open_tables
from harness.hostile import IDENTIFIERS

ROWS = pa.table({"n": [1, 2]})


def test_a_table_is_the_sum_of_its_named_parts(tmp_path):
    """All parts are read; what is hidden, and what is no table, is not seen."""
    for folder, file in (("t", "0.parquet"), ("t", "1.parquet"), ("t", ".2.parquet.part"), (".t", "0.parquet")):
        (tmp_path / folder).mkdir(exist_ok=True)
        pq.write_table(ROWS, tmp_path / folder / file)
    connection = open_tables(tmp_path)
    assert connection.execute("SELECT sum(n) FROM t").fetchall() == [(6,)]
    assert connection.execute("SHOW TABLES").fetchall() == [("t",)]


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
    table = tmp_path / "data" / "t" / "0.parquet"
    table.parent.mkdir(parents=True)
    pq.write_table(ROWS, table)
    other = tmp_path / "other.parquet"
    pq.write_table(ROWS, other)
    before = table.read_bytes()
    connection = open_tables(tmp_path / "data")
    with pytest.raises(duckdb.Error):
        connection.execute(statement.format(other=other, folder=tmp_path, table=table))
    assert connection.execute("SELECT sum(n) FROM t").fetchall() == [(3,)]
    assert table.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "other.parquet"]


def test_s_15_a_table_of_any_name_is_a_view_of_that_name(tmp_path):
    """S-15: folders and files named as an injector would are names to the engine: each view gives its own rows."""
    names = [name for name in dict.fromkeys(each.lower() for each in IDENTIFIERS)
             if "/" not in name and "\0" not in name and not name.startswith(".")]  # fmt: skip
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"n": [number]}), tmp_path / name / "it's; DROP VIEW x--.parquet")
    connection = open_tables(tmp_path)
    assert len(names) > 40
    assert sorted(row[0] for row in connection.execute("SHOW TABLES").fetchall()) == sorted(names)
    for number, name in enumerate(names):
        assert connection.table('"' + name.replace('"', '""') + '"').fetchall() == [(number,)]
