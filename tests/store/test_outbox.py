"""What is to be written back, kept until the sink has it."""

import pytest

from brownfield.errors import NotFound
from brownfield.store import OutboxState, Part

PART = Part("000000-ab.parquet", 25)


def enter(store, sink="till", part=PART, position=7):
    """A run that enters one part for a sink."""
    run_id = store.ledger.begin_run(integration="shop", kind="pipeline", contract="shop@1.0.0", contract_digest="00")
    store.outbox.enter(
        run_id, integration="shop", sink=sink, dataset="lines", part=part, batch_rows=10, position=position
    )


def test_entries_wait_in_order_and_leave_when_they_are_delivered(store):
    """Each sink has its own order; an entry counts the rows that its sink is not known to have."""
    enter(store)
    enter(store, part=Part("000001-cd.parquet", 5))
    enter(store, "box")
    first, second = store.outbox.pending("shop")["till"]
    assert (first.number, second.number, first.rows_left, second.rows) == (0, 1, 25, 5)
    assert (
        len({first.effect_id, second.effect_id, *(one.effect_id for one in store.outbox.pending("shop")["box"])}) == 3
    )
    store.outbox.advance(first, 2)
    assert store.outbox.pending("shop")["till"][0].rows_left == 5
    store.outbox.deliver(first, 3)
    assert store.outbox.pending("shop")["till"] == [second]
    done = store.outbox.entries("shop", "till")[1]
    assert (done.state, done.batches_done, done.finished_utc is not None) == (OutboxState.DELIVERED, 3, True)


def test_a_part_without_rows_needs_nobody(store):
    """Nothing is entered where there is nothing to write."""
    enter(store, part=Part("000000-ab.parquet", 0))
    assert store.outbox.pending("shop") == {}


def test_a_failure_is_counted_and_forgotten_when_it_is_delivered(store):
    """Attempts and the reason stand in the entry while it waits."""
    enter(store)
    [entry] = store.outbox.pending("shop")["till"]
    store.outbox.fail(entry, "the server does not let us in")
    store.outbox.fail(entry, "the server does not let us in")
    [entry] = store.outbox.pending("shop")["till"]
    assert (entry.attempts, entry.problem, entry.tried_utc is not None) == (2, "the server does not let us in", True)
    store.outbox.deliver(entry, 3)
    assert store.outbox.entries("shop", "till")[0].problem == ""


def test_parts_are_needed_while_an_entry_waits(store):
    """Compaction asks which files must stay; a discarded or delivered entry needs none."""
    enter(store)
    enter(store, "box")
    assert store.outbox.needed_parts("shop", "lines") == {PART.file}
    assert store.outbox.needed_parts("shop", "others") == set()
    assert store.outbox.discard("shop", "till") == 25
    assert store.outbox.needed_parts("shop", "lines") == {PART.file}
    [entry] = store.outbox.pending("shop")["box"]
    store.outbox.deliver(entry, 3)
    assert store.outbox.needed_parts("shop", "lines") == set()
    assert store.outbox.entries("shop", "till")[0].state == OutboxState.DISCARDED


def test_an_approval_holds_for_one_digest(store):
    """A second approval takes the place of the first, and all can be taken back."""
    store.outbox.approve("shop", "till", "aa", "ann")
    store.outbox.approve("shop", "till", "bb", "ann")
    store.outbox.approve("other", "till", "cc", "ann")
    assert store.outbox.approved("shop") == {"till": "bb"}
    store.outbox.withdraw("shop")
    assert (store.outbox.approved("shop"), store.outbox.approved("other")) == ({}, {"till": "cc"})


def test_what_is_rolled_back_was_never_entered(store):
    """F-40: the entry stands in the transaction of position and counts, and goes with it."""
    with pytest.raises(NotFound), store.commit() as tx:  # noqa: PT012 (what fails is the last of several)
        enter(tx)
        tx.ledger.finish_run("no such run")
    assert store.outbox.pending("shop") == {}
