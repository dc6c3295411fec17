"""What holds for the sink of SQLite tables alone: locks, failing statements, what the authorizer refuses."""

import sqlite3

import pyarrow as pa
import pytest

from brownfield.data.sinks import Applied, Found, TableTarget
from brownfield.data.sinks import sqlite as room
from brownfield.errors import SinkRefused, SinkUnavailable

ROWS = pa.record_batch({"basket": [1, 2], "label": ["a", "b"], "score": [0.1, 0.2]})
STATEMENTS = 12
"""More than one effect takes, so that the last of the loop fails nothing."""


class _Failing(sqlite3.Connection):
    """Fails the n-th statement: before it runs, or behind it, as when an answer is lost."""

    left = -1
    late = False

    def execute(self, statement, *arguments):
        """Run a statement, or fail."""
        return self._counted(super().execute, statement, *arguments)

    def executemany(self, statement, *arguments):
        """Run a statement many times, or fail."""
        return self._counted(super().executemany, statement, *arguments)

    def _counted(self, run, *arguments):
        cls = type(self)
        cls.left -= 1
        if cls.left:
            return run(*arguments)
        if cls.late:
            run(*arguments)
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("late", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("nth", range(1, STATEMENTS + 1))
def test_f60_r06_f53_the_nth_statement_fails(sqlite_place, monkeypatch, nth: int, late: bool) -> None:  # noqa: FBT001 (a parameter of the loop)
    """F-60, R-06, F-53: whichever statement fails, the effect is there whole or not at all, and once when repeated."""
    monkeypatch.setattr(_Failing, "late", late)
    sink = sqlite_place.sink()
    connect = sqlite3.connect
    monkeypatch.setattr(room.sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=_Failing))
    sink.take_over()
    _Failing.left = nth
    try:
        first = sink.apply("e1", ROWS, {"after": [2]})
    except SinkUnavailable:
        first = None
    failed = _Failing.left <= 0
    _Failing.left = -1
    found = sqlite_place.rows("SELECT basket, label, score FROM scores ORDER BY basket")
    ledger = sqlite_place.rows("SELECT effect_id, row_count FROM brownfield_effect")
    whole = [(1, "a", 0.1), (2, "b", 0.2)]
    assert (found, ledger, sink.position()) in [([], [], None), (whole, [("e1", 2)], {"after": [2]})]
    if first is not None:
        assert (first, found) == (Applied(2, repeated=False), whole)
    assert sink.apply("e1", ROWS, {"after": [2]}) == Applied(2, repeated=bool(found))
    assert sqlite_place.rows("SELECT basket, label, score FROM scores ORDER BY basket") == whole
    assert failed or nth > STATEMENTS - 4
    sink.close()


def test_another_writers_lock_is_waited_for_and_then_reported(sqlite_place) -> None:
    """A locked database makes the sink unavailable, nothing more; afterwards the same effect is made."""
    with sqlite_place.sink() as sink:
        owner = sqlite3.connect(sqlite_place.path, isolation_level=None)
        owner.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkUnavailable, match="SQLITE_BUSY"):
            sink.apply("e1", ROWS)
        owner.execute("ROLLBACK")
        owner.close()
        assert sink.find("e1") is Found.ABSENT
        assert sink.apply("e1", ROWS) == Applied(2, repeated=False)


def test_f59_a_full_disk_leaves_nothing_half_done(sqlite_place) -> None:
    """F-59: a database that cannot grow refuses the effect whole; with space it is made."""
    rows = pa.record_batch(
        {"basket": range(5000), "label": ["x" * 40] * 5000, "score": pa.array([0.5] * 5000, pa.float64())}
    )
    with sqlite_place.sink() as sink:
        sink._session().set_authorizer(None)
        ((pages,),) = sink._session().execute("PRAGMA page_count").fetchall()
        sink._session().execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(SinkUnavailable, match="SQLITE_FULL"):
            sink.apply("e1", rows)
        assert sqlite_place.rows("SELECT count(*) FROM scores") == [(0,)]
        assert sink.apply("e1", rows) == Applied(5000, repeated=False)
    assert sqlite_place.rows("SELECT count(*), count(DISTINCT basket) FROM scores") == [(5000, 5000)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE scores SET owner_note = 'x'",
        "UPDATE elsewhere SET label = 'x'",
        "DELETE FROM scores",
        "DROP TABLE elsewhere",
        "CREATE TABLE main.more (a)",
        "INSERT INTO elsewhere VALUES (1, 'x')",
        "ATTACH ':memory:' AS other",
        "PRAGMA journal_mode = DELETE",
    ],
)
def test_i4_s15_the_connection_itself_refuses_all_else(sqlite_place, statement: str) -> None:
    """I4, S-15: on the sink's own connection nothing but the declared columns can be written, whatever is sent."""
    with sqlite_place.sink() as sink, pytest.raises(sqlite3.DatabaseError, match=r"not authorized|prohibited"):
        sink._session().execute(statement)


def test_the_owners_triggers_still_run(sqlite_place) -> None:
    """What the owner has tied to the table happens as it does for the owner's own programs."""
    sqlite_place.run(
        "CREATE TRIGGER noted AFTER INSERT ON scores BEGIN INSERT INTO elsewhere VALUES (new.basket, 'seen'); END"
    )
    with sqlite_place.sink() as sink:
        sink.apply("e1", ROWS)
    assert sqlite_place.rows("SELECT * FROM elsewhere") == [(1, "seen"), (2, "seen")]


def test_values_that_sqlite_would_change_are_refused(sqlite_place) -> None:
    """NaN would become null and 2**63 a fraction: both are refused, and nothing is written."""
    with sqlite_place.sink() as sink, pytest.raises(SinkRefused, match="NaN"):
        sink.apply("e1", pa.record_batch({"basket": [1], "label": ["a"], "score": [float("nan")]}))
    target = TableTarget("elsewhere", ("basket",), ("basket",))
    with sqlite_place.sink(target) as sink, pytest.raises(SinkRefused, match="64 bits"):
        sink.apply("e2", pa.record_batch({"basket": pa.array([2**63], pa.uint64())}))
    assert sqlite_place.rows("SELECT count(*) FROM brownfield_effect") == [(0,)]


def test_a_database_that_is_not_there_is_unavailable_and_not_created(sqlite_place) -> None:
    """A wrong path creates no empty database."""
    sqlite_place.path.unlink()
    with pytest.raises(SinkUnavailable):
        sqlite_place.sink().take_over()
    assert not sqlite_place.path.exists()
