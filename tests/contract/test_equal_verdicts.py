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

THOROUGH = settings(max_examples=1200, deadline=None, suppress_health_check=list(HealthCheck))

ODD_TEXTS = [
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
TEXT = st.sampled_from(ODD_TEXTS) | st.text(max_size=6)
ODD_INTEGERS = [-1, 127, 128, 255, 2**24, 2**24 + 1, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
WHOLE = st.integers(-5, 5) | st.sampled_from(ODD_INTEGERS)
ODD_FLOATS = [0.0, -0.0, 1.0, 2.5, math.nan, math.inf, -math.inf, 1e300, 3.5e38, 2.0**53, 5e-324]
FLOATS = st.floats() | st.sampled_from(ODD_FLOATS)
DATES = st.sampled_from(
    ["2026-02-28", "2026-02-30", "2026-2-1", "1999-12-31", "9999-12-31", "0001-01-01", "28.02.2026", ""]
)
MOMENTS = st.sampled_from(
    [
        "2026-03-29T02:30:00",
        "2026-10-25T02:30:00",
        "2026-07-01T12:00:00",
        "2026-07-01 12:00:00.5",
        "2026-07-01T12:00:00Z",
        "2026-07-01T12:00:00+14:00",
        "0001-01-01T00:00:00+14:00",
        "2026-07-01T24:00:00Z",
        "2026-06-30T23:59:60Z",
        "x",
    ]
)
LOCAL_TIMES = st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2100-01-01"))
VALUES = {
    "string": TEXT,
    "integer": WHOLE | FLOATS,
    "number": FLOATS | WHOLE,
    "boolean": st.booleans(),
    "date": DATES | st.dates(),
    "timestamp": MOMENTS | LOCAL_TIMES,
}
ANY = TEXT | WHOLE | FLOATS | st.booleans() | st.dates() | LOCAL_TIMES | st.lists(st.integers(0, 3), max_size=2)

DECLARED = {
    "string": st.sampled_from(["A", "AB", "N/A", "A-1", "é"]),
    "integer": st.integers(-3, 3),
    "number": st.sampled_from([-1.5, 0.0, 1.0, 2.5]),
    "date": st.sampled_from(["2026-02-28", "1999-12-31", "9999-12-31"]),
    "timestamp": st.sampled_from(["2026-07-01T12:00:00Z", "2020-01-01T00:00:00+02:00"]),
}
PATTERNS = st.sampled_from(["^[A-Z]", "a$", r"^\w*$", r"^[A-Z]-\d{1,3}$", ".", r"\s", "^(ab|cd)?$", r"[^a-z]", r"\b\w"])
ZONES = st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "UTC"])


def _bounds(kind):
    return st.one_of(
        st.just({}),
        st.fixed_dictionaries({"minimum": DECLARED[kind]}),
        st.fixed_dictionaries({"exclusiveMinimum": DECLARED[kind]}),
        st.fixed_dictionaries({"exclusiveMaximum": DECLARED[kind]}),
        st.fixed_dictionaries({"maximum": DECLARED[kind]}),
    )


OPTIONS = {
    "string": st.fixed_dictionaries({}, optional={"maxLength": st.integers(1, 5), "pattern": PATTERNS}),
    "integer": st.builds(
        dict.__or__,
        _bounds("integer"),
        st.fixed_dictionaries({"format": st.sampled_from(["i8", "i32", "i64", "u8", "u64"])}),
    ),
    "number": st.builds(
        dict.__or__, _bounds("number"), st.fixed_dictionaries({"format": st.sampled_from(["f32", "f64"])})
    ),
    "boolean": st.just({}),
    "date": _bounds("date"),
    "timestamp": st.builds(
        dict.__or__, _bounds("timestamp"), st.fixed_dictionaries({}, optional={"defaultTimezone": ZONES})
    ),
    "array": st.sampled_from([{}, {"minItems": 1}, {"maxItems": 2}, {"uniqueItems": True}]),
}


def _ours(custom) -> list[dict]:
    return [{"property": key, "value": value, "vendor": "brownfield"} for key, value in custom.items()]


@st.composite
def items(draw) -> dict:
    """One property without a name: a kind and rules of its kind."""
    kind = draw(st.sampled_from([kind for kind in OPTIONS if kind != "array"]))
    found: dict = {"logicalType": kind, "logicalTypeOptions": draw(OPTIONS[kind])}
    if kind in DECLARED and draw(st.integers(0, 3)) == 0:
        found["enum"] = [
            {"value": value} for value in draw(st.lists(DECLARED[kind], min_size=1, max_size=3, unique=True))
        ]
    if kind == "number":
        found["customProperties"] = _ours({"nonFinite": draw(st.booleans())})
    return found


@st.composite
def properties(draw, name) -> dict:
    """One property of a contract: a plain kind or a list, with a policy for missing values."""
    if draw(st.integers(0, 4)) == 0:
        return {
            "name": name,
            "logicalType": "array",
            "logicalTypeOptions": draw(OPTIONS["array"]),
            "items": draw(items()),
            "required": draw(st.booleans()),
        }
    found = draw(items()) | {"name": name}
    kind, custom = found["logicalType"], {}
    if kind in DECLARED and draw(st.booleans()):
        custom["sentinels"] = draw(st.lists(DECLARED[kind], min_size=1, max_size=2, unique=True))
    found["required"] = draw(st.booleans())
    if not found["required"] or "sentinels" in custom:
        custom["nullPolicy"] = draw(
            st.sampled_from(["reject", "pass", "impute"] if kind in DECLARED else ["reject", "pass"])
        )
    if custom.get("nullPolicy") == "impute":
        custom["impute"] = draw(DECLARED[kind])
    found["customProperties"] = [*found.get("customProperties", []), *_ours(custom)]
    return found


RULES = [
    "{a} is not null",
    "not ({a} is null or {b} is null)",
    "{a} == {b}",
    "{a} != {b} and {a} is not null",
    "{a} < {b}",
    "{a} + 1 > {b} * 2",
    "{a} / {b} < 1 or {a} in (1, 2)",
    "{a} in ('A', 'AB')",
    "not {a} in (0, 1)",
    "length({a}) > 1",
    "{a} > 1.5",
    "{a} >= 2",
    "-{a} < 9007199254740993",
    "{a} >= '2026-02-28'",
    "{a} < '2026-07-01T12:00:00Z'",
    "{a}",
    "not {a} or {b} is null",
    "{a} < 'B' or length({b}) == 2",
    "{a} - {a} == 0",
    "{a} == true",
]


def _compiled(fields, quality) -> Schema | None:
    document = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "t", "version": "1", "status": "active"}
    try:
        return compile_contract(
            document | {"schema": [{"name": "s", "properties": fields, "quality": quality}]}
        ).schema("s")
    except ContractError:
        return None


@st.composite
def schemas(draw) -> Schema:
    """A compiled schema of two fields and up to three record rules."""
    fields = [draw(properties("a")), draw(properties("b"))]
    quality: list = []
    for number, text in enumerate(draw(st.lists(st.sampled_from(RULES), max_size=3))):
        first, second = draw(st.sampled_from([("a", "b"), ("b", "a")]))
        rule = {"rule": text.format(a=first, b=second), "onNull": draw(st.sampled_from(["pass", "refuse"]))}
        check = {"id": f"rule-{number}", "type": "custom", "engine": "brownfield", "implementation": rule}
        if _compiled(fields, [check]) is not None:
            quality.append(check)
    schema = _compiled(fields, quality)
    assume(schema is not None)
    return schema


def _shown(violation):
    assert violation.expected, violation.rule
    return violation.field, violation.rule, violation.code, violation.expected


def _row_verdicts(schema, records):
    verdicts, kept = [], []
    for record in records:
        try:
            kept.append(schema.rows.check([record]).record(0))
            verdicts.append(())
        except InputRefused as refused:
            verdicts.append(tuple(map(_shown, refused.violations)))
    return verdicts, kept


def _batch_verdicts(schema, table):
    verdict = schema.batches.check(table)
    verdicts = [()] * table.num_rows
    for rejection in verdict.rejected:
        verdicts[rejection.row] = tuple(map(_shown, rejection.violations))
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


def _one_record(data) -> None:
    schema = data.draw(schemas())
    record = {field.name: _value(data.draw, field, wild=True) for field in schema.fields}
    try:
        table = pa.table({name: pa.array([value]) for name, value in record.items()})
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        assume(False)
    _agree(schema, table.to_pylist(), table)  # (Arrow makes one type of the items of a list)


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
        "timestamp": draw(st.sampled_from([(MOMENTS, pa.string()), (LOCAL_TIMES, pa.timestamp("us"))])),
    }[kind]
    if field.item is not None:
        strategy, arrow = (
            st.lists(strategy | st.none(), max_size=3),
            draw(st.sampled_from([pa.list_, pa.large_list]))(pa.string() if pa.types.is_dictionary(arrow) else arrow),
        )
    values = draw(st.lists(strategy | st.none(), min_size=size, max_size=size))
    array = pa.array(values, type=arrow)
    return values, array


def _columns(data) -> None:
    schema = data.draw(schemas())
    size = data.draw(st.integers(0, 8))
    drawn = {field.name: _column(data.draw, field, size) for field in schema.fields}
    records = [{name: values[row] for name, (values, _) in drawn.items()} for row in range(size)]
    _agree(schema, records, pa.table({name: array for name, (_, array) in drawn.items()}))


def _jsonable(value) -> bool:
    if isinstance(value, list):
        return all(map(_jsonable, value))
    return not isinstance(value, date) and not (isinstance(value, float) and not math.isfinite(value))


def _body(data) -> None:
    schema = data.draw(schemas())
    size = data.draw(st.integers(1, 3))
    records = [
        {field.name: _value(data.draw, field, wild=True) for field in schema.fields if data.draw(st.integers(0, 9))}
        for _ in range(size)
    ]
    assume(all(_jsonable(value) for record in records for value in record.values()))
    assume("\\x00" not in repr(records))
    body = json.dumps(records, ensure_ascii=data.draw(st.booleans())).encode()
    verdicts = []
    for work, argument in ((schema.rows.check, records), (schema.rows.decode, body)):
        try:
            checked = work(argument)
            verdicts.append([checked.record(row) for row in range(size)])
        except InputRefused as refused:
            verdicts.append(refused.violations)
    assert verdicts[0] == verdicts[1]


def _plain_columns(data) -> None:
    schema = data.draw(schemas())
    size = data.draw(st.integers(1, 3))
    records = [{field.name: _value(data.draw, field, wild=True) for field in schema.fields} for _ in range(size)]
    columns = {field.name: [record[field.name] for record in records] for field in schema.fields}
    verdicts = []
    for work in (lambda: schema.rows.check(records), lambda: schema.rows.check_columns(columns, size)):
        try:
            checked = work()
            verdicts.append([checked.record(row) for row in range(size)])
        except InputRefused as refused:
            verdicts.append(refused.violations)
    assert repr(verdicts[0]) == repr(verdicts[1])


CASES = pytest.mark.parametrize(
    "case", [_one_record, _columns, _body, _plain_columns], ids=["record", "columns", "body", "lists"]
)


@pytest.mark.full
@CASES
@THOROUGH
@given(data=st.data())
def test_both_paths_give_the_same_verdict(case, data) -> None:
    """One record of any types, columns of any Arrow type and JSON bodies: equal violations, order and values."""
    case(data)
