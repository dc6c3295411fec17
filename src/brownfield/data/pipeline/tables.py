"""Unified tables as Parquet files: written beside their name and renamed when whole, and queried by DuckDB."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from brownfield.errors import Unavailable

if TYPE_CHECKING:
    import duckdb

__all__ = ["TableWriter", "open_tables"]


class TableWriter:
    """Writes one table; without :meth:`publish` nothing of it is seen.

    Parameters
    ----------
    path
        The Parquet file, mode 0600; while it is written it is called ``<path>.part``.
    schema
        Its columns.

    Raises
    ------
    Unavailable
        When another run is writing the same table.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise Unavailable(
                "another run is writing this table", where=str(path), next_step="Wait for it to finish."
            ) from None
        self._file.truncate()
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        self._published = False

    def write(self, rows: pa.Table) -> None:
        """Append rows."""
        if rows.num_rows:
            self._writer.write_table(rows)

    def seal(self) -> None:
        """Finish the file and force it to the disk, still under its working name."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())

    def publish(self) -> None:
        """Give the sealed file its name, in place of the one before."""
        self.part.replace(self.path)
        self._published = True
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if not self._published:
            self.part.unlink(missing_ok=True)
        self._writer.close()
        self._file.close()


def open_tables(folder: Path) -> "duckdb.DuckDBPyConnection":
    """Open the tables of a folder for SQL: a view for each Parquet file, named like it.

    The engine reads these files and no other, writes none, loads no extension and cannot be told otherwise.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     pq.write_table(pa.table({"store_id": [1, 1, 2]}), Path(folder, "sales.parquet"))
    ...     open_tables(Path(folder)).execute("SELECT store_id, count(*) FROM sales GROUP BY 1 ORDER BY 1").fetchall()
    [(1, 2), (2, 1)]
    """
    import duckdb

    connection = duckdb.connect()
    files = sorted(folder.glob("*.parquet"))
    connection.execute(f"SET allowed_paths = [{', '.join(_literal(str(file)) for file in files)}]")
    for file in files:
        view = '"' + file.stem.replace('"', '""') + '"'
        connection.execute(f"CREATE VIEW {view} AS SELECT * FROM read_parquet({_literal(str(file))})")  # noqa: S608 (quoted)
    connection.execute(
        "SET autoinstall_known_extensions = false; SET autoload_known_extensions = false; "
        "SET enable_external_access = false; SET lock_configuration = true"
    )
    return connection


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
