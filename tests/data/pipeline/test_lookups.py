"""A lookup that loses its source in a real run: from the primary to its last good copy, and back."""

import json

import duckdb
import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline.lookups import STAMP
from brownfield.store import open_store
from brownfield.testing import FakeClock
from harness.lookup_shop import lay_out, pull, sell


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
    assert json.loads(pq.read_schema(part).metadata[STAMP]) == {"products": told}
    with open_store(shop / "var/brownfield.db") as store:
        assert store.lookups.of_run(report.run_id)["products"][0] == "SNAPSHOT"
        [event] = store.lookups.events()
    assert (event.was, event.now) == ("PRIMARY", "SNAPSHOT")
    assert event.reason
