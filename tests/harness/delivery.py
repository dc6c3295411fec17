# ruff: noqa: D102, S608 (what a method does stands in the base class; the statements are our own)
"""The delivery matrix under kill -9: every kind of source and sink is one class here, and pairs of them are one soak.

A source says how it is declared and makes records; a sink says how it is declared and what it was given. In a soak a
child pulls and delivers without end and is killed at random moments, while records are made and taken; at the end the
records, the tables, the ledgers, the outbox and the counts are compared with each other.
"""

import csv
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from brownfield.data.pipeline import approve_write_back, current_digest, run_pipeline
from brownfield.data.sinks import TableTarget, ledger_ddl
from brownfield.integration import load_workspace
from brownfield.store import OutboxState, Selection, open_store
from harness.shop import head

KILLS = int(os.environ.get("BROWNFIELD_KILLS", "20"))
SERVER = Path(__file__).with_name("soak_server.py")
CONTRACT = (
    head(identifier="soak")
    + """  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: amount, logicalType: integer, required: true, logicalTypeOptions: {exclusiveMinimum: 0}}
STAMP
  - name: lines
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: amount, logicalType: integer, required: true}
"""
)
STAMP = "      - {name: sold_at, logicalType: timestamp, required: true, logicalTypeOptions: {defaultTimezone: UTC}}\n"
COLUMNS = ("line_id", "amount")
TARGET = TableTarget("till", COLUMNS, ("line_id",))


def amount_of(line: int) -> int:
    """Every eleventh record is refused by the contract."""
    return line % 11


class Place:
    """One side of a pair, in a folder of its own, with the servers that the tests started."""

    kind = ""

    def __init__(self, folder: Path, request) -> None:
        self.folder = folder
        self.request = request
        self.open()

    def open(self) -> None:
        """Make what the owner of the place has made before."""

    def connection(self) -> str:
        """Give the declaration of the connection."""
        raise NotImplementedError

    def place(self) -> str:
        """Give the keys of the place."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what was opened."""


class Source(Place):
    """Where records are made."""

    stamped = False

    def make(self, lines: range) -> None:
        """Make records, as the legacy system does."""
        raise NotImplementedError


class Sink(Place):
    """Where records are written back."""

    at_least_once = False

    def take(self) -> None:
        """Take what is there, as a consumer does while the writer lives."""

    def taken(self) -> list[tuple[str, int, int]]:
        """Give each record that came: identifier of its message, line and amount."""
        raise NotImplementedError

    def check(self, rows: int) -> None:
        """Hold the sink's own ledger to the rows that it was given."""


class SqliteSource(Source):
    """A table of a SQLite database."""

    kind = "sqlite"

    def open(self):
        self.path = self.folder / "pos.db"
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE sales (line_id INTEGER PRIMARY KEY, amount INTEGER)")

    def connection(self):
        return "{kind: sqlite, path: pos.db}"

    def place(self):
        return "table: sales, cursor: {column: line_id, key: line_id}"

    def make(self, lines):
        with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
            database.executemany("INSERT INTO sales VALUES (?, ?)", [(line, amount_of(line)) for line in lines])


class ServerPlace(Place):
    """A table of a database server, in a schema or database of its own."""

    def open(self):
        self.server = self.request.getfixturevalue({"postgres": "postgres", "mysql": "mariadb"}[self.kind])
        self.name = f"soak_{random.getrandbits(48):012x}"
        if self.kind == "postgres":
            self.server.run(f"CREATE SCHEMA {self.name}")
        else:
            self.server.run(f"CREATE DATABASE {self.name}")
        secret = self.folder / f"{self.name}.secret"
        secret.write_text(self.server.password)
        secret.chmod(0o600)
        self.secret = secret
        for key, value in (("HOST", self.server.host), ("PORT", str(self.server.port))):
            os.environ[f"SOAK_{self.kind}_{key}"] = value  # the same server for every soak of a session

    def user(self):
        return self.server.user

    def connection(self):
        where = f"schema: {self.name}, database: {self.server.database}"
        if self.kind == "mysql":
            where = f"database: {self.name}"
        return (
            f"{{kind: {self.kind}, host: {{env: SOAK_{self.kind}_HOST}}, port: {{env: SOAK_{self.kind}_PORT}}, {where},"
            f" user: {self.user()}, password: {{file: {self.secret}}}, tls: {{mode: off}},"
            " budget: {max_connections: 8, rows_per_s: 1000000}}"
        )

    def close(self):
        what = "SCHEMA" if self.kind == "postgres" else "DATABASE"
        self.server.run(f"DROP {what} {self.name}{' CASCADE' if self.kind == 'postgres' else ''}")


class ServerSource(ServerPlace, Source):
    """A table of a database server, read behind a lag."""

    stamped = True

    def open(self):
        super().open()
        self.server.run(
            f"CREATE TABLE {self.name}.sales (line_id bigint PRIMARY KEY, amount int, sold_at timestamp(6))"
        )

    def place(self):
        return "table: sales, cursor: {column: sold_at, key: line_id, lag_s: 1}"

    def make(self, lines):
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        stamps = ((line, (begin + timedelta(seconds=line)).replace(tzinfo=None)) for line in lines)
        rows = ", ".join(f"({line}, {amount_of(line)}, '{at}')" for line, at in stamps)
        self.server.run(f"INSERT INTO {self.name}.sales VALUES {rows}")


class PostgresSource(ServerSource):
    """PostgreSQL."""

    kind = "postgres"


class MysqlSource(ServerSource):
    """MariaDB."""

    kind = "mysql"


class FolderSource(Source):
    """A folder into which the legacy system moves file after file."""

    kind = "folder"

    def open(self):
        self.inbox = self.folder / "in"
        self.inbox.mkdir()
        self.files = 0

    def connection(self):
        return "{kind: folder, path: in}"

    def place(self):
        return 'path: "*.csv", format: csv, intake: {ready: rename, claim: rename}'

    def make(self, lines):
        self.files += 1
        rows = "".join(f"{line},{amount_of(line)}\n" for line in lines)
        part = self.inbox / f"{self.files:06d}.csv.part"
        part.write_text("line_id,amount\n" + rows)
        part.rename(part.with_suffix(""))


class SftpPlace(Place):
    """A folder behind an SSH server of our own."""

    kind = "sftp"

    def reach(self, side: str, folder: Path) -> str:
        """Declare the connection: what is secret or an address stands in the environment."""
        server = self.request.getfixturevalue("sftp_server")
        values = {"HOST": "127.0.0.1", "PORT": str(server.port), "KEYS": server.host_keys,
                  "KEY": (server.home / "client").read_text(), "FOLDER": str(folder)}  # fmt: skip
        os.environ.update({f"SOAK_SFTP_{side}_{key}": value for key, value in values.items()})
        words = {"host": "HOST", "port": "PORT", "host_keys": "KEYS", "private_key": "KEY", "folder": "FOLDER"}
        keys = ", ".join(f"{word}: {{env: SOAK_SFTP_{side}_{key}}}" for word, key in words.items())
        return f"{{kind: sftp, user: {server.user}, {keys}, budget: {{max_connections: 8, bytes_per_s: 1000000000}}}}"


class SftpSource(SftpPlace, FolderSource):
    """The same folder, seen through the server."""

    kind = "sftp"

    def connection(self):
        return self.reach("IN", self.inbox)


class SqliteSink(Sink):
    """A table of a SQLite database, whose owner counts every change of a row."""

    kind = "sqlite"

    def open(self):
        self.path = self.folder / "out.db"
        with closing(sqlite3.connect(self.path)) as database:
            database.executescript(
                "CREATE TABLE till (line_id INTEGER PRIMARY KEY, amount INTEGER); CREATE TABLE touched (line_id);"
                "CREATE TRIGGER made AFTER INSERT ON till BEGIN INSERT INTO touched VALUES (new.line_id); END;"
                "CREATE TRIGGER changed AFTER UPDATE ON till BEGIN INSERT INTO touched VALUES (new.line_id); END;"
                + ledger_ddl("sqlite")
            )

    def connection(self):
        return "{kind: sqlite, path: out.db}"

    def place(self):
        return "table: till, key: line_id"

    def rows(self, statement):
        with closing(sqlite3.connect(self.path)) as database:
            return database.execute(statement).fetchall()

    def taken(self):
        changed = [line for (line,) in self.rows("SELECT line_id FROM touched")]
        amounts = dict(self.rows("SELECT line_id, amount FROM till"))
        return [("", line, amounts[line]) for line in changed]

    def check(self, rows):
        assert self.rows("SELECT sum(row_count) FROM brownfield_effect") == [(rows,)]


class ServerSink(ServerPlace, SqliteSink):
    """A table of a database server, whose owner counts every change of a row."""

    def user(self):
        return self.writer

    def open(self):
        super().open()
        self.writer = f"w_{self.name}"
        for statement in self.owner():
            self.server.run(statement)

    connection = ServerPlace.connection

    def rows(self, statement):
        for table in ("touched", "till", "brownfield_effect"):
            statement = statement.replace(f"FROM {table}", f"FROM {self.name}.{table}")
        return self.server.run(statement)


class PostgresSink(ServerSink):
    """PostgreSQL, written by a role of its own."""

    kind = "postgres"

    def owner(self):
        yield f"CREATE ROLE {self.writer} LOGIN PASSWORD '{self.server.password}'"
        yield (
            f"SET search_path = {self.name}; CREATE TABLE till (line_id bigint PRIMARY KEY, amount bigint);"
            "CREATE TABLE touched (line_id bigint);"
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            f" SET search_path = {self.name} AS $$ BEGIN INSERT INTO touched VALUES (new.line_id); RETURN NULL; END $$;"
            "CREATE TRIGGER touched AFTER INSERT OR UPDATE ON till FOR EACH ROW EXECUTE FUNCTION touch()"
        )
        yield ledger_ddl("postgres", schema=self.name, target=TARGET, role=self.writer)

    def close(self):
        super().close()
        self.server.run(f"DROP OWNED BY {self.writer}", f"DROP ROLE {self.writer}")


class MysqlSink(ServerSink):
    """MariaDB, written by a user of its own."""

    kind = "mysql"

    def owner(self):
        yield f"CREATE USER {self.writer}@'%' IDENTIFIED BY '{self.server.password}'"
        yield f"CREATE TABLE {self.name}.till (line_id bigint PRIMARY KEY, amount bigint)"
        yield f"CREATE TABLE {self.name}.touched (line_id bigint)"
        for event in ("INSERT", "UPDATE"):
            yield (
                f"CREATE TRIGGER {self.name}.on_{event} AFTER {event} ON {self.name}.till FOR EACH ROW "
                f"INSERT INTO {self.name}.touched VALUES (new.line_id)"
            )
        ddl = ledger_ddl("mysql", schema=self.name, target=TARGET, role=self.writer)
        yield from (statement for statement in ddl.split(";\n") if statement.strip())

    def close(self):
        super().close()
        self.server.run(f"DROP USER {self.writer}@'%'")


class FolderSink(Sink):
    """A drop folder, whose consumer takes each file as soon as its marker is there."""

    kind = "folder"

    def open(self):
        self.drop = self.folder / "out"
        self.drop.mkdir()
        self.found: list[tuple[str, int, int]] = []

    def connection(self):
        return "{kind: folder, path: out}"

    def place(self):
        return 'path: "lines-{effect_id}.csv", format: csv, totals: [amount]'

    def take(self):
        for marker in sorted(self.drop.glob("*.done")):
            told = dict(line.split("=", 1) for line in marker.read_text().splitlines())
            data = marker.with_suffix("")
            content = data.read_bytes()
            assert hashlib.sha256(content).hexdigest() == told["sha256"]
            rows = list(csv.reader(content.decode().splitlines()))[1:]
            assert (len(rows), sum(int(row[1]) for row in rows)) == (int(told["count"]), int(told["total.amount"]))
            self.found += [(told["effect_id"], int(line), int(amount)) for line, amount in rows]
            data.unlink()
            marker.unlink()

    def taken(self):
        self.take()
        assert list((self.drop / ".stage").iterdir()) == []
        return self.found


class SftpSink(SftpPlace, FolderSink):
    """The same drop folder, seen through the server."""

    kind = "sftp"

    def connection(self):
        return self.reach("OUT", self.drop)


SOURCES = {cls.kind: cls for cls in (SqliteSource, PostgresSource, MysqlSource, FolderSource, SftpSource)}
SINKS = {cls.kind: cls for cls in (SqliteSink, PostgresSink, MysqlSink, FolderSink, SftpSink)}


class Soak:
    """One pair under way.

    Parameters
    ----------
    folder
        The workspace that is made.
    source, sink
        The two places, already made in it.
    """

    def __init__(self, folder: Path, source: Source, sink: Sink) -> None:
        self.folder = folder
        self.source = source
        self.sink = sink
        self.made = 0
        self.killed = False
        self.chance = random.Random(20261121)  # noqa: S311 (moments of kills)
        home = folder / "integrations/soak"
        home.mkdir(parents=True)
        (folder / "brownfield.yaml").write_text(
            f"workspace: soak\nconnections:\n  pos: {source.connection()}\n  out: {sink.connection()}\n"
        )
        (home / "integration.yaml").write_text(
            "integration: soak\ncontract: contract.odcs.yaml\n"
            f"sources:\n  sales: {{feed: true, connection: pos, {source.place()}}}\n"
            "unified:\n  lines: {from: sales}\n"
            "write_back:\n"
            f"  till: {{from: lines, connection: out, {sink.place()}, columns: [line_id, amount], batch_rows: 16}}\n"
            "fallback: {chain: [{constant: {items: []}}]}\n"
        )
        (home / "contract.odcs.yaml").write_text(CONTRACT.replace("STAMP\n", STAMP if source.stamped else ""))
        self.load()

    def load(self) -> None:
        """Read the declaration."""
        self.workspace = load_workspace(self.folder)
        self.spec = self.workspace.integrations["soak"]

    def redeclare(self, before: str, after: str) -> None:
        """Change the declaration, and read it again."""
        file = self.folder / "integrations/soak/integration.yaml"
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))
        self.load()

    def open_store(self, **options):
        """Open the workspace's store."""
        return open_store(self.folder / "var/brownfield.db", **options)

    def run(self, clock=None, **options):
        """Pull and deliver once, here."""
        with self.open_store(clock=clock) as store:
            output = self.folder / "var/data/soak"
            return run_pipeline(self.spec, self.workspace.connections, store, output, clock=clock, **options)

    def approve(self) -> None:
        """Let the sink be written."""
        with self.open_store() as store:
            digest = current_digest(self.spec, self.workspace.connections, "till")
            approve_write_back(self.spec, self.workspace.connections, store, sink="till", digest=digest, actor="test")

    def make(self, count: int) -> None:
        """Make more records."""
        self.source.make(range(self.made + 1, self.made + 1 + count))
        self.made += count

    def kill(self, kills: int) -> None:
        """Kill children at random moments while records are made and taken."""
        self.killed = True
        self.run()
        self.approve()
        self.make(30)
        begun = time.monotonic()
        self.run()
        run_s = time.monotonic() - begun
        server = subprocess.Popen(
            [sys.executable, SERVER, str(self.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            for number in range(kills):
                self._one_life(server, number, run_s)
            assert self._ask(server, "end")[1] == signal.SIGKILL
        finally:
            server.stdin.close()
            server.wait(30)
            server.stdout.close()

    def _one_life(self, server, number: int, run_s: float) -> None:
        """Let a child begin a run, and kill it within the next three; one that aims at itself has more time."""
        before = self._runs()
        child, status = self._ask(server, str(number))
        errors = self.folder / "var/soak-errors"
        assert status in {0, signal.SIGKILL}, errors.read_text() if errors.exists() else status
        self.make(self.chance.randrange(1, 60))
        patience = time.monotonic() + 30
        while self._runs() == before and _is_alive(child) and time.monotonic() < patience:
            time.sleep(0.002)
        until = time.monotonic() + self.chance.uniform(0, (8 if number % 2 == 0 else 3) * run_s)
        while time.monotonic() < until and _is_alive(child):
            self.make(self.chance.randrange(1, 20))
            self.sink.take()
            time.sleep(self.chance.uniform(0.0, run_s / 4))
        os.kill(child, signal.SIGKILL)

    def _runs(self) -> int:
        with closing(sqlite3.connect(f"file:{self.folder}/var/brownfield.db?mode=ro", uri=True)) as store:
            return store.execute("SELECT count(*) FROM run").fetchone()[0]

    def _ask(self, server, what: str) -> tuple[int, int]:
        server.stdin.write(f"{what}\n")
        server.stdin.flush()
        child, status = server.stdout.readline().split()
        return int(child), int(status)

    def settle(self) -> None:
        """Let runs end what the killed ones began."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            report = self.run()
            with self.open_store() as store:
                seen = sum(each.rows_in for each in self._counts(store))
            if seen >= self.made and not report.waiting and not report.write_back["till"].pending_rows:
                return
        raise AssertionError(f"not settled: {report}")

    def _counts(self, store):
        runs = store.ledger.runs("soak", limit=10**6)
        return [each for run in runs for each in store.ledger.counts(run.run_id) if each.source == "sales"]

    def check(self) -> None:
        """Compare records, table, sink, ledgers, outbox and counts."""
        lines = range(1, self.made + 1)
        accepted = [line for line in lines if amount_of(line)]
        table = pq.read_table(self.folder / "var/data/soak/lines")
        found = Counter(table["line_id"].to_pylist())
        wrong = {line: found[line] for line in set(accepted) | set(found) if found[line] != (line in set(accepted))}
        assert wrong == {}, "lines that are not in the table exactly once, or should not be there"
        with self.open_store() as store:
            counts = self._counts(store)
            refused = len(store.quarantine.select("soak", Selection(source="sales"), limit=10**6))
            entries = store.outbox.entries("soak", "till", limit=10**6)
            statuses = Counter(each.status for each in store.ledger.runs("soak", limit=10**6))
        assert statuses["failed"] > 0 or not self.killed, "no run was killed"
        totals = tuple(sum(getattr(each, name) for each in counts) for name in ("rows_in", "accepted", "quarantined"))
        assert totals == (len(lines), len(accepted), refused)
        assert refused == len(lines) - len(accepted)
        assert {each.state for each in entries} == {OutboxState.DELIVERED}
        assert sum(each.rows for each in entries) == len(accepted)
        assert set(statuses) <= {"done", "failed"}
        self._check_sink(accepted)

    def _check_sink(self, accepted: list[int]) -> None:
        came = self.sink.taken()
        assert {(line, amount) for _, line, amount in came} == {(line, amount_of(line)) for line in accepted}
        twice = [(line, count) for line, count in Counter(line for _, line, _ in came).items() if count > 1]
        if self.sink.at_least_once:
            assert all(len({name for name, other, _ in came if other == line}) == 1 for line, _ in twice)
        else:
            assert twice == []
        self.sink.check(len(accepted))


def _is_alive(child: int) -> bool:
    """Whether a process runs, and does not only wait to be reaped."""
    return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
