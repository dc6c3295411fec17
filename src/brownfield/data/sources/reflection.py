"""What there is in a database: its tables, their columns and keys, and a sample of rows, read like any other read."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from brownfield.data.sources.sqlite import SqliteTable
from brownfield.data.sources.sqlite import connect as connect_sqlite
from brownfield.data.sources.typed import typed_column

if TYPE_CHECKING:
    from brownfield.data.sources.database import DatabaseTable, Line
    from brownfield.data.sources.dialect import Column, Dialect, Session

__all__ = ["Reflected", "reflect_server", "reflect_sqlite"]

_WHOLE, _FRACTION = ("INT",), ("REAL", "FLOA", "DOUB", "NUM", "DEC")


@dataclass(frozen=True, slots=True)
class Reflected:
    """One table as it is.

    Parameters
    ----------
    name
        As the catalogue spells it.
    primary_key
        Columns of its key; empty where it has none.
    sample
        Some of its rows; columns that are not read (bytes, lists, shapes) are left out.
    required
        Columns that the catalogue says are never empty.
    complete
        Whether the sample is the whole table.
    """

    name: str
    primary_key: tuple[str, ...]
    sample: pa.Table
    required: frozenset[str]
    complete: bool


def reflect_sqlite(path: Path, rows: int) -> Iterator[Reflected]:
    """Look at every table of a SQLite database.

    Parameters
    ----------
    path
        The database file.
    rows
        Most rows of a sample.

    Raises
    ------
    SourceUnavailable
        When it cannot be read.
    """
    with closing(connect_sqlite(path)) as connection:
        listed = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        tables = [name.decode() for (name,) in listed if not name.startswith(b"sqlite_")]
        info = {name: _sqlite_columns(connection, name) for name in tables}
    for name, columns in info.items():
        wanted = pa.schema([(column, _affinity(declared)) for column, declared, _, _ in columns if declared != "BLOB"])
        pulled = next(SqliteTable(path, name, page_rows=rows).read(wanted), None)
        sample = wanted.empty_table() if pulled is None else pa.Table.from_batches([pulled.decoded.batch])
        key = tuple(column for column, _, _, place in sorted(columns, key=lambda each: each[3]) if place)
        required = frozenset(column for column, _, never_null, place in columns if never_null or place)
        yield Reflected(name, key, sample, required, pulled is None or pulled.done_share == 1.0)


def _sqlite_columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str, bool, int]]:
    quoted = table.replace('"', '""')
    return [
        (name.decode(), declared.decode().upper(), bool(never_null), place)
        for _, name, declared, never_null, _, place, _ in connection.execute(f'PRAGMA table_xinfo("{quoted}")')
    ]


def _affinity(declared: str) -> pa.DataType:
    """Type in which a column is read, by the rules of SQLite's own affinity."""
    if any(word in declared for word in _WHOLE):
        return pa.int64()
    return pa.float64() if any(word in declared for word in _FRACTION) else pa.string()


def reflect_server(source: "DatabaseTable", rows: int) -> Iterator[Reflected]:
    """Look at every table of a server's database, within the budget of its connection.

    Parameters
    ----------
    source
        Any table of the database; its own name is not looked at.
    rows
        Most rows of a sample.

    Raises
    ------
    SourceUnavailable
        When the server cannot be reached or read.
    """
    with source.line() as line:
        dialect = source.dialect
        for name in line.asked(lambda session: dialect.tables(session, line.address)):
            columns, key = line.asked(partial(_columns, dialect, line, name))
            read = [column for column in columns if column.family is not None]
            if not read:
                continue
            selected = ", ".join(dialect.selected(column) for column in read)
            place = dialect.qualified(line.address, name)
            found = line.select(f"SELECT {selected} FROM {place} LIMIT {int(rows)}", (), rows)  # noqa: S608 (from the catalogue, quoted)
            values = list(zip(*found, strict=True)) if found else [()] * len(read)
            arrays = []
            for column, cells in zip(read, values, strict=True):
                kind = pa.bool_() if column.family is not None and column.family.name == "TRUTH" else pa.string()
                arrays.append(typed_column(cells, pa.field(column.name, kind), column)[0])
            sample = pa.Table.from_arrays(arrays, names=[column.name for column in read])
            required = frozenset(column.name for column in read if not column.nullable)
            yield Reflected(name, tuple(key), sample, required, len(found) < rows)


def _columns(dialect: "Dialect", line: "Line", table: str, session: "Session") -> "tuple[list[Column], list[str]]":
    return dialect.columns(session, line.address, table)
