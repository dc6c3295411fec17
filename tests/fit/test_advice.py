"""Advice lists the ways out in their order, prices what the book prices, and says how each thing is known."""

import msgspec
import pytest

from brownfield.errors import DeclarationError
from brownfield.fit import Noise, Recipe, Rows, Verdict, Wanted, choose
from brownfield.fit.advice import Facts, advise
from brownfield.fit.scaling import Scaling, ThreadPoint, scaling_of
from brownfield.fit.upgrade import repeat_share, rule_accuracy
from brownfield.integration import MachinePrice, Price, PriceBook, load_prices
from brownfield.statistics import Interval

QUIET = Noise(ratio=1.0, steal_share=0.0)
HALF = scaling_of([ThreadPoint(threads=n, p50_ms=8 / n + 2, p99_ms=9.6 / n + 2.4, mean_ms=8 / n + 2) for n in (1, 2)])
BOOK = PriceBook(
    currency="EUR",
    day_rate=720,
    rule=Price(effort_days=1),
    machines={
        "eight": MachinePrice(cores=8, memory_mib=4096, purchase=3600, lead_time_days=20),
        "fast": MachinePrice(cores=2, memory_mib=4096, speed=3, purchase=7200, instructions=("avx512_vnni",)),
        "small": MachinePrice(cores=2, memory_mib=4096, purchase=360),
        "narrow": MachinePrice(cores=8, memory_mib=32, purchase=36),
    },
    node=Price(purchase=3600),
)


SCALED = Facts(scaling=HALF)


def advice_of(row_of, wanted, *, facts=SCALED, book=BOOK, p99_ms=12.0, more=()):
    """Advice on one fp32 row that takes 10 ms, 12 at the 99th percentile."""
    rows = [row_of(Recipe(kind="as_is"), ratio=1.0, p50_ms=10.0, p99_ms=p99_ms, peak_mib=100), *more]
    choice = choose(rows, wanted, QUIET)
    assert choice.verdict == Verdict.DOES_NOT_FIT
    return advise(rows, wanted, choice, facts, book)


def named(advice):
    """Options by name."""
    return {each.name: each for each in advice.options}


def test_the_order_is_from_the_least_change_to_the_largest(row_of) -> None:
    """Rule, batch, cache, smaller model, machines, nodes, accelerator."""
    advice = advice_of(row_of, Wanted(latency_p99_ms=8))
    kinds = list(dict.fromkeys(each.kind for each in advice.options))
    assert kinds == ["rule", "batch", "cache", "smaller_model", "machine", "nodes", "gpu"]


def test_cores_follow_from_measured_threads(row_of) -> None:
    """8 ms need two threads, which were measured; 5 ms need four, which were not; 2 ms no number gives."""
    two, four, none = (advice_of(row_of, Wanted(latency_p99_ms=limit)) for limit in (8, 5, 2))
    assert named(two)["2 cores like these"].known == "measured"
    assert named(two)["2 cores like these"].p99_ms == pytest.approx(7.2)
    assert named(four)["4 cores like these"].known == "estimated"
    assert named(four)["4 cores like these"].p99_ms == pytest.approx(4.8)
    assert named(none)["more cores like these"].meets is False
    assert "20% of the time does not fall" in named(none)["more cores like these"].what


def test_a_rate_is_shared_out_to_processes(row_of) -> None:
    """250 requests/s at 10 ms keep 2.5 cores busy: four, with seven tenths of each planned for, or so many nodes."""
    advice = advice_of(row_of, Wanted(expected_rate_per_s=250), p99_ms=12.0)
    assert "4 cores like these" in named(advice)
    assert named(advice)["4 cores like these"].memory_mib == 480
    assert named(advice)["4 nodes"].meets is True
    assert named(advice)["4 nodes"].monthly == pytest.approx(300)


def test_the_cheapest_that_keeps_every_limit_is_named(row_of) -> None:
    """The small machine is too slow, the narrow one has too little memory, the fast one costs more."""
    advice = advice_of(row_of, Wanted(latency_p99_ms=5, expected_rate_per_s=50))
    options = named(advice)
    assert [options[name].meets for name in ("eight", "fast", "small", "narrow")] == [True, True, False, False]
    assert (advice.cheapest, options["eight"].monthly, options["eight"].lead_time_days) == ("eight", 100, 20)
    assert options["fast"].p99_ms == pytest.approx(4.0)


def test_the_demand_at_which_another_option_is_cheaper(row_of) -> None:
    """Beyond what one 'eight' carries for 100 a month a second would be bought, and one large is cheaper."""
    large = MachinePrice(cores=64, memory_mib=65536, purchase=5400)
    book = PriceBook(currency="EUR", machines={"eight": BOOK.machines["eight"], "large": large})
    advice = advice_of(row_of, Wanted(latency_p99_ms=11, expected_rate_per_s=50), book=book)
    assert advice.cheapest == "eight"
    assert advice.then.option == "large"
    assert advice.then.rate_per_s == pytest.approx(named(advice)["eight"].capacity_per_s)


def test_nothing_is_priced_without_a_book_and_an_example_is_called_one(row_of) -> None:
    """No price is invented."""
    bare = advice_of(row_of, Wanted(latency_p99_ms=8), book=None)
    assert all(each.monthly is None for each in bare.options)
    assert (bare.cheapest, bare.currency, bare.then) == ("", "", None)
    example = msgspec.structs.replace(BOOK, kind="example")
    assert advice_of(row_of, Wanted(latency_p99_ms=8), book=example).example


def test_a_rule_is_measured_where_there_are_labels(row_of) -> None:
    """It meets the floor only by the unfavourable bound."""
    for lower, meets in ((0.995, True), (0.9, False)):
        facts = Facts(scaling=HALF, rule=Interval(0.999, lower, 1.0))
        rule = named(advice_of(row_of, Wanted(latency_p99_ms=8), facts=facts))["a rule instead of the model"]
        assert (rule.meets, rule.known) == (meets, "measured")


def test_a_cache_helps_a_rate_and_seldom_a_percentile(row_of) -> None:
    """Seven of ten requests repeat: the rest is within the core, but the 99th percentile is still a computed one."""
    facts = Facts(scaling=HALF, repeats=0.7)
    rate = named(advice_of(row_of, Wanted(expected_rate_per_s=150), facts=facts))["a cache of answers"]
    time = named(advice_of(row_of, Wanted(latency_p99_ms=8), facts=facts))["a cache of answers"]
    assert (rate.meets, time.meets) == (True, False)


def test_a_fast_candidate_that_is_wrong_is_said(row_of) -> None:
    """With its loss; and what share of the arithmetic a smaller model may have."""
    wrong = row_of(Recipe(kind="dynamic"), ratio=0.2, p50_ms=2.0, p99_ms=3.0, drop=(0.3, 0.2, 0.4))
    advice = advice_of(row_of, Wanted(latency_p99_ms=6), more=[wrong])
    assert "falls by 0.3 (0.2 to 0.4)" in named(advice)["dynamic int8"].what
    assert "at most 50% of the present arithmetic" in named(advice)["a smaller model"].what


def test_int8_instructions_are_a_hint_where_they_lack(row_of) -> None:
    """Never a promise: it is measured there."""
    facts = Facts(scaling=HALF, int8=False)
    options = named(advice_of(row_of, Wanted(latency_p99_ms=5), facts=facts))
    assert "measure it there with --pack-probe" in options["fast"].what
    assert "--pack-probe" not in options["eight"].what


def test_threads_beyond_the_measured_follow_amdahl() -> None:
    """A second thread that helps nothing leaves all of the time as it is."""
    assert HALF.serial_share == pytest.approx(0.2)
    flat = scaling_of([ThreadPoint(threads=n, p50_ms=3, p99_ms=3, mean_ms=3) for n in (1, 2)])
    assert (flat.serial_share, flat.fewest(2)) == (1.0, None)
    assert isinstance(flat, Scaling)


def test_what_was_not_measured_has_the_widest_tail_that_was() -> None:
    """A tail that a second thread brings does not vanish with a third."""
    points = [ThreadPoint(threads=n, p50_ms=12 / n, p99_ms=tail, mean_ms=12 / n) for n, tail in ((1, 13.2), (2, 12))]
    scaling = scaling_of(points)
    assert scaling.at(1).p99_ms == pytest.approx(13.2)
    assert scaling.at(3).p99_ms == pytest.approx(8)


def test_repeats_and_rules_come_from_the_rows(rows) -> None:
    """The most frequent class of the search's rows is judged on the rows that judge."""
    import numpy as np

    assert repeat_share(rows) == 0.0
    labels = [0] * 900 + [1] * 300
    labelled = Rows(rows.samples, rows.batched, labels=np.array(labels))
    value, lower, upper = rule_accuracy(labelled, 0)
    assert lower < 0.75 < upper
    assert value == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("currency: euro", "three capital letters"),
        ("currency: EUR\nmachines: {a: {cores: 2}}", "memory_mib"),
        ("currency: EUR\nnodes: {purchase: 1}", "Did you mean node?"),
        ("currency: EUR\nrule: {purchase: -1}", "a number in \\[0, 1000000000000\\]"),
    ],
)
def test_a_price_book_is_strict(tmp_path, text, message) -> None:
    """Unknown keys, missing sizes and negative prices are refused with their line."""
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(DeclarationError, match=message) as caught:
        load_prices(tmp_path / "prices.yaml")
    assert "prices.yaml:" in str(caught.value)
