"""Who is next before a model: priority, then fairness by rows, then age."""

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.serving.gateway.priority import Priority
from brownfield.serving.gateway.waiting import NEVER_NS, Waiting

pytestmark = pytest.mark.inside

SERVED = object()


class Asked(SimpleNamespace):
    """Equal to itself alone."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def ask(caller="", rows=1, priority=Priority.INTERACTIVE, deadline_ns=10**9):
    """What the queue looks at of an ask."""
    checked = SimpleNamespace(rows=rows)
    return Asked(
        caller=caller, checked=checked, priority=priority, deadline_ns=deadline_ns, over=False, served=SERVED, flow=None
    )


def queue(*asks, cap=8):
    """A queue in which these wait."""
    waiting = Waiting()
    for each in asks:
        waiting.put(each, cap)
    return waiting


def test_f83_a_higher_priority_goes_first_always():
    """F-83: a backlog of batch and shadow yields to the last interactive request, and goes on afterwards."""
    backlog = [ask(priority=Priority.BATCH) for _ in range(20)] + [ask(priority=Priority.SHADOW) for _ in range(20)]
    waiting = queue(*backlog)
    assert {each.priority for each in waiting.take(8)} == {Priority.BATCH}
    late = [ask() for _ in range(10)]
    for each in late:
        waiting.put(each, 8)
    assert waiting.take(8) == late[:8]
    assert waiting.take(8) == late[8:]
    taken = [each.priority for _ in range(5) for each in waiting.take(8)]
    assert taken == [Priority.BATCH] * 12 + [Priority.SHADOW] * 20
    assert not waiting.rows


def test_f80_callers_share_by_rows_whoever_floods():
    """F-80: one caller with a hundred times the requests has half the model while another asks, and all of it after."""
    flood = [ask("flood") for _ in range(1000)]
    calm = [ask("calm") for _ in range(10)]
    waiting = queue(*flood, *calm)
    first = [each for _ in range(3) for each in waiting.take(8)]
    assert sum(each.caller == "calm" for each in first) == 10
    assert waiting.rows == 1010 - 24


@pytest.mark.parametrize("large_rows", [8, 100])
def test_f80_who_asks_for_one_thing_after_another_has_no_more_rows_than_others(large_rows):
    """F-80: a caller whose next request comes when its last one was taken waits behind what it has had."""
    waiting = queue(*[ask("calm") for _ in range(1000)], ask("one by one", rows=large_rows))
    had = Counter()
    for _ in range(50):
        group = waiting.take(8)
        for each in group:
            had[each.caller] += each.checked.rows
        if any(each.caller == "one by one" for each in group):
            waiting.put(ask("one by one", rows=large_rows), 8)
    assert had["one by one"] <= had["calm"] + 2 * large_rows


def test_f80_what_was_had_before_is_part_of_the_wait_and_forgotten_with_the_last_who_waits():
    """F-80: who was served just now is told of the others who go first; an empty queue begins anew."""
    calm = [ask("calm") for _ in range(100)]
    waiting = queue(ask("large", rows=50), *calm)
    assert [each.caller for each in waiting.take(8)] == ["large"]
    assert waiting.ahead(ask("large", rows=50), 8) == 100
    assert waiting.ahead(ask("other", rows=50), 8) == 50
    while waiting.rows:
        waiting.take(8)
    waiting.put(ask("large", rows=50), 8)
    waiting.put(ask("calm"), 8)
    assert [each.caller for each in waiting.take(8)] == ["large"]


def test_f82_small_requests_pass_between_large_ones_of_the_same_caller():
    """F-82: requests larger than a shared call wait in a line of their own, and each line has the same rows."""
    large = [ask(rows=100) for _ in range(4)]
    small = [ask() for _ in range(100)]
    waiting = queue(*large, *small)
    order = []
    while waiting.rows:
        order += waiting.take(8)
    assert order[0] is large[0]
    assert order.index(large[1]) > order.index(small[90])
    assert len(order) == 104


def test_what_is_before_a_request_depends_on_who_asks():
    """The wait is estimated by what is served first: higher priorities, the own rows, as many of each other."""
    waiting = queue(*[ask("flood") for _ in range(500)], ask(priority=Priority.BATCH, rows=4))
    assert waiting.ahead(ask("flood"), 8) == 500
    assert waiting.ahead(ask("calm"), 8) == 1
    assert waiting.ahead(ask("calm", priority=Priority.BATCH), 8) == 501


def test_who_has_left_is_not_taken_and_holds_no_place():
    """Its rows do not count from the moment on in which it leaves."""
    asks = [ask() for _ in range(3)]
    waiting = queue(*asks)
    asks[1].over = True
    waiting.forget(asks[1])
    assert waiting.rows == 2
    assert waiting.take(8) == [asks[0], asks[2]]


def test_who_gave_up_is_found_and_the_next_one_is_known():
    """Deadlines are looked at only when the soonest has come."""
    asks = [ask(deadline_ns=at) for at in (50, 10, 30)]
    waiting = queue(*asks)
    assert waiting.soonest_ns == 10
    late = waiting.expired(30)
    assert late == [asks[1], asks[2]]
    for each in late:
        each.over = True
        waiting.forget(each)
    assert waiting.soonest_ns == 50
    assert waiting.expired(60) == [asks[0]]
    assert waiting.soonest_ns == NEVER_NS


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 20), st.sampled_from(Priority), st.booleans()), max_size=60
    ),
    st.integers(1, 8),
)
def test_everyone_is_taken_once_and_no_call_passes_the_cap(wanted, cap):
    """Whatever the mix: rows add up, a larger request goes alone, callers who left are passed over."""
    asks = [ask(caller, rows, priority) for caller, rows, priority, _ in wanted]
    waiting = queue(*asks, cap=cap)
    for each, (*_, leaves) in zip(asks, wanted, strict=True):
        if leaves:
            each.over = True
            waiting.forget(each)
    taken = []
    while waiting.rows:
        group = waiting.take(cap)
        assert group
        assert sum(each.checked.rows for each in group) <= cap or len(group) == 1
        assert len({each.priority for each in group}) == 1
        taken += group
    assert waiting.rows == 0
    assert sorted(map(id, taken)) == sorted(id(each) for each in asks if not each.over)
