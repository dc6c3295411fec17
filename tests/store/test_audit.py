"""The audit log: one chain, and every way of tampering with it found."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from brownfield.errors import StoreError
from brownfield.store import AuditHead, open_store

COLUMNS = ("seq", "at_utc", "actor", "action", "subject", "detail", "previous", "hash")


@pytest.fixture
def filled(store):
    """A store with five entries."""
    for number in range(5):
        store.audit.append(
            actor="operator-7", action="model.admit", subject=f"shop/{number}", detail={"share": 0.5, "note": "ü\n"}
        )
    return store


def tamper(path, *statements):
    """Change the file as somebody with the rights of its owner could, past the triggers."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("DROP TRIGGER audit_no_delete")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_i8_an_untouched_chain_verifies(filled):
    """I8: every entry follows from the one before it, and the head is the last."""
    verdict = filled.audit.verify(filled.audit.head())
    assert (verdict.sound, verdict.entries, verdict.head.seq) == (True, 5, 5)
    assert [entry.seq for entry in filled.audit.entries(after=2)] == [3, 4, 5]


@pytest.mark.parametrize("column", COLUMNS)
def test_s07_any_changed_column_names_the_entry(filled, path, column):
    """S-07: a change of any column of the third entry is found there, or where the chain no longer follows."""
    change = "seq = 33" if column == "seq" else f"{column} = '~' || substr({column}, 2)"
    tamper(path, f"UPDATE audit SET {change} WHERE seq = 3")  # noqa: S608 (names of columns)
    assert filled.audit.verify().first_bad == 3


@pytest.mark.parametrize("detail", ["'" + "[" * 100_000 + "'", "'" + "9" * 5000 + "'", "x'ff'", "7"])
def test_s07_an_entry_that_cannot_be_read_is_named(filled, path, detail):
    """S-07: whatever was put in the place of a detail, such as brackets that no reader follows; it ends no look."""
    tamper(path, f"UPDATE audit SET detail = {detail} WHERE seq = 3")  # noqa: S608 (literals of this test)
    assert filled.audit.verify().first_bad == 3


def test_s07_every_flipped_byte_of_a_row_is_found(filled, path):
    """S-07: whichever byte of an entry's text is flipped, verifying names that entry."""
    [entry] = filled.audit.entries(after=2, limit=1)
    tamper(path)
    for column in ("at_utc", "actor", "detail", "hash"):
        original = getattr(entry, column)
        for at in range(0, len(original), 3):
            flipped = original[:at] + chr(ord(original[at]) ^ 1) + original[at + 1 :]
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(f"UPDATE audit SET {column} = ? WHERE seq = 3", [flipped])  # noqa: S608 (names of columns)
                connection.commit()
            assert filled.audit.verify().first_bad == 3, (column, at)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"UPDATE audit SET {column} = ? WHERE seq = 3", [original])  # noqa: S608 (names of columns)
            connection.commit()
    assert filled.audit.verify().sound


@pytest.mark.parametrize(
    ("statements", "first_bad"),
    [
        (["DELETE FROM audit WHERE seq = 2"], 2),
        (["DELETE FROM audit WHERE seq = 1"], 1),
        (["UPDATE audit SET seq = 9 WHERE seq = 2", "UPDATE audit SET seq = 2 WHERE seq = 3"], 2),
        (["UPDATE audit SET detail = '{ }' WHERE seq = 4"], 4),
        (["UPDATE audit SET detail = 'no json' WHERE seq = 4"], 4),
    ],
    ids=["deleted", "first-deleted", "reordered", "respaced", "no-json"],
)
def test_s07_removal_and_reordering_are_found(filled, path, statements, first_bad):
    """S-07: entries cannot be taken out, moved or rewritten inside the chain."""
    tamper(path, *statements)
    assert filled.audit.verify().first_bad == first_bad


def test_s07_a_cut_tail_shows_against_an_anchor_alone(filled, path):
    """S-07: the chain itself cannot know its end; a head kept elsewhere can."""
    anchor = filled.audit.head()
    tamper(path, "DELETE FROM audit WHERE seq > 3")
    assert filled.audit.verify().sound
    verdict = filled.audit.verify(anchor)
    assert (verdict.first_bad, verdict.entries) == (4, 3)


def test_s07_a_chain_written_anew_shows_against_an_anchor(filled, path):
    """S-07: somebody who recomputes every hash is still found by the head kept elsewhere."""
    anchor = filled.audit.head()
    tamper(path, "DELETE FROM audit")
    for number in range(6):
        filled.audit.append(actor="operator-7", action="model.admit", subject=f"shop/{number}")
    assert filled.audit.verify().sound
    assert filled.audit.verify(AuditHead(anchor.seq, anchor.hash)).first_bad == 5


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_the_database_itself_refuses_changes(filled, path, statement):
    """Without dropping the triggers, nothing in the log can be changed or deleted, by any program."""
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)


def test_a_detail_without_canonical_form_is_refused(store):
    """NaN and integers beyond 2^53 have no canonical JSON, so they cannot be sealed."""
    for value in (float("nan"), 2**60):
        with pytest.raises(StoreError, match="canonical"):
            store.audit.append(actor="a", action="b", subject="c", detail={"value": value})
    assert store.audit.head().seq == 0


WRITERS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from brownfield.store import open_store

def write(name):
    with open_store(Path(sys.argv[1]), busy_timeout_ms=60000) as store:
        for number in range(10):
            store.audit.append(actor=name, action='write', subject=str(number))

with ThreadPoolExecutor(4) as pool:
    list(pool.map(write, sys.argv[2:]))
"""


@pytest.mark.full
def test_s07_eight_concurrent_writers_make_one_chain(path, clock):
    """S-07: writers of two processes wait for one another; no fork, no gap, nothing lost."""
    open_store(path, clock=clock).close()
    names = [f"w{number}" for number in range(8)]
    commands = [[sys.executable, "-c", WRITERS, str(path), *half] for half in (names[:4], names[4:])]
    writers = [subprocess.Popen(command) for command in commands]
    assert [writer.wait(100) for writer in writers] == [0, 0]
    with open_store(path, clock=clock) as store:
        assert store.audit.verify().entries == 80
        entries = store.audit.entries()
    for name in names:
        assert [entry.subject for entry in entries if entry.actor == name] == [str(number) for number in range(10)]
