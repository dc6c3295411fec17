"""What waits in the outbox comes to its sink once, in order, and only as a person approved it."""

import errno
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from itertools import count

import pyarrow.parquet as pq
import pytest
from sqlalchemy.engine.default import DefaultDialect

from brownfield.data.pipeline import approve_write_back, discard_write_back, preview_write_back, replay_quarantined
from brownfield.data.sinks import SqliteTableSink, TableTarget
from brownfield.errors import BrownfieldError, DeclarationError, Fenced, NotFound, StoreError, Unavailable
from brownfield.store import OutboxState
from brownfield.store.quarantine import Quarantine
from brownfield.testing import FakeClock
from harness.delivery import COLUMNS, FolderSink, Soak, SqliteSink, SqliteSource

pytestmark = pytest.mark.full

OUT = "out.db"


@pytest.fixture
def shop(tmp_path):
    """A till whose lines are written back into a table, once that is approved."""
    return Soak(tmp_path, SqliteSource(tmp_path, None), SqliteSink(tmp_path, None))


@pytest.fixture
def box(tmp_path):
    """A till whose lines are dropped as files, once that is approved."""
    return Soak(tmp_path, SqliteSource(tmp_path, None), FolderSink(tmp_path, None))


def owner(shop, *statements):
    """What the owner of the written table does."""
    with closing(sqlite3.connect(shop.folder / OUT)) as database, database:
        rows = [database.execute(statement).fetchall() for statement in statements]
    return rows[-1]


def written(shop):
    """Lines in the written table."""
    return [line for (line,) in owner(shop, "SELECT line_id FROM till ORDER BY line_id")]


def effects(shop):
    """Rows of each effect, in the order in which they were made."""
    return [rows for (rows,) in owner(shop, "SELECT row_count FROM brownfield_effect ORDER BY rowid")]


def test_s_17_nothing_is_written_that_nobody_approved(shop):
    """S-17: the run pulls, keeps what is to be written, and says what it waits for; approved, it all arrives."""
    shop.make(30)
    report = shop.run()
    till = report.write_back["till"]
    assert (report.tables["lines"].rows_in, till.rows, till.pending_rows, report.waiting) == (28, 0, 28, True)
    assert "nobody has approved it" in till.waiting
    assert written(shop) == []
    shop.approve()
    till = shop.run().write_back["till"]
    assert (till.rows, till.pending_rows, till.waiting) == (28, 0, "")
    shop.check()


def test_s_17_an_approval_holds_for_what_was_shown(shop):
    """S-17: a changed declaration waits for a new approval, and a wrong digest approves nothing."""
    shop.make(5)
    shop.run()
    shop.approve()
    shop.redeclare("columns: [line_id, amount]", "columns: [line_id]")
    till = shop.run().write_back["till"]
    assert (till.rows, "declared otherwise" in till.waiting) == (0, True)
    with shop.open_store() as store:
        for digest in ("0" * 64, "", "abc"):
            with pytest.raises(DeclarationError, match="the digest of what is declared now"):
                approve_write_back(
                    shop.spec, shop.workspace.connections, store, sink="till", digest=digest, actor="ann"
                )
        with pytest.raises(DeclarationError, match="one of till"):
            approve_write_back(shop.spec, shop.workspace.connections, store, sink="x", digest="0" * 64, actor="ann")
        [entry] = store.audit.entries()
    assert (entry.action, entry.subject) == ("write_back.approve", "soak.till")
    shop.approve()
    assert shop.run().write_back["till"].rows == 5


def test_each_batch_is_one_effect_of_its_declared_size(shop):
    """A part leaves in batches of batch_rows; the sink's own ledger has one row for each."""
    shop.make(60)
    shop.run()
    shop.approve()
    shop.run()
    assert [rows for (rows,) in owner(shop, "SELECT row_count FROM brownfield_effect ORDER BY rowid")] == [
        16,
        16,
        16,
        7,
    ]


def test_a_new_batch_size_leaves_what_was_entered_as_it_was(shop):
    """The batches of an entry are those with which it was entered: a restart asks for the same effects."""
    shop.make(40)
    shop.run()
    shop.redeclare("batch_rows: 16", "batch_rows: 5")
    shop.approve()
    shop.run()
    assert effects(shop) == [16, 16, 5]


def test_f_53_a_sink_that_is_away_keeps_its_rows_waiting(shop):
    """F-53: pulling goes on, the finding says why, back-off spares the sink, and then each row arrives once."""
    clock = FakeClock()
    shop.make(10)
    shop.run(clock)
    shop.approve()
    shutil.move(shop.folder / OUT, shop.folder / "away")
    report = shop.run(clock, patient=True)
    assert (report.write_back["till"].pending_rows, report.waiting) == (10, True)
    shop.make(10)
    report = shop.run(clock, patient=True)
    assert (report.tables["lines"].rows_in, report.write_back["till"].pending_rows) == (9, 19)
    assert "Next try in 2 s" in report.write_back["till"].waiting
    shutil.move(shop.folder / "away", shop.folder / OUT)
    clock.advance(1)
    assert shop.run(clock, patient=True).write_back["till"].rows == 0
    clock.advance(1.5)
    assert shop.run(clock, patient=True).write_back["till"].rows == 19
    shop.check()


def test_a_person_does_not_wait_for_the_back_off(shop):
    """A run by hand tries every sink at once."""
    clock = FakeClock()
    shop.make(3)
    shop.run(clock)
    shop.approve()
    shutil.move(shop.folder / OUT, shop.folder / "away")
    shop.run(clock)
    shutil.move(shop.folder / "away", shop.folder / OUT)
    assert shop.run(clock).write_back["till"].rows == 3


def test_a_full_backlog_pauses_the_feed_and_an_empty_one_resumes_it(shop):
    """Back-pressure: with as many rows waiting as declared, the feed is not read and the report says why."""
    shop.redeclare("batch_rows: 16", "batch_rows: 16, max_pending_rows: 20")
    shop.make(30)
    shop.run()
    shop.make(30)
    report = shop.run()
    assert report.sources["sales"].rows_in == 0
    assert "paused: 28 rows wait for till, which may have 20" in report.sources["sales"].unavailable
    shop.approve()
    report = shop.run()
    assert (report.sources["sales"].rows_in, report.write_back["till"].rows) == (30, 55)
    shop.check()


def test_records_that_a_sink_refuses_hold_what_comes_behind_them(shop):
    """Order is kept: the reason stands in the finding, and once the owner's rule admits the rows all arrive once."""
    refuse = "CREATE TRIGGER rule BEFORE INSERT ON till WHEN new.line_id = 20 BEGIN SELECT RAISE(ABORT, 'no'); END"
    owner(shop, refuse)
    shop.make(30)
    shop.run()
    shop.approve()
    till = shop.run().write_back["till"]
    assert (till.rows, till.pending_rows) == (16, 12)
    assert "does not admit the records" in till.waiting
    shop.make(5)
    assert shop.run().write_back["till"].rows == 0
    owner(shop, "DROP TRIGGER rule")
    assert shop.run().write_back["till"].rows == 16
    shop.check()


def test_what_waits_can_be_given_up_by_a_person(shop):
    """Discarding is audited, and says how many rows the sink will never have."""
    shop.make(30)
    shop.run()
    with shop.open_store() as store:
        output = shop.folder / "var/data/soak"
        assert discard_write_back(shop.spec, store, output, sink="till", actor="ann") == 28
        with pytest.raises(NotFound, match="nothing waits"):
            discard_write_back(shop.spec, store, output, sink="till", actor="ann")
        assert [(each.action, each.actor) for each in store.audit.entries()] == [("write_back.discard", "ann")]
        assert [each.state for each in store.outbox.entries("soak", "till")] == [OutboxState.DISCARDED]
    shop.approve()
    assert shop.run().write_back["till"].rows == 0


def test_insert_only_leaves_rows_that_are_there(shop):
    """A row whose key is there keeps the values of its owner."""
    shop.redeclare("table: till, key: line_id", "table: till, key: line_id, mode: insert_only")
    owner(shop, "INSERT INTO till VALUES (2, 77)")
    shop.make(3)
    shop.run()
    shop.approve()
    shop.run()
    assert owner(shop, "SELECT line_id, amount FROM till ORDER BY line_id") == [(1, 1), (2, 77), (3, 3)]


def test_a_sink_that_is_no_longer_declared_is_told(shop):
    """Rows of a write-back that was taken out of the declaration are not forgotten silently."""
    shop.make(3)
    shop.run()
    file = shop.folder / "integrations/soak/integration.yaml"
    text = file.read_text()
    file.write_text("\n".join(line for line in text.splitlines() if "till:" not in line and "write_back" not in line))
    shop.load()
    assert "no longer declared" in shop.run().write_back["till"].waiting


def test_a_rebuild_waits_for_what_waits_and_is_approved_anew(shop):
    """Tables are not made anew under rows that wait; behind a rebuild all rows are written only when approved again."""
    shop.make(30)
    shop.run()
    with pytest.raises(StoreError, match="rows wait to be written back to till"):
        shop.run(rebuild=True)
    shop.approve()
    shop.run()
    report = shop.run(rebuild=True)
    assert (report.write_back["till"].pending_rows, "nobody has approved" in report.write_back["till"].waiting) == (
        28,
        True,
    )
    shop.approve()
    assert shop.run().write_back["till"].rows == 28
    assert written(shop) == [line for line in range(1, 31) if line % 11]


def test_a_replayed_record_is_written_back_too(shop):
    """What a corrected contract admits late goes the same way as the others."""
    shop.make(30)
    shop.run()
    shop.approve()
    shop.run()
    contract = shop.folder / "integrations/soak/contract.odcs.yaml"
    contract.write_text(contract.read_text().replace("{exclusiveMinimum: 0}", "{minimum: 0}"))
    shop.load()
    with shop.open_store() as store:
        replayed = replay_quarantined(
            shop.spec, shop.workspace.connections, store, shop.folder / "var/data/soak", source="sales", apply=True
        )
    assert replayed.accepted == 2
    assert shop.run().write_back["till"].rows == 2
    assert written(shop) == list(range(1, 31))


def test_a_dry_run_shows_and_changes_nothing(shop):
    """S-17: rows, digest, DDL and what keeps the sink from being written; no row, part, run or position is kept."""
    shop.make(30)
    shop.run()
    shop.make(10)
    with shop.open_store() as store:
        before = (store.ledger.position("soak", "sales"), store.ledger.runs("soak"), store.parts.listed("soak"))
        files = sorted((shop.folder / "var/data/soak").rglob("*.parquet*"))
        [shown] = preview_write_back(shop.spec, shop.workspace.connections, store, shop.folder / "var/data/soak")
        assert before == (store.ledger.position("soak", "sales"), store.ledger.runs("soak"), store.parts.listed("soak"))
    assert sorted((shop.folder / "var/data/soak").rglob("*.parquet*")) == files
    assert (shown.pending_rows, shown.new_rows, shown.approved, shown.problem) == (28, 9, False, "")
    assert shown.rows[0] == {"line_id": 31, "amount": 9}
    assert 'CREATE TABLE "brownfield_effect"' in shown.ddl
    assert written(shop) == []
    owner(shop, "ALTER TABLE till RENAME TO other")
    with shop.open_store() as store:
        [shown] = preview_write_back(shop.spec, shop.workspace.connections, store, shop.folder / "var/data/soak")
    assert "till" in shown.problem


def test_f_41_a_second_owner_fences_the_first(shop, monkeypatch):
    """F-41: a run that was stopped while another took the table over writes nothing any more."""
    shop.make(30)
    shop.run()
    shop.approve()
    apply, calls = SqliteTableSink.apply, count(1)

    def overtaken(self, effect_id, batch, position=None):
        if next(calls) == 2:
            with SqliteTableSink(shop.folder / OUT, TableTarget("till", COLUMNS, ("line_id",)), "soak/till"):
                pass
        return apply(self, effect_id, batch, position)

    monkeypatch.setattr(SqliteTableSink, "apply", overtaken)
    with pytest.raises(Fenced):
        shop.run()
    assert len(written(shop)) == 16
    monkeypatch.undo()
    shop.run()
    shop.check()


def test_f_54_a_quarantine_that_cannot_be_written_stops_the_run(shop, monkeypatch):
    """F-54: nothing is dropped: no position, row or outbox entry is kept, and the next run does it all."""
    shop.make(30)

    def failing(*_arguments, **_options):
        raise StoreError("the disk is full")

    monkeypatch.setattr(Quarantine, "add", failing)
    with pytest.raises(StoreError, match="disk is full"):
        shop.run()
    with shop.open_store() as store:
        assert (store.ledger.position("soak", "sales"), store.outbox.pending("soak")) == (None, {})
    monkeypatch.undo()
    shop.run()
    shop.approve()
    shop.run()
    shop.check()


def test_two_runs_do_not_meet(shop):
    """While one process writes, another waits as long as it was told, and then names the one that holds the tables."""
    from brownfield.data.pipeline.parts import one_run

    with one_run(shop.folder / "var/data/soak"), pytest.raises(Unavailable, match=f"process {os.getpid()}"):
        shop.run(lock_wait_s=0.2)


class Failing:
    """Lets durable operations pass until the n-th, which fails as on a full disk."""

    def __init__(self, monkeypatch):
        self.left = 0
        full = OSError(errno.ENOSPC, "disk full")
        for name in ("fsync", "replace", "rename", "open", "unlink"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name), full))
        for name in ("write_table", "close"):
            monkeypatch.setattr(pq.ParquetWriter, name, self.counted(getattr(pq.ParquetWriter, name), full))
        full = sqlite3.OperationalError("database or disk is full")
        monkeypatch.setattr(DefaultDialect, "do_commit", self.counted(DefaultDialect.do_commit, full))
        self._statements(monkeypatch, full)

    def _statements(self, monkeypatch, full):
        """Fail the n-th statement of a sink or ledger, too: each runs on a connection of its own."""
        failing = self

        class Connection(sqlite3.Connection):
            def execute(self, *arguments):
                return failing.counted(super().execute, full)(*arguments)

            def executemany(self, *arguments):
                return failing.counted(super().executemany, full)(*arguments)

        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda *a, **o: connect(*a, **{"factory": Connection, **o}))

    def counted(self, real, error):
        """Wrap an operation: its turn may be the one that fails."""

        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                raise error
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("kind", ["shop", "box"])
def test_r_06_every_statement_of_a_run_with_an_outbox_may_fail(kind, request, monkeypatch):
    """R-06, F-40, F-53: each write, sync, rename, statement and commit fails in turn; every row arrives once."""
    shop = request.getfixturevalue(kind)
    shop.make(12)
    shop.run()
    shop.approve()
    shop.run()
    failing, failed = Failing(monkeypatch), 0
    for n in count(1):
        shop.make(3)
        failing.left = n
        try:
            failed += shop.run().waiting
        except (OSError, sqlite3.Error, BrownfieldError):
            failed += 1
        hit, failing.left = failing.left <= 0, 0
        if not hit:
            break
        with suppress(Unavailable):
            shop.run()
    monkeypatch.undo()
    shop.settle()
    shop.check()
    assert failed > 25
