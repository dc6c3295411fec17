"""Long bodies: only broken records are read strictly, and nobody can tell by the verdict."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from brownfield.contract import compile_contract
from brownfield.contract import rows as row_path
from brownfield.errors import InputRefused

FINE = '{"n": 1, "t": "a", "x": [1, 2]}'
BROKEN = [
    '{"n": 0, "t": "a", "x": [1, 2]}',
    '{"n": 3, "t": "ab", "x": [1, 2]}',
    '{"n": 9, "t": "a", "x": [1, 2]}',
    '{"n": 1, "t": "a", "x": [1, 2, 3]}',
    '{"n": 1, "x": [1, 2]}',
    '{"n": "1", "t": 7, "x": []}',
    '{"n": 1, "t": "a", "x": [1, 2], "m": 1}',
    "{}",
    "[1]",
    "7",
]
UNJSON = [
    '{"n": 1, "n": 1, "t": "a", "x": [1, 2]}',
    '{"n": 1, "t": "\\ud800", "x": [1, 2]}',
    '{"n": 1, "t": "a\\u0000", "x": [1, 2]}',
    '{"n": NaN, "t": "a", "x": [1, 2]}',
    '{"n": 1, "t": "a", "x": [1, 2], "m": ' + "[" * 32 + "]" * 32 + "}",
    '{"n": 1, "t": "a", "x": [1, 2], "m": ' + "[" * 30 + "]" * 30 + "}",
    '{"n": 1, "t": "a" "x": [1, 2]}',
    '{"n": 1, "t": "a", "x": [1, 2]},',
]
ODD = ['{"n": 1, "t": "\\u003a", "x": [1, 2]}', '{"t": "a", "x": [1.5, 2e0], "n": 2}', ' {"n":1,"t":":","x":[0,-0]}\n']


@pytest.fixture(scope="module")
def checker():
    """Three fields, one of them a tensor, and a rule over two of them."""
    of = {"logicalType": "integer", "required": True}
    fields = [
        {"name": "n", **of, "logicalTypeOptions": {"minimum": 1}},
        {"name": "t", **of, "logicalType": "string", "logicalTypeOptions": {"maxLength": 1}},
        {"name": "x", **of, "logicalType": "array", "items": {"name": "i", "logicalType": "number"},
         "customProperties": [{"property": "shape", "value": [2]}]},
    ]  # fmt: skip
    rule = {"id": "few", "type": "custom", "engine": "brownfield", "implementation": {"rule": "n < 5 or t == 'b'"}}
    schema = {"name": "request", "properties": fields, "quality": [rule]}
    head = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "long", "version": "1", "status": "active"}
    return compile_contract({**head, "schema": [schema]}).schema("request").rows


def verdict(checker, body, *, sifted):
    """What comes of a body, with the sieve or without it."""
    whole, row_path._LONG_BODY = row_path._LONG_BODY, -1 if sifted else 2**60
    try:
        checked = checker.decode(body)
        return checked.rows, {name: list(map(str, values)) for name, values in checked.columns.items()}
    except InputRefused as refused:
        return refused.violations
    finally:
        row_path._LONG_BODY = whole


RECORDS = st.lists(
    st.one_of(st.just(FINE), st.just(FINE), st.just(FINE), st.sampled_from(BROKEN + ODD), st.sampled_from(UNJSON)),
    min_size=1,
    max_size=150,
)


@given(records=RECORDS, clean=st.booleans())
@example(records=[FINE] * 70 + BROKEN, clean=True)
@example(records=[BROKEN[0]] * 120 + [FINE] * 40 + [UNJSON[0]], clean=False)
@example(records=[FINE] * 40 + [UNJSON[5]], clean=False)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_verdict_on_a_long_body_is_that_of_reading_it_all(checker, records, clean):
    """Broken values, unknown fields, faults of the document: the same violations in the same order."""
    kept = [each for each in records if each not in UNJSON] if clean else records
    body = f"[{','.join(kept)}]".encode()
    assert verdict(checker, body, sifted=True) == verdict(checker, body, sifted=False)


def test_only_broken_records_are_read_strictly(checker, monkeypatch):
    """One broken record of a thousand: the others never reach the strict reader."""
    read = []
    strictly = row_path.read_strictly
    monkeypatch.setattr(
        "brownfield.contract.sifting.read_strictly", lambda body, limits: read.append(body) or strictly(body, limits)
    )
    monkeypatch.setattr(row_path, "read_strictly", lambda *_: pytest.fail("the whole body was read strictly"))
    with pytest.raises(InputRefused) as refused:
        checker.decode(f"[{','.join([FINE] * 700 + [BROKEN[0]] + [FINE] * 299)}]".encode())
    assert [(each.field, each.row) for each in refused.value.violations] == [("n", 700)]
    assert read == [BROKEN[0].encode()]
