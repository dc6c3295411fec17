"""The latency split and the histogram."""

from hypothesis import given
from hypothesis import strategies as st

from brownfield.serving.gateway.latency import BOUNDS_S, Histogram, Split, Stage

durations = st.lists(st.tuples(st.sampled_from(Stage), st.integers(0, 10**11)), max_size=30)


@given(durations)
def test_the_parts_of_a_split_sum_to_its_whole(marks):
    """Whatever is marked in whatever order, the parts sum to the time from start to last mark, exactly."""
    split, now_ns = Split(7), 7
    for stage, duration_ns in marks:
        now_ns += duration_ns
        split.mark(stage, now_ns)
    assert sum(split.parts_ns) == split.total_ns == now_ns - 7


@given(durations)
def test_the_header_shows_a_total_that_is_the_sum_of_the_parts_shown(marks):
    """A reader who adds the durations of Server-Timing up gets the total that stands there."""
    split, now_ns = Split(0), 0
    for stage, duration_ns in marks:
        now_ns += duration_ns
        split.mark(stage, now_ns)
    shown = [float(part.split("dur=")[1]) for part in split.header().decode().split(", ")]
    assert abs(sum(shown[:-1]) - shown[-1]) < 1e-6 * max(1.0, shown[-1])


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_model_never_takes_longer_than_it_was_waited_for(waited_ns, infer_ns):
    """A worker that overstates its own time does not make the wait before it negative."""
    split = Split(0)
    split.mark_model(waited_ns, infer_ns)
    assert split.parts_ns[Stage.QUEUE] >= 0
    assert split.parts_ns[Stage.INFER] <= waited_ns
    assert sum(split.parts_ns) == waited_ns


@given(*[st.integers(0, 10**9)] * 6)
def test_the_marks_of_a_call_are_those_of_its_stages(
    admitted_ns, queued_ns, encoding_ns, waiting_ns, infer_ns, checking_ns
):
    """One mark for all stages of a call to the model gives what a mark for each of them gives."""
    sent_ns = admitted_ns + queued_ns
    encoded_ns = sent_ns + encoding_ns
    answered_ns = encoded_ns + waiting_ns
    checked_ns = answered_ns + checking_ns
    at_once, one_by_one = Split(0), Split(0)
    for split in (at_once, one_by_one):
        split.mark(Stage.ADMISSION, admitted_ns)
    at_once.mark_call(sent_ns, encoded_ns, answered_ns, infer_ns, checked_ns)
    one_by_one.mark(Stage.QUEUE, sent_ns)
    one_by_one.mark(Stage.FEATURES, encoded_ns)
    one_by_one.mark_model(answered_ns, infer_ns)
    one_by_one.mark(Stage.OUTPUT_CHECK, checked_ns)
    assert (at_once.parts_ns, at_once.last_ns) == (one_by_one.parts_ns, one_by_one.last_ns)


@given(st.lists(st.floats(1e-7, 60), max_size=50))
def test_every_duration_falls_into_the_bucket_below_its_bound(durations_s):
    """Cumulated counts say how many durations were at most each bound."""
    histogram = Histogram()
    for duration_s in durations_s:
        histogram.observe(round(duration_s * 1e9))
    for index, bound_s in enumerate(BOUNDS_S):
        expected = sum(round(each * 1e9) <= round(bound_s * 1e9) for each in durations_s)
        assert sum(histogram.counts[: index + 1]) == expected
    assert histogram.count == len(durations_s)


@given(st.lists(st.integers(1, 3_000_000), min_size=8, max_size=8))
def test_the_header_of_a_model_s_answer_is_written_as_any_other(parts_ns):
    """The quick text of the most usual answers is that of all: names, order, rounding and total."""
    split = Split(0)
    split.parts_ns = [*parts_ns[:7], 0, parts_ns[7]]
    assert split.header() == split._header_of_some()
    assert split.header().count(b";dur=") == 9
