"""Unified tables, queried by DuckDB: an engine that reads their files and can do nothing else."""

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.data.pipeline.parts import listed_files

if TYPE_CHECKING:
    import duckdb

__all__ = ["open_tables"]


def open_tables(folder: Path) -> "duckdb.DuckDBPyConnection":
    """Open the tables of a folder for SQL: a view for each folder of Parquet files, named like it.

    The engine reads these files and no other, writes none, loads no extension and cannot be told otherwise. It sees
    the tables as they are now; open them again to see what a later run added.

    Examples
    --------
    >>> import pyarrow as pa, pyarrow.parquet as pq
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     sales = Path(folder, "sales")
    ...     sales.mkdir()
    ...     pq.write_table(pa.table({"store_id": [1, 1]}), sales / "000000.parquet")
    ...     pq.write_table(pa.table({"store_id": [2]}), sales / "000001.parquet")
    ...     open_tables(Path(folder)).execute("SELECT store_id, count(*) FROM sales GROUP BY 1 ORDER BY 1").fetchall()
    [(1, 2), (2, 1)]
    """
    import duckdb

    connection = duckdb.connect()
    tables = {
        table.name: [str(file) for file in listed_files(table)]
        for table in sorted(folder.iterdir())
        if table.is_dir() and not table.name.startswith(".")
    }
    files = {file for listed in tables.values() for file in listed}
    allowed = ", ".join(_literal(file) for file in sorted(files | {glob.escape(file) for file in files}))
    connection.execute(f"SET allowed_paths = [{allowed}]")
    for name, listed in tables.items():
        if listed:
            view = '"' + name.replace('"', '""') + '"'
            names = ", ".join(_literal(glob.escape(file)) for file in listed)  # and no patterns
            parts = f"[{names}], hive_partitioning = false"  # a folder above called a=b is no column
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM read_parquet({parts})")  # noqa: S608 (quoted)
    connection.execute(
        "SET autoinstall_known_extensions = false; SET autoload_known_extensions = false; "
        "SET enable_external_access = false; SET lock_configuration = true"
    )
    return connection


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
