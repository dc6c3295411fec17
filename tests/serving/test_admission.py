"""Who may wait for a model."""

from hypothesis import given
from hypothesis import strategies as st

from brownfield.serving.gateway.admission import Admission


def test_an_empty_queue_always_admits():
    """However slow the model was estimated to be, the first request gets its try, so a wrong estimate heals."""
    gate = Admission()
    gate.per_row_ns = 1e12
    assert gate.admits(rows=1000, left_ns=1)


@given(st.integers(1, 50), st.integers(1, 50), st.floats(1, 1e6))
def test_records_are_admitted_while_all_before_them_fit_into_the_deadline(waiting, rows, per_row_ns):
    """The bound is the estimated time of everything waiting and the request itself, not a count."""
    gate = Admission()
    gate.enter(waiting)
    gate.per_row_ns = per_row_ns
    needed_ns = (waiting + rows) * per_row_ns
    assert gate.admits(rows, int(needed_ns) + 1)
    assert not gate.admits(rows, int(needed_ns) - 1)


def test_the_estimate_learns_the_time_per_record_of_a_batching_worker():
    """Eight requests answered together every 800 microseconds cost 100 microseconds each."""
    gate = Admission()
    for batch in range(200):
        for _ in range(8):
            gate.enter(1)
        for _ in range(8):
            gate.leave(1, entered_ns=batch * 800_000, now_ns=(batch + 1) * 800_000, answered=True)
    assert 80_000 < gate.per_row_ns < 120_000
    assert gate.waiting_rows == 0


def test_unanswered_records_leave_the_queue_and_teach_nothing():
    """A time-out says nothing about how long an answer takes."""
    gate = Admission()
    gate.enter(3)
    gate.leave(3, entered_ns=0, now_ns=10**9, answered=False)
    assert gate.waiting_rows == 0
    assert gate.per_row_ns == 0
