"""How many rows of a call pay."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.serving.gateway import costs
from brownfield.serving.gateway.costs import CostCurve


@pytest.mark.parametrize(
    ("curve_us", "deadline_ms", "cap"),
    [
        pytest.param({1: 4.4, 8: 5.2, 32: 8.2}, 20, 32, id="a small model: as many as there are"),
        pytest.param({1: 7307, 8: 48_786, 32: 208_788}, 2000, 3, id="a transformer on one core: few"),
        pytest.param({1: 5094, 8: 31_408, 32: 116_342}, 2000, 11, id="the same on two"),
        pytest.param({1: 7307, 8: 48_786, 32: 208_788}, 60, 2, id="never longer than a quarter of the deadline"),
        pytest.param({1: 10, 100: 20, 256: 45, 512: 100}, 20, 512, id="as small with many rows: calls cost too"),
        pytest.param({1: 900}, 1, 1, id="one alone takes too long already"),
        pytest.param({}, 1000, 2, id="nothing is known: tried out from below"),
    ],
)
def test_the_cap_follows_from_the_measured_curve(curve_us, deadline_ms, cap):
    """Fewest rows with 95 % of the best rate, within the deadline's share."""
    most_rows = max(32, *curve_us) if curve_us else 32
    assert CostCurve(curve_us, deadline_ns=deadline_ms * 1_000_000, most_rows=most_rows).cap == cap


@pytest.mark.parametrize(
    ("time_us", "least", "most"),
    [
        pytest.param(lambda rows: 4 + rows / 8, 24, 32, id="batching pays"),
        pytest.param(lambda rows: 1000 * rows, 1, 2, id="batching does not pay"),
    ],
)
def test_an_unknown_model_is_learned_from_its_calls(time_us, least, most):
    """The cap doubles while that pays, and stays where it does not."""
    curve = CostCurve()
    for _ in range(2000):
        curve.observe(curve.cap, round(time_us(curve.cap) * 1000))
    assert least <= curve.cap <= most


@pytest.mark.parametrize("rows", [2, 4, 8, 16])
def test_stalls_in_the_first_calls_of_a_size_are_forgotten(rows):
    """A size that seemed slow is tried again after some hundred calls, and the cap grows where that pays."""
    curve = CostCurve(most_rows=32)
    stalls = 0
    for _ in range(3000):
        now = curve.cap
        stall = now >= rows and stalls < 3
        stalls += stall
        curve.observe(now, 5_000_000 if stall else 4_000 + 125 * now)
    assert stalls == 3
    assert curve.cap >= 24


def test_stalls_in_all_sizes_are_forgotten_one_after_another():
    """Where calls of every size beyond one row seemed slow, the next larger one is tried whatever the others say."""
    curve = CostCurve({1: 8_000, 2: 40_000, 4: 60_000, 8: 112_000}, most_rows=32)
    assert curve.cap == 1
    for _ in range(3000):
        curve.observe(curve.cap, 2_000_000 + 5_000_000 * curve.cap)
    assert 4 <= curve.cap <= 8


@pytest.mark.parametrize("deadline_ms", [0, 150])
@pytest.mark.parametrize("slow_us", [{2: 40_000, 4: 60_000, 8: 112_000}, {2: 90_000, 4: 200_000, 8: 412_000}])
def test_what_larger_calls_took_is_stale_after_a_while(slow_us, deadline_ms):
    """Whatever was known of them, also where they would not fit into the deadline's share."""
    curve = CostCurve({1: 8_000, **slow_us}, deadline_ns=deadline_ms * 1_000_000, most_rows=32)
    assert curve.cap == 1
    for _ in range(3000):
        curve.observe(curve.cap, 2_000_000 + 5_000_000 * curve.cap)
    assert 4 <= curve.cap <= 8


def test_calls_that_nobody_makes_are_not_taken_to_pay():
    """Light load: what is known of large calls gets stale, and a peak climbs to them step by step."""
    curve = CostCurve({rows: 1000 * rows for rows in (1, 2, 4, 8, 16, 32, 64, 128)}, most_rows=512)
    caps = set()
    for _ in range(600):
        curve.observe(1, 1_000_000)
        caps.add(curve.cap)
    assert caps == {1, 2}
    assert curve.time_ns(100) == pytest.approx(100_000_000)


def test_the_first_calls_of_a_size_do_not_decide():
    """An engine that takes four times as long for each number of rows at first is shared as it is to be afterwards."""
    curve = CostCurve(most_rows=32)
    seen = Counter()
    for _ in range(600):
        now = curve.cap
        curve.observe(now, (4 if seen[now] < 1 else 1) * (5_100_000 + 3_600_000 * now))
        seen[now] += 1
    assert 8 <= curve.cap <= 32


def test_what_does_not_pay_is_seldom_tried_again():
    """Of a transformer's calls one in fifty at most is larger than pays."""
    curve = CostCurve({1: 7307, 8: 48_786, 32: 208_788}, most_rows=32)
    caps = []
    for _ in range(5000):
        caps.append(curve.cap)
        curve.observe(curve.cap, round(7_307_000 + (curve.cap - 1) * 5_900_000))
    assert sum(cap > 8 for cap in caps) <= 100
    assert min(caps) >= 2


def test_a_curve_of_another_machine_is_corrected():
    """What fit measured is where it starts, not where it ends."""
    curve = CostCurve({1: 1000, 8: 8000, 32: 32_000})
    assert curve.cap == 1
    for _ in range(400):
        for rows, time_us in ((1, 1000), (8, 1200), (32, 1600)):
            curve.observe(rows, round(time_us * 1000))
    assert curve.cap == 32


@given(
    st.dictionaries(st.integers(1, 300), st.floats(0.1, 1e7), max_size=8),
    st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 10**10)), max_size=60),
    st.integers(0, 10**9),
)
def test_the_cap_stays_between_one_and_its_bound(curve_us, calls, deadline_ns):
    """Whatever was measured; and the time of a call is never negative."""
    curve = CostCurve(curve_us, deadline_ns=deadline_ns, most_rows=32)
    for rows, run_ns in calls:
        curve.observe(rows, run_ns)
        assert 1 <= curve.cap <= 32
        assert curve.time_ns(rows) >= 0


@given(st.floats(1, 1e4), st.floats(0.01, 1e3))
def test_the_cap_is_near_the_fewest_rows_that_pay(call_us, row_us):
    """Against a look at every number of rows: no smaller, and larger by a quarter at most; or it tries out more."""
    curve = CostCurve({rows: call_us + row_us * rows for rows in (1, 8, 40, 200)}, most_rows=512)
    rates = [rows / (50 + call_us + row_us * rows) for rows in range(1, 201)]
    fewest = next(rows for rows, rate in enumerate(rates, 1) if rate >= 0.95 * rates[-1] * (1 - 1e-9))
    assert fewest <= curve.cap
    assert curve.cap <= 1.25 * fewest or curve.cap == 400


@pytest.mark.inside
def test_a_request_of_thousands_of_rows_is_not_looked_at_row_by_row(monkeypatch):
    """What the loop pays for a curve does not grow with the largest call that was seen."""
    curve = CostCurve(most_rows=512)
    curve.observe(1, 10_000)
    looked = []
    monkeypatch.setattr(costs, "_time_ns", lambda _, rows: looked.append(rows) or 1000.0 * rows)
    curve.observe(10_000, 5_000_000)
    assert 0 < len(looked) < 100
