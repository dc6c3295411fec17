"""Plain V2 requests are read quicker than others, to the same verdict."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from brownfield.errors import InputRefused
from brownfield.serving.gateway import Served, v2, v2_numbers

pytestmark = pytest.mark.full

FIELDS = [("x", "float32", [3]), ("who", "int64", []), ("w", "float64", [2, 1])]
FEW = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.5, -1.5, 2.25]}
WHO = {"name": "who", "shape": [1], "datatype": "INT64", "data": [7]}
W = {"name": "w", "shape": [1, 2, 1], "datatype": "FP64", "data": [0.1, 1e15]}


@pytest.fixture(params=[1, 3], ids=["one tensor", "three tensors"])
def served(request, make_contract, tensor_property):
    """An integration whose requests may be plain."""
    fields = [tensor_property(*each) for each in FIELDS[: request.param]]
    return Served("t", make_contract(fields, [tensor_property("y", "float32", [1])]), 100)


def verdict(served, body, *, plain):
    """What decoding gives: the identifier and the columns with their types and shapes, or the violations."""
    served.v2 = None
    if not plain:
        served.v2 = v2._plan(served)._replace(plain=None)
    try:
        request, checked = v2.decode(served, None, body, 10_000)
    except InputRefused as refused:
        return refused.violations
    columns = {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in checked.columns.items()}
    return request.id, checked.rows, checked.single, checked.whole, columns


def spread(body):
    """The same in a text that is long enough to be read by simdjson."""
    return body + b" " * 2600


def fields_of(served):
    return [dict(one) for one in (X, WHO, W)[: len(served.request.fields)]]


def test_a_plain_request_is_read_by_the_quick_reader(served):
    """Otherwise the properties below would compare the full reader with itself."""
    v2.decode(served, None, json.dumps({"inputs": fields_of(served)}).encode(), 10_000)
    large = [fields_of(served)[0] | {"data": [2**24 - 1.0] * 3}, *fields_of(served)[1:]]
    for body in ({"inputs": fields_of(served)}, {"id": "a", "inputs": fields_of(served)[::-1]}, {"inputs": large}):
        text = json.dumps(body).encode()
        assert served.v2.plain.read(text, 10_000) is not None
        assert served.v2.plain.read(spread(text), 10_000) is not None


def test_row_counts_that_nobody_sends_numbers_for_leave_nothing(served):
    """What is known of a number of rows is kept for those that were read, and of so many at most."""
    v2.decode(served, None, json.dumps({"inputs": fields_of(served)}).encode(), 10_000)
    plain = served.v2.plain
    kept = set(plain._by_rows)
    for rows in (2, 7, 2**31, 2**70, 10**4000):
        body = {"inputs": [one | {"shape": [rows, *one["shape"][1:]]} for one in fields_of(served)]}
        assert plain.read(json.dumps(body).encode(), 10_000) is None
    assert set(plain._by_rows) == kept == {1}
    if len(served.request.fields) == 1:
        for rows in range(1, 1100):
            body = {"inputs": [X | {"shape": [rows, 3], "data": [0.5] * (3 * rows)}]}
            assert plain.read(json.dumps(body).encode(), 10_000)[1].rows == rows
        assert 0 < len(plain._by_rows) <= 1024


def test_a_long_request_is_read_though_the_parser_is_taken_or_would_keep_too_much(served):
    """What another thread reads at this moment, or a text of over a mebibyte, changes no verdict."""
    if len(served.request.fields) > 1:
        return
    rows = 80_000
    long = json.dumps({"inputs": [X | {"shape": [rows, 3], "data": [0.5, -1.5, 2.25] * rows}]}).encode()
    assert len(long) > 2**20
    served.v2 = None
    assert v2.decode(served, None, long, rows)[1].columns["x"].tolist() == [[0.5, -1.5, 2.25]] * rows
    text = spread(json.dumps({"inputs": fields_of(served)}).encode())
    expected = verdict(served, text, plain=True)
    document = v2_numbers._parser.parse(b"[1]")
    assert verdict(served, text, plain=True) == expected
    del document


NUMBERS = st.one_of(
    st.floats(width=32),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0.0, -0.0, 1e39, 3.5e38, 2**24 + 1, 2**53 + 1, True, None, "1.5", "a:b", [1.0]]),
)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, -1, 10**20]), max_size=4)


@st.composite
def changed(draw):  # noqa: C901 (one branch for each kind of change)
    """Bodies near to plain ones: other values, shapes, types, members, keys twice, escapes."""
    inputs = [dict(one) for one in (X, WHO, W)]
    for one in inputs:
        if draw(st.booleans()):
            one["data"] = draw(st.lists(NUMBERS, min_size=1, max_size=6))
        if draw(st.integers(0, 5)) == 0:
            one["shape"] = draw(SHAPES)
        if draw(st.integers(0, 5)) == 0:
            one["datatype"] = draw(st.sampled_from(["FP32", "FP64", "INT64", "INT32", "BYTES", "FP16"]))
        if draw(st.integers(0, 9)) == 0:
            one["name"] = draw(st.sampled_from(["x", "who", "x:", "\u00fc"]))
        if draw(st.integers(0, 9)) == 0:
            one["parameters"] = draw(st.sampled_from([None, {}, {"a": 1}, {"binary_data_size": 4}]))
        if draw(st.integers(0, 9)) == 0:
            del one["data"]
    body = {"inputs": inputs[: draw(st.sampled_from([1, 1, 3, 3, 2]))]}
    for key, values in (
        ("id", ["7", "a:b", "a.b", None, 7]),
        ("parameters", [{}, None, {"timeout": 5}]),
        ("outputs", [[], None, [{"name": "y"}]]),
        ("model_name", ["t", "u", None]),
    ):
        if draw(st.integers(0, 4)) == 0:
            body[key] = draw(st.sampled_from(values))
    text = json.dumps(body, ensure_ascii=draw(st.booleans()))
    for before, after in (
        ('"shape"', '"sh\\u0061pe"'),
        ('{"name"', '{"name": "x", "name"'),
        ('"data":', '"data":[1.0],"data":'),
        ("0.5", "5e-1"),
        ("2.25", "2"),
        ("[7]", "[7.0]"),
        ('"x"', '"x."'),
        ("NaN", "1e999"),
        ("[", "[ "),
        ("[0.5, -1.5", "[[0.5], -1.5"),
        ("[1, 3]", "[1.0, 3]"),
        ("0.5", "05"),
        ("0.5", "-0"),
        ('{"inputs', '\ufeff{"inputs'),
    ):
        if draw(st.integers(0, 9)) == 0:
            text = text.replace(before, after, 1)
    return text.encode()


def plain_body(**changes):
    return json.dumps({"inputs": [{**X, **changes}]}).encode()


@FEW
@example(body=plain_body(data=[1e39, 0.0, 0.0]))
@example(body=plain_body(data=[3e38, 3e38, 3e38]))
@example(body=plain_body(data=[1.0, 2, 3.0]))
@example(body=plain_body(data=[2**24 - 1, 2**24 - 1, 0.5]))
@example(body=plain_body(data=[2**24 + 1, 0.0, 0.5]))
@example(body=plain_body(shape=[40, 3], data=[2**24 - 1, 0.5, -2.0] * 40))
@example(body=plain_body(shape=[40, 3], data=[2**24 + 1, 0.5, -2.0] * 40))
@example(body=plain_body(shape=[40, 3], data=[1e39, 0.5, -2.0] * 40))
@example(body=plain_body(shape=[40, 3], data=[1e38, 0.5, -2.0] * 40))
@example(body=json.dumps({"inputs": [X, WHO, {**W, "data": [0.1, 1e300]}]}).encode())
@example(body=json.dumps({"inputs": [X, {**WHO, "data": [2**63]}, W]}).encode())
@example(body=plain_body(shape=[3], data=[1.0, 2.0, 3.0]))
@example(body=json.dumps({"inputs": [{**X, "data": [1, -1.5, 2.25]}, {**WHO, "data": [7.5]}, W]}).encode())
@example(body=json.dumps({"inputs": [{**X, "data": [1, -1.5, 2.25]}, WHO, W], "id": "."}).encode())
@example(body=b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.0,2.0,3.0],"data":[1.0,2.0,3.0]}]}')
@given(body=changed())
def test_the_quick_reader_and_the_full_one_agree(served, body):
    """The same columns byte for byte, or the same violations, whatever the body and its length."""
    full = verdict(served, body, plain=False)
    assert verdict(served, body, plain=True) == full
    assert verdict(served, spread(body), plain=True) == full


@FEW
@given(rows=st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_many_rows_are_judged_as_each_row_alone(served, rows):
    """A request is refused when one of its records would be, and otherwise holds each record's own bytes."""
    if len(served.request.fields) > 1:
        return
    alone = [verdict(served, plain_body(data=row), plain=True) for row in rows]
    data = [value for row in rows for value in row]
    together = verdict(served, plain_body(shape=[len(rows), 3], data=data), plain=True)
    if any(isinstance(each, list | tuple) and len(each) != 5 for each in alone):
        assert len(together) != 5
    else:
        assert together[4]["x"][2] == b"".join(each[4]["x"][2] for each in alone)
        assert np.frombuffer(together[4]["x"][2], "f4").tolist() == data
