"""From rows of the table to a verdict: pure, so every case is made by hand."""

import dataclasses

import pytest

from brownfield.fit import (
    Accuracy,
    Candidate,
    Noise,
    Recipe,
    Row,
    Session,
    Timing,
    Verdict,
    Wanted,
    choose,
)
from brownfield.fit.choose import decided
from brownfield.statistics import Interval

QUIET = Noise(ratio=1.0, steal_share=0.0)
STATIC = Recipe(kind="static", calibrator="minmax")
DYNAMIC = Recipe(kind="dynamic", operators=("MatMul", "Gemm"))


def row(recipe=None, *, ratio=1.0, drop=(0.0, 0.0, 0.004), p99_ms=1.0, isolated=True, cause="", **session) -> Row:
    candidate = Candidate(recipe=recipe or Recipe(kind="as_is"), session=Session(**session))
    if cause:
        return Row(candidate=candidate, stage="screen", cause=cause, failure=f"it failed ({cause})")
    timing = Timing(
        runs=960,
        p50_us=Interval(800 * ratio, 790 * ratio, 810 * ratio),
        p99_us=(p99_ms * 1000, p99_ms * 900, p99_ms * 1100),
        mean_us=820 * ratio,
        ratio=Interval(ratio, ratio * 0.97, ratio * 1.03),
        reference_p50_us=800,
        peak_mib=60,
        ready_s=0.2,
        steal_share=0,
    )
    accuracy = Accuracy(
        metric="agreement",
        rows=1000,
        value=1 - drop[0],
        drop=Interval(*drop),
        finite=True,
        largest_difference=0.01 if recipe else 0.0,
        least_cosine=1,
    )
    return Row(
        candidate=candidate,
        stage="final",
        timing=timing,
        accuracy=accuracy,
        isolated=isolated,
        curve_us={"1": 820 * ratio, "8": 1640 * ratio},
    )


def test_a_faster_int8_within_the_floor_wins() -> None:
    """It is chosen over fp32, and the table says why fp32 was not."""
    choice = choose([row(), row(STATIC, ratio=0.5)], Wanted(), QUIET)
    assert (choice.verdict, choice.chosen) == (Verdict.FITS, "static int8, minmax")
    assert choice.reasons["fp32"].startswith("fits as well")


@pytest.mark.parametrize("ratio", [0.97, 1.02, 1.5, 6.0])
def test_a_slower_int8_never_wins(ratio: float) -> None:
    """Not even where fp32 misses the limit and it does not."""
    slow = row(STATIC, ratio=ratio, p99_ms=0.1)
    assert choose([row(), slow], Wanted(), QUIET).chosen == "fp32"
    assert choose([row(p99_ms=9), slow], Wanted(latency_p99_ms=2), QUIET).verdict is Verdict.DOES_NOT_FIT


@pytest.mark.parametrize("drop", [(0.3, 0.2, 0.4), (0.005, 0.0, 0.012)])
def test_a_wrong_int8_never_wins(drop: tuple[float, float, float]) -> None:
    """The upper bound decides, not the point: a loss that may be too large is too large."""
    wrong = row(STATIC, ratio=0.2, drop=drop)
    choice = choose([row(), wrong], Wanted(max_drop=0.01), QUIET)
    assert choice.chosen == "fp32"
    assert "falls by" in choice.reasons["static int8, minmax"]


def test_a_leak_between_callers_is_a_change_and_last_resort() -> None:
    """Where something else fits it is not chosen; where nothing else does, batching must be off."""
    leaky = row(DYNAMIC, ratio=0.3, p99_ms=1, isolated=False)
    assert choose([row(), leaky], Wanted(), QUIET).chosen == "fp32"
    choice = choose([row(p99_ms=9), leaky], Wanted(latency_p99_ms=2), QUIET)
    assert (choice.verdict, choice.chosen) == (Verdict.FITS_WITH_CHANGES, leaky.candidate.name)
    assert "alone" in choice.changes[0]


def test_more_threads_are_taken_only_when_they_are_needed() -> None:
    """One core that does is better than two that are faster; two within the quota are better than none."""
    two = row(ratio=0.6, p99_ms=1, threads=2)
    assert choose([row(), two], Wanted(cpu_cores=2), QUIET).chosen == "fp32"
    assert choose([row(p99_ms=9), two], Wanted(cpu_cores=2, latency_p99_ms=2), QUIET).chosen == "fp32, 2 threads"
    assert choose([row(p99_ms=9), two], Wanted(cpu_cores=1, latency_p99_ms=2), QUIET).chosen == ""


def test_a_latency_that_cannot_be_met_is_a_stated_shortfall() -> None:
    """Declared, needed and factor are those of the best candidate."""
    choice = choose([row(p99_ms=9), row(STATIC, ratio=0.5, p99_ms=4)], Wanted(latency_p99_ms=2), QUIET)
    (short,) = choice.shortfalls
    assert choice.verdict is Verdict.DOES_NOT_FIT
    assert (short.resource, short.declared, short.needed, short.factor) == ("latency_p99_ms", 2, 4, 2)
    assert short.measured


def test_a_rate_that_the_cores_cannot_bear_is_an_estimated_shortfall() -> None:
    """Cores follow from the cheapest batch and seven tenths of each core; alone, a leaking model needs more."""
    choice = choose([row()], Wanted(cpu_cores=1, expected_rate_per_s=7000), QUIET)
    (short,) = choice.shortfalls
    assert (short.resource, short.measured) == ("cpu_cores", False)
    assert short.needed == pytest.approx(7000 * 205e-6 / 0.7)
    (alone,) = choose([row(isolated=False)], Wanted(expected_rate_per_s=7000), QUIET).shortfalls
    assert alone.needed == pytest.approx(7000 * 820e-6 / 0.7)


def test_too_little_memory_is_a_measured_shortfall() -> None:
    """What fp32 was measured to need stands beside what is declared."""
    choice = choose([row(cause="memory")], Wanted(memory_mib=64), QUIET, memory_needed_mib=160)
    (short,) = choice.shortfalls
    assert (short.resource, short.factor, short.measured) == ("memory_mib", 2.5, True)


def test_a_limit_inside_the_interval_is_no_verdict() -> None:
    """INVALID, with the interval and what to do: not a pass, not a fail."""
    choice = choose([row(p99_ms=2)], Wanted(latency_p99_ms=2), QUIET)
    assert choice.verdict is Verdict.INVALID
    assert "more time" in choice.why


@pytest.mark.parametrize("noise", [Noise(ratio=1.4, steal_share=0), Noise(ratio=1, steal_share=0.2)])
def test_a_noisy_machine_gives_no_verdict(noise: Noise) -> None:
    """Where fp32 is not as fast as itself nothing is judged."""
    choice = choose([row(), row(STATIC, ratio=0.5)], Wanted(), noise)
    assert (choice.verdict, choice.chosen) == (Verdict.INVALID, "")


def test_noise_raises_what_counts_as_a_gain() -> None:
    """A gain of 8 % decides where fp32 does not do, and not on a machine where fp32 differs from itself by 15 %."""
    table = [row(), row(STATIC, ratio=0.92)]
    assert choose(table, Wanted(), QUIET).chosen == "fp32"  # less than twice the margin is not worth int8
    table = [row(p99_ms=9), row(STATIC, ratio=0.92)]
    assert choose(table, Wanted(latency_p99_ms=2), QUIET).chosen == "static int8, minmax"
    assert choose(table, Wanted(latency_p99_ms=2), Noise(ratio=1.15, steal_share=0)).chosen == ""


def test_answers_that_are_no_numbers_are_wrong() -> None:
    """NaN or infinity in one answer is enough."""
    import msgspec

    good = row(STATIC, ratio=0.5)
    broken = msgspec.structs.replace(good, accuracy=msgspec.structs.replace(good.accuracy, finite=False))
    choice = choose([row(), broken], Wanted(), QUIET)
    assert choice.chosen == "fp32"
    assert choice.reasons[broken.candidate.name].startswith("wrong")


def test_an_optimised_graph_that_answers_otherwise_is_wrong() -> None:
    """fp32 made by the optimiser must compute what fp32 did, whatever its decisions are."""
    import msgspec

    fast = row(Recipe(kind="optimised"), ratio=0.5)
    other = msgspec.structs.replace(fast, accuracy=msgspec.structs.replace(fast.accuracy, largest_difference=0.02))
    assert choose([row(), other], Wanted(), QUIET).chosen == "fp32"
    same = msgspec.structs.replace(fast, accuracy=msgspec.structs.replace(fast.accuracy, largest_difference=1e-6))
    assert choose([row(), same], Wanted(), QUIET).chosen == "fp32, optimised"


def test_a_measurement_that_leaves_a_limit_open_is_worth_repeating() -> None:
    """A limit within the interval, or above a bound that the runs were too few for, is open; others are decided."""
    import msgspec

    wanted = Wanted(latency_p99_ms=2)
    assert [decided(row(p99_ms=value), wanted) for value in (1, 2, 9)] == [True, False, True]
    short = row(p99_ms=1)
    few = msgspec.structs.replace(short, timing=dataclasses.replace(short.timing, p99_us=(1000, 900, None)))
    assert not decided(few, wanted)
    assert decided(few, Wanted())
