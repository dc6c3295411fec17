"""Request fields become tensors: exact values, one kind at a time."""

import numpy as np
import pytest

from brownfield.data.features.inputs import RawInput
from brownfield.errors import DeclarationError, InputRefused, RejectionCode


def test_standard_scaling_gives_mean_zero_and_deviation_one(build):
    """Training values scaled by what was learned from them have mean 0 and standard deviation 1."""
    values = [2.0, 4.0, 6.0, 8.0]
    features = build(
        [{"field": "price", "kind": "numeric", "tensor": "x", "scaling": "standard"}], None, {"price": values}
    )
    tensor = features.encode({"price": values}, 4)["x"]
    assert tensor.shape == (4, 1)
    assert tensor.dtype == np.float32
    assert tensor.mean() == pytest.approx(0, abs=1e-6)
    assert tensor.std() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"scaling": "none"}, [0.0, 5.0, 10.0]),
        ({"scaling": "min_max"}, [0.0, 0.5, 1.0]),
        ({"scaling": "log1p"}, np.log1p([0.0, 5.0, 10.0])),
        ({"scaling": "standard", "mean": 5, "std": 2.5}, [-2.0, 0.0, 2.0]),
        ({"scaling": "min_max", "min": -10, "max": 10}, [0.5, 0.75, 1.0]),
    ],
    ids=lambda value: value.get("scaling", "") if isinstance(value, dict) else "",
)
def test_each_scaling_gives_its_formula(build, scaling, expected):
    """Each scaling is the formula that the reference page gives for it, learned or declared."""
    values = [0.0, 5.0, 10.0]
    features = build([{"field": "price", "kind": "numeric", "tensor": "x", **scaling}], None, {"price": values})
    assert features.encode({"price": values}, 3)["x"][:, 0] == pytest.approx(np.array(expected), rel=1e-6)


@pytest.mark.parametrize(("fill", "stands_for"), [(7, 7.0), ("mean", 3.0), ("min", 1.0), ("max", 5.0)])
def test_missing_numbers_are_filled_and_masked(build, fill, stands_for):
    """A missing number is replaced before scaling, and the mask is 1 exactly where it was missing."""
    entry = {"field": "amount", "kind": "numeric", "tensor": "x", "fill": fill, "mask": True}
    features = build([entry], None, {"amount": [1.0, None, 3.0, 5.0, float("nan")]})
    tensor = features.encode({"amount": [None, 2.0, float("nan")]}, 3)["x"]
    assert tensor.tolist() == [[stands_for, 1.0], [2.0, 0.0], [stands_for, 1.0]]


def test_a_missing_number_without_fill_is_refused(build):
    """A missing number for which nothing was declared refuses its record, and no other."""
    features = build([{"field": "price", "kind": "numeric", "tensor": "x"}])
    with pytest.raises(InputRefused) as refusal:
        features.encode({"price": [1.0, None, 2.0]}, 3)
    assert [(each.row, each.code) for each in refusal.value.violations] == [(1, RejectionCode.FIELD_NULL)]


def test_a_number_beyond_the_tensors_range_is_refused(build):
    """A number that float32 cannot hold is refused instead of reaching the model as infinity."""
    features = build([{"field": "price", "kind": "numeric", "tensor": "x"}])
    with pytest.raises(InputRefused) as refusal:
        features.encode({"price": [1e39]}, 1)
    assert refusal.value.violations[0].code is RejectionCode.RULE_RANGE


@pytest.mark.parametrize(
    ("unknown", "expected"), [("last", [0, 1, 2, 2]), ("first", [1, 2, 0, 0])], ids=["last", "first"]
)
def test_category_index(build, unknown, expected):
    """Known values keep their place, unknown and missing ones get the index declared for them."""
    entry = {
        "field": "channel",
        "kind": "category",
        "tensor": "c",
        "vocabulary": ["web", "till"],
        "unknown": unknown,
        "shape": [],
    }
    tensor = build([entry]).encode({"channel": ["web", "till", "fax", None]}, 4)["c"]
    assert tensor.tolist() == expected
    assert tensor.dtype == np.int64
    assert tensor.shape == (4,)


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        ("last", [[1, 0, 0], [0, 0, 1]]),
        ("first", [[0, 1, 0], [1, 0, 0]]),
        ("ignore", [[1, 0], [0, 0]]),
    ],
    ids=["last", "first", "ignore"],
)
def test_category_one_hot(build, unknown, expected):
    """One column per known value, and one more before or after them where unknown values have their own."""
    entry = {
        "field": "channel",
        "kind": "category",
        "tensor": "c",
        "vocabulary": ["web", "till"],
        "encoding": "one_hot",
        "unknown": unknown,
    }
    tensor = build([entry]).encode({"channel": ["web", "fax"]}, 2)["c"]
    assert tensor.tolist() == expected
    assert tensor.dtype == np.float32


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [("ignore", [[1, 1], [0, 0], [0, 1]]), ("count", [[1, 1, 0], [0, 0, 0], [0, 1, 2]])],
    ids=["ignore", "count"],
)
def test_multi_hot(build, unknown, expected):
    """A list lights the columns of its items once each; unknown items are dropped or counted as declared."""
    entry = {"field": "items", "kind": "multi_hot", "tensor": "b", "vocabulary": ["milk", "bread"], "unknown": unknown}
    columns = {"items": [["milk", "bread", "milk"], [], ["bread", "tea", "tea"]]}
    assert build([entry]).encode(columns, 3)["b"].tolist() == expected


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ({"field": "channel", "kind": "category", "vocabulary": ["web"]}, ["web", "fax"]),
        ({"field": "items", "kind": "multi_hot", "vocabulary": ["milk"]}, [["milk"], ["tea"]]),
        ({"field": "items", "kind": "sequence", "vocabulary": ["milk"]}, [["milk"], ["milk", "tea"]]),
    ],
    ids=["category", "multi_hot", "sequence"],
)
def test_unknown_values_are_refused_where_declared(build, field, column):
    """With `unknown: refuse` the record with the unknown value is named, never the value."""
    features = build([{"tensor": "t", "unknown": "refuse", **field}])
    with pytest.raises(InputRefused) as refusal:
        features.encode({field["field"]: column}, 2)
    assert [each.row for each in refusal.value.violations] == [1]
    assert "tea" not in str(refusal.value)
    assert "fax" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[4, 5, 6, 7], [9, 0, 0, 0], [0, 0, 0, 0]]),
        ({"length": 2}, [[6, 7], [9, 0], [0, 0]]),
        ({"length": 5, "pad": -1}, [[4, 5, 6, 7, -1], [9, -1, -1, -1, -1], [-1, -1, -1, -1, -1]]),
    ],
    ids=["longest", "cut", "padded"],
)
def test_sequence_of_integers(build, options, expected):
    """Lists are padded behind, keep their last items when cut, and a missing list is empty."""
    features = build([{"field": "history", "kind": "sequence", "tensor": "s", **options}])
    tensor = features.encode({"history": [[4, 5, 6, 7], [9], None]}, 3)["s"]
    assert tensor.tolist() == expected
    assert tensor.dtype == np.int64


@pytest.mark.parametrize(("unknown", "expected"), [("last", [[1, 3, 2]]), ("ignore", [[1, 2]])], ids=["last", "ignore"])
def test_sequence_of_labels(build, unknown, expected):
    """Labels count from 1, since 0 is the padding; unknown ones come last or are dropped."""
    entry = {"field": "items", "kind": "sequence", "tensor": "s", "vocabulary": ["milk", "bread"], "unknown": unknown}
    assert build([entry]).encode({"items": [["milk", "tea", "bread"]]}, 1)["s"].tolist() == expected


def test_features_of_one_tensor_stand_side_by_side(build):
    """Features that name one tensor fill its columns in the order of the file."""
    features = build(
        [
            {"field": "price", "kind": "numeric", "tensor": "x"},
            {"field": "items", "kind": "multi_hot", "tensor": "x", "vocabulary": ["milk", "bread"]},
            {"field": "member", "kind": "numeric", "tensor": "x"},
        ]
    )
    columns = {"price": [1.5, 2.5], "items": [["bread"], ["milk"]], "member": [True, False]}
    tensor = features.encode(columns, 2)["x"]
    assert tensor.tolist() == [[1.5, 0, 1, 1], [2.5, 1, 0, 0]]
    assert tensor.flags.c_contiguous


def test_raw_text_stays_text(build):
    """A raw text becomes an array of str objects, which travels as BYTES."""
    tensor = build([{"field": "note", "kind": "raw", "tensor": "t"}]).encode({"note": ["a", "b"]}, 2)["t"]
    assert tensor.dtype == object
    assert tensor.tolist() == ["a", "b"]


def test_one_text_without_any_dimension_is_a_tensor():
    """A graph may take a single text; its contract is not batched."""
    text = RawInput(field="note", tensor="t", dtype="str", shape=())
    assert text.tensor_of(np.array("Käse", dtype=object), 1, batched=False).tolist() == "Käse"


@pytest.mark.parametrize("column", [[1, None], ["x", "y"], [[1], [2, 3]]], ids=["missing", "text", "ragged"])
def test_raw_values_that_make_no_tensor_are_refused(build, column):
    """A raw column that is no array of the declared dtype is a typed refusal, not a crash."""
    features = build([{"field": "store_id", "kind": "raw", "tensor": "t"}])
    with pytest.raises(InputRefused):
        features.encode({"store_id": column}, 2)


@pytest.mark.parametrize("number", [2**40 + 3, -(2**40), 2**31], ids=["3 when cut", "0 when cut", "one too many"])
@pytest.mark.parametrize("column", [list, np.array], ids=["named", "v2"])
def test_a_whole_number_beyond_the_tensors_range_is_refused_on_every_door(build, number, column):
    """An identifier that int32 cannot hold is refused with its row; cut to 32 bits it was another item's."""
    raw = build([{"field": "store_id", "kind": "raw", "tensor": "t", "dtype": "int32"}])
    with pytest.raises(InputRefused):
        raw.encode({"store_id": column([1, number])}, 2)
    assert raw.encode({"store_id": column([1, 2**31 - 1])}, 2)["t"].tolist() == [1, 2**31 - 1]
    sequence = build([{"field": "history", "kind": "sequence", "tensor": "t", "dtype": "int32"}])
    with pytest.raises(InputRefused) as refusal:
        sequence.encode({"history": [[1], [2, number]]}, 2)
    assert [(each.row, each.code) for each in refusal.value.violations] == [(1, RejectionCode.RULE_RANGE)]
    assert sequence.encode({"history": [[1], [2, -(2**31)]]}, 2)["t"].tolist() == [[1, 0], [2, -(2**31)]]


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32"])
def test_an_identifier_of_more_than_64_bits_signed_is_refused_and_no_failure(build, dtype):
    """It is the caller's number: no model is blamed for it, unless its tensor holds it."""
    sequence = build([{"field": "history", "kind": "sequence", "tensor": "t", "dtype": dtype}])
    if dtype == "uint64":
        assert sequence.encode({"history": [[1], [2**63]]}, 2)["t"].tolist() == [[1], [2**63]]
    number = -1 if dtype == "uint64" else 2**63
    with pytest.raises(InputRefused) as refusal:
        sequence.encode({"history": [[1], [2, number]]}, 2)
    assert [(each.row, each.code) for each in refusal.value.violations] == [(1, RejectionCode.RULE_RANGE)]


@pytest.mark.parametrize("column", [list, np.array], ids=["named", "v2"])
@pytest.mark.parametrize(
    ("dtype", "number"), [("int64", 1.5), ("uint8", 0.25), ("bool", 0.5), ("bool", 2.0), ("bool", 7)]
)
def test_a_raw_number_that_its_tensor_cannot_hold_is_refused(build, dtype, number, column):
    """1.5 is not cut to 1, and 0.5 is not true."""
    features = build([{"field": "price", "kind": "raw", "tensor": "t", "dtype": dtype}])
    with pytest.raises(InputRefused) as refusal:
        features.encode({"price": column([type(number)(1), number])}, 2)
    assert [(each.row, each.code) for each in refusal.value.violations] == [(1, RejectionCode.TENSOR_DATA)]
    assert features.encode({"price": column([0.0, 1.0])}, 2)["t"].tolist() == [0, 1]
    assert features.encode({"price": column([])}, 0)["t"].shape == (0,)


@pytest.mark.parametrize("column", [list, np.array], ids=["named", "v2"])
@pytest.mark.parametrize(
    ("dtype", "number"), [("float32", 1e39), ("float16", -7e4), ("int64", 1e30), ("int64", 2.0**63)]
)
def test_a_raw_number_beyond_the_tensors_range_is_refused_on_every_door(build, dtype, number, column):
    """It never reaches the model as infinity, nor as the least number there is."""
    features = build([{"field": "price", "kind": "raw", "tensor": "t", "dtype": dtype}])
    with pytest.raises(InputRefused) as refusal:
        features.encode({"price": column([1.0, number])}, 2)
    assert {each.code for each in refusal.value.violations} == {RejectionCode.TENSOR_DATA}
    with pytest.raises(InputRefused):
        features.encode({"price": column([number])}, 1)
    assert features.encode({"price": column([1.0, 2.0])}, 2)["t"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "entry",
    [
        {"field": "channel", "kind": "category", "shape": []},
        {"field": "items", "kind": "sequence"},
    ],
    ids=["category", "sequence"],
)
def test_a_vocabulary_larger_than_its_tensor_can_number_is_refused(build, entry):
    """Learned or declared, 300 labels in int8 would share their numbers."""
    labels = [f"label {number:03}" for number in range(300)]
    column = labels if entry["kind"] == "category" else [labels]
    for vocabulary, learned in (({"top": 300}, {entry["field"]: column}), (labels, None)):
        with pytest.raises(DeclarationError, match="cannot hold"):
            build([{**entry, "tensor": "t", "dtype": "int8", "vocabulary": vocabulary}], None, learned)
    assert build([{**entry, "tensor": "t", "dtype": "int8", "vocabulary": labels[:126]}])


def test_a_padding_that_its_tensor_cannot_hold_is_refused(build):
    """When the features are made, not at every request."""
    with pytest.raises(DeclarationError, match="cannot hold -1"):
        build([{"field": "history", "kind": "sequence", "tensor": "t", "dtype": "uint8", "pad": -1}])
