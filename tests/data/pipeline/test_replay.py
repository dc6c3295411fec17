"""Refused records are tried again under the contract of today, and each has at most one effect."""

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline import discard_quarantined, replay_quarantined, run_pipeline
from brownfield.errors import DeclarationError, Unavailable
from brownfield.integration import load_workspace
from brownfield.store import Selection, open_store
from harness.shop import WORKSPACE, contract, declare, fill

pytestmark = pytest.mark.full

TABLE = "connection: pos, table: sales, cursor: {column: line_id, key: line_id}"
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  sales: {feed: true, PLACE}
  products: {lookup: product_id, connection: drop, path: products.csv, format: csv}
unified:
  lines: {from: sales, join: [{source: products, on: product_id, take: [kind]}]}
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = contract(
    """
{name: price, logicalType: number, required: true, logicalTypeOptions: {maximum: 10}}
{name: sold_at, logicalType: timestamp, required: true, logicalTypeOptions: {defaultTimezone: Europe/Berlin}}
""",
    """
{name: price, logicalType: number, required: true}
{name: sold_at, logicalType: timestamp, required: true}
""",
)
AT = "2026-11-20 10:00:00"
SALES = [(1, 1, 2.5, AT), (2, 1, 50, AT), (3, 7, 1, AT), (4, 1, "dear", AT), (5, 1, 20, AT), (6, 7, 99, AT)]


@pytest.fixture
def shop(tmp_path):
    """Six lines, of which two are too dear, one is of an unknown product, one is both, and one is no number."""
    declare(tmp_path, WORKSPACE, INTEGRATION.replace("PLACE", TABLE), CONTRACT)
    fill(tmp_path, "1,MILK\n", ("product_id", "price", "sold_at"), SALES)
    return tmp_path


def on_store(shop, work):
    """Do something with the shop's integration and store."""
    workspace = load_workspace(shop)
    with open_store(shop / "var/brownfield.db") as store:
        return work(workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco")


def run(shop):
    """One run."""
    return on_store(shop, run_pipeline)


def replay(shop, source="sales", **options):
    """One replay."""
    own = {name: options.pop(name) for name in ("apply", "actor", "custody") if name in options}
    wanted = Selection(**options)
    return on_store(shop, lambda *parts: replay_quarantined(*parts, source=source, wanted=wanted, **own))


def states(shop):
    """State and attempts of each refused line."""
    found = on_store(shop, lambda _i, _c, store, _o: store.quarantine.select("reco", Selection(source="sales")))
    return {each.position: (str(each.state), each.attempt) for each in found}


def lines(shop):
    """The unified table."""
    return pq.read_table(shop / "var/data/reco/lines").sort_by("line_id").to_pylist()


def mend(shop):
    """Allow a higher price, and learn of the product."""
    contract = shop / "integrations/reco/contract.odcs.yaml"
    contract.write_text(contract.read_text().replace("maximum: 10}", "maximum: 60}"))
    (shop / "drop/products.csv").write_text("product_id,kind\n1,MILK\n7,BREAD\n")


def snapshot(shop):
    """Files of the tables, quarantine, and runs."""
    files = {path: path.read_bytes() for path in (shop / "var/data/reco").rglob("*.parquet")}
    return files, states(shop), on_store(shop, lambda _i, _c, store, _o: store.ledger.runs("reco"))


def test_f_58_a_dry_run_says_what_would_happen_and_changes_nothing(shop):
    """F-58: the counts are those of the replay that follows; files, quarantine, ledger and audit log stay."""
    run(shop)
    mend(shop)
    before = snapshot(shop)
    dry = replay(shop)
    assert (dry.applied, dry.selected, dry.accepted, dry.still_bad) == (False, 5, 3, 2)
    assert dry.by_rule == {"price.decode": 1, "price.range": 1}
    assert snapshot(shop) == before


def test_f_58_what_is_good_now_is_brought_in_once(shop):
    """F-58: accepted lines join the table, those refused again stay open, a second replay finds them applied."""
    run(shop)
    mend(shop)
    done = replay(shop, apply=True, actor="ada")
    assert (done.applied, done.selected, done.accepted, done.still_bad, done.already_applied) == (True, 5, 3, 2, 0)
    assert [(row["line_id"], row["kind"]) for row in lines(shop)] == [
        (1, "MILK"),
        (2, "MILK"),
        (3, "BREAD"),
        (5, "MILK"),
    ]
    assert lines(shop)[1]["sold_at"] == lines(shop)[0]["sold_at"]
    assert states(shop) == {
        "line_id=2": ("replayed", 1),
        "line_id=3": ("replayed", 1),
        "line_id=4": ("open", 2),
        "line_id=5": ("replayed", 1),
        "line_id=6": ("open", 2),
    }
    again = replay(shop, apply=True)
    assert (again.selected, again.accepted, again.still_bad, again.already_applied) == (2, 0, 2, 3)
    assert len(lines(shop)) == 4
    assert run(shop).sources["sales"].rows_in == 0
    entries = on_store(shop, lambda _i, _c, store, _o: store.audit.entries())
    assert [(each.actor, each.action, each.subject) for each in entries][:1] == [
        ("ada", "quarantine.replay", "reco.sales")
    ]


def test_records_are_selected_by_code_and_age(shop):
    """Records with the code among their reasons, first or not, and only those that are old enough, are tried."""
    run(shop)
    mend(shop)
    assert replay(shop, code="BF-RUL-008").selected == 2
    assert replay(shop, code="BF-RUL-001").selected == 3
    assert replay(shop, rule="product_id.reference").selected == 2
    assert replay(shop, contract="reco@1.0.0").selected == 5
    assert replay(shop, contract="reco@0.9.0").selected == 0
    assert replay(shop, seen_until_utc=datetime.now(UTC) - timedelta(hours=1)).selected == 0
    assert replay(shop, seen_from_utc=datetime.now(UTC) - timedelta(hours=1)).selected == 5


def test_discarded_records_are_closed_and_never_tried_again(shop):
    """A dry run only counts them; afterwards a replay does not find them, and the audit log says who closed them."""
    run(shop)

    def discard(**options):
        return on_store(
            shop,
            lambda spec, _c, store, _o: discard_quarantined(
                spec, store, source="sales", wanted=Selection(code="BF-RUL-001"), **options
            ),
        )

    assert discard().discarded == 3
    assert {state for state, _ in states(shop).values()} == {"open"}
    assert discard(apply=True).discarded == 3
    mend(shop)
    assert replay(shop).selected == 2


def test_only_feeds_are_replayed(shop):
    """A lookup is pulled whole anyway, and the message says so."""
    with pytest.raises(DeclarationError, match="pulled whole by the next run"):
        replay(shop, "products", apply=True)
    with pytest.raises(DeclarationError, match="no source of this name"):
        replay(shop, "nothing")


def test_a_replay_waits_for_no_run(shop):
    """While a run writes the tables a replay is refused."""
    workspace = load_workspace(shop)
    with open_store(shop / "var/brownfield.db") as store, pytest.raises(Unavailable, match="another run"):
        run_pipeline(
            workspace.integrations["reco"],
            workspace.connections,
            store,
            shop / "var/data/reco",
            lambda *_: replay(shop),
        )


def as_file(shop, place, content):
    """The sales as a file."""
    integration = shop / "integrations/reco/integration.yaml"
    integration.write_text(INTEGRATION.replace("PLACE", place))
    (shop / "drop/sales.txt").write_bytes(content)


CSV = b"sold_at,line_id,product_id,price\n" + "".join(f"{at},{a},{b},{c}\n" for a, b, c, at in SALES).encode()


def test_records_of_a_csv_file_are_decoded_again_with_its_header(shop):
    """The bytes that were kept are read with the header that their own file had, also when that file is another now."""
    as_file(shop, "connection: drop, path: sales.txt, format: csv", CSV)
    run(shop)
    mend(shop)
    assert (replay(shop).accepted, replay(shop).still_bad, replay(shop).unreadable) == (3, 2, 0)
    (shop / "drop/sales.txt").write_bytes(CSV.replace(b"sold_at,line_id,product_id", b"sold_at,product_id,line_id"))
    assert (replay(shop).accepted, replay(shop).unreadable) == (3, 0)
    (shop / "drop/sales.txt").unlink()
    assert replay(shop, apply=True).accepted == 3
    assert [row["line_id"] for row in lines(shop)] == [1, 2, 3, 5]


MAPPING = """
approved: true
fields:
  price: {from: PREIS, number: {decimal: ","}}
"""


def test_records_that_came_through_a_mapping_file_are_decoded_again(shop):
    """What the mapping, a rule or the decoding refused keeps the header of its file, and is read with it."""
    sold = ["1,1,'2,5'", "2,1,'50'", "3,7,'1'", "4,1,'dear'", "5,'1,1"]
    content = "line_id,product_id,PREIS,sold_at\n" + "".join(f"{line},{AT}\n" for line in sold)
    (shop / "integrations/reco/sales.yaml").write_text(MAPPING)
    as_file(
        shop,
        'connection: drop, path: sales.txt, format: csv, quote: "\'", mapping: sales.yaml',
        content.encode(),
    )
    run(shop)
    mend(shop)
    done = replay(shop)
    assert (done.selected, done.accepted, done.still_bad, done.unreadable) == (4, 2, 2, 0)
    assert done.by_rule == {"decode": 1, "price.map": 1}
    (shop / "integrations/reco/sales.yaml").write_text(
        MAPPING.replace("number:", "sentinels: {dear: unknown}, number:")
    )
    assert replay(shop, rule="price.map").by_rule == {"price.required": 1}
    assert replay(shop, apply=True).accepted == 2
    assert [(row["line_id"], row["price"]) for row in lines(shop)] == [(1, 2.5), (2, 50.0), (3, 1.0)]


COPYBOOK = """       01  S.
           05  LINE-ID     PIC 9(3).
           05  PRODUCT-ID  PIC 9(3).
           05  PRICE       PIC 9(3)V99.
           05  SOLD-AT     PIC X(19).
"""


def test_records_of_a_mainframe_file_are_decoded_again(shop):
    """A record that was refused for its digits is read under today's code page and copybook."""
    records = [f"{a:03}{b:03}{c:05}{AT}" for a, b, c in ((1, 1, 250), (2, 1, 5000), (3, 7, 100))]
    bad = "00x001" + "00100" + AT
    content = "".join([*records, bad]).encode("cp037")
    (shop / "integrations/reco/sales.cpy").write_text(COPYBOOK)
    as_file(shop, "connection: drop, path: sales.txt, format: copybook, layout: sales.cpy", content)
    run(shop)
    mend(shop)
    (shop / "drop/sales.txt").write_bytes(b"")
    done = replay(shop, apply=True)
    assert (done.accepted, done.still_bad, done.unreadable) == (2, 1, 0)
    assert done.by_rule == {"line_id.decode": 1}
    assert [(row["line_id"], row["price"]) for row in lines(shop)] == [(1, 2.5), (2, 50.0), (3, 1.0)]
