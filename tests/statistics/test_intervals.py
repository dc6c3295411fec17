"""Intervals cover what they say they cover, and promise nothing from too little."""

import numpy as np
import pytest

from brownfield.statistics import bootstrap_mean, proportion_interval, quantile_interval


@pytest.mark.parametrize(("quantile", "count"), [(0.5, 20), (0.5, 301), (0.9, 200), (0.99, 600)])
def test_the_interval_of_a_quantile_covers_it(quantile: float, count: int) -> None:
    """In 1,000 samples of a skewed distribution the true quantile lies within at least 93 % of the 95 % intervals."""
    random = np.random.default_rng(7)
    true = -np.log(1 - quantile)
    within = 0
    for _ in range(1000):
        found = quantile_interval(random.exponential(size=count), quantile)
        within += found.lower <= true <= found.upper
    assert within >= 930


def test_a_99th_percentile_takes_368_numbers() -> None:
    """One number fewer and the upper bound is infinite."""
    assert quantile_interval(range(367), 0.99).upper == np.inf
    assert quantile_interval(range(368), 0.99).upper == 367


def test_one_number_has_no_bounds() -> None:
    """A single number is its own median, and says nothing about where the median lies."""
    assert quantile_interval([3.0], 0.5) == (3.0, -np.inf, np.inf)


@pytest.mark.parametrize(
    ("successes", "trials", "lower", "upper"),
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (1, 10, 0.0025, 0.4450), (4, 20, 0.0573, 0.4366)],
)
def test_shares_have_the_published_exact_bounds(successes: int, trials: int, lower: float, upper: float) -> None:
    """Clopper and Pearson's bounds agree with their tables to four digits."""
    found = proportion_interval(successes, trials)
    assert found.lower == pytest.approx(lower, abs=1e-4)
    assert found.upper == pytest.approx(upper, abs=1e-4)


def test_no_error_in_few_rows_is_not_no_error() -> None:
    """It takes 368 rows without an error to bound the error rate by one in a hundred."""
    assert proportion_interval(0, 360).upper > 0.01
    assert proportion_interval(0, 368).upper < 0.01


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    """Equal seeds give equal intervals, other seeds others."""
    sample = np.random.default_rng(1).normal(size=50)
    assert bootstrap_mean(sample, seed=3) == bootstrap_mean(sample, seed=3)
    assert bootstrap_mean(sample, seed=3) != bootstrap_mean(sample, seed=4)
