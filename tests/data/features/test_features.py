"""What holds for all features together: fit and serving agree, and records do not see each other."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.contract import compile_contract
from brownfield.data.features import Features, identity, learn, parse_features
from brownfield.data.features.spec import INPUT_KINDS, OUTPUT_KINDS
from brownfield.errors import DeclarationError

WORDS = ["milk", "bread", "tea", "salt", "rum"]
DOCUMENT = {
    "inputs": [
        {"field": "items", "kind": "multi_hot", "tensor": "x", "vocabulary": WORDS[:3], "unknown": "count"},
        {"field": "amount", "kind": "numeric", "tensor": "x", "scaling": "standard", "fill": "mean", "mask": True},
        {"field": "price", "kind": "numeric", "tensor": "x", "scaling": "log1p"},
        {"field": "channel", "kind": "category", "tensor": "x", "vocabulary": ["web", "till"], "encoding": "one_hot"},
        {"field": "store_id", "kind": "category", "tensor": "store", "vocabulary": {}, "shape": []},
        {"field": "history", "kind": "sequence", "tensor": "seq", "length": 4},
        {"field": "member", "kind": "raw", "tensor": "member"},
        {"field": "note", "kind": "raw", "tensor": "note"},
    ],
    "outputs": [
        {
            "field": "items",
            "kind": "top_k",
            "tensor": "y",
            "k": 2,
            "labels": "items",
            "exclude": "items",
            "scores": "scores",
        },
        {"field": "label", "kind": "argmax", "tensor": "y", "labels": ["a", "b", "c"]},
    ],
}
RECORD = st.fixed_dictionaries(
    {
        "items": st.lists(st.sampled_from(WORDS), max_size=4),
        "amount": st.none() | st.floats(-1e6, 1e6),
        "price": st.floats(0, 1e6),
        "channel": st.none() | st.sampled_from(["web", "till", "fax"]),
        "store_id": st.integers(1, 5),
        "history": st.none() | st.lists(st.integers(-9, 9), max_size=6),
        "member": st.booleans(),
        "note": st.text(max_size=3),
    }
)


@pytest.fixture(scope="module")
def features(contract):
    spec = parse_features(DOCUMENT, contract.schema("request"), contract.schema("response"))
    return learn(spec, [{"amount": [1.0, 2.0, None], "store_id": [1, 2, 2]}, {"amount": [9.0], "store_id": [3]}])


def _columns(records):
    return {name: [record[name] for record in records] for name in records[0]}


@settings(max_examples=60, deadline=None)
@given(records=st.lists(RECORD, min_size=1, max_size=5))
def test_records_do_not_see_each_other(features, records):
    """A batch is encoded exactly as its records are one by one: batch isolation."""
    whole = features.encode(_columns(records), len(records))
    for row, record in enumerate(records):
        alone = features.encode(_columns([record]), 1)
        for name, tensor in whole.items():
            assert np.array_equal(tensor[row : row + 1], alone[name])


@settings(max_examples=60, deadline=None)
@given(records=st.lists(RECORD, min_size=1, max_size=4), data=st.data())
def test_answers_do_not_see_each_other(features, records, data):
    """A batch of scores is decoded exactly as its rows are one by one, ties included."""
    score = st.sampled_from([0.0, 0.5, 1.0, -1.0])
    rows = data.draw(st.lists(st.lists(score, min_size=3, max_size=3), min_size=len(records), max_size=len(records)))
    scores, columns = np.array(rows, dtype=np.float32), _columns(records)
    whole = features.decode({"y": scores}, columns, len(records))
    for row, record in enumerate(records):
        alone = features.decode({"y": scores[row : row + 1]}, _columns([record]), 1)
        assert {name: column[row : row + 1] for name, column in whole.items()} == alone


@settings(max_examples=60, deadline=None)
@given(records=st.lists(RECORD, min_size=1, max_size=4))
def test_the_bundles_json_gives_equal_tensors(features, records):
    """What is read back from the bundle encodes as what was learned did, bit for bit."""
    again = Features.from_json(features.to_json())
    assert again == features
    assert again.digest == features.digest
    first, second = (each.encode(_columns(records), len(records)) for each in (features, again))
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert np.array_equal(tensor, second[name])


@settings(max_examples=60, deadline=None)
@given(amounts=st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_the_mask_is_one_exactly_where_the_number_was_missing(build, amounts):
    """Lists and arrays say the same: the mask marks what was missing, and nothing else."""
    features = build([{"field": "amount", "kind": "numeric", "tensor": "x", "fill": 0, "mask": True}])
    as_array = np.array([np.nan if each is None else each for each in amounts])
    for column in (amounts, as_array):
        tensor = features.encode({"amount": column}, len(amounts))["x"]
        assert tensor[:, 1].tolist() == [each is None for each in amounts]


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), cut=st.integers(0, 30))
def test_learning_in_chunks_is_learning_at_once(contract, values, cut):
    """Means and deviations do not depend on how the training columns were cut into chunks."""
    if np.std(values) < 1e-3:
        return
    document = {
        "inputs": [{"field": "price", "kind": "numeric", "tensor": "x", "scaling": "standard"}],
        "outputs": [{"field": "score", "kind": "scalar", "tensor": "y"}],
    }
    spec = parse_features(document, contract.schema("request"), contract.schema("response"))
    learned = learn(spec, [{"price": values[:cut]}, {"price": values[cut:]}]).inputs[0]
    assert learned.center == pytest.approx(np.mean(values), rel=1e-6, abs=1e-6)
    assert learned.scale == pytest.approx(np.std(values), rel=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"\xff",
        pytest.param(b'{"inputs":[],"outputs":[],"schema_version":2}', id="newer"),
        pytest.param(b'{"inputs":[],"outputs":[],"extra":1}', id="unknown-key"),
        pytest.param(
            b'{"inputs":[{"kind":"numeric","field":"a","tensor":"x","dtype":"float32","scale":0.0}],"outputs":[]}',
            id="B-65-zero-scale",
        ),
        pytest.param(
            b'{"inputs":[{"kind":"multi_hot","field":"a","tensor":"x","dtype":"float32",'
            b'"vocabulary":{"labels":["a","a"]}}],"outputs":[]}',
            id="B-64-duplicate",
        ),
    ],
)
def test_json_that_contradicts_itself_is_refused(text):
    """A tampered or foreign features file is a typed error, never half a Features."""
    with pytest.raises(DeclarationError):
        Features.from_json(text)


def test_identity_hands_fields_through():
    """Without a features file the request fields are the graph's inputs, under the same names and of the same shape."""
    tensor = {"property": "tensor", "value": {"dtype": "float32", "shape": [2]}, "vendor": "brownfield"}
    sides = [
        {"name": side, "properties": [{"name": f"gpu_0/{side}:0", "required": True, "customProperties": [tensor]}]}
        for side in ("request", "response")
    ]
    head = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "m", "version": "1", "status": "draft"}
    contract = compile_contract({**head, "schema": sides})
    features = identity(contract.schema("request"), contract.schema("response"))
    array = np.ones((3, 2), dtype=np.float32)
    assert features.encode({"gpu_0/request:0": array}, 3)["gpu_0/request:0"] is array
    assert features.decode({"gpu_0/response:0": array}, {}, 3)["gpu_0/response:0"] is array
    assert features.tensors == (("gpu_0/request:0", "float32", (None, 2)),)


def test_tensors_says_what_encode_gives(features):
    """The declared dtype and shape of every tensor are those of the tensors themselves."""
    record = {"items": [], "amount": 1.0, "price": 1.0, "channel": "web", "store_id": 1, "history": [1]}
    tensors = features.encode(_columns([{**record, "member": True, "note": "n"}]), 1)
    assert {each.name for each in features.tensors} == set(tensors)
    for name, dtype, shape in features.tensors:
        assert tensors[name].dtype == (object if dtype == "str" else dtype)
        assert tensors[name].shape == tuple(size if size is not None else 1 for size in shape)


def test_every_kind_and_key_is_on_the_reference_page():
    """The reference page names every kind of feature, and every key that a learned feature has in the file."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "features.md").read_text(encoding="utf-8")
    keys = {
        "encoding",
        "unknown",
        "vocabulary",
        "mask",
        "fill",
        "scaling",
        "mean",
        "std",
        "min",
        "max",
        "pad",
        "length",
    }
    for kind, _ in OUTPUT_KINDS.values():
        keys |= {field.name for field in msgspec.structs.fields(kind)}
    for name in {*INPUT_KINDS, *OUTPUT_KINDS, *keys}:
        assert f"`{name}`" in page
