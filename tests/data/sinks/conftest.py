"""Two databases in which the sinks for tables are tried alike: SQLite, and a PostgreSQL server of the test's own."""

import sqlite3
from pathlib import Path

import pytest

from brownfield.data.sinks import PostgresTableSink, SqliteTableSink, TableTarget, ledger_ddl
from harness.databases import mariadb, postgres

__all__ = ["mariadb", "postgres"]

TARGET = TableTarget("scores", ("basket", "label", "score"), ("basket",))
SCORES = """
CREATE TABLE scores (
  basket bigint NOT NULL PRIMARY KEY, label varchar(40), score double precision, owner_note text DEFAULT 'theirs'
);
CREATE TABLE elsewhere (basket bigint NOT NULL PRIMARY KEY, label text);
"""


class SqlitePlace:
    """A SQLite database with a table of the owner's."""

    dialect = "sqlite"

    def __init__(self, path: Path, ddl: str = SCORES) -> None:
        self.path = path
        self.run(ddl + ledger_ddl("sqlite"))

    def run(self, script: str) -> None:
        """Run the owner's own statements."""
        connection = sqlite3.connect(self.path)
        connection.executescript(script)
        connection.close()

    def rows(self, query: str) -> list[tuple]:
        """Ask the owner's way."""
        connection = sqlite3.connect(self.path)
        found = connection.execute(query).fetchall()
        connection.close()
        return found

    def sink(self, target: TableTarget = TARGET, stream: str = "claims/till") -> SqliteTableSink:
        """Make a sink that has not taken over yet."""
        return SqliteTableSink(self.path, target, stream, busy_timeout_s=0.2)


class PostgresPlace:
    """A schema of its own on a PostgreSQL server, with the same table."""

    dialect = "postgres"

    def __init__(self, parameters: dict, schema: str, ddl: str = SCORES) -> None:
        self.parameters = parameters
        self.schema = schema
        self.run(f'CREATE SCHEMA "{schema}"')
        self.run(ddl + ledger_ddl("postgres", schema=schema))

    def connect(self):
        """Connect the owner."""
        import psycopg

        return psycopg.connect(
            **self.parameters, autocommit=True, options=f'-c search_path="{self.schema}"'.replace(" 100", "\\ 100")
        )

    def run(self, script: str) -> None:
        """Run the owner's own statements."""
        with self.connect() as connection:
            connection.execute(script)

    def rows(self, query: str) -> list[tuple]:
        """Ask the owner's way."""
        with self.connect() as connection:
            return connection.execute(query).fetchall()

    def sink(self, target: TableTarget = TARGET, stream: str = "claims/till", **changed) -> PostgresTableSink:
        """Make a sink that has not taken over yet."""
        return PostgresTableSink({**self.parameters, **changed}, target, stream, schema=self.schema, idle_timeout_s=1)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.full)])
def place(request, tmp_path):
    """Each database in turn, with empty tables."""
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "pos.db")
    return PostgresPlace(request.getfixturevalue("postgres").options, f"{tmp_path.name} 100%s")


@pytest.fixture
def sqlite_place(tmp_path) -> SqlitePlace:
    """SQLite alone, with empty tables."""
    return SqlitePlace(tmp_path / "pos.db")


@pytest.fixture
def postgres_place(postgres, tmp_path) -> PostgresPlace:
    """PostgreSQL alone, with empty tables."""
    return PostgresPlace(postgres.options, tmp_path.name)
