"""The circuit breaker, on a virtual clock."""

from hypothesis import given
from hypothesis import strategies as st

from brownfield.serving.fallback.breaker import Breaker

SECOND_NS = 1_000_000_000


def opened() -> Breaker:
    """A breaker that opened at time 0."""
    breaker = Breaker()
    for step in range(5):
        breaker.failed((step - 4) * SECOND_NS)
    return breaker


def test_fewer_failures_than_the_minimum_leave_it_closed():
    """Four failures in a row are too few to judge by."""
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(0)
    assert breaker.closed
    assert breaker.allows(1)


def test_five_failures_within_ten_seconds_open_it():
    """Then no call passes until five seconds have passed."""
    breaker = opened()
    assert not breaker.closed
    assert breaker.openings == 1
    assert not breaker.allows(5 * SECOND_NS - 1)


def test_failures_spread_over_a_long_time_leave_it_closed():
    """A failure every three seconds is at most four within ten: a quiet system is not cut off."""
    breaker = Breaker()
    for step in range(50):
        breaker.failed(step * 3 * SECOND_NS)
    assert breaker.closed


def test_fewer_failures_than_successes_leave_it_closed():
    """It opens at half, not at the first few failures of a busy model."""
    breaker = Breaker()
    for step in range(100):
        breaker.succeeded(step)
        breaker.succeeded(step)
        breaker.failed(step)
    assert breaker.closed


def test_a_stall_of_a_busy_model_leaves_it_closed():
    """Thirty late answers among thousands a second are one stall of the machine, not a failing model."""
    for before in (0, 5000):
        breaker = Breaker()
        for step in range(before):
            breaker.succeeded(step * 100_000)
        for step in range(30):
            breaker.failed(500_000_000 + step * 1_000_000)
        for step in range(5000):
            breaker.succeeded(600_000_000 + step * 100_000)
        for step in range(30):
            breaker.failed(2 * SECOND_NS + step * 1_000_000)
        assert breaker.closed


def test_a_failure_long_ago_does_not_make_a_stall_of_a_quiet_model_last():
    """Five callers who were late at one moment are one stall, also where one was late an hour before."""
    breaker = Breaker()
    breaker.failed(0)
    for step in range(12):
        breaker.succeeded(step * 300 * SECOND_NS)
    for step in range(5):
        breaker.failed(3600 * SECOND_NS + step * 1000)
    assert breaker.closed
    breaker.failed(3600 * SECOND_NS + SECOND_NS // 2)
    assert not breaker.closed


def test_a_busy_model_that_goes_on_failing_opens_it():
    """A quarter of a second after the first failure."""
    breaker, now_ns = Breaker(), 0
    for step in range(10_000):
        now_ns = step * 100_000
        breaker.succeeded(now_ns)
    since_ns = now_ns
    while breaker.closed:
        now_ns += 100_000
        breaker.failed(now_ns)
    assert 0.25 <= (now_ns - since_ns) / SECOND_NS < 0.26


def test_one_trial_at_a_time_and_its_success_closes_it():
    """After the pause exactly one call passes until its outcome is known."""
    breaker = opened()
    now_ns = 5 * SECOND_NS
    assert breaker.allows(now_ns)
    assert not breaker.allows(now_ns)
    breaker.succeeded(now_ns)
    assert breaker.closed


def test_failed_trials_double_the_pause_up_to_a_minute():
    """5, 10, 20, 40, 60, 60 seconds."""
    breaker, now_ns, pauses = opened(), 0, []
    for _ in range(6):
        started_ns = now_ns
        while not breaker.allows(now_ns):
            now_ns += SECOND_NS // 2
        pauses.append((now_ns - started_ns) / SECOND_NS)
        breaker.failed(now_ns)
    assert pauses == [5, 10, 20, 40, 60, 60]


def test_an_abandoned_trial_lets_the_next_one_through():
    """A caller who leaves during the trial does not keep the breaker open for ever."""
    breaker = opened()
    assert breaker.allows(5 * SECOND_NS)
    breaker.abandoned()
    assert breaker.allows(5 * SECOND_NS)


def test_a_replaced_worker_is_tried_at_once():
    """The pause is for causes that may still be there."""
    breaker = opened()
    breaker.retry_now()
    assert breaker.allows(1)


def test_late_outcomes_of_calls_made_before_it_opened_change_nothing():
    """A success that was under way when it opened does not close it."""
    breaker = opened()
    breaker.succeeded(1)
    breaker.failed(1)
    assert not breaker.allows(2)


@given(st.lists(st.tuples(st.sampled_from(["ok", "bad", "left"]), st.integers(1, 4 * SECOND_NS)), max_size=200))
def test_it_always_finds_its_way_back(calls):
    """After any history, a minute later a call passes, and its success closes the breaker."""
    breaker, now_ns = Breaker(), 0
    for outcome, pause_ns in calls:
        now_ns += pause_ns
        if breaker.allows(now_ns):
            {"ok": breaker.succeeded, "bad": breaker.failed, "left": lambda _: breaker.abandoned()}[outcome](now_ns)
    now_ns += 60 * SECOND_NS
    assert breaker.allows(now_ns)
    breaker.succeeded(now_ns)
    assert breaker.closed
