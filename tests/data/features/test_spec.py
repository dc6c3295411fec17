"""The features file is checked against the contract before anything is learned."""

import re

import pytest

from brownfield.data.features import learn, parse_features
from brownfield.errors import DeclarationError

PRICE = {"field": "price", "kind": "numeric", "tensor": "x"}
CHANNEL = {"field": "channel", "kind": "category", "tensor": "c", "vocabulary": ["web"]}
SCORE = {"field": "score", "kind": "scalar", "tensor": "y"}


def _parse(contract, inputs, outputs=None, where=None):
    document = {"inputs": inputs, "outputs": outputs or [SCORE]}
    return parse_features(document, contract.schema("request"), contract.schema("response"), where)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        pytest.param({**PRICE, "field": "prize"}, "inputs[0].field: .* Did you mean 'price'", id="B-65-unknown-field"),
        pytest.param({**PRICE, "scaling": "standard", "mean": 0, "std": 0}, "inputs[0].std: ", id="B-65-zero-scale"),
        pytest.param({**PRICE, "scaling": "min_max", "min": 3, "max": 3}, "inputs[0].max: ", id="B-65-zero-range"),
        pytest.param({**PRICE, "scaling": "min_max", "min": 0, "max": float("inf")}, "inputs[0].max: ", id="B-65-inf"),
        pytest.param(
            {**PRICE, "scaling": "standard", "mean": float("nan"), "std": 1}, "inputs[0].mean: ", id="B-65-nan"
        ),
        pytest.param({**PRICE, "scaling": "standard", "mean": 0}, "the key 'std'", id="B-65-half-a-scale"),
        pytest.param({**PRICE, "fill": float("-inf")}, "inputs[0].fill: ", id="B-65-inf-fill"),
        pytest.param({**PRICE, "scalling": "none"}, "inputs[0].scalling: .* Did you mean 'scaling'", id="B-66-key"),
        pytest.param({**PRICE, "kind": "numerical"}, "inputs[0].kind: .* Did you mean 'numeric'", id="B-66-kind"),
        pytest.param({**PRICE, "scaling": "standart"}, "Did you mean 'standard'", id="B-66-choice"),
        pytest.param(
            {"field": "amount", "kind": "numeric", "tensor": "x"}, "the key 'fill'", id="missing-without-fill"
        ),
        pytest.param(
            {"field": "amount", "kind": "numeric", "tensor": "x", "fill": 0, "scaling": "log1p"}, "-1", id="log"
        ),
        pytest.param({"field": "note", "kind": "numeric", "tensor": "x"}, "inputs[0].field: ", id="text-as-number"),
        pytest.param({"field": "day", "kind": "raw", "tensor": "x"}, "inputs[0].field: ", id="date"),
        pytest.param({**CHANNEL, "vocabulary": ["web", "web"]}, "stands twice", id="B-64-duplicate-label"),
        pytest.param({**CHANNEL, "vocabulary": []}, "inputs[0].vocabulary: ", id="B-64-empty"),
        pytest.param({**CHANNEL, "vocabulary": ["web", 1]}, "inputs[0].vocabulary[1]: ", id="B-64-mixed"),
        pytest.param({**CHANNEL, "vocabulary": {"top": 0}}, "inputs[0].vocabulary.top: ", id="B-64-top"),
        pytest.param({**CHANNEL, "unknown": "ignore"}, "inputs[0].unknown: ", id="index-cannot-ignore"),
        pytest.param({**CHANNEL, "shape": [3]}, "inputs[0].shape: ", id="shape"),
        pytest.param({**PRICE, "dtype": "int8"}, "inputs[0].dtype: ", id="dtype"),
        pytest.param({"field": "channel", "kind": "raw", "tensor": "x"}, "nothing to stand in", id="raw-missing"),
        pytest.param("price", "inputs[0]: expected a mapping", id="no-mapping"),
    ],
)
def test_an_input_that_cannot_work_is_refused(contract, entry, says):
    """Each mistake names its place in the file, and the nearest name where there is one."""
    with pytest.raises(DeclarationError) as refusal:
        _parse(contract, [entry])
    assert re.search(says.replace("[", r"\["), str(refusal.value))


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        pytest.param([{**SCORE, "field": "scorre"}], "Did you mean 'score'", id="B-65-unknown-field"),
        pytest.param([SCORE, SCORE], "filled twice", id="twice"),
        pytest.param(
            [{"field": "items", "kind": "top_k", "tensor": "y", "k": 1, "labels": "chanel"}], "'channel'", id="B-64"
        ),
        pytest.param(
            [{"field": "items", "kind": "top_k", "tensor": "y", "k": 0, "labels": ["a"]}], "outputs[0].k", id="k"
        ),
        pytest.param(
            [{"field": "label", "kind": "top_k", "tensor": "y", "k": 1, "labels": ["a"]}], "of type list", id="list"
        ),
        pytest.param([{**SCORE, "field": "items"}], "outputs[0].field", id="scalar-as-list"),
        pytest.param(
            [{"field": "label", "kind": "threshold", "tensor": "y", "threshold": 1}], "two 'labels'", id="labels"
        ),
        pytest.param(
            [{"field": "label", "kind": "argmax", "tensor": "y", "labels": {"a": 1}}], "labels: ", id="mapping"
        ),
        pytest.param(
            [{"field": "items", "kind": "top_k", "tensor": "y", "k": 1, "labels": ["a"], "exclude": "note"}],
            "outputs[0].exclude",
            id="exclude-text",
        ),
        pytest.param(
            [{"field": "items", "kind": "top_k", "tensor": "y", "k": 1, "labels": ["a"], "scores": "score"}],
            "outputs[0].scores",
            id="scores-number",
        ),
        pytest.param([{"field": "label", "kind": "argmax", "tensor": "y", "labels": [1]}], "labels[0]", id="B-64-type"),
        pytest.param(
            [{"field": "accept", "kind": "threshold", "tensor": "y", "threshold": 1, "labels": [True]}], "two", id="two"
        ),
    ],
)
def test_an_output_that_cannot_work_is_refused(contract, outputs, says):
    """Each mistake on the way out names its place, too."""
    with pytest.raises(DeclarationError, match=says.replace("[", r"\[")):
        _parse(contract, [CHANNEL], outputs)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (PRICE, {**CHANNEL, "tensor": "x"}, "differ in dtype"),
        ({**PRICE, "shape": []}, PRICE, "the whole of it"),
        ({"field": "note", "kind": "raw", "tensor": "x"}, PRICE, "the whole of it"),
    ],
    ids=["dtype", "flat", "raw"],
)
def test_features_that_cannot_share_a_tensor_are_refused(contract, first, second, says):
    """Features of one tensor agree in dtype, and none of them fills it alone."""
    with pytest.raises(DeclarationError, match=says):
        _parse(contract, [first, second])


def test_labels_of_another_type_are_refused(contract):
    """B-64: labels taken from an input's vocabulary are of the type that the response field has."""
    stores = {"field": "store_id", "kind": "category", "tensor": "s", "vocabulary": {}}
    output = {"field": "label", "kind": "argmax", "tensor": "y", "labels": "store_id"}
    with pytest.raises(DeclarationError, match="labels of type string"):
        _parse(contract, [stores], [output])


def test_errors_carry_the_line(contract):
    """The place in the document is turned into file and line by the loader's own function."""
    with pytest.raises(DeclarationError) as refusal:
        _parse(contract, [PRICE, {**PRICE, "scaling": "none", "k": 1}], where=lambda path: f"features.yaml:{len(path)}")
    assert str(refusal.value).startswith("features.yaml:3: inputs[1].k: unknown key")


@pytest.mark.parametrize(
    ("entry", "column", "says"),
    [
        pytest.param({**PRICE, "scaling": "standard"}, [3.0, 3.0], "one value only", id="B-65-constant-standard"),
        pytest.param({**PRICE, "scaling": "standard"}, [0.1] * 1000, "one value only", id="B-65-constant-decimal"),
        pytest.param({**PRICE, "scaling": "min_max"}, [3.0, 3.0], "one value only", id="B-65-constant-min-max"),
        pytest.param({**PRICE, "scaling": "standard"}, [0.0, float("inf")], "not finite", id="B-65-inf"),
        pytest.param({**PRICE, "scaling": "standard"}, [None], "no value", id="B-47-all-missing"),
        pytest.param({**PRICE, "scaling": "standard"}, [], "no value", id="B-47-empty"),
        pytest.param({**CHANNEL, "vocabulary": {"min_count": 2}}, ["web", "till"], "2 times", id="B-64-nothing-left"),
    ],
)
def test_columns_without_anything_to_learn_are_refused(contract, entry, column, says):
    """Learning from a constant, infinite or empty column names the feature instead of dividing by zero later."""
    with pytest.raises(DeclarationError, match=says):
        learn(_parse(contract, [entry]), [{entry["field"]: column}])


def test_a_vocabulary_is_ordered_by_count_then_value(contract):
    """The most frequent values come first, equally frequent ones in their natural order, and `top` cuts."""
    entry = {**CHANNEL, "vocabulary": {"top": 3, "min_count": 1}}
    features = learn(_parse(contract, [entry]), [{"channel": ["d", "b", "a"]}, {"channel": ["b", None, "c"]}])
    assert features.inputs[0].vocabulary.labels == ("b", "a", "c")


def test_required_response_fields_must_be_filled(contract):
    """A features file that leaves a required response field empty is refused."""
    request = contract.schema("request")
    with pytest.raises(DeclarationError, match="store_id"):
        parse_features({"inputs": [PRICE], "outputs": [{**SCORE, "field": "amount"}]}, request, request)
