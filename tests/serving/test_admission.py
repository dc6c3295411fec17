"""Who may wait for a model."""

from hypothesis import given
from hypothesis import strategies as st

from brownfield.serving.gateway.admission import Admission
from brownfield.serving.gateway.costs import CostCurve


def answered(gate, *, rows, every_ns, run_ns, calls=200):
    """Calls that follow one another, so that the model is never without one."""
    for call in range(calls):
        gate.enter(rows)
        gate.leave(rows, sent_ns=(call - 1) * every_ns, now_ns=(call + 1) * every_ns, run_ns=run_ns)


@given(st.integers(0, 500), st.integers(1, 50), st.integers(1, 32), st.floats(1, 1e6), st.floats(0, 1e6))
def test_the_wait_is_that_of_everything_before_and_the_request_itself(ahead, rows, cap, row_ns, call_ns):
    """The bound is an estimated time, not a count: whole calls of what is queued, and each record in the engine."""
    gate = Admission()
    gate.row_ns, gate.call_ns = row_ns, call_ns
    calls = -(-(ahead + rows) // cap)
    assert gate.wait_ns(ahead + rows, cap) == (ahead + rows) * row_ns + calls * call_ns
    assert gate.wait_ns(ahead + rows, cap, 2, 8) > gate.wait_ns(ahead + rows, cap)


def test_the_parts_of_an_answer_are_learned_from_a_busy_model():
    """Calls of eight records every 800 microseconds, of which the engine has 500."""
    gate = Admission()
    answered(gate, rows=8, every_ns=800_000, run_ns=500_000)
    assert gate.row_ns == 62_500
    assert 299_000 < gate.call_ns < 301_000
    assert gate.waiting_rows == 0


def test_one_answer_at_a_time_can_only_lower_the_estimate():
    """A call that nobody waited behind says how long it takes at most: a slow loop is not taken for a slow model."""
    gate = Admission()
    answered(gate, rows=8, every_ns=800_000, run_ns=500_000)
    for at in range(10**10, 10**10 + 10**9, 10**7):
        gate.enter(1)
        gate.leave(1, sent_ns=at, now_ns=at + 5_000_000, run_ns=62_500)
    assert gate.call_ns < 301_000
    for at in range(10**12, 10**12 + 10**9, 10**7):
        gate.enter(1)
        gate.leave(1, sent_ns=at, now_ns=at + 100_000, run_ns=62_500)
    assert gate.call_ns < 50_000


def test_calls_that_are_given_up_raise_the_estimate():
    """A model that became slower than every deadline never answers, and is still learned from."""
    gate = Admission()
    answered(gate, rows=1, every_ns=1_000_000, run_ns=900_000)
    before = gate.wait_ns(10, 1)
    for at in range(10**10, 10**10 + 10**9, 10**8):
        gate.enter(1)
        gate.give_up(1, sent_ns=at, now_ns=at + 50_000_000)
    assert gate.wait_ns(10, 1) > 4 * before
    assert gate.waiting_rows == 0


def test_a_call_that_was_given_up_tells_what_calls_of_its_size_cost():
    """Else a model that became ten times slower would be asked for as many rows as before, and never in time."""
    gate = Admission(CostCurve({1: 1000, 8: 8000}, deadline_ns=50_000_000, most_rows=8))
    for at in range(10**10, 10**10 + 20 * 10**8, 10**8):
        gate.enter(8)
        gate.give_up(8, sent_ns=at, now_ns=at + 50_000_000)
    assert gate.engine_ns(8) > 20_000_000
    assert gate.costs.cap < 8
    assert gate.waiting_rows == 0


def test_the_cost_curve_tells_what_shared_calls_take():
    """A request that comes alone is estimated by the call that it will share."""
    gate = Admission(CostCurve({1: 1000, 8: 2000}))
    assert gate.wait_ns(8, 8) == 2_000_000
    assert gate.wait_ns(1, 8) == 2_000_000
    assert gate.wait_ns(17, 8) == 6_000_000


def test_as_many_calls_are_with_the_model_as_keep_it_busy():
    """Two where the engine takes longer than the way there and back, up to four where the way is longer.

    One where it takes less for a record than the gateway itself, or many times as long for a call as the way.
    """
    long, slow, near, quick = Admission(), Admission(), Admission(), Admission()
    answered(long, rows=4, every_ns=30_000_000, run_ns=29_000_000)
    answered(slow, rows=4, every_ns=30_000_000, run_ns=27_000_000)
    answered(near, rows=4, every_ns=900_000, run_ns=120_000)
    answered(quick, rows=32, every_ns=300_000, run_ns=10_000)
    assert (Admission().window(8), slow.window(4), near.window(4)) == (2, 2, 4)
    for gate, cap in ((long, 4), (quick, 32)):
        assert gate.window(cap) == 1
        assert gate.window(cap, full=True) >= 2  # what waits fills a call: nothing is gained by waiting longer
