"""The store's file: new, older, newer, torn, locked, full, forbidden."""

import os
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from brownfield.errors import StoreError, StoreTooNew
from brownfield.store import check_whole, copy_database, database, migration_plan, open_store
from brownfield.store.schema import METADATA

SCRIPTS = ScriptDirectory(str(database._MIGRATIONS))
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]


def build(path, revision):
    """Make a store of an older revision, with a run and a position in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        with Operations.context(context):
            for script in reversed(list(SCRIPTS.iterate_revisions(revision, "base"))):
                script.module.upgrade()
        context.stamp(SCRIPTS, revision)
        connection.exec_driver_sql(
            "INSERT INTO run (run_id, integration, kind, contract, contract_digest, started_utc, status)"
            " VALUES ('r1', 'shop', 'pipeline', 'shop@1.0.0', '00', '2026-01-01T00:00:00.000000Z', 'done')"
        )
        connection.exec_driver_sql(
            "INSERT INTO position VALUES ('shop', 'baskets', '{\"line_id\":7}', '2026-01-01T00:00:00.000000Z')"
        )
    engine.dispose()


def test_migrated_tables_are_the_declared_ones(store, path):
    """What the migrations build is exactly what the code believes to be there."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        checks = {
            name: {check["name"] for check in sa.inspect(connection).get_check_constraints(name)}
            for name in METADATA.tables
        }
    engine.dispose()
    assert checks["run_source"] == {"every_row_counted_once"}


def test_there_is_more_than_one_revision_in_one_line():
    """Each revision follows the one before it."""
    assert sorted(REVISIONS) == REVISIONS
    assert len(REVISIONS) >= 2


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_f73_an_older_store_comes_forward_with_a_backup(path, clock, revision):
    """F-73: data survives the migration, and the store as it was lies beside it, whole."""
    build(path, revision)
    with open_store(path, clock=clock) as store:
        assert store.ledger.position("shop", "baskets") == {"line_id": 7}
        assert store.ledger.runs()[0].run_id == "r1"
        store.audit.append(actor="a", action="b", subject="c")
    [backup] = path.parent.glob("*.bak")
    assert backup.name == f"brownfield.db.{revision}.20260101T000000.000000Z.bak"
    assert migration_plan(backup).current == revision
    assert migration_plan(path).steps == ()
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT run_id FROM run").fetchall() == [("r1",)]


def test_f73_the_plan_touches_nothing(path):
    """F-73: what a migration would do can be asked without doing it."""
    build(path, "0001")
    before = path.read_bytes()
    plan = migration_plan(path)
    assert (plan.current, plan.target, len(plan.steps)) == ("0001", REVISIONS[-1], len(REVISIONS) - 1)
    assert path.read_bytes() == before
    assert list(path.parent.glob("*.bak")) == []


def test_f73_a_newer_store_is_refused_untouched(path, clock):
    """F-73: a store of an unknown revision is not opened, and the message says what to do."""
    open_store(path, clock=clock).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(StoreTooNew, match="revision 9999"):
        open_store(path, clock=clock)
    with pytest.raises(StoreTooNew):
        migration_plan(path)


def test_a_failing_migration_leaves_the_old_store(path, clock, monkeypatch):
    """A migration that fails in its middle is rolled back as a whole, tables and revision."""
    build(path, "0001")
    step = SCRIPTS.get_revision("0002").module
    monkeypatch.setattr(ScriptDirectory, "iterate_revisions", lambda *_: [_Failing(step)])
    with pytest.raises(StoreError):
        open_store(path, clock=clock)
    monkeypatch.undo()
    assert migration_plan(path).current == "0001"
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    assert "audit" not in tables
    with open_store(path, clock=clock) as store:
        assert store.ledger.position("shop", "baskets") == {"line_id": 7}


class _Failing:
    """A migration step that does its work and then fails."""

    doc = "fails"
    revision = "0002"

    def __init__(self, module):
        self._module = module

    @property
    def module(self):
        return self

    def upgrade(self):
        self._module.upgrade()
        raise StoreError("the power went")


def test_f61_a_torn_store_is_refused_or_whole(path, clock):
    """F-61: cut at many lengths, the file is refused with the way to restore it; nothing is made up in its place."""
    with open_store(path, clock=clock) as store:
        run_id = store.ledger.begin_run(integration="shop", kind="pipeline", contract="shop@1", contract_digest="0")
        store.ledger.finish_run(run_id)
    whole = path.read_bytes()
    lengths = [0, 1, 15, 16, 99, 100, 511, 512, 4095, *range(4096, len(whole), 4096), len(whole) - 1]
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="brownfield doctor --restore"):
            open_store(path, clock=clock)
        assert path.stat().st_size == length
    path.write_bytes(whole)
    with open_store(path, clock=clock) as store:
        assert [run.run_id for run in store.ledger.runs()] == [run_id]


def test_f61_a_lost_database_beside_its_log_is_no_new_store(path, clock):
    """F-61: SQLite would throw the log away; we refuse instead."""
    open_store(path, clock=clock).close()
    path.rename(path.with_name("brownfield.db-wal"))
    with pytest.raises(StoreError, match="write-ahead log is still there"):
        open_store(path, clock=clock)


def test_garbage_and_foreign_databases_are_no_store(path, clock):
    """Some other file, or some other SQLite database, is refused and left alone."""
    path.parent.mkdir()
    path.write_bytes(b"store_id;amount\n1;2\n" * 500)
    with pytest.raises(StoreError, match="torn, corrupt or no store"):
        open_store(path, clock=clock)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE till (id INTEGER)")
    with pytest.raises(StoreError, match="torn, corrupt or no store"):
        check_whole(path)


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()
"""


def test_f62_a_locked_store_names_the_holder(path, clock):
    """F-62: the wait ends at its time-out, and the message names the process to look at."""
    with open_store(path, clock=clock, busy_timeout_ms=50) as store:
        command = [sys.executable, "-c", HOLDER, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"held\n"
            assert store.ledger.runs() == []  # readers never wait for a writer
            with pytest.raises(StoreError, match=f"locked by another process .pid {holder.pid}. for more than 50 ms"):
                store.audit.append(actor="a", action="b", subject="c")
            holder.stdin.close()
            holder.wait(10)
        store.audit.append(actor="a", action="b", subject="c")


def test_f59_a_full_disk_changes_nothing(store):
    """F-59: a transaction that no longer fits is refused whole; with space again the store goes on."""
    with store.commit() as tx:
        connection = tx.ledger._access._connection
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="the disk is full; nothing was changed"), store.commit() as tx:  # noqa: PT012 (which of them no longer fits is open)
        for _ in range(200):
            tx.audit.append(actor="a", action="b", subject="c" * 500)
    assert store.audit.head().seq == 0
    with store.commit() as tx:
        tx.ledger._access._connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    store.audit.append(actor="a", action="b", subject="c")
    assert store.audit.verify().entries == 1


def test_f64_a_store_that_cannot_be_opened_is_named(path, clock):
    """F-64: the message names the file and what to look at, without a traceback of SQLite's."""
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"brownfield\.db.*Check the owner and mode"):
        open_store(path, clock=clock)


def test_f64_a_folder_that_is_a_file_is_named(tmp_path, clock):
    """F-64: a path that cannot be a folder is refused as a store error."""
    (tmp_path / "var").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path / "var" / "brownfield.db", clock=clock)


def test_s37_files_are_private(store, path):
    """S-37: whatever the umask, the folder is 0700 and every file of the store 0600."""
    store.audit.append(actor="a", action="b", subject="c")
    copy_database(path, path.with_name("copy.db"))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) >= {"brownfield.db", "brownfield.db-wal", "copy.db"}
    assert set(modes.values()) == {0o600}


def test_four_that_find_no_store_begin_the_same_one(path):
    """Whoever comes at the same moment ends with the same store, and no half-made one is left."""

    def begin(number):
        with open_store(path) as store:
            store.audit.append(actor=str(number), action="begin", subject="store")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin, range(4)))
    with open_store(path) as store:
        assert store.audit.verify().entries == 4
    assert not list(path.parent.glob(".*part*"))


@pytest.mark.parametrize("older", [False, True], ids=["new", "older"])
@pytest.mark.parametrize("failing", ["fsync", "link", "replace"])
def test_f60_a_file_system_that_fails_leaves_old_or_new(path, clock, monkeypatch, failing, older):
    """F-60: when the n-th fsync, link or rename fails while a store begins or migrates, the next start is sound."""
    for n in range(1, 10):
        if older:
            build(path, "0001")
        calls = count(1)
        with monkeypatch.context() as patch:
            _fail_nth(patch, failing, n, calls)
            with suppress(StoreError):
                open_store(path, clock=clock).close()
        with open_store(path, clock=clock) as store:
            assert store.audit.verify().sound
            assert store.ledger.position("shop", "baskets") == ({"line_id": 7} if older else None)
        assert not list(path.parent.glob(".*part*"))
        if next(calls) <= n:
            return
        for file in path.parent.iterdir():
            file.unlink()
    pytest.fail("the n-th failure never stopped failing")


def _fail_nth(patch, name, n, calls):
    owner = Path if name == "replace" else os
    real = getattr(owner, name)

    def failing(*arguments):
        if next(calls) == n:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    patch.setattr(owner, name, failing)
