"""A whole run over three small silos with planted dirt; the truth is counted here, without Brownfield's code."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline import run_pipeline
from brownfield.errors import DeclarationError, FormatError, InputRefused, SourceUnavailable, StoreError
from brownfield.integration import load_workspace
from brownfield.store import open_store

WORKSPACE = """
workspace: shop
connections:
  pos: {kind: sqlite, path: legacy/pos.db}
  host: {kind: folder, path: legacy/host}
  promo: {kind: folder, path: legacy/promo}
"""
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  sales: {feed: true, connection: pos, table: sales, cursor: {column: line_id, key: line_id}}
  products:
    lookup: product_id
    chain: [{connection: host, path: PRODUCT.DAT, format: copybook, layout: product.cpy}]
  coupons: {lookup: [coupon, product_id], connection: promo, path: coupons.csv, format: csv, delimiter: ";"}
unified:
  lines:
    from: sales
    join:
      - {source: products, on: product_id, take: [kind]}
      - {source: coupons, on: product_id, exists: has_coupon}
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: reco
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties: [{name: store_id, logicalType: integer, required: true}]
  - name: response
    logicalType: object
    properties: [{name: items, logicalType: array, required: true, items: {logicalType: string}}]
  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: product_id, logicalType: integer, required: true, relationships: [{to: products.product_id}]}
      - {name: quantity, logicalType: integer, required: true, logicalTypeOptions: {exclusiveMinimum: 0}}
      - {name: sold_at, logicalType: timestamp, required: true, logicalTypeOptions: {defaultTimezone: Europe/Berlin}}
      - {name: card, logicalType: string, classification: pii}
    quality:
      - {id: not_fuel, type: custom, engine: brownfield, implementation: {rule: "quantity <= 1000"}}
      - {id: some_rows, type: library, metric: rowCount, mustBeGreaterThan: 0}
  - name: products
    logicalType: object
    properties:
      - {name: product_id, logicalType: integer, primaryKey: true, required: true}
      - name: kind
        logicalType: string
        customProperties: [{property: sentinels, value: [""], vendor: brownfield}]
  - name: coupons
    logicalType: object
    properties:
      - {name: coupon, logicalType: integer, primaryKey: true, primaryKeyPosition: 1, required: true}
      - name: product_id
        logicalType: integer
        primaryKey: true
        primaryKeyPosition: 2
        required: true
        relationships: [{to: products.product_id}]
  - name: lines
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, required: true}
      - {name: product_id, logicalType: integer, required: true}
      - {name: kind, logicalType: string}
      - {name: has_coupon, logicalType: boolean, required: true}
"""
COPYBOOK = "       01  P.\n           05  PRODUCT-ID  PIC 9(5) COMP-3.\n           05  KIND        PIC X(5).\n"
AT = "2026-11-20 10:00:00"
SALES = [
    (1, 10, 2, AT, "c1"),
    (2, 20, 1, AT, "c2"),
    (3, 99, 1, AT, "c3"),  # no such product
    (4, 10, 0, AT, "c4"),  # nothing sold
    (5, 99, 5000, AT, "c5"),  # no such product, and fuel
    (6, 20, 1, "2026-03-29 02:30:00", "c6"),  # an hour that Berlin did not have
    (7, 30, "many", AT, "c7"),  # no number
    (8, 30, 3, AT, None),
]
PRODUCTS = [("00010F", "MILK"), ("00020F", "BREAD"), ("00030F", ""), ("0004A0", "BAD"), ("00010F", "TWICE")]
COUPONS = "coupon;product_id\n1;10\n2;10\n2;10\n3;77\n4;x\n5;30;\n"


@pytest.fixture
def shop(tmp_path):
    """A workspace with three silos of a few records."""
    folder = tmp_path / "shop"
    for name in ("legacy/host", "legacy/promo", "integrations/reco"):
        (folder / name).mkdir(parents=True)
    (folder / "brownfield.yaml").write_text(WORKSPACE)
    (folder / "integrations/reco/integration.yaml").write_text(INTEGRATION)
    (folder / "integrations/reco/contract.odcs.yaml").write_text(CONTRACT)
    (folder / "integrations/reco/product.cpy").write_text(COPYBOOK)
    records = [bytes.fromhex(key) + kind.ljust(5).encode("cp037") for key, kind in PRODUCTS]
    (folder / "legacy/host/PRODUCT.DAT").write_bytes(b"".join(records))
    (folder / "legacy/promo/coupons.csv").write_text(COUPONS)
    with closing(sqlite3.connect(folder / "legacy/pos.db")) as database, database:
        database.execute(
            "CREATE TABLE sales (line_id INTEGER PRIMARY KEY, product_id, quantity, sold_at TEXT, card TEXT)"
        )
        database.executemany("INSERT INTO sales VALUES (?, ?, ?, ?, ?)", SALES)
    return folder


def run(folder: Path, progress=None):
    """One run of the shop's pipeline: the report, and what the store then knows."""
    workspace = load_workspace(folder)
    with open_store(folder / "var" / "brownfield.db") as store:
        report = run_pipeline(
            workspace.integrations["reco"], workspace.connections, store, folder / "var/data/reco", progress
        )
        return report, store.ledger.counts(report.run_id), store.quarantine.select("reco")


def edit(path, old, new):
    """Replace text in a file, which must hold it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_record_is_accepted_or_quarantined_under_its_rule(shop):
    """Counts per source and rule are those of the planted dirt; rows in = accepted + quarantined everywhere."""
    report, counts, entries = run(shop)
    assert {name: (each.rows_in, each.accepted, each.quarantined) for name, each in report.sources.items()} == {
        "products": (5, 3, 2),
        "coupons": (6, 2, 4),
        "sales": (8, 3, 5),
    }
    assert report.sources["products"].by_rule == {"primary_key": 1, "product_id.decode": 1}
    assert report.sources["coupons"].by_rule == {
        "decode": 1,
        "primary_key": 1,
        "product_id.decode": 1,
        "product_id.reference": 1,
    }
    assert report.sources["sales"].by_rule == {
        "not_fuel": 1,
        "product_id.reference": 2,
        "quantity.decode": 1,
        "quantity.range": 1,
        "sold_at.zone": 1,
    }
    assert report.sources["sales"].by_code["BF-RUL-008"] == 2
    assert [(each.source, each.rows_in, each.accepted, each.quarantined) for each in counts] == [
        ("coupons", 6, 2, 4),
        ("lines", 3, 3, 0),
        ("products", 5, 3, 2),
        ("sales", 8, 3, 5),
    ]
    assert len(entries) == 11
    assert json.loads(json.dumps(report.to_dict()))["sources"]["sales"]["quarantined"] == 5


def test_the_unified_table_is_what_plain_sql_makes_of_the_good_rows(shop):
    """Row for row the table equals a join written here, over the records that are good by count."""
    report, _, _ = run(shop)
    good = duckdb.sql("SELECT * FROM (VALUES (1, 10), (2, 20), (8, 30)) AS sales(line_id, product_id)")
    products = duckdb.sql("SELECT * FROM (VALUES (10, 'MILK'), (20, 'BREAD'), (30, NULL)) AS t(product_id, kind)")
    coupons = duckdb.sql("SELECT * FROM (VALUES (1, 10), (2, 10)) AS t(coupon, product_id)")
    joined = good.join(products.set_alias("p"), "product_id", how="left").order("line_id")
    with_coupon = {product for _, product in coupons.fetchall()}
    wanted = [(line, product, kind, product in with_coupon) for line, product, kind in joined.fetchall()]
    assert [tuple(row.values()) for row in pq.read_table(report.tables["lines"].path).to_pylist()] == wanted
    assert report.tables["lines"].rows_in == report.sources["sales"].accepted == 3


def test_a_quarantined_record_can_be_mended(shop):
    """An entry holds the bytes as they came, where they stood, all reasons, and a preview with personal data masked."""
    _, _, entries = run(shop)
    by_place = {(each.source, each.position): each for each in entries}
    packed = by_place["products", "record 4, byte 24"]
    assert (packed.stage, packed.code, packed.field) == ("decode", "BF-DEC-013", "product_id")
    assert packed.raw == bytes.fromhex("0004A0") + "BAD  ".encode("cp037")
    sale = by_place["sales", "line_id=5"]
    assert json.loads(sale.raw)["quantity"] == 5000
    assert sorted(rule for _, _, rule in sale.violations) == ["not_fuel", "product_id.reference"]
    assert sale.preview["card"] != "c5"
    assert sale.preview["quantity"] == "5000"
    assert by_place["coupons", "line 7, byte 42"].raw == b"5;30;"


def test_a_second_run_over_the_same_silos_changes_nothing(shop):
    """The same input gives the same table and the same quarantine entries, each seen twice and kept once."""
    first, _, entries = run(shop)
    table = pq.read_table(first.tables["lines"].path)
    second, counts, again = run(shop)
    assert pq.read_table(second.tables["lines"].path).equals(table)
    assert [each.record_id for each in again] == [each.record_id for each in entries]
    assert {each.attempt for each in again} == {2}
    assert sum(each.rows_in for each in counts) == 5 + 6 + 8 + 3


def test_progress_ends_at_the_number_of_records(shop):
    """The last call for each source says that all of its records are read."""
    told = {}
    run(shop, lambda source, done, total: told.update({source: (done, total)}))
    assert told == {"products": (5, 5), "coupons": (6, 6), "sales": (8, 8)}


BREAKS = [
    pytest.param(
        "legacy/promo/coupons.csv", "coupon;product_id\n1", "coupon;product\n1", FormatError, id="B-40-header"
    ),
    pytest.param(
        "integrations/reco/integration.yaml", "table: sales", "table: sale", DeclarationError, id="B-43-table"
    ),
    pytest.param(
        "integrations/reco/integration.yaml", "path: PRODUCT.DAT", "path: NONE.DAT", SourceUnavailable, id="no-file"
    ),
    pytest.param(
        "integrations/reco/integration.yaml", "exists: has_coupon", "take: [coupon]", DeclarationError, id="not-unique"
    ),
    pytest.param(
        "integrations/reco/contract.odcs.yaml",
        "mustBeGreaterThan: 0",
        "mustBeGreaterThan: 8",
        InputRefused,
        id="row-count",
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "error"), BREAKS)
def test_a_run_that_fails_leaves_everything_as_it_was(shop, file, old, new, error):
    """Table, quarantine and positions stay those of the run before; no working file is left; the ledger says failed."""
    first, _, entries = run(shop)
    table = first.tables["lines"].path.read_bytes()
    edit(shop / file, old, new)
    with pytest.raises(error):
        run(shop)
    assert first.tables["lines"].path.read_bytes() == table
    assert [each.name for each in (shop / "var/data/reco").iterdir()] == ["lines.parquet"]
    with open_store(shop / "var" / "brownfield.db") as store:
        assert [each.attempt for each in store.quarantine.select("reco")] == [1] * len(entries)
        assert [each.status for each in store.ledger.runs("reco")][:1] == ["failed"]


def test_two_runs_at_once_do_not_both_count(shop):
    """A run whose source was moved on meanwhile is rolled back whole."""
    workspace = load_workspace(shop)
    with open_store(shop / "var" / "brownfield.db") as store:
        moved = []

        def meanwhile(source, done, total):
            if not moved:
                moved.append(source)
                store.ledger.advance("reco", "sales", {"after": [1]}, previous=None)

        with pytest.raises(StoreError, match="another run"):
            run_pipeline(
                workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco", meanwhile
            )
        assert store.quarantine.select("reco") == []
    assert list((shop / "var/data/reco").iterdir()) == []


def test_sources_that_need_each_other_in_a_circle_are_refused(shop):
    """References that run in a circle have no order of reading."""
    key = "{name: product_id, logicalType: integer, primaryKey: true, required: true"
    reference = ", relationships: [{to: sales.product_id}]"
    edit(shop / "integrations/reco/contract.odcs.yaml", key + "}", key + reference + "}")
    with pytest.raises(DeclarationError, match="circle"):
        run(shop)
