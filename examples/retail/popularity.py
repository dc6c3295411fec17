"""What sells most, over all stores and by store: the baselines of the model, and the fallback table of the till.

In: baskets of the training weeks. Out: rankings, and ``popular_by_store.csv`` (written at run time, never committed).
"""

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from baskets import LAST_TRAINING_WEEK, SUGGESTIONS, Baskets, read_baskets

__all__ = ["Popularity", "write_popular_by_store"]

PRIOR_BASKETS = 50
"""Weight of the whole chain in the ranking of one store, in baskets: a store with few baskets ranks like the chain."""


class Popularity:
    """How often each product type is bought, in the chain and in each store.

    Parameters
    ----------
    baskets
        Of the training weeks.
    """

    def __init__(self, baskets: Baskets) -> None:
        self.chain: Counter[str] = Counter()
        self.stores: dict[int, Counter[str]] = {}
        self.baskets: Counter[int] = Counter(baskets.store_id.tolist())
        for store, items in zip(baskets.store_id.tolist(), baskets.items, strict=True):
            self.chain.update(items)
            self.stores.setdefault(store, Counter()).update(items)
        self._chain_ranking = _ranked({item: float(count) for item, count in self.chain.items()})
        self._rankings: dict[int, list[tuple[str, float]]] = {}

    def ranking(self, store: int | None = None) -> list[tuple[str, float]]:
        """Product types, most popular first, with the share of baskets that hold them.

        Parameters
        ----------
        store
            Of this store, drawn towards the chain; ``None`` or an unknown store gives the chain's own.
        """
        total = self.baskets.total()
        if store not in self.stores:
            return [(item, count / total) for item, count in self._chain_ranking]
        if store not in self._rankings:
            own, size = self.stores[store], self.baskets[store] + PRIOR_BASKETS
            self._rankings[store] = _ranked(
                {item: (own[item] + PRIOR_BASKETS * count / total) / size for item, count in self.chain.items()}
            )
        return self._rankings[store]

    def suggest(self, items: Sequence[str], store: int | None = None) -> list[str]:
        """Return the ten most popular product types that are not in the basket."""
        there = set(items)
        head = self.ranking(store)[: SUGGESTIONS + len(there)]
        return [item for item, _share in head if item not in there][:SUGGESTIONS]


def _ranked(shares: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))


def write_popular_by_store(unified: Path, table: Path, last_week: int = LAST_TRAINING_WEEK) -> int:
    """Write the fallback table: ten product types for each store, with the share of its baskets that hold them.

    Parameters
    ----------
    unified
        The Parquet file or folder of ``basket_lines``.
    table
        CSV to be written; columns ``store_id``, ``items`` and ``scores``, lists joined by ``|``.
    last_week
        Last week that counts.

    Returns
    -------
    int
        Number of stores.
    """
    popularity = Popularity(read_baskets(unified, last_week=last_week))
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["store_id", "items", "scores"])
        for store in sorted(popularity.stores):
            head = popularity.ranking(store)[:SUGGESTIONS]
            writer.writerow(
                [store, "|".join(item for item, _share in head), "|".join(f"{share:.6f}" for _item, share in head)]
            )
    return len(popularity.stores)


def main() -> None:
    """Write the table from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("unified", type=Path, help="Parquet file or folder of basket_lines")
    parser.add_argument("table", type=Path, help="CSV to be written, such as popular_by_store.csv")
    options = parser.parse_args()
    print(f"{write_popular_by_store(options.unified, options.table)} stores")


if __name__ == "__main__":
    main()
