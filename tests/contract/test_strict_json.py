"""JSON bodies: what lenient libraries let through is refused, and each refusal says by which rule."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.contract import JsonLimits, compile_contract, parse_json
from brownfield.contract.strict_json import read_strictly
from brownfield.errors import InputRefused, RejectionCode

BAD = {
    "B-01-empty": (b"", "JSON_EMPTY"),
    "B-01-white-space": (b" \n\t ", "JSON_EMPTY"),
    "B-07-invalid-utf-8": (b'{"name": "\xff"}', "JSON_ENCODING"),
    "B-07-overlong": (b'{"name": "\xc0\x80"}', "JSON_ENCODING"),
    "B-07-surrogate-bytes": (b'{"name": "\xed\xa0\x80"}', "JSON_ENCODING"),
    "B-07-lone-surrogate-escape": (b'{"name": "\\ud800"}', "JSON_ENCODING"),
    "B-07-low-surrogate-escape": (b'{"name": "\\uDC00"}', "JSON_ENCODING"),
    "B-07-surrogate-in-key": (b'{"\\ud800": 1}', "JSON_ENCODING"),
    "B-07-bom": (b'\xef\xbb\xbf{"quantity": 1}', "JSON_ENCODING"),
    "B-07-utf-16": ('{"quantity": 1}'.encode("utf-16"), "JSON_ENCODING"),
    "B-07-utf-16-without-mark": ('{"quantity": 1}'.encode("utf-16-le"), "JSON_NUL"),
    "B-08-nul": (b'{"name": "a\x00"}', "JSON_NUL"),
    "B-08-nul-escape": (b'{"quantity": 1, "name": "a\\u0000"}', "JSON_NUL"),
    "B-08-nul-in-key": (b'{"\\u0000": 1}', "JSON_NUL"),
    "B-13-deep-arrays": (b"[" * 100_000, "JSON_DEPTH"),
    "B-13-deep-objects": (b'{"a":' * 100_000, "JSON_DEPTH"),
    "B-13-deep-and-closed": (b"[" * 33 + b"]" * 33, "JSON_DEPTH"),
    "B-14-duplicate-key": (b'{"quantity": 1, "quantity": 9}', "JSON_DUPLICATE_KEY"),
    "B-14-duplicate-key-escaped": (b'{"quantity": 1, "quantit\\u0079": 9}', "JSON_DUPLICATE_KEY"),
    "B-14-duplicate-key-beside-escaped-colon": (
        b'{"quantity": 1, "quantity": 9, "name": "\\u003a"}',
        "JSON_DUPLICATE_KEY",
    ),
    "B-14-duplicate-optional-key": (b'{"quantity": 1, "name": "a", "name": "b"}', "JSON_DUPLICATE_KEY"),
    "B-14-duplicate-hides-absent": (b'{"quantity": 1, "quantity": 1}', "JSON_DUPLICATE_KEY"),
    "B-14-duplicate-in-array": (b'[{"quantity": 1}, {"quantity": 1, "quantity": 1}]', "JSON_DUPLICATE_KEY"),
    "B-15-nan": (b'{"quantity": NaN}', "JSON_NUMBER"),
    "B-15-infinity": (b'{"quantity": -Infinity}', "JSON_NUMBER"),
    "B-15-1e999": (b'{"weight": 1e999, "quantity": 1}', "JSON_NUMBER"),
    "B-15-400-digits": (b'{"quantity": ' + b"1" * 400 + b"}", "JSON_NUMBER"),
    "B-15-beyond-64-bits": (b'{"quantity": 18446744073709551616}', "JSON_NUMBER"),
    "B-15-5000-digits": (b'{"quantity": ' + b"1" * 5000 + b"}", "JSON_NUMBER"),
    "B-16-many-keys": (json.dumps(dict.fromkeys(map(str, range(2000)))).encode(), "JSON_TOO_MANY_KEYS"),
    "B-19-comma": (b'{"quantity": 1,5}', "JSON_SYNTAX"),
    "B-19-leading-zero": (b'{"quantity": 01}', "JSON_SYNTAX"),
    "B-19-single-quotes": (b"{'quantity': 1}", "JSON_SYNTAX"),
    "B-19-trailing-comma": (b'{"quantity": 1,}', "JSON_SYNTAX"),
    "B-19-comment": (b'{"quantity": 1} // one', "JSON_SYNTAX"),
    "B-19-two-documents": (b'{"quantity": 1}{"quantity": 1}', "JSON_SYNTAX"),
    "shape-number": (b"3", "JSON_SHAPE"),
    "shape-null": (b"null", "JSON_SHAPE"),
    "shape-empty-array": (b"[]", "JSON_SHAPE"),
    "shape-array-of-numbers": (b"[1]", "JSON_SHAPE"),
}


@pytest.fixture
def rows(compile_fields):
    """Give the row checker of three fields."""
    return compile_fields(
        {"name": "quantity", "logicalType": "integer", "required": True},
        {"name": "name", "logicalType": "string"},
        {"name": "weight", "logicalType": "number"},
    ).rows


@pytest.mark.parametrize(("body", "code"), BAD.values(), ids=BAD)
def test_a_bad_body_is_refused_by_its_code(rows, body, code) -> None:
    """Each kind of bad JSON gets one violation with its own code, and no other error."""
    with pytest.raises(InputRefused) as caught:
        rows.decode(body)
    assert [each.code for each in caught.value.violations] == [RejectionCode[code]]


GOOD = {
    "B-07-surrogate-pair": (rb'{"quantity": 1, "name": "\ud83d\ude00"}', "😀"),
    "B-08-escaped-backslash": (rb'{"quantity": 1, "name": "\\u0000"}', "\\u0000"),
    "B-14-colons-in-text": (b'{"name": "\\"a\\":1, \\"a\\":2", "quantity": 1}', '"a":1, "a":2'),
    "B-14-escaped-colon": (b'{"name": "\\u003a", "quantity": 1}', ":"),
    "B-15-minus-zero": (b'{"quantity": -0, "weight": -0.0}', None),
    "B-15-whole-float": (b'{"quantity": 1.0}', None),
    "white-space": (b' \r\n{ "quantity" : 1 }\t', None),
}


@pytest.mark.parametrize(("body", "name"), GOOD.values(), ids=GOOD)
def test_odd_but_valid_json_is_read(rows, body, name) -> None:
    """Valid spellings that resemble bad ones are accepted with their meaning."""
    record = rows.decode(body).record(0)
    assert record["name"] == name
    assert type(record["quantity"]) is int


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c:d"]), st.one_of(st.none(), st.text(max_size=4), st.just("x:y")), min_size=1
    ),
    st.data(),
)
def test_no_duplicate_key_ever_passes(record, data) -> None:
    """However texts and names play with colons and escapes, a key that stands twice is found."""
    properties = [{"name": name, "logicalType": "string"} for name in ("a", "b", "c:d")]
    document = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "t", "version": "1"}
    checker = compile_contract(document | {"schema": [{"name": "s", "properties": properties}]}).schema("s").rows
    pairs = [*record.items()]
    ascii_only = data.draw(st.booleans())
    encode = json.JSONEncoder(ensure_ascii=ascii_only).encode
    twin = data.draw(st.sampled_from(pairs))
    pairs.insert(data.draw(st.integers(0, len(pairs))), (twin[0], data.draw(st.none() | st.text(":x", max_size=3))))
    body = "{" + ",".join(f"{encode(key)}:{encode(value)}" for key, value in pairs) + "}"
    body = body.replace("x:y", data.draw(st.sampled_from(["x:y", r"x\u003ay", r"x\u003Ay"])))
    with pytest.raises(InputRefused):
        checker.decode(body.encode(errors="replace"))


def test_limits_can_be_set() -> None:
    """Depth and number of keys are bounded by the limits that the caller gives."""
    limits = JsonLimits(depth=2, keys=2)
    assert parse_json(b'[{"a": 1, "b": 2}]', limits) == [{"a": 1, "b": 2}]
    for body, code in (
        (b"[[[]]]", RejectionCode.JSON_DEPTH),
        (b'{"a":1,"b":1,"c":1}', RejectionCode.JSON_TOO_MANY_KEYS),
    ):
        with pytest.raises(InputRefused) as caught:
            parse_json(body, limits)
        assert caught.value.violations[0].code == code


def test_brackets_in_texts_are_no_depth() -> None:
    """Brackets inside texts do not count as nesting, quotes inside them do not end them."""
    text = '\\"' + "[{" * 40
    assert parse_json(f'["{text}"]'.encode()) == ['"' + "[{" * 40]


SCALARS = st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False)
TREES = st.recursive(
    SCALARS | st.text(max_size=3) | st.sampled_from(["a:b", "\0", "\ud800", "😀"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b:", "c\0"]), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.full
@settings(max_examples=300, deadline=None)
@given(TREES, st.booleans(), st.data())
def test_the_fast_reader_agrees_with_the_strict_one(tree, ascii_only, data) -> None:
    """Whether the fast reader vouches for a document or not, the value or the refusal is that of the strict reader."""
    text = json.dumps(tree, ensure_ascii=ascii_only)
    if data.draw(st.booleans()):
        text = text.replace('"b:"', '"a"').replace("a:b", "a\\u003ab")
    body = text.encode(errors="surrogatepass")
    limits = JsonLimits(depth=3, keys=2)
    results = []
    for read in (parse_json, read_strictly):
        try:
            results.append(repr(read(body, limits)))
        except InputRefused as refused:
            results.append(refused.violations)
    assert results[0] == results[1]
