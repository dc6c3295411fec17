"""The row path and the batch path are two compilations of one rule tree: they must never disagree."""

import json
import math
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from brownfield.contract import Schema, compile_contract
from brownfield.errors import ContractError, InputRefused

FAST = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)

TEXT = st.one_of(
    st.sampled_from(
        [
            "",
            "A",
            "AB",
            "abc",
            "N/A",
            "é",
            "日本",
            "a\n",
            "A-1",
            "2026-02-28",
            "0000-01-01",
            "😀",
            "a:b",
            "\x0b",
            "x" * 300,
        ]
    ),
    st.text(max_size=6),
)
WHOLE = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([-1, 127, 128, 255, 2**24, 2**24 + 1, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]),
)
FLOATS = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, 2.5, math.nan, math.inf, -math.inf, 1e300, 3.5e38, 2.0**53, 5e-324]),
)
DATES = st.sampled_from(
    ["2026-02-28", "2026-02-30", "2026-2-1", "1999-12-31", "9999-12-31", "0001-01-01", "28.02.2026", ""]
)
MOMENTS = st.sampled_from(
    ["2026-03-29T02:30:00", "2026-10-25T02:30:00", "2026-07-01T12:00:00", "2026-07-01 12:00:00.5", "2026-07-01T12:00:00Z",
     "2026-07-01T12:00:00+14:00", "0001-01-01T00:00:00+14:00", "2026-07-01T24:00:00Z", "2026-06-30T23:59:60Z", "x"]
)  # fmt: skip
MOMENT_VALUES = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1))
VALUES = {
    "string": TEXT,
    "integer": st.one_of(WHOLE, FLOATS),
    "number": st.one_of(FLOATS, WHOLE),
    "boolean": st.booleans(),
    "date": st.one_of(DATES, st.dates()),
    "timestamp": st.one_of(MOMENTS, MOMENT_VALUES),
}
ANY = st.one_of(TEXT, WHOLE, FLOATS, st.booleans(), st.dates(), MOMENT_VALUES, st.lists(st.integers(0, 3), max_size=2))
PATTERNS = ["^[A-Z]", "a$", r"^\w*$", r"^[A-Z]-\d{1,3}$", ".", r"\s", "^(ab|cd)?$", r"[^a-z]", r"\b\w"]


def _bounds(draw, values, options):
    for key in draw(
        st.lists(
            st.sampled_from(["minimum", "exclusiveMaximum", "maximum", "exclusiveMinimum"]), max_size=2, unique=True
        )
    ):
        options[key] = draw(values)


@st.composite
def properties(draw, name, *, item=False):
    """One property of a contract with rules of its kind."""
    kind = draw(
        st.sampled_from(["string", "integer", "number", "boolean", "date", "timestamp"] + ([] if item else ["array"]))
    )
    options: dict = {}
    custom: dict = {}
    prop: dict = {"logicalType": kind, "logicalTypeOptions": options}
    small = {"string": st.sampled_from(["A", "AB", "N/A", "A-1", "é"]), "integer": st.integers(-3, 3), "number": st.sampled_from([-1.5, 0.0, 1.0, 2.5]),
             "date": st.sampled_from(["2026-02-28", "1999-12-31", "9999-12-31"]), "timestamp": st.sampled_from(["2026-07-01T12:00:00Z", "2020-01-01T00:00:00+02:00"])}  # fmt: skip
    if kind == "string":
        if draw(st.booleans()):
            options["maxLength"] = draw(st.integers(1, 5))
        if draw(st.booleans()):
            options["pattern"] = draw(st.sampled_from(PATTERNS))
    if kind in ("integer", "number", "date", "timestamp"):
        _bounds(draw, small[kind], options)
    if kind == "integer":
        options["format"] = draw(st.sampled_from(["i8", "i32", "i64", "u8", "u64"]))
    if kind == "number":
        options["format"] = draw(st.sampled_from(["f32", "f64"]))
        custom["nonFinite"] = draw(st.booleans())
    if kind == "timestamp" and draw(st.booleans()):
        options["defaultTimezone"] = draw(st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "UTC"]))
    if kind == "array":
        options |= draw(st.sampled_from([{}, {"minItems": 1}, {"maxItems": 2}, {"uniqueItems": True}]))
        prop["items"] = draw(properties("", item=True))
    if kind in small and draw(st.integers(0, 3)) == 0:
        prop["enum"] = [{"value": value} for value in draw(st.lists(small[kind], min_size=1, max_size=3, unique=True))]
    if not item:
        prop["name"] = name
        prop["required"] = draw(st.booleans())
        if kind in small and draw(st.booleans()):
            custom["sentinels"] = draw(st.lists(small[kind], min_size=1, max_size=2, unique=True))
        custom["nullPolicy"] = draw(st.sampled_from(["reject", "pass", "impute"]))
        if custom["nullPolicy"] == "impute" and kind in small:
            custom["impute"] = draw(small[kind])
    prop["customProperties"] = [
        {"property": key, "value": value, "vendor": "brownfield"} for key, value in custom.items()
    ]
    return prop


RULES = [
    "{a} is not null", "not ({a} is null or {b} is null)", "{a} == {b}", "{a} != {b} and {a} is not null", "{a} < {b}", "{a} + 1 > {b} * 2",
    "{a} / {b} < 1 or {a} in (1, 2)", "{a} in ('A', 'AB')", "not {a} in (0, 1)", "length({a}) > 1", "{a} > 1.5", "{a} >= 2", "-{a} < 9007199254740993",
    "{a} >= '2026-02-28'", "{a} < '2026-07-01T12:00:00Z'", "{a}", "not {a} or {b} is null", "{a} < 'B' or length({b}) == 2", "{a} - {a} == 0", "{a} == true",
]  # fmt: skip


@st.composite
def schemas(draw) -> Schema:
    """A compiled schema of two fields and up to three record rules."""
    fields = [draw(properties("a")), draw(properties("b"))]
    base = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "t", "version": "1", "status": "active"}
    quality = []
    for number, rule in enumerate(draw(st.lists(st.sampled_from(RULES), max_size=3))):
        first, second = draw(st.sampled_from([("a", "b"), ("b", "a")]))
        check = {"id": f"rule-{number}", "type": "custom", "engine": "brownfield",
                 "implementation": {"rule": rule.format(a=first, b=second), "onNull": draw(st.sampled_from(["pass", "refuse"]))}}  # fmt: skip
        try:
            compile_contract({**base, "schema": [{"name": "s", "properties": fields, "quality": [check]}]})
        except ContractError:
            continue
        quality.append(check)
    try:
        return compile_contract({**base, "schema": [{"name": "s", "properties": fields, "quality": quality}]}).schema(
            "s"
        )
    except ContractError:
        assume(False)
        raise


def _row_verdicts(schema, records):
    verdicts, kept = [], []
    for record in records:
        try:
            kept.append(schema.rows.check([record]).record(0))
            verdicts.append(())
        except InputRefused as refused:
            verdicts.append(tuple((each.field, each.rule, each.code) for each in refused.violations))
    return verdicts, kept


def _batch_verdicts(schema, table):
    verdict = schema.batches.check(table)
    verdicts = [()] * table.num_rows
    for rejection in verdict.rejected:
        verdicts[rejection.row] = tuple((each.field, each.rule, each.code) for each in rejection.violations)
    assert verdict.accepted.num_rows + len(verdict.rejected) == table.num_rows
    verdict.accepted.validate(full=True)
    return verdicts, verdict.accepted.to_pylist()


def _same(left, right) -> bool:
    """Equal values, where NaN equals itself and a 32-bit float equals the number it was rounded from."""
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right)) or np.float32(left) == np.float32(right)
    return left == right and type(left) is type(right)


def _agree(schema, records, table) -> None:
    rows, kept = _row_verdicts(schema, records)
    batch, accepted = _batch_verdicts(schema, table)
    assert batch == rows
    for ours, theirs in zip(kept, accepted, strict=True):
        assert all(_same(ours[name], theirs[name]) for name in schema.names)


def _value(draw, field, *, wild: bool):
    if draw(st.integers(0, 7)) == 0:
        return None
    if wild and draw(st.integers(0, 5)) == 0:
        return draw(ANY)
    if field.kind == "list":
        return draw(st.lists(VALUES[field.item.kind] | st.none(), max_size=3))
    return draw(VALUES[field.kind])


@FAST
@given(st.data())
def test_one_record_of_any_types_gets_the_same_verdict(data) -> None:
    """Whatever a record holds, both paths give the same violations in the same order and the same accepted values."""
    schema = data.draw(schemas())
    record = {field.name: _value(data.draw, field, wild=True) for field in schema.fields}
    try:
        table = pa.table({name: pa.array([value]) for name, value in record.items()})
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        assume(False)
    _agree(schema, [record], table)


def _column(draw, field, size):
    """A column of one Arrow type, as (plain values, Arrow array)."""
    of = field.item or field
    kind = draw(
        st.sampled_from(
            {"integer": ["int", "float", "int32"], "number": ["float", "int", "f32"]}.get(of.kind, [of.kind])
        )
    )
    strategy, arrow = {
        "int": (WHOLE, pa.int64()),
        "int32": (st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 300), pa.int32()),
        "float": (FLOATS, pa.float64()),
        "f32": (st.floats(width=32), pa.float32()),
        "string": (
            TEXT,
            draw(st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])),
        ),
        "boolean": (st.booleans(), pa.bool_()),
        "date": draw(st.sampled_from([(DATES, pa.string()), (st.dates(), pa.date32())])),
        "timestamp": draw(st.sampled_from([(MOMENTS, pa.string()), (MOMENT_VALUES, pa.timestamp("us"))])),
    }[kind]
    if field.item is not None:
        strategy, arrow = (
            st.lists(strategy | st.none(), max_size=3),
            draw(st.sampled_from([pa.list_, pa.large_list]))(pa.string() if pa.types.is_dictionary(arrow) else arrow),
        )
    values = draw(st.lists(strategy | st.none(), min_size=size, max_size=size))
    array = pa.array(values, type=arrow)
    return values, array


@FAST
@given(st.data())
def test_columns_get_the_verdicts_of_their_records(data) -> None:
    """Columns of one Arrow type each, narrow, wide or textual, are judged as their records are one by one."""
    schema = data.draw(schemas())
    size = data.draw(st.integers(0, 8))
    drawn = {field.name: _column(data.draw, field, size) for field in schema.fields}
    records = [{name: values[row] for name, (values, _) in drawn.items()} for row in range(size)]
    table = pa.table({name: array for name, (_, array) in drawn.items()})
    _agree(schema, records, table)


def _jsonable(value) -> bool:
    if isinstance(value, list):
        return all(map(_jsonable, value))
    return not isinstance(value, date) and not (isinstance(value, float) and not math.isfinite(value))


@FAST
@given(st.data())
def test_decoding_agrees_with_checking_records(data) -> None:
    """A JSON body gets the verdict of the records in it, whether the fast decoder takes it or the strict reader does."""
    schema = data.draw(schemas())
    size = data.draw(st.integers(1, 3))
    records = [
        {field.name: _value(data.draw, field, wild=True) for field in schema.fields if data.draw(st.integers(0, 9))}
        for _ in range(size)
    ]
    assume(all(_jsonable(value) for record in records for value in record.values()))
    assume(not any("\0" in repr(value) or "\\x00" in repr(value) for record in records for value in record.values()))
    body = json.dumps(records, ensure_ascii=data.draw(st.booleans()))
    try:
        expected = schema.rows.check(records)
    except InputRefused as refused:
        with pytest.raises(InputRefused) as caught:
            schema.rows.decode(body.encode())
        assert caught.value.violations == refused.violations
        return
    decoded = schema.rows.decode(body.encode())
    assert [decoded.record(row) for row in range(size)] == [expected.record(row) for row in range(size)]
