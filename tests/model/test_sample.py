"""Invented records keep the contract they were invented for."""

import numpy as np
import pytest

from brownfield.contract import compile_contract
from brownfield.model import TensorSpec, sample_columns, sample_tensors


def _schema(properties, *, batched=True):
    ours = [{"property": "batched", "value": batched, "vendor": "brownfield"}]
    head = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "s", "version": "1", "status": "draft"}
    schema = {"name": "request", "properties": properties, "customProperties": ours}
    return compile_contract({**head, "schema": [schema]}).schema("request")


def _property(name, kind, options=None, **more):
    return {"name": name, "logicalType": kind, "logicalTypeOptions": options or {}, **more}


def _tensor(name, dtype, *shape):
    return {
        "name": name,
        "customProperties": [
            {"property": "tensor", "value": {"dtype": dtype, "shape": list(shape)}, "vendor": "brownfield"}
        ],
    }


EVERYTHING = [
    _property("plain", "integer"),
    _property("ranged", "integer", {"minimum": -7, "exclusiveMaximum": -4}),
    _property("wide", "integer", {"minimum": 0, "maximum": 2**53 - 1}),
    _property("from", "integer", {"minimum": 10}),
    _property("to", "number", {"maximum": -3.5}),
    _property("open", "number", {"exclusiveMinimum": 0, "exclusiveMaximum": 0.001}),
    _property("half", "number", {"format": "f32"}),
    _property("flag", "boolean"),
    _property("text", "string", {"minLength": 6, "maxLength": 8}),
    _property("short", "string", {"maxLength": 2}),
    _property("chosen", "string", enum=[{"value": "A"}, {"value": "B"}]),
    _property("day", "date", {"minimum": "2020-02-29"}),
    _property("at", "timestamp"),
    _property("items", "array", {"minItems": 7, "maxItems": 9}, items={"logicalType": "string"}),
    _property("none", "array", {"maxItems": 0}, items={"logicalType": "integer"}),
    _property(
        "picked",
        "array",
        {"uniqueItems": True},
        items={"logicalType": "string", "enum": [{"value": "x"}, {"value": "y"}]},
    ),
    _tensor("t", "float32", 3, None),
    _tensor("s", "str", 2),
    _tensor("b", "bool"),
    _tensor("u", "uint8", 4),
]


@pytest.mark.parametrize("seed", range(20))
def test_invented_records_are_admitted(seed):
    """Whatever a contract declares without a pattern, its own checker admits the records that were invented for it."""
    schema = _schema(EVERYTHING)
    columns = sample_columns(schema, 4, seed)
    assert schema.rows.check_columns(columns, 4).rows == 4


def test_a_schema_that_is_not_batched_gets_its_one_record():
    """Tensors of a schema that is not batched have their full shape, open dimensions the size that was asked for."""
    schema = _schema([_tensor("t", "float32", 2, None)], batched=False)
    columns = sample_columns(schema, 1, size=5)
    assert columns["t"].shape == (2, 5)
    assert schema.rows.check_columns(columns, 1).rows == 1


def test_the_same_seed_gives_the_same_records():
    """Records depend on the seed, and on nothing else."""
    schema = _schema([_property("n", "number"), _property("k", "integer", {"minimum": 0, "maximum": 10**6})])
    assert sample_columns(schema, 5, 1) == sample_columns(schema, 5, 1)
    assert sample_columns(schema, 5, 1) != sample_columns(schema, 5, 2)


def test_undeclared_numbers_are_small():
    """Without a range integers are 0 or 1, and numbers lie in [0, 1)."""
    columns = sample_columns(_schema([_property("k", "integer"), _property("n", "number")]), 200)
    assert set(columns["k"]) == {0, 1}
    assert all(0 <= value < 1 for value in columns["n"])


def test_values_come_from_the_vocabulary(contract, make_features):
    """Items are drawn from what the features know, each once in a record."""
    columns = sample_columns(contract.schema("request"), 50, features=make_features())
    assert {item for items in columns["basket"] for item in items} == {"a", "b", "c"}
    assert all(len(items) == len(set(items)) > 0 for items in columns["basket"])


def test_dimensions_of_one_name_have_one_size():
    """Tensors for a graph agree wherever it names two dimensions alike."""
    inputs = [
        TensorSpec("x", "float32", (None, None), ("batch", "length")),
        TensorSpec("state", "float16", (2, None, 4), ("", "batch", "")),
        TensorSpec("flag", "bool", (), ()),
    ]
    tensors = sample_tensors(inputs, 3, size=7)
    assert {name: (array.shape, array.dtype) for name, array in tensors.items()} == {
        "x": ((3, 7), np.dtype("float32")),
        "state": ((2, 3, 4), np.dtype("float16")),
        "flag": ((), np.dtype("bool")),
    }
