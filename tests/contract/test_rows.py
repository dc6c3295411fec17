"""The row path: requests as JSON, records and tensors, and the answers of models."""

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from brownfield.contract.rows import MAX_VIOLATIONS
from brownfield.errors import InputRefused, RejectionCode


def _refusal(work, *arguments) -> list[tuple[str, str, str]]:
    with pytest.raises(InputRefused) as caught:
        work(*arguments)
    return [(each.field, each.rule, each.code.name) for each in caught.value.violations]


def test_one_object_and_many_become_columns(contract) -> None:
    """One object and an array of objects are read into columns, with the imputed value where one is missing."""
    rows = contract.schema("request").rows
    one = rows.decode(b'{"store_id": 3, "items": ["MILK"]}')
    many = rows.decode(b'[{"store_id": 3, "items": []}, {"store_id": 4, "items": ["A", "B"], "channel": "web"}]')
    assert (one.single, one.rows, one.record(0)) == (True, 1, {"store_id": 3, "items": ["MILK"], "channel": "till"})
    assert (many.single, many.rows) == (False, 2)
    assert many.columns == {"store_id": [3, 4], "items": [[], ["A", "B"]], "channel": ["till", "web"]}


def test_every_violation_is_collected_in_order(contract) -> None:
    """All broken fields of all records are named at once, by path and row."""
    records = [{"store_id": 0, "items": ["A", "", 3]}, {"items": None, "channel": "fax", "till": 1}]
    with pytest.raises(InputRefused) as caught:
        contract.schema("request").rows.decode(json.dumps(records).encode())
    assert [(each.row, each.field, each.rule, each.code.name) for each in caught.value.violations] == [
        (0, "store_id", "store_id.range", "RULE_RANGE"),
        (0, "items[1]", "items[].length", "RULE_LENGTH"),
        (0, "items[2]", "items[].type", "FIELD_TYPE"),
        (1, "store_id", "store_id.required", "FIELD_MISSING"),
        (1, "items", "items.required", "FIELD_NULL"),
        (1, "channel", "channel.enum", "RULE_ENUM"),
        (1, "till", "closed", "FIELD_UNKNOWN"),
    ]


def test_violations_are_capped(contract) -> None:
    """A refusal carries at most a hundred violations, however many there are."""
    body = json.dumps([{"store_id": 0, "items": [""] * 50}] * 1000).encode()
    assert len(_refusal(contract.schema("request").rows.decode, body)) == MAX_VIOLATIONS


CARD = "4929-1234"


def test_a_refusal_never_holds_a_value(contract) -> None:
    """No value of a record stands in the message or in the violations."""
    record = {"store_id": CARD, "items": [CARD * 20], "channel": CARD}
    with pytest.raises(InputRefused) as caught:
        contract.schema("request").rows.decode(json.dumps(record).encode())
    assert CARD not in str(caught.value) + repr(caught.value.violations)


@pytest.mark.parametrize("name", ["__proto__", "__class__", "$ref", "$type", "constructor"])
def test_b_17_special_names_are_unknown_fields(contract, name) -> None:
    """B-17: names that other systems treat specially are unknown fields here."""
    body = json.dumps({"store_id": 1, "items": [], name: {"a": 1}}).encode()
    assert _refusal(contract.schema("request").rows.decode, body) == [(name, "closed", "FIELD_UNKNOWN")]


def test_a_long_unprintable_unknown_name_is_shown_short(contract) -> None:
    """An unknown name is echoed cut and printable, so that it can neither flood nor forge a log."""
    body = json.dumps({"store_id": 1, "items": [], "\n" + "x" * 500: 1}).encode()
    assert _refusal(contract.schema("request").rows.decode, body)[0][0] == "?" + "x" * 63


COERCED = {
    "B-15-fraction-for-integer": ("integer", "1.5", "FIELD_INEXACT"),
    "B-15-beyond-int64": ("integer", "9223372036854775808", "FIELD_INEXACT"),
    "B-15-whole-beyond-2-53-for-float": ("number", "9007199254740993", "FIELD_INEXACT"),
    "B-19-quoted-integer": ("integer", '"1"', "FIELD_TYPE"),
    "B-19-quoted-comma": ("number", '"1,5"', "FIELD_TYPE"),
    "B-19-quoted-point": ("number", '"1.5"', "FIELD_TYPE"),
    "B-19-quoted-spaces": ("integer", '" 7 "', "FIELD_TYPE"),
    "B-19-arabic-digit": ("integer", '"٣"', "FIELD_TYPE"),
    "B-19-boolean-for-integer": ("integer", "true", "FIELD_TYPE"),
    "B-19-one-for-boolean": ("boolean", "1", "FIELD_TYPE"),
    "B-19-Y-for-boolean": ("boolean", '"Y"', "FIELD_TYPE"),
    "B-19-text-true": ("boolean", '"true"', "FIELD_TYPE"),
    "B-19-number-for-text": ("string", "7", "FIELD_TYPE"),
    "B-19-object-for-text": ("string", '{"a": 1}', "FIELD_TYPE"),
    "B-18-null-for-required": ("integer", "null", "FIELD_NULL"),
    "B-35-day-first": ("date", '"28.02.2026"', "FIELD_TYPE"),
    "B-35-two-digit-year": ("date", '"26-02-28"', "FIELD_TYPE"),
    "B-35-30-february": ("date", '"2026-02-30"', "FIELD_TYPE"),
    "B-35-compact": ("date", '"20260228"', "FIELD_TYPE"),
    "B-35-epoch": ("date", "1771977600", "FIELD_TYPE"),
    "B-35-time-for-date": ("date", '"2026-02-28T00:00:00"', "FIELD_TYPE"),
    "B-35-local-without-zone": ("timestamp", '"2026-02-28T10:00:00"', "FIELD_ZONE"),
    "B-35-leap-second": ("timestamp", '"2016-12-31T23:59:60Z"', "FIELD_TYPE"),
    "B-35-nanoseconds": ("timestamp", '"2026-02-28T10:00:00.123456789Z"', "FIELD_TYPE"),
    "B-35-lower-case": ("timestamp", '"2026-02-28t10:00:00z"', "FIELD_TYPE"),
}


@pytest.mark.parametrize(("kind", "text", "code"), COERCED.values(), ids=COERCED)
def test_nothing_is_coerced(compile_fields, kind, text, code) -> None:
    """A value of another type, or one that the type cannot hold, is refused and never turned into a like one."""
    schema = compile_fields({"name": "v", "logicalType": kind, "required": True})
    assert [each[2] for each in _refusal(schema.rows.decode, f'{{"v": {text}}}'.encode())] == [code]


def test_b_34_sentinels_become_missing_by_policy(compile_fields, make_document) -> None:
    """B-34: declared sentinels are missing values: refused, imputed or passed on as declared."""
    _, ours, _ = make_document

    def field(**properties):
        return {"name": "q", "logicalType": "integer", "customProperties": ours(sentinels=[-1, 999999], **properties)}

    body = b'[{"q": 5}, {"q": -1}, {"q": 999999}, {"q": null}, {}]'
    passed = compile_fields(field()).rows.decode(body)
    imputed = compile_fields(field(nullPolicy="impute", impute=0)).rows.decode(body)
    assert passed.columns["q"] == [5, None, None, None, None]
    assert imputed.columns["q"] == [5, 0, 0, 0, 0]
    assert _refusal(compile_fields(field(nullPolicy="reject")).rows.decode, body) == [
        ("q", "q.null", "FIELD_NULL"),
        ("q", "q.null", "FIELD_NULL"),
        ("q", "q.required", "FIELD_NULL"),
        ("q", "q.required", "FIELD_MISSING"),
    ]


def test_b_34_a_sentinel_date_outside_the_range(compile_fields, make_document) -> None:
    """B-34: 9999-12-31 means "no date" where it is declared, and breaks the range where it is not."""
    _, ours, _ = make_document
    bounds = {"name": "d", "logicalType": "date", "logicalTypeOptions": {"maximum": "2030-01-01"}}
    body = b'{"d": "9999-12-31"}'
    assert _refusal(compile_fields(bounds).rows.decode, body) == [("d", "d.range", "RULE_RANGE")]
    declared = compile_fields(bounds | {"customProperties": ours(sentinels=["9999-12-31"])})
    assert declared.rows.decode(body).columns == {"d": [None]}


def _of(kind, **options) -> dict:
    return {"logicalType": kind, "logicalTypeOptions": options}


NUMBERS = {"items": {"logicalType": "integer"}}
BROKEN = {
    "B-33-minimum": (_of("integer", minimum=1), 0, "v.range"),
    "B-33-exclusive": (_of("number", exclusiveMaximum=1), 1.0, "v.range"),
    "B-33-enum": (_of("string") | {"enum": [{"value": "A"}]}, "B", "v.enum"),
    "B-33-number-enum": (_of("number") | {"enum": [{"value": 0.5}]}, 0.25, "v.enum"),
    "B-33-date": (_of("date", minimum="2026-01-01"), "2025-12-31", "v.range"),
    "B-33-width": (_of("integer", format="u8"), 256, "v.exact"),
    "B-33-float-width": (_of("number", format="f32"), 1e39, "v.exact"),
    "pattern": (_of("string", pattern="^[A-Z]$"), "A\n", "v.pattern"),
    "pattern-on-long-text": (_of("string", pattern="^a"), "a" * 257, "v.pattern"),
    "length": (_of("string", maxLength=2), "日本語", "v.length"),
    "items": (_of("array", minItems=2) | NUMBERS, [1], "v.items"),
    "unique-items": (_of("array", uniqueItems=True) | NUMBERS, [1, 2, 1.0], "v.unique_items"),
}


@pytest.mark.parametrize(("field", "value", "rule"), BROKEN.values(), ids=BROKEN)
def test_each_rule_refuses(compile_fields, field, value, rule) -> None:
    """Each kind of rule is reported under its own identifier."""
    rows = compile_fields({"name": "v", **field}).rows
    assert [each[1] for each in _refusal(rows.decode, json.dumps({"v": value}).encode())] == [rule]


def test_timestamps_become_utc(compile_fields) -> None:
    """Offsets and the declared zone are applied, and the value is an instant in UTC."""
    options = {"defaultTimezone": "Europe/Berlin"}
    rows = compile_fields({"name": "t", "logicalType": "timestamp", "logicalTypeOptions": options}).rows
    body = b'[{"t": "2026-07-01T12:00:00"}, {"t": "2026-07-01 12:00:00.5+05:30"}]'
    assert rows.decode(body).columns["t"] == [
        datetime(2026, 7, 1, 10, tzinfo=UTC),
        datetime(2026, 7, 1, 6, 30, 0, 500_000, tzinfo=UTC),
    ]


@pytest.mark.parametrize("text", ["2026-03-29T02:30:00", "2026-10-25T02:30:00"], ids=["B-35-gap", "B-35-overlap"])
def test_b_35_unclear_local_times_are_refused(compile_fields, text) -> None:
    """B-35: a local time that the zone skips or repeats has no single instant and is refused."""
    options = {"defaultTimezone": "Europe/Berlin"}
    rows = compile_fields({"name": "t", "logicalType": "timestamp", "logicalTypeOptions": options}).rows
    assert _refusal(rows.decode, json.dumps({"t": text}).encode()) == [("t", "t.zone", "FIELD_ZONE")]


def test_record_rules_look_at_accepted_fields_only(contract) -> None:
    """A record rule is reported for the record as a whole, and not where one of its fields was refused already."""
    rows = contract.schema("response").rows
    assert _refusal(rows.check, [{"items": ["A"], "scores": []}]) == [("", "score-per-item", "RULE_RECORD")]
    assert _refusal(rows.check, [{"items": ["A"], "scores": [2.0, 3.0]}]) == [
        ("scores[0]", "scores[].range", "RULE_RANGE"),
        ("scores[1]", "scores[].range", "RULE_RANGE"),
    ]


@pytest.mark.parametrize(("on_null", "accepted"), [("pass", True), ("refuse", False)])
def test_a_missing_rule_passes_unless_it_says_otherwise(compile_fields, make_document, on_null, accepted) -> None:
    """A rule over a missing value lets the record pass, or refuses it, as declared."""
    _, _, rule = make_document
    rows = compile_fields(
        {"name": "q", "logicalType": "integer"}, quality=[rule("q-positive", "q > 0", onNull=on_null)]
    ).rows
    if accepted:
        assert rows.decode(b'{"q": null}').columns == {"q": [None]}
    else:
        assert _refusal(rows.decode, b'{"q": null}') == [("", "q-positive", "RULE_RECORD")]


def test_records_of_other_systems_are_read(compile_fields) -> None:
    """Dates, decimals and NumPy values that sources bring are accepted as what they are."""
    kinds = {"d": "date", "n": "number", "i": "integer", "b": "boolean", "t": "timestamp"}
    rows = compile_fields(*({"name": name, "logicalType": kind} for name, kind in kinds.items())).rows
    record = {
        "d": date(2026, 2, 28),
        "n": Decimal("0.1"),
        "i": np.int16(3),
        "b": np.True_,
        "t": datetime(2026, 2, 28, tzinfo=UTC),
    }
    assert rows.check([record]).record(0) == record | {"n": 0.1, "i": 3, "b": True}


def test_names_of_any_spelling_are_fields(compile_fields) -> None:
    """Names as graphs have them (dots, colons, spaces) are fields like others."""
    names = ["input.1", "onnx::Gather_0", "serving_default_x:0", "class", "a b"]
    rows = compile_fields(*({"name": name, "logicalType": "integer", "required": True} for name in names)).rows
    record = dict(zip(names, range(5), strict=True))
    assert rows.decode(json.dumps(record).encode()).record(0) == record


def test_columns_of_arrays_are_checked_as_a_whole(contract, compile_fields) -> None:
    """Arrays of V2 inputs and model outputs are accepted as they stand, as a column or with one column."""
    rows = compile_fields(
        {
            "name": "q",
            "logicalType": "integer",
            "required": True,
            "logicalTypeOptions": {"format": "i32", "minimum": 0},
        },
        {"name": "p", "logicalType": "number", "required": True},
    ).rows
    quantities, probabilities = np.array([[1], [2]], dtype=np.int64), np.array([0.5, 1.5], dtype=np.float32)
    checked = rows.check_columns({"q": quantities, "p": probabilities}, 2)
    assert checked.columns["q"].tolist() == [1, 2]
    assert checked.columns["p"] is probabilities
    assert checked.record(1) == {"q": 2, "p": 1.5}


OUTPUTS = {
    "nan": (np.array([[0.5, math.nan]], dtype=np.float32), "scores[].finite"),
    "infinite": (np.array([[0.5, math.inf]], dtype=np.float32), "scores[].finite"),
    "out-of-range": (np.array([[0.5, 1.5]], dtype=np.float32), "scores[].range"),
    "too-many": (np.zeros((1, 11), dtype=np.float32), "scores.items"),
    "too-many-rows": (np.zeros((2, 2), dtype=np.float32), "scores.shape"),
    "text": (np.array([["a", "b"]]), "scores[].type"),
    "scalar": (np.float32(1), "scores.shape"),
    "flat": (np.zeros(1, dtype=np.float32), "scores.type"),
}


@pytest.mark.parametrize(("scores", "rule"), OUTPUTS.values(), ids=OUTPUTS)
def test_a_models_answer_is_held_to_the_contract(contract, scores, rule) -> None:
    """NaN, values out of range and wrong shapes in a model's answer are refused by the response's rules."""
    rows = contract.schema("response").rows
    assert _refusal(rows.check_columns, {"items": [["A", "B"]], "scores": np.asarray(scores)}, 1)[0][1] == rule


def test_missing_and_unknown_columns_are_named(contract) -> None:
    """An absent column is a missing field, and a column that the contract does not have is refused."""
    rows = contract.schema("response").rows
    assert _refusal(rows.check_columns, {"items": [[]], "score": [[]]}, 1) == [
        ("scores", "scores.required", "FIELD_MISSING"),
        ("score", "closed", "FIELD_UNKNOWN"),
    ]


def test_padded_lists_lose_their_padding(compile_fields, make_document) -> None:
    """A list field as a rectangular tensor is cut at its declared padding; text lists are padded with empty text."""
    _, ours, _ = make_document
    rows = compile_fields(
        {"name": "words", "logicalType": "array", "items": {"logicalType": "string"}},
        {
            "name": "codes",
            "logicalType": "array",
            "items": {"logicalType": "integer", "logicalTypeOptions": {"minimum": 1}},
            "customProperties": ours(padding=-1),
        },
    ).rows
    words = np.array([["A", "B"], ["C", ""]], dtype=object)
    codes = np.array([[1, -1, -1], [1, 2, 3]])
    checked = rows.check_columns({"words": words, "codes": codes}, 2)
    assert checked.columns == {"words": [["A", "B"], ["C"]], "codes": [[1], [1, 2, 3]]}


SHORT = {
    "maximum": ({"logicalTypeOptions": {"maximum": 0.1}}, 0.1),
    "minimum": ({"logicalTypeOptions": {"minimum": 0.7, "format": "f32"}}, 0.7),
    "enum": ({"enum": [{"value": 0.1}, {"value": 0.2}]}, 0.2),
}


@pytest.mark.parametrize(("declared", "value"), SHORT.values(), ids=SHORT)
def test_declared_decimals_are_known_again_in_32_bits(compile_fields, declared, value) -> None:
    """What 32 bits make of an admitted bound or value is that value on both paths; what lies beyond is refused."""
    schema = compile_fields({"name": "x", "logicalType": "number", "required": True, **declared})
    for array in (np.array([value], np.float32), np.array([[value]], np.float32)):
        assert list(schema.rows.check_columns({"x": array}, 1).columns["x"]) == [value]
    assert schema.rows.decode(json.dumps({"x": float(np.float32(value))}).encode()).columns["x"] == [value]
    assert schema.batches.check(pa.table({"x": pa.array([value], pa.float32())})).rejected == []
    beyond = np.nextafter(np.float32(value), np.float32(0 if "minimum" in str(declared) else 1))
    assert _refusal(schema.rows.check_columns, {"x": np.array([beyond])}, 1)[0][0] == "x"
    assert schema.batches.check(pa.table({"x": pa.array([beyond], pa.float32())})).rejected


def test_b_34_a_sentinel_in_32_bits_is_a_missing_value(compile_fields, make_document) -> None:
    """A sentinel with a fraction is no measurement when it comes as a float of 32 bits; so is padding of lists."""
    _, ours, _ = make_document
    schema = compile_fields(
        {"name": "t", "logicalType": "number", "customProperties": ours(sentinels=[-99.9])},
        {
            "name": "past",
            "logicalType": "array",
            "items": {"logicalType": "number"},
            "customProperties": ours(padding=-9.9),
        },
    )
    t, past = np.array([-99.9, 20.5], np.float32), np.array([[1.5, -9.9], [-9.9, -9.9]], np.float32)
    assert schema.rows.check_columns({"t": t, "past": past}, 2).columns == {"t": [None, 20.5], "past": [[1.5], []]}
    accepted = schema.batches.check(pa.table({"t": pa.array(t)})).accepted
    assert accepted["t"].to_pylist() == [None, 20.5]


def _tensor(ours, dtype="float32", shape=(2,), **more):
    return {"name": "x", "customProperties": ours(tensor={"dtype": dtype, "shape": list(shape)}), **more}


def test_tensors_are_stacked_by_rows(compile_fields, make_document) -> None:
    """In a batched schema the tensors of records become one array whose first dimension is the rows."""
    _, ours, _ = make_document
    rows = compile_fields(_tensor(ours)).rows
    checked = rows.decode(b'[{"x": [1, 2.5]}, {"x": [3, 4]}]')
    array = checked.columns["x"]
    assert (array.dtype, array.tolist(), checked.record(1)["x"].tolist()) == (
        np.float32,
        [[1.0, 2.5], [3.0, 4.0]],
        [3.0, 4.0],
    )
    assert rows.check_columns({"x": array}, 2).columns["x"].tolist() == array.tolist()


def test_a_schema_that_is_not_batched_takes_one_record(compile_fields, make_document) -> None:
    """Without batches a request is exactly one record, and its tensors have the declared shape as a whole."""
    _, ours, _ = make_document
    rows = compile_fields(_tensor(ours, shape=(2, 1, None)), customProperties=ours(batched=False)).rows
    checked = rows.decode(b'{"x": [[[1, 2]], [[3, 4]]]}')
    assert (checked.rows, checked.columns["x"].shape, checked.record(0)["x"].shape) == (1, (2, 1, 2), (2, 1, 2))
    assert rows.check_columns({"x": checked.columns["x"]}, 1).columns["x"].shape == (2, 1, 2)
    assert _refusal(rows.decode, b'[{"x": [[[1]], [[3]]]}, {"x": [[[1]], [[3]]]}]') == [
        ("", "batched", "REQUEST_TOO_MANY_ROWS")
    ]


TENSORS = {
    "short": ("float32", [1.0], "x.shape", "TENSOR_SHAPE"),
    "deep": ("float32", [[1.0], [2.0]], "x.dtype", "TENSOR_DATA"),
    "B-27-ragged": ("float32", [[1.0], 2.0], "x.dtype", "TENSOR_DATA"),
    "quoted": ("float32", ["1", "2"], "x.dtype", "TENSOR_DATA"),
    "B-19-boolean": ("int32", [True, 1], "x.dtype", "TENSOR_DATA"),
    "null": ("float32", [1.0, None], "x.dtype", "TENSOR_DATA"),
    "B-15-fraction": ("int32", [1.5, 1], "x.dtype", "TENSOR_DATA"),
    "overflow": ("int8", [1, 300], "x.exact", "FIELD_INEXACT"),
    "float-overflow": ("float32", [1e39, 0], "x.exact", "FIELD_INEXACT"),
    "B-15-large-whole": ("float64", [2**53 + 1, 0], "x.exact", "FIELD_INEXACT"),
    "text-for-list": ("str", "ab", "x.dtype", "TENSOR_DATA"),
    "missing": ("float32", None, "x.required", "FIELD_NULL"),
}


@pytest.mark.parametrize(("dtype", "value", "rule", "code"), TENSORS.values(), ids=TENSORS)
def test_a_tensor_in_json_is_checked(compile_fields, make_document, dtype, value, rule, code) -> None:
    """Nested lists of the wrong shape, type or width are refused for the tensor as a whole."""
    _, ours, _ = make_document
    rows = compile_fields(_tensor(ours, dtype)).rows
    assert _refusal(rows.decode, json.dumps({"x": value}).encode()) == [("x", rule, code)]


ARRAYS = {
    "nan": (np.array([[1, math.nan]], dtype=np.float32), "x.finite", "RULE_RANGE"),
    "range": (np.array([[1, 11]], dtype=np.float32), "x.range", "RULE_RANGE"),
    "wider": (np.array([[1, 2]], dtype=np.float64), "x.dtype", "TENSOR_DATATYPE"),
    "integers": (np.array([[1, 2]], dtype=np.int8), "x.dtype", "TENSOR_DATATYPE"),
    "B-28-objects": (np.array([[1.0, None]], dtype=object), "x.dtype", "TENSOR_DATATYPE"),
    "rows": (np.zeros((2, 2), dtype=np.float32), "x.shape", "TENSOR_SHAPE"),
}


@pytest.mark.parametrize(("array", "rule", "code"), ARRAYS.values(), ids=ARRAYS)
def test_a_tensor_as_an_array_is_checked(compile_fields, make_document, array, rule, code) -> None:
    """Arrays with NaN, out of range, of another width or shape are refused, and so is what a model gives."""
    _, ours, _ = make_document
    rows = compile_fields(_tensor(ours, logicalTypeOptions={"minimum": 0, "maximum": 10})).rows
    assert _refusal(rows.check_columns, {"x": array}, 1) == [("x", rule, code)]


def test_narrower_arrays_are_widened(compile_fields, make_document) -> None:
    """An array whose type fits into the declared one without loss is converted."""
    _, ours, _ = make_document
    rows = compile_fields(_tensor(ours, "float64")).rows
    checked = rows.check_columns({"x": np.array([[1, 2]], dtype=">f4")}, 1)
    assert checked.columns["x"].dtype == np.float64
    assert checked.columns["x"].flags["C_CONTIGUOUS"]


def test_text_tensors_hold_text(compile_fields, make_document) -> None:
    """Tensors of text are arrays of objects, and only text without NUL is in them."""
    _, ours, _ = make_document
    rows = compile_fields(_tensor(ours, "str")).rows
    assert rows.decode(b'{"x": ["a:b", "c"]}').columns["x"].tolist() == [["a:b", "c"]]
    assert _refusal(rows.check_columns, {"x": np.array([["a", b"b"]], dtype=object)}, 1) == [
        ("x", "x.text", "TENSOR_DATA")
    ]


def test_declared_non_finite_values_pass(compile_fields, make_document) -> None:
    """NaN and infinities are admitted where the contract says so."""
    _, ours, _ = make_document
    rows = compile_fields({"name": "v", "logicalType": "number", "customProperties": ours(nonFinite=True)}).rows
    assert math.isnan(rows.check([{"v": math.nan}]).columns["v"][0])
    assert RejectionCode.JSON_NUMBER.name in _refusal(rows.decode, b'{"v": NaN}')[0]
