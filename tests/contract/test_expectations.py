"""What a refusal says was expected: from the contract alone, alike on every path, for every rule."""

import json

import numpy as np
import pyarrow as pa
import pytest

from brownfield.errors import InputRefused

RECORD = {"age": 7, "name": "Ada", "tags": ["a"], "at": "2026-01-31T12:00:00Z", "share": 0.5}


@pytest.fixture
def schema(compile_fields, make_document):
    """Fields of most kinds, one of them classified, and a record rule."""
    _, _, rule = make_document
    return compile_fields(
        {
            "name": "age",
            "logicalType": "integer",
            "logicalTypeOptions": {"format": "i8", "minimum": 1, "exclusiveMaximum": 99},
            "required": True,
            "classification": "restricted",
        },
        {"name": "name", "logicalType": "string", "logicalTypeOptions": {"minLength": 2, "pattern": "^[A-Z]"}},
        {
            "name": "tags",
            "logicalType": "array",
            "items": {"logicalType": "string", "enum": [{"value": each} for each in "abcdefghijkl"]},
            "logicalTypeOptions": {"maxItems": 1},
        },
        {"name": "at", "logicalType": "timestamp", "logicalTypeOptions": {"minimum": "2026-01-01T00:00:00Z"}},
        {"name": "share", "logicalType": "number"},
        quality=[rule("grown", "age >= 5 or share < 1")],
    )


CASES = {
    "absent": ({"age": None}, "age.required", "a value"),
    "type": ({"age": "canary"}, "age.type", "a whole number, not in quotes"),
    "width": ({"age": 4711}, "age.exact", "a whole number that int8 holds: -128 to 127"),
    "range": ({"age": 101}, "age.range", "at least 1 and less than 99"),
    "length": ({"name": "C"}, "name.length", "at least 2 characters"),
    "pattern": ({"name": "canary"}, "name.pattern", "text of at most 256 characters that matches ^[A-Z]"),
    "items": ({"tags": ["a", "b"]}, "tags.items", "at most 1 item"),
    "enum": (
        {"tags": ["canary"]},
        "tags[].enum",
        "one of 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j' and 2 more",
    ),
    "time": ({"at": "2025-12-31T00:00:00Z"}, "at.range", "at least 2026-01-01T00:00:00+00:00"),
    "zone": ({"at": "2026-02-01T00:00:00"}, "at.zone", "a time with its offset, as 2026-01-31T12:00:00+01:00"),
    "number": ({"share": "canary"}, "share.type", "a number, not in quotes"),
    "record": ({"age": 4, "share": 2.0}, "grown", "a record for which age >= 5 or share < 1"),
}


@pytest.mark.parametrize(("change", "rule", "expected"), CASES.values(), ids=CASES.keys())
def test_every_path_says_what_was_expected_and_never_what_was_sent(schema, change, rule, expected):
    """JSON, records and tables give the same words; the sent value is not among them."""
    record = {**RECORD, **change}
    found = []
    for refuse in (lambda: schema.rows.decode(json.dumps(record).encode()), lambda: schema.rows.check([record])):
        with pytest.raises(InputRefused) as refused:
            refuse()
        found.append(refused.value.violations)
        assert str(refused.value).endswith(f"expected {expected}")
        assert "canary" not in str(refused.value)
    table = pa.table({name: pa.array([value]) for name, value in record.items()})
    [rejection] = schema.batches.check(table).rejected
    found.append(rejection.violations)
    assert [(each.rule, each.expected) for each in found[0]] == [(rule, expected)]
    assert found[0] == found[1] == found[2]


def test_a_field_that_is_not_declared_is_told_the_declared_ones(schema):
    """Who has misspelt a key sees the keys."""
    with pytest.raises(InputRefused, match="one of the declared fields: age, name, tags, at, share"):
        schema.rows.check([{**RECORD, "Age": 7}])


def test_a_tensor_is_told_its_shape(compile_fields, make_document):
    """The first dimension is the rows; a free one is any, but alike in every record."""
    _, ours, _ = make_document
    tensor = ours(tensor={"dtype": "float32", "shape": [2, None]})
    schema = compile_fields({"name": "x", "customProperties": tensor})
    with pytest.raises(InputRefused, match=r"expected the shape \[rows, 2, any\], alike in every record"):
        schema.rows.check_columns({"x": np.zeros((1, 3, 1), np.float32)}, 1)
    with pytest.raises(InputRefused, match="expected values of the type float32"):
        schema.rows.check_columns({"x": np.zeros((1, 2, 1), np.complex64)}, 1)


def test_words_are_made_for_refused_records_alone(schema):
    """Good records cost nothing: nothing was put into words before the first refusal."""
    schema.rows.decode(json.dumps(RECORD).encode())
    schema.rows.check([RECORD])
    assert "expected" not in schema.__dict__
    with pytest.raises(InputRefused):
        schema.rows.check([{}])
    assert "expected" in schema.__dict__
