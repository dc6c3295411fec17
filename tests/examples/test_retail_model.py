"""The retail example's contract and committed bundle; and, in the full suite, the model trained anew."""

import socket
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest

from brownfield.integration import IntegrationSpec, load_workspace
from brownfield.model import Bundle, open_bundle

GOOD_LINE = {
    "line_id": 1,
    "household_id": 900,
    "store_id": 330,
    "basket_id": 31198570044,
    "product_id": 1095275,
    "quantity": 1,
    "sales_value": 0.5,
    "retail_disc": 0.0,
    "coupon_disc": 0.0,
    "coupon_match_disc": 0.0,
    "week": 1,
    "transaction_timestamp": "2017-01-01 11:53:26",
}
GOOD_PRODUCT = {
    "product_id": 1095275,
    "manufacturer_id": 2,
    "department": "PASTRY",
    "brand": "Private",
    "product_category": "BREAD",
    "product_type": "BREAD:ITALIAN/FRENCH",
    "package_size": "16 OZ",
}
GOOD_COUPON = {"coupon_upc": 10000085207, "product_id": 1095275, "campaign_id": 26}
KNOWN_PRODUCTS = {"products.product_id": pa.array([1095275])}


@pytest.fixture(scope="module")
def integration(example: Path) -> IntegrationSpec:
    """The integration as declared."""
    return load_workspace(example).integrations["store-recommendations"]


@pytest.fixture(scope="module")
def bundle(example: Path) -> Bundle:
    """The bundle that the repository holds."""
    return open_bundle(example / "integrations" / "store-recommendations" / "bundles" / "store-recommender")


def broken_rules(integration: IntegrationSpec, schema: str, *records: dict) -> list[list[str]]:
    """Rules that the records of a batch break, record by record."""
    verdict = integration.contract.schema(schema).batches.check(pa.Table.from_pylist(list(records)), KNOWN_PRODUCTS)
    found = {rejection.row: [violation.rule for violation in rejection.violations] for rejection in verdict.rejected}
    return [found.get(row, []) for row in range(len(records))]


def test_the_declaration_and_the_contract_agree(integration):
    """The example loads as a workspace, with a schema for each source and table and an owner."""
    assert set(integration.contract.schemas) == {"request", "response", *integration.sources, *integration.unified}
    assert integration.contract.schema("transactions").field("household_id").classification == "pii"
    assert "household_id" not in integration.contract.schema("basket_lines").names


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        pytest.param({}, [], id="as-sold"),
        pytest.param({"quantity": 0}, ["quantity.range"], id="nothing-sold"),
        pytest.param({"product_id": 7}, ["product_id.reference"], id="unknown-product"),
        pytest.param({"product_id": 7, "quantity": 0}, ["quantity.range", "product_id.reference"], id="both"),
        pytest.param({"quantity": 10597, "sales_value": 25.0}, ["quantity_counts_items"], id="fuel"),
        pytest.param({"quantity": 13, "sales_value": 0.04}, ["quantity_counts_items"], id="little-fuel"),
        pytest.param({"quantity": 144, "sales_value": 24.0}, [], id="many-ears-of-corn"),
        pytest.param({"quantity": 10, "sales_value": 0.0}, [], id="ten-for-nothing"),
        pytest.param({"transaction_timestamp": "2017-13-01 11:53:26"}, ["transaction_timestamp.type"], id="month-13"),
    ],
)
def test_a_line_breaks_the_rules_it_should(integration, change, rules):
    """Each kind of dirt of the receipts breaks the rule that is meant for it, and sound lines break none."""
    assert [sorted(found) for found in broken_rules(integration, "transactions", GOOD_LINE | change)] == [sorted(rules)]


def test_a_blank_of_the_mainframe_is_a_missing_value(integration):
    """Empty texts of the product master are accepted as missing; an unknown brand is refused."""
    blank = GOOD_PRODUCT | {"product_id": 2, "product_type": "", "product_category": "", "package_size": ""}
    other = GOOD_PRODUCT | {"product_id": 3, "brand": "Foreign"}
    assert broken_rules(integration, "products", GOOD_PRODUCT, blank, other) == [[], [], ["brand.enum"]]
    accepted = integration.contract.schema("products").batches.check(pa.Table.from_pylist([blank])).accepted
    assert accepted["product_type"].to_pylist() == [None]


def test_a_coupon_listed_again_is_refused(integration):
    """Of a coupon that stands twice the first one stays; one for an unknown product is refused."""
    stray = GOOD_COUPON | {"product_id": 7}
    found = broken_rules(integration, "coupons", GOOD_COUPON, GOOD_COUPON, stray)
    assert found == [[], ["primary_key"], ["product_id.reference"]]


def test_the_committed_bundle_is_small_and_made_for_this_contract(integration, bundle):
    """The bundle opens, is under 2 MB, belongs to the contract as it stands, and tells no path or machine."""
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) < 2_000_000
    assert bundle.contract_digest == integration.contract.digest
    told = str(bundle.provenance)
    assert socket.gethostname() not in told
    assert "/" not in told


def test_the_committed_metrics_beat_popularity(bundle):
    """Recall@10 is at least 20 % above global popularity, and its interval lies above those of both baselines."""
    figures = bundle.metrics
    assert figures["recall_at_10"] >= 1.2 * figures["recall_at_10_popularity"]
    assert figures["recall_at_10_low"] > figures["recall_at_10_popularity_high"]
    assert figures["recall_at_10_low"] > figures["recall_at_10_popularity_by_store_high"]


def test_the_committed_model_gives_its_golden_answers(bundle):
    """ONNX Runtime answers the golden records as PyTorch did, with shares that add up to one."""
    session = onnxruntime.InferenceSession(bundle.model_path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], dict(bundle.golden.inputs))
    np.testing.assert_allclose(scores, bundle.golden.outputs["scores"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_a_request_is_answered_by_the_contract(integration, bundle):
    """A basket with known and unknown types in an unknown store gets ten other types, which the response admits."""
    columns = {"store_id": [99_999], "items": [["BANANAS", "FLUID MILK WHITE ONLY", "NO SUCH TYPE"]]}
    session = onnxruntime.InferenceSession(bundle.model_path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], bundle.features.encode(columns, 1))
    answer = bundle.features.decode({"scores": scores}, columns, 1)
    assert len(answer["items"][0]) == 10
    assert not set(answer["items"][0]) & set(columns["items"][0])
    assert integration.contract.schema("response").rows.check_columns(answer, 1).rows == 1


def golden_baskets(bundle: Bundle) -> list[set[str]]:
    """The golden records as product types, read back through the vocabulary."""
    labels = bundle.features.inputs[0].vocabulary.labels
    return [{labels[column] for column in np.flatnonzero(row)} for row in bundle.golden.inputs["items"]]


def test_golden_records_hold_words_of_the_vocabulary_alone(bundle):
    """Every golden input is zeros and ones over the vocabulary, and a store that the vocabulary numbers."""
    items, stores = (feature.vocabulary for feature in bundle.features.inputs)
    assert set(np.unique(bundle.golden.inputs["items"])) == {0.0, 1.0}
    assert bundle.golden.inputs["items"].shape[1] == len(items)
    assert 0 <= bundle.golden.inputs["store"].min() <= bundle.golden.inputs["store"].max() <= len(stores)
    assert min(map(len, golden_baskets(bundle))) == 0


@pytest.mark.full
def test_no_golden_record_is_a_real_basket(baskets, bundle, unified_table):
    """No golden basket of two types or more was ever bought like that."""
    golden = {frozenset(basket) for basket in golden_baskets(bundle) if len(basket) > 1}
    assert golden
    assert not golden & {frozenset(items) for items in baskets.read_baskets(unified_table).items}
