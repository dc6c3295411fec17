"""Requests with binary tensors whose JSON part is known are read to the same verdict as the first time."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brownfield.errors import InputRefused
from brownfield.serving.gateway import Served, v2

FIELDS = [("x", "float32", [3]), ("who", "int64", []), ("small", "int8", [None])]
ROWS = st.integers(1, 4)


@pytest.fixture
def served(make_contract, tensor_property):
    """An integration of three tensors, one of them of any width."""
    return Served(
        "t", make_contract([tensor_property(*each) for each in FIELDS], [tensor_property("y", "float32", [1])]), 100
    )


def request(rows, width, values, **members):
    """JSON part and binary part."""
    x, who, small = values[: 3 * rows], values[3 * rows : 4 * rows], values[4 * rows : (4 + width) * rows]
    arrays = [x.astype("<f4").reshape(rows, 3), who.astype("<i8"), small.astype("i1").reshape(rows, width)]
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for (name, _, _), datatype, array in zip(FIELDS, ("FP32", "INT64", "INT8"), arrays, strict=True)
    ]
    return json.dumps({"inputs": inputs, **members}).encode(), b"".join(array.tobytes() for array in arrays)


def verdict(served, text, binary, length=None):
    """What decoding gives, in comparable form."""
    try:
        asked, checked = v2.decode(served, b"%d" % (len(text) if length is None else length), text + binary, 10_000)
    except InputRefused as refused:
        return refused.violations
    columns = {name: (str(one.dtype), one.shape, one.tobytes()) for name, one in checked.columns.items()}
    return asked.id, asked.parameters, checked.rows, columns


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.lists(st.tuples(ROWS, st.integers(1, 3)), min_size=1, max_size=3),
    draws=st.lists(st.integers(0, 2), min_size=1, max_size=8),
    values=hnp.arrays(np.int64, 40, elements=st.integers(-100, 100)),
    broken=st.lists(st.sampled_from(["", "nan", "short", "long", "length"]), min_size=8, max_size=8),
)
def test_whatever_came_before_the_verdict_is_that_of_a_new_reader(served, shapes, draws, values, broken):
    """The same columns byte for byte, or the same violations; also when values, sizes or the length are wrong."""
    served.v2 = None
    for turn, draw in enumerate(draws):
        text, binary = request(*shapes[draw % len(shapes)], np.roll(values, turn))
        length = len(text)
        if broken[turn] == "nan":
            binary = np.float32(np.nan).tobytes() + binary[4:]
        elif broken[turn] == "short":
            binary = binary[:-1]
        elif broken[turn] == "long":
            binary += b"\0"
        elif broken[turn] == "length":
            length -= 1
        mine, known = verdict(served, text, binary, length), served.v2
        served.v2 = None
        assert mine == verdict(served, text, binary, length)
        served.v2 = known


def test_what_comes_again_is_known(served):
    """Otherwise the property above would compare the full reader with itself; a request with an id is never kept."""
    text, binary = request(2, 1, np.arange(40))
    verdict(served, text, binary)
    known = served.v2.binary.find(text, len(binary))
    assert known is not None
    assert served.v2.binary.find(text, len(binary) + 1) is None
    named, _ = request(2, 1, np.arange(40), id="7")
    verdict(served, named, binary)
    assert served.v2.binary.find(named, len(binary)) is None


def test_a_length_of_thousands_of_digits_is_refused(served):
    """It is no number that Python would read, and no failure of ours."""
    text, binary = request(1, 1, np.arange(40))
    with pytest.raises(InputRefused):
        v2.decode(served, b"9" * 5000, text + binary, 10_000)
