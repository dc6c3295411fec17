"""A lookup that loses its source in a real run: from the primary to its last good copy, and back."""

import fcntl
import json
import os
import time

import duckdb
import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline.lookups import STAMP
from brownfield.errors import RunPaused, SourceUnavailable
from brownfield.store import Selection, open_store
from brownfield.testing import FakeClock
from harness.lookup_shop import SNAPSHOT, change, lay_out, pull, sell


@pytest.fixture
def shop(tmp_path):
    """A shop with twenty products."""
    return lay_out(tmp_path / "shop")


def lines(folder):
    """Rows of the unified table."""
    files = str(folder / "var/data/reco/lines/*.parquet")
    return duckdb.sql(f"SELECT line_id, kind FROM '{files}' ORDER BY line_id").fetchall()  # noqa: S608 (our own path)


def test_f42_a_run_whose_lookup_is_gone_uses_the_last_good_copy_and_says_so(shop):
    """F-42: the joined rows are those of the copy; report, part and store name the state and the moment."""
    clock = FakeClock()
    first = pull(shop, clock=clock)
    assert (first.sources["products"].state, first.sources["products"].as_of) == (
        "PRIMARY",
        "2026-01-01T00:00:00.000000Z",
    )
    (shop / "legacy/erp.db").rename(shop / "legacy/gone.db")
    sell(shop, (5, 5))
    clock.advance(3600)
    report = pull(shop, clock=clock)
    told = {"state": "SNAPSHOT", "as_of": "2026-01-01T00:00:00.000000Z"}
    assert (report.sources["products"].state, report.sources["products"].as_of) == tuple(told.values())
    assert report.to_dict()["tables"]["lines"]["lookups"] == {"products": told}
    assert lines(shop) == [(1, "kind 1"), (2, "kind 2"), (3, "kind 3"), (4, None), (5, "kind 5")]
    [part] = sorted((shop / "var/data/reco/lines").glob("000001-*.parquet"))
    assert json.loads(pq.read_metadata(part).metadata[STAMP]) == {"products": told}
    with open_store(shop / "var/brownfield.db") as store:
        assert store.lookups.of_run(report.run_id)["products"][0] == "SNAPSHOT"
        [event] = store.lookups.events()
    assert (event.was, event.now) == ("PRIMARY", "SNAPSHOT")
    assert event.reason


def lose(shop):
    """Take the products' own system away."""
    (shop / "legacy/erp.db").rename(shop / "legacy/gone.db")


@pytest.mark.full
def test_f42_a_replica_stands_before_the_copy(tmp_path):
    """F-42: with the primary gone the replica's rows are used, and its declared lag is in the moment."""
    replica = "{connection: host, path: products.csv, format: csv, lag_s: 60}, " + SNAPSHOT
    shop = lay_out(tmp_path / "shop", replica)
    (shop / "legacy/host/products.csv").write_text(
        "product_id,kind\n" + "\n".join(f"{i},replica {i}" for i in range(20))
    )
    os.utime(shop / "legacy/host/products.csv", (0, 1_700_000_000))
    lose(shop)
    report = pull(shop)
    assert (report.sources["products"].state, report.sources["products"].as_of) == (
        "REPLICA",
        "2023-11-14T22:12:20.000000Z",
    )
    assert lines(shop)[0] == (1, "replica 1")


@pytest.mark.full
def test_f49_a_file_of_the_future_has_no_known_moment(tmp_path):
    """F-49: a file whose clock runs an hour ahead is read, and its copy never counts as young enough."""
    replica = "{connection: host, path: products.csv, format: csv}, " + SNAPSHOT
    shop = lay_out(tmp_path / "shop", replica)
    file = shop / "legacy/host/products.csv"
    file.write_text("product_id,kind\n" + "\n".join(f"{i},replica {i}" for i in range(20)))
    os.utime(file, (time.time() + 3_600,) * 2)
    lose(shop)
    assert (pull(shop).sources["products"].state, pull(shop).sources["products"].as_of) == ("REPLICA", "unknown")
    file.unlink()
    with pytest.raises(SourceUnavailable, match="inf h old"):
        pull(shop)


@pytest.mark.full
def test_a_copy_that_is_too_old_is_not_used(shop):
    """Beyond max_age_h the run pauses, keeps nothing, and the store says REFUSE."""
    clock = FakeClock()
    pull(shop, clock=clock)
    lose(shop)
    clock.advance(25 * 3_600)
    with pytest.raises(SourceUnavailable, match="24 h are admitted"):
        pull(shop, clock=clock)
    with open_store(shop / "var/brownfield.db") as store:
        assert store.lookups.state("reco", "products").state == "REFUSE"


@pytest.mark.parametrize(("resort", "kind"), [("{constant: {kind: unknown}}", "unknown"), ("{missing: true}", None)])
def test_the_last_resort_fills_the_fields(tmp_path, resort, kind):
    """Without a copy, a constant or nothing stands in the joined fields, and whether there is a match is not known."""
    shop = lay_out(tmp_path / "shop", f"{SNAPSHOT}, {resort}")
    lose(shop)
    report = pull(shop)
    assert (report.sources["products"].state, report.sources["products"].as_of) == ("FALLBACK", "unknown")
    assert {row[1] for row in lines(shop)} == {kind}
    files = str(shop / "var/data/reco/lines/*.parquet")
    assert duckdb.sql(f"SELECT DISTINCT known FROM '{files}'").fetchall() == [(None,)]  # noqa: S608 (our own path)


@pytest.mark.full
def test_the_way_back_takes_the_cool_down(shop):
    """The source is back at once, and is used again only after its cool-down, by probes in a row."""
    clock = FakeClock()
    pull(shop, clock=clock)
    lose(shop)
    assert pull(shop, clock=clock).sources["products"].state == "SNAPSHOT"
    (shop / "legacy/gone.db").rename(shop / "legacy/erp.db")
    clock.advance(20)
    assert pull(shop, clock=clock).sources["products"].state == "SNAPSHOT"
    clock.advance(20)
    assert pull(shop, clock=clock).sources["products"].state == "PRIMARY"
    with open_store(shop / "var/brownfield.db") as store:
        assert [(each.was, each.now) for each in store.lookups.events()] == [
            ("SNAPSHOT", "PRIMARY"),
            ("PRIMARY", "SNAPSHOT"),
        ]


@pytest.mark.full
@pytest.mark.parametrize(
    ("statement", "guards"),
    [
        ("DELETE FROM products WHERE product_id >= 10", ["volume", "keys"]),
        ("UPDATE products SET product_id = product_id + 100 WHERE product_id >= 10", ["keys"]),
        ("UPDATE products SET kind = NULL WHERE product_id >= 10", ["nulls"]),
    ],
    ids=["F-47-fewer-rows", "F-47-lost-keys", "F-47-null-jump"],
)
def test_f47_a_pull_that_lost_too_much_never_takes_the_place_of_the_copy(shop, statement, guards):
    """F-47: fewer rows, lost keys or a jump in missing values pause the run; accepted once, the copy is replaced."""
    pull(shop)
    folder = shop / "var/lookups/reco/products"
    before = {path.name: path.read_bytes() for path in folder.glob("0*")}
    change(shop, statement)
    with pytest.raises(RunPaused):
        pull(shop)
    assert {path.name: path.read_bytes() for path in folder.glob("0*")} == before
    report = pull(shop, accept=guards)
    assert set(report.sources["products"].accepted_guards) == set(guards)
    assert (folder / "000002.json").exists()


@pytest.mark.full
def test_open_quarantine_of_a_lookup_outlives_a_run_from_the_copy(tmp_path):
    """A record that the primary still refuses stays open: a copy says nothing about it."""
    shop = lay_out(tmp_path / "shop")
    change(shop, "ALTER TABLE products RENAME TO old", "CREATE TABLE products (product_id INTEGER, kind TEXT)",
           "INSERT INTO products SELECT * FROM old", "INSERT INTO products VALUES (1, 'twice')")  # fmt: skip
    pull(shop)
    lose(shop)
    report = pull(shop)
    assert report.sources["products"].state == "SNAPSHOT"
    with open_store(shop / "var/brownfield.db") as store:
        assert [each.state for each in store.quarantine.select("reco", Selection(source="products"))] == ["open"]


@pytest.mark.full
def test_a_run_of_a_served_workspace_probes_alone(shop):
    """While another process probes the way back, a run uses what holds and asks nobody."""
    clock = FakeClock()
    pull(shop, clock=clock)
    lose(shop)
    pull(shop, clock=clock)
    (shop / "legacy/gone.db").rename(shop / "legacy/erp.db")
    clock.advance(60)
    with (shop / "var/lookups/reco/products/.probe").open("w") as probing:
        fcntl.flock(probing, fcntl.LOCK_EX)
        assert pull(shop, clock=clock).sources["products"].state == "SNAPSHOT"
    assert pull(shop, clock=clock).sources["products"].state == "PRIMARY"


@pytest.mark.full
def test_refused_too_often_a_lookup_counts_as_gone(tmp_path):
    """With on_breach: fallback, too many refused records lead on to the copy, which is untouched."""
    shop = lay_out(tmp_path / "shop")
    file = shop / "integrations/reco/integration.yaml"
    rule = "lookup: product_id\n    max_refused_percent: 10\n    on_breach: fallback"
    file.write_text(file.read_text().replace("lookup: product_id", rule))
    pull(shop)
    change(shop, "ALTER TABLE products RENAME TO old", "CREATE TABLE products (product_id INTEGER, kind TEXT)",
           "INSERT INTO products SELECT product_id % 10, kind FROM old")  # fmt: skip
    report = pull(shop, accept=["shape"])
    assert (report.sources["products"].state, report.sources["products"].accepted) == ("SNAPSHOT", 20)
