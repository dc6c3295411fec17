"""A whole run over three small silos with planted dirt; the truth is counted here, without Brownfield's code."""

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline import Custody, run_pipeline
from brownfield.errors import (
    DeclarationError,
    FormatError,
    InputRefused,
    RunPaused,
    SourceChanged,
    SourceUnavailable,
    StoreError,
    Unavailable,
)
from brownfield.integration import load_workspace
from brownfield.security import EncryptionKey, Keyring, Secret
from brownfield.store import open_store
from harness.shop import head

pytestmark = pytest.mark.full

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
CONTRACT = (
    head()
    + """  - name: sales
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
)
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


def run(folder: Path, progress=None, **options):
    """One run of the shop's pipeline: the report, and what the store then knows."""
    workspace = load_workspace(folder)
    with open_store(folder / "var" / "brownfield.db") as store:
        report = run_pipeline(
            workspace.integrations["reco"],
            workspace.connections,
            store,
            folder / "var/data/reco",
            progress,
            **options,
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
    """An entry holds the bytes as they came, where they stood, all reasons, and a preview without personal data."""
    custody = Custody(Keyring([EncryptionKey(Secret(base64.b64encode(bytes(32)).decode()))]))
    _, _, entries = run(shop, custody=custody)
    by_place = {(each.source, each.position): each for each in entries}
    packed = by_place["products", "record 4, byte 24"]
    assert (packed.stage, packed.code, packed.field) == ("decode", "BF-DEC-013", "product_id")
    assert packed.raw == bytes.fromhex("0004A0") + "BAD  ".encode("cp037")
    sale = by_place["sales", "line_id=5"]
    assert json.loads(custody.opened(sale))["quantity"] == 5000
    assert sorted(rule for _, _, rule in sale.violations) == ["not_fuel", "product_id.reference"]
    assert (sale.preview["card"], sale.preview["quantity"]) == ("x9", "9999")
    assert by_place["coupons", "line 7, byte 42"].raw == b"5;30;"


def files(shop):
    """Every file below the tables' folder but the lock."""
    return sorted(path for path in (shop / "var/data/reco").rglob("*") if path.is_file() and path.name != ".lock")


def test_a_second_run_over_the_same_silos_changes_nothing(shop):
    """With nothing new no table changes, no feed counts, and what lookups refuse again is kept once."""
    first, _, entries = run(shop)
    before = {path: path.read_bytes() for path in files(shop)}
    second, counts, again = run(shop)
    assert {path: path.read_bytes() for path in files(shop)} == before
    assert second.tables["lines"].rows_total == first.tables["lines"].rows_total == 3
    assert [each.record_id for each in again] == [each.record_id for each in entries]
    assert {each.attempt for each in again if each.source == "sales"} == {1}
    assert {each.source: each.rows_in for each in counts} == {"coupons": 6, "lines": 0, "products": 5, "sales": 0}


def sell(shop, *rows):
    """New lines at the till."""
    with closing(sqlite3.connect(shop / "legacy/pos.db")) as database, database:
        database.executemany("INSERT INTO sales VALUES (?, ?, ?, ?, ?)", rows)


def lines(shop):
    """The unified table, read as anyone would."""
    return pq.read_table(shop / "var/data/reco/lines").sort_by("line_id").to_pylist()


def test_a_run_goes_on_where_the_last_one_stopped(shop):
    """Only new lines are read; joined with today's lookups they lie in a part of their own, and the old ones stay."""
    run(shop)
    [old] = (shop / "var/data/reco/lines").glob("*.parquet")
    content = old.read_bytes()
    sell(shop, (9, 20, 2, AT, "c9"), (10, 20, -1, AT, "c10"))
    edit(shop / "legacy/promo/coupons.csv", "1;10\n", "1;10\n9;20\n")
    report, _, entries = run(shop)
    sales = report.sources["sales"]
    assert (sales.rows_in, sales.accepted, sales.quarantined) == (2, 1, 1)
    assert (report.tables["lines"].rows_in, report.tables["lines"].rows_total) == (1, 4)
    assert old.read_bytes() == content
    assert [(row["line_id"], row["kind"], row["has_coupon"]) for row in lines(shop)] == [
        (1, "MILK", True),
        (2, "BREAD", False),
        (8, None, False),
        (9, "BREAD", True),
    ]
    assert len([each for each in entries if each.source == "sales"]) == 6
    assert len(list((shop / "var/data/reco/lines").glob("*.parquet"))) == 2


def test_a_rebuild_makes_the_tables_anew(shop):
    """Read from the beginning, the old lines know today's lookups, and the quarantine holds each record once."""
    run(shop)
    sell(shop, (9, 20, 2, AT, "c9"))
    run(shop)
    edit(shop / "legacy/promo/coupons.csv", "1;10\n", "1;10\n9;20\n")
    report, _, entries = run(shop, rebuild=True)
    assert report.sources["sales"].rows_in == 9
    assert [(row["line_id"], row["has_coupon"]) for row in lines(shop)] == [(1, True), (2, True), (8, False), (9, True)]
    assert len(list((shop / "var/data/reco/lines").glob("*.parquet"))) == 1
    assert len([each for each in entries if each.source == "sales"]) == 5


def test_a_lookup_that_was_mended_closes_its_quarantine(shop):
    """A lookup is pulled whole: what the newest pull no longer refuses is fixed, the rest stays open."""
    run(shop)
    (shop / "legacy/promo/coupons.csv").write_text("coupon;product_id\n1;10\n3;77\n")
    _, _, entries = run(shop)
    states = sorted(str(each.state) for each in entries if each.source == "coupons")
    assert states == ["fixed"] * 4 + ["open"]


KEYED = "{name: card, logicalType: string, classification: pii, unique: true}"


def test_f_48_a_key_that_came_in_an_earlier_run_is_refused(shop):
    """F-48: a unique field that is not the cursor is remembered over runs."""
    edit(shop / "integrations/reco/contract.odcs.yaml", "{name: card, logicalType: string, classification: pii}", KEYED)
    run(shop)
    sell(shop, (9, 20, 2, AT, "c1"), (10, 20, 2, AT, "c10"))
    report, _, _ = run(shop)
    assert report.sources["sales"].by_rule == {"card.unique": 1}
    assert [row["line_id"] for row in lines(shop)] == [1, 2, 8, 10]


def as_file(shop):
    """The sales as a file that is delivered again and again."""
    edit(
        shop / "integrations/reco/integration.yaml",
        "connection: pos, table: sales, cursor: {column: line_id, key: line_id}}",
        "connection: promo, path: sales.csv, format: csv}",
    )


def deliver(shop, *rows):
    """Put a file of sales in place of the one before."""
    text = "".join(f"{line},{product},1,{AT},c\n" for line, product in rows)
    (shop / "legacy/promo/sales.csv").write_text(f"line_id,product_id,quantity,sold_at,card\n{text}")


def test_a_file_that_is_delivered_again_is_read_once(shop):
    """A feed's file is known by its content: a new one adds its rows, one that was there before adds none."""
    as_file(shop)
    read = []
    for rows in ([(1, 10)], [(2, 20), (3, 10)], [(1, 10)], [(1, 10)]):
        deliver(shop, *rows)
        report, _, _ = run(shop)
        read.append(report.sources["sales"].rows_in)
    assert read == [1, 2, 0, 0]
    assert [row["line_id"] for row in lines(shop)] == [1, 2, 3]


def test_a_table_that_has_other_columns_now_is_not_mixed(shop):
    """When the contract of a table changes, the run stops and says how to make it anew; a rebuild does."""
    run(shop)
    edit(
        shop / "integrations/reco/contract.odcs.yaml",
        "      - {name: has_coupon",
        "      - {name: quantity, logicalType: integer, required: true}\n      - {name: has_coupon",
    )
    with pytest.raises(DeclarationError, match="rebuild"):
        run(shop)
    run(shop, rebuild=True)
    assert [row["quantity"] for row in lines(shop)] == [2, 1, 3]


def test_a_part_that_is_not_listed_is_removed_and_a_hidden_one_is_finished(shop):
    """What a killed run left is no part of the table; what was listed before the kill gets its name."""
    run(shop)
    [part] = (shop / "var/data/reco/lines").glob("*.parquet")
    rows = lines(shop)
    (part.parent / "000001-dead.parquet").write_bytes(part.read_bytes())
    (part.parent / ".000002-dead.parquet.part").write_bytes(b"half")
    part.rename(part.parent / f".{part.name}.part")
    run(shop)
    assert sorted(part.parent.iterdir()) == [part.parent / ".parts", part]
    assert lines(shop) == rows


def test_f61_a_part_that_is_gone_stops_the_run(shop):
    """F-61: a table of which a part was deleted is not added to; a rebuild makes it whole."""
    run(shop)
    rows = lines(shop)
    next((shop / "var/data/reco/lines").glob("*.parquet")).unlink()
    with pytest.raises(StoreError, match="gone"):
        run(shop)
    run(shop, rebuild=True)
    assert lines(shop) == rows


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
    _, _, entries = run(shop)
    before = {path: path.read_bytes() for path in files(shop)}
    edit(shop / file, old, new)
    with pytest.raises(error):
        run(shop)
    assert {path: path.read_bytes() for path in files(shop)} == before
    with open_store(shop / "var" / "brownfield.db") as store:
        assert [each.attempt for each in store.quarantine.select("reco")] == [1] * len(entries)
        assert [each.status for each in store.ledger.runs("reco")][:1] == ["failed"]


SHAPES = [
    pytest.param("ALTER TABLE sales RENAME COLUMN card TO customer", "card.*no such field any more", id="renamed"),
    pytest.param("ALTER TABLE sales DROP COLUMN card", "card.*no such field any more", id="dropped"),
]


@pytest.mark.parametrize(("statement", "message"), SHAPES)
def test_f_46_a_table_that_changed_stops_before_the_first_row(shop, statement, message):
    """F-46: the message names the column, what it was and what it is; nothing is read."""
    run(shop)
    rows = lines(shop)
    sell(shop, (9, 20, 2, AT, "c9"))
    with closing(sqlite3.connect(shop / "legacy/pos.db")) as database, database:
        database.execute(statement)
    with pytest.raises(SourceChanged, match=message):
        run(shop)
    assert lines(shop) == rows


def test_f_46_a_column_of_another_type_is_told_and_may_be_accepted(shop):
    """F-46: what was and what is stand in the message; a person may let one run go on, and the audit log says so."""
    run(shop)
    with closing(sqlite3.connect(shop / "legacy/pos.db")) as database, database:
        database.execute("ALTER TABLE sales RENAME TO old")
        database.execute("CREATE TABLE sales (line_id INTEGER PRIMARY KEY, product_id, quantity, sold_at, card BLOB)")
        database.execute("INSERT INTO sales SELECT * FROM old")
    sell(shop, (9, 20, 2, AT, "c9"))
    with pytest.raises(SourceChanged, match=r"sold_at: expected TEXT, as in the run before, got without type"):
        run(shop)
    report, _, _ = run(shop, accept=["shape"])
    assert report.sources["sales"].accepted_guards["shape"].startswith("sold_at: was TEXT")
    assert run(shop)[0].sources["sales"].rows_in == 0
    with open_store(shop / "var" / "brownfield.db") as store:
        [entry] = store.audit.entries()
    assert (entry.action, entry.subject) == ("pipeline.accept", "reco.sales")


def test_f_46_a_copybook_that_changed_is_told(shop):
    """F-46: a wider field moves all behind it; the run stops with the old and the new place."""
    run(shop)
    edit(shop / "integrations/reco/product.cpy", "9(5) COMP-3", "9(7) COMP-3")
    with pytest.raises(SourceChanged, match=r"product_id: expected packed 3 bytes at 0.*got packed 4 bytes at 0"):
        run(shop)


def test_f_47_a_lookup_that_shrank_is_not_taken(shop):
    """F-47: fewer records than the share admits pause the run; a person may accept it for one run."""
    edit(shop / "integrations/reco/integration.yaml", "connection: promo,", "max_drop_percent: 20, connection: promo,")
    run(shop)
    (shop / "legacy/promo/coupons.csv").write_text("coupon;product_id\n1;10\n2;10\n3;10\n")
    with pytest.raises(RunPaused, match="3 records, 6 the last time; at most 20 % fewer"):
        run(shop)
    assert run(shop, accept=["volume"])[0].sources["coupons"].rows_in == 3
    assert run(shop)[0].sources["coupons"].rows_in == 3


def test_f_57_too_many_refused_records_pause_the_run(shop):
    """F-57: above the declared share nothing is kept; at the share the run goes on."""
    edit(
        shop / "integrations/reco/integration.yaml",
        "sales: {feed: true,",
        "sales: {feed: true, max_refused_percent: 60,",
    )
    with pytest.raises(RunPaused, match="5 of 8 records refused; at most 60 %"):
        run(shop)
    assert lines_or_none(shop) is None
    edit(shop / "integrations/reco/integration.yaml", "max_refused_percent: 60", "max_refused_percent: 62.5")
    assert run(shop)[0].sources["sales"].accepted == 3


def lines_or_none(shop):
    """The unified table, or None where there is none yet."""
    return lines(shop) if list((shop / "var/data/reco/lines").glob("*.parquet")) else None


def test_f_57_no_refused_record_is_tolerated_where_that_is_declared(shop):
    """F-57: with tolerance none a single refused record pauses the run."""
    edit(shop / "integrations/reco/integration.yaml", "sales: {feed: true,", "sales: {feed: true, tolerance: none,")
    with pytest.raises(RunPaused, match="none is tolerated"):
        run(shop)


def test_f_57_a_feed_out_of_reach_waits_for_the_next_run(shop):
    """With tolerance all the other sources are read, the report says why this one was not, and nothing is lost."""
    edit(shop / "integrations/reco/integration.yaml", "sales: {feed: true,", "sales: {feed: true, tolerance: all,")
    edit(shop / "integrations/reco/contract.odcs.yaml", "mustBeGreaterThan: 0", "mustBeGreaterThan: -1")
    (shop / "legacy/pos.db").rename(shop / "legacy/pos.away")
    report, _, _ = run(shop)
    assert "no such file" in report.sources["sales"].unavailable
    assert (report.sources["coupons"].rows_in, report.sources["sales"].rows_in) == (6, 0)
    (shop / "legacy/pos.away").rename(shop / "legacy/pos.db")
    assert run(shop)[0].sources["sales"].rows_in == 8
    assert [row["line_id"] for row in lines(shop)] == [1, 2, 8]


def test_f41_two_runs_at_once_do_not_both_count(shop):
    """F-41: a run whose source was moved on meanwhile is rolled back whole, and the next leaves nothing of it."""
    workspace = load_workspace(shop)
    output = shop / "var/data/reco"
    with open_store(shop / "var" / "brownfield.db") as store:
        moved = []

        def meanwhile(source, done, total):
            if not moved:
                moved.append(source)
                store.ledger.advance("reco", "sales", {"after": [2]}, previous=None)

        with pytest.raises(StoreError, match="another run"):
            run_pipeline(workspace.integrations["reco"], workspace.connections, store, output, meanwhile)
        assert store.quarantine.select("reco") == []
        assert store.parts.listed("reco") == {}
    assert list(output.rglob("*.parquet")) == []


def test_tables_are_written_by_one_run_at_a_time(shop):
    """A second run is refused while the first is under way."""
    with pytest.raises(Unavailable, match="another run"):
        run(shop, lambda *_: run(shop))


def test_sources_that_need_each_other_in_a_circle_are_refused(shop):
    """References that run in a circle have no order of reading."""
    key = "{name: product_id, logicalType: integer, primaryKey: true, required: true"
    reference = ", relationships: [{to: sales.product_id}]"
    edit(shop / "integrations/reco/contract.odcs.yaml", key + "}", key + reference + "}")
    with pytest.raises(DeclarationError, match="circle"):
        run(shop)
