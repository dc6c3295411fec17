"""Baskets from the unified table, and how well suggestions for them do.

In: the Parquet of ``basket_lines``. Out: baskets as sets of product types, requests with half of a basket hidden, and
recall@10 with its interval. The split is by time: weeks up to 46 teach, weeks 47 to 53 test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

__all__ = [
    "FIRST_WEEK",
    "LAST_TRAINING_WEEK",
    "LAST_WEEK",
    "MIN_TEST_ITEMS",
    "SUGGESTIONS",
    "Baskets",
    "bootstrap_interval",
    "held_out_requests",
    "hide_half",
    "read_baskets",
    "recall_at_10",
    "recalls_at_10",
]

FIRST_WEEK, LAST_TRAINING_WEEK, LAST_WEEK = 1, 46, 53
MIN_TEST_ITEMS = 4
"""Fewest product types of a basket that is tested: two are shown, two are hidden."""

SUGGESTIONS = 10


@dataclass(frozen=True, slots=True)
class Baskets:
    """Baskets in the order of their identifiers.

    Parameters
    ----------
    basket_id, store_id
        Integers, shape ``(n,)``.
    items
        The distinct product types of each basket, sorted.
    """

    basket_id: npt.NDArray[np.int64]
    store_id: npt.NDArray[np.int64]
    items: list[list[str]]

    def __len__(self) -> int:
        return len(self.items)


def read_baskets(
    unified: Path,
    *,
    first_week: int = FIRST_WEEK,
    last_week: int = LAST_WEEK,
    stores: Sequence[int] | None = None,
    min_items: int = 1,
) -> Baskets:
    """Gather the lines of the unified table into baskets; lines without a product type are left out.

    Parameters
    ----------
    unified
        The Parquet file of ``basket_lines``, or a folder of such files.
    first_week, last_week
        Both included.
    stores
        Only these stores; ``None`` takes all.
    min_items
        Fewest distinct product types of a basket.
    """
    files = str(unified / "*.parquet") if unified.is_dir() else str(unified)
    wanted = "TRUE" if stores is None else "list_contains($stores, store_id)"
    query = f"""
        SELECT basket_id, min(store_id) AS store_id, list(DISTINCT product_type ORDER BY product_type) AS items
        FROM read_parquet($files)
        WHERE product_type IS NOT NULL AND week BETWEEN $first AND $last AND {wanted}
        GROUP BY basket_id
        HAVING count(DISTINCT product_type) >= $min_items
        ORDER BY basket_id
    """  # noqa: S608 (no outside text in it)
    parameters: dict[str, Any] = {"files": files, "first": first_week, "last": last_week, "min_items": min_items}
    if stores is not None:
        parameters["stores"] = list(stores)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        table = database.sql(query, params=parameters).to_arrow_table()
    return Baskets(table["basket_id"].to_numpy(), table["store_id"].to_numpy(), table["items"].to_pylist())


def hide_half(items: Sequence[str], seed: int, basket_id: int) -> tuple[list[str], list[str]]:
    """Split a basket at random into what is shown and what is hidden; the same seed and basket give the same split.

    Returns
    -------
    tuple
        Items shown (the larger half) and items hidden.

    Examples
    --------
    >>> shown, hidden = hide_half(["bread", "eggs", "milk"], seed=0, basket_id=7)
    >>> len(shown), len(hidden), sorted(shown + hidden)
    (2, 1, ['bread', 'eggs', 'milk'])
    """
    order = np.random.default_rng([seed, basket_id]).permutation(len(items))
    shuffled = [items[position] for position in order]
    hidden = len(items) // 2
    return shuffled[hidden:], shuffled[:hidden]


def held_out_requests(
    unified_parquet: Path, stores: Sequence[int] | None = None, limit: int | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Make requests of the baskets of the held-out weeks, half of each hidden, grouped by store.

    Parameters
    ----------
    unified_parquet
        As for :func:`read_baskets`.
    stores
        Only these, in this order; ``None`` takes all, in the order of their numbers.
    limit
        At most so many requests of each store, drawn at random.
    seed
        Of the draw and of the hiding.

    Returns
    -------
    list of dict
        ``store_id``, ``items`` (shown) and ``truth`` (hidden).
    """
    baskets = read_baskets(unified_parquet, first_week=LAST_TRAINING_WEEK + 1, stores=stores, min_items=MIN_TEST_ITEMS)
    requests = []
    for store in np.unique(baskets.store_id).tolist() if stores is None else stores:
        (members,) = np.nonzero(baskets.store_id == store)
        if limit is not None and limit < len(members):
            members = np.sort(np.random.default_rng([seed, store]).choice(members, limit, replace=False))
        for member in members.tolist():
            shown, hidden = hide_half(baskets.items[member], seed, int(baskets.basket_id[member]))
            requests.append({"store_id": int(store), "items": shown, "truth": hidden})
    return requests


def recalls_at_10(answers: Sequence[Sequence[str]], truths: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
    """Share of the hidden items among the first ten suggestions, per request.

    Parameters
    ----------
    answers
        Suggestions, best first.
    truths
        Hidden items, at least one each.

    Returns
    -------
    numpy.ndarray
        In ``[0, 1]``, shape ``(n,)``.

    Examples
    --------
    >>> recalls_at_10([["milk", "eggs"], []], [["eggs", "tea"], ["tea"]]).tolist()
    [0.5, 0.0]
    """
    pairs = zip(answers, truths, strict=True)
    return np.array([len(set(answer[:SUGGESTIONS]) & set(truth)) / len(truth) for answer, truth in pairs])


def recall_at_10(answers: Sequence[Sequence[str]], truths: Sequence[Sequence[str]]) -> float:
    """Mean of :func:`recalls_at_10`; NaN without requests.

    Examples
    --------
    >>> recall_at_10([["milk", "eggs"], []], [["eggs", "tea"], ["tea"]])
    0.25
    """
    return float(recalls_at_10(answers, truths).mean()) if len(truths) else float("nan")


def bootstrap_interval(
    values: Mapping[str, npt.NDArray[np.float64]],
    clusters: npt.NDArray[np.int64],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of means, whole clusters drawn at random with replacement (the same draws for every name).

    Parameters
    ----------
    values
        One value per request by name, shape ``(n,)`` each.
    clusters
        Store of each request, shape ``(n,)``: baskets of one store are alike, so the stores are what is resampled.
    seed, resamples
        Of the bootstrap.

    Returns
    -------
    dict
        Lower and upper bound by name.

    References
    ----------
    Cameron, Gelbach, Miller, *Bootstrap-based improvements for inference with clustered errors*, 2008.
    """
    _, member_of = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(member_of)
    drawn = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=resamples)
    intervals = {}
    for name, column in values.items():
        means = drawn @ np.bincount(member_of, weights=column) / (drawn @ sizes)
        low, high = np.quantile(means, [0.025, 0.975])
        intervals[name] = (float(low), float(high))
    return intervals
