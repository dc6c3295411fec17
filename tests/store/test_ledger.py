"""Runs, counts and positions."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brownfield.errors import NotFound, RejectionCode, StoreError, Violation
from brownfield.store import Delivery, Part, Refused, SourceCounts, SourceState, open_store
from brownfield.testing import FakeClock

RUN = {"integration": "shop", "kind": "pipeline", "contract": "shop@1.0.0", "contract_digest": "ab"}
BROKEN = [Violation("quantity", "quantity.range", RejectionCode.RULE_RANGE)]


def test_a_run_begins_counts_and_ends(store, clock):
    """A run keeps its contract and times; its batches add up by source and by rule."""
    run_id = store.ledger.begin_run(**RUN)
    rule = ("BF-RUL-001", "quantity.range")
    store.ledger.add_counts(run_id, SourceCounts("baskets", 10, 8, 2, 1, {rule: 2}))
    store.ledger.add_counts(run_id, SourceCounts("baskets", 5, 4, 1, 0, {rule: 1}))
    store.ledger.add_counts(run_id, SourceCounts("products", 3, 3, 0))
    clock.advance(60)
    store.ledger.finish_run(run_id)
    [run] = store.ledger.runs("shop")
    assert (run.run_id, run.status, run.contract_digest) == (run_id, "done", "ab")
    assert (run.finished_utc - run.started_utc).total_seconds() == 60
    assert store.ledger.counts(run_id) == [
        SourceCounts("baskets", 15, 12, 3, 1, {rule: 3}),
        SourceCounts("products", 3, 3, 0),
    ]
    assert store.ledger.runs("another") == []


def test_rows_that_do_not_add_up_are_refused(store):
    """No run can say that a row was neither accepted nor quarantined, or both."""
    run_id = store.ledger.begin_run(**RUN)
    with pytest.raises(StoreError, match="every_row_counted_once"):
        store.ledger.add_counts(run_id, SourceCounts("baskets", 10, 8, 1))
    assert store.ledger.counts(run_id) == []


def test_counts_and_quarantine_need_their_run(store):
    """Nothing is counted for a run that never began, and none such can end."""
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.ledger.add_counts("nowhere", SourceCounts("baskets", 1, 1, 0))
    with pytest.raises(NotFound):
        store.ledger.finish_run("nowhere")


def test_effects_counts_and_position_commit_together(store):
    """What fails at the end of a transaction takes all of it back: run, counts, quarantine, position, audit."""
    with pytest.raises(RuntimeError), store.commit() as tx:  # noqa: PT012 (one transaction)
        run_id = tx.ledger.begin_run(**RUN)
        tx.ledger.add_counts(run_id, SourceCounts("baskets", 1, 0, 1))
        tx.quarantine.add(
            run_id, integration="shop", source="baskets", contract="shop@1.0.0", records=[Refused("1", BROKEN)]
        )
        tx.ledger.advance("shop", "baskets", {"line_id": 1}, previous=None)
        tx.audit.append(actor="a", action="b", subject="c")
        raise RuntimeError
    assert store.ledger.runs() == []
    assert store.quarantine.select("shop") == []
    assert store.ledger.position("shop", "baskets") is None
    assert store.audit.head().seq == 0


def test_i5_a_position_moves_only_from_where_the_run_began(store):
    """I5, F-41: a run that woke up late cannot move a position that another has moved, neither on nor back."""
    store.ledger.advance("shop", "baskets", 10, previous=None)
    store.ledger.advance("shop", "baskets", 20, previous=10)
    for stale in (None, 10):
        with pytest.raises(StoreError, match="moved by another run"):
            store.ledger.advance("shop", "baskets", 15, previous=stale)
    assert store.ledger.position("shop", "baskets") == 20


def test_i5_a_rewind_is_audited(store):
    """I5: back goes only the command that leaves its name and reason in the audit log, in the same transaction."""
    store.ledger.advance("shop", "baskets", 20, previous=None)
    store.rewind("shop", "baskets", 5, actor="operator-7", reason="price list was wrong")
    assert store.ledger.position("shop", "baskets") == 5
    [entry] = store.audit.entries()
    assert (entry.actor, entry.action, entry.subject) == ("operator-7", "position.rewind", "shop.baskets")
    assert "price list was wrong" in entry.detail


JSON = st.recursive(
    st.integers(-(2**53), 2**53) | st.text(max_size=5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=JSON)
def test_a_position_comes_back_as_it_went_in(store, position):
    """A source's position is opaque: any JSON value is kept exactly, and is what the next run moves on from."""
    store.ledger.advance("shop", "s", position, previous=store.ledger.position("shop", "s"))
    kept = store.ledger.position("shop", "s")
    assert (kept, type(kept)) == (position, type(position))


_WRITER = """
import sys
from pathlib import Path
from brownfield.store import SourceCounts, open_store
store = open_store(Path(sys.argv[1]))
run = store.ledger.begin_run(integration="shop", kind="pipeline", contract="shop@1", contract_digest="0")
position = store.ledger.position("shop", "baskets") or 0
while True:
    with store.commit() as tx:
        tx.ledger.add_counts(run, SourceCounts("baskets", 1, 1, 0))
        tx.ledger.advance("shop", "baskets", position + 1, previous=position or None)
    position += 1
    print(position, flush=True)
"""


@pytest.mark.full
def test_f40_a_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    """F-40, I3: after kill -9 anywhere, counts and position agree and hold every acknowledged row, each once."""
    path = tmp_path / "s.db"
    for kills in range(1, 3):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            acknowledged = 0
            for _ in range(20 * kills):
                acknowledged = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
        with open_store(path, clock=FakeClock()) as store:
            position = store.ledger.position("shop", "baskets")
            counted = sum(counts.rows_in for run in store.ledger.runs() for counts in store.ledger.counts(run.run_id))
            assert counted == position >= acknowledged


def test_parts_are_listed_in_their_order_and_cleared_together(store):
    """Each table has its own list; a table that is made anew begins an empty one."""
    run_id = store.ledger.begin_run(**RUN)
    for dataset, file in (("lines", "b"), ("lines", "a"), ("other", "c")):
        store.parts.add(run_id, "shop", dataset, Part(file, 2))
    assert store.parts.listed("shop") == {"lines": [Part("b", 2), Part("a", 2)], "other": [Part("c", 2)]}
    store.parts.clear("shop", "lines")
    assert store.parts.listed("shop") == {"other": [Part("c", 2)]}
    assert store.parts.listed("bank") == {}


def test_what_is_known_of_a_source_is_kept(store):
    """State is replaced, deliveries are added, and both are of one source."""
    run_id = store.ledger.begin_run(**RUN)
    assert store.ledger.state("shop", "sales") is None
    store.ledger.set_state("shop", "sales", SourceState(1, 1))
    store.ledger.set_state("shop", "sales", SourceState(9, 8, {"line_id": "INTEGER"}))
    assert store.ledger.state("shop", "sales") == SourceState(9, 8, {"line_id": "INTEGER"})
    for _ in range(2):
        store.ledger.add_delivery(run_id, "shop", "sales", Delivery("a.csv#1", 8, 9, 2, head=b"n"))
    assert store.ledger.deliveries("shop", "sales") == [Delivery("a.csv#1", 8, 9, 2, head=b"n")]
    assert store.ledger.deliveries("shop", "products") == []


def test_a_run_that_was_killed_is_closed_as_failed(store):
    """Only running ones of the same integration and kind are closed."""
    store.ledger.begin_run(**RUN)
    done = store.ledger.begin_run(**RUN)
    store.ledger.finish_run(done)
    assert store.ledger.close_abandoned("shop", "replay") == 0
    assert store.ledger.close_abandoned("shop", "pipeline") == 1
    assert sorted(each.status for each in store.ledger.runs("shop")) == ["done", "failed"]
