"""Intervals for quantiles, shares and means that assume nothing of how the numbers are distributed.

In: a sample. Out: an :class:`Interval`. A bound that a sample of this size cannot give is infinite, never invented.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "bootstrap_mean", "proportion_interval", "quantile_interval"]

Numbers: TypeAlias = Sequence[float] | npt.NDArray[Any]


class Interval(NamedTuple):
    """A point estimate with its lower and upper bound, all in the unit of the sample."""

    value: float
    lower: float
    upper: float


def quantile_interval(sample: Numbers, quantile: float, confidence: float = 0.95) -> Interval:
    """Quantile of a sample, with bounds that are order statistics of it.

    Parameters
    ----------
    sample
        Independent numbers, at least one.
    quantile
        In (0, 1).
    confidence
        Least coverage of the interval, in (0, 1); each side has half of the rest.

    Returns
    -------
    Interval
        A bound is infinite where the sample is too small for it: the upper bound of a 99th percentile at 95 %
        takes 368 numbers.

    Examples
    --------
    >>> quantile_interval(range(1, 101), 0.5)
    Interval(value=50.0, lower=40.0, upper=61.0)
    >>> quantile_interval(range(1, 101), 0.99).upper
    inf

    References
    ----------
    David and Nagaraja, *Order Statistics*, 3rd edition, Wiley, 2003, section 7.1.
    """
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    count = len(ordered)
    if not count:
        raise ValueError("a quantile of nothing")
    below = _binomial_cdf(count, quantile)
    tail = (1 - confidence) / 2
    lower_rank = int(np.searchsorted(below, tail, side="right"))
    upper_rank = int(np.searchsorted(below[:-1], 1 - tail)) + 1
    return Interval(
        float(ordered[min(count, max(1, ceil(count * quantile - 1e-9))) - 1]),
        float(ordered[lower_rank - 1]) if lower_rank else -np.inf,
        float(ordered[upper_rank - 1]) if upper_rank <= count else np.inf,
    )


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact (Clopper-Pearson) interval of a share: none seen in few trials is not the same as none.

    Parameters
    ----------
    successes, trials
        ``0 <= successes <= trials``, ``trials >= 1``.
    confidence
        Least coverage, in (0, 1).

    Examples
    --------
    >>> [round(bound, 4) for bound in proportion_interval(0, 100)]
    [0.0, 0.0, 0.0362]

    References
    ----------
    Clopper and Pearson, *Biometrika* 26, 1934.
    """
    if not 0 <= successes <= trials or not trials:
        raise ValueError("more successes than trials")
    tail = (1 - confidence) / 2
    # P(at least `successes` | p) grows with p, P(at most `successes` | p) falls with it.
    lower = _crossing(lambda p: 1 - _below(successes - 1, trials, p) < tail) if successes else 0.0
    upper = _crossing(lambda p: _below(successes, trials, p) > tail) if successes < trials else 1.0
    return Interval(successes / trials, lower, upper)


def bootstrap_mean(sample: Numbers, *, seed: int, confidence: float = 0.95, draws: int = 2000) -> Interval:
    """Mean of a sample with its percentile bootstrap interval; the same for the same seed.

    Parameters
    ----------
    sample
        Independent numbers, at least one.
    seed
        Of the draws.
    confidence
        Nominal coverage, in (0, 1).
    draws
        Samples drawn with replacement.

    Examples
    --------
    >>> bootstrap_mean([1.0, 1.0, 1.0], seed=1)
    Interval(value=1.0, lower=1.0, upper=1.0)

    References
    ----------
    Efron and Tibshirani, *An Introduction to the Bootstrap*, Chapman and Hall, 1993.
    """
    values = np.asarray(sample, dtype=np.float64)
    random = np.random.default_rng(seed)
    means = np.array([values[random.integers(len(values), size=len(values))].mean() for _ in range(draws)])
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(means, (tail, 1 - tail))
    return Interval(float(values.mean()), float(lower), float(upper))


def _binomial_cdf(trials: int, share: float) -> npt.NDArray[np.float64]:
    """P(at most k) for k = 0 to ``trials``."""
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, trials + 1)))))
    counts = np.arange(trials + 1)
    logs = log_factorial[-1] - log_factorial - log_factorial[::-1]
    logs = logs + counts * np.log(share) + (trials - counts) * np.log1p(-share)
    return np.asarray(np.minimum(1.0, np.cumsum(np.exp(logs))))


def _below(count: int, trials: int, share: float) -> float:
    return float(_binomial_cdf(trials, share)[count])


def _crossing(too_small: Any) -> float:
    """Share at which a predicate that holds for small shares stops to hold, by bisection."""
    low, high = 1e-12, 1 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return high
