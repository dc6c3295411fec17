"""The Open Inference Protocol: what goes in, what comes out, what is refused."""

import asyncio
import contextlib
import json
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brownfield.errors import InputRefused
from brownfield.serving.gateway import Served, Version
from brownfield.serving.gateway.v2 import decode
from brownfield.serving.gateway.v2_answers import encode, model_metadata
from brownfield.serving.workers.inline import InlinePool
from harness.memory import peak_bytes

STORES = {"name": "store_id", "shape": [2], "datatype": "INT64", "data": [7, 8]}
ITEMS = {"name": "items", "shape": [2, 2], "datatype": "BYTES", "data": ["MILK", "EGGS", "BREAD", ""]}


def ask(client, body, **headers):
    return asyncio.run(client.infer(body, **headers))


def outputs(answer):
    return {one["name"]: one for one in answer["outputs"]}


def test_fields_travel_as_tensors_both_ways(client):
    """The first dimension is the rows, lists are padded, text is BYTES, the id comes back."""
    status, answer = ask(client, {"id": "a:1", "inputs": [STORES, ITEMS]})
    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("till", "3", "a:1")
    assert outputs(answer)["items"] == {
        "name": "items",
        "datatype": "BYTES",
        "shape": [2, 1],
        "data": ["MILK", "BREAD"],
    }
    assert outputs(answer)["scores"]["data"] == pytest.approx([1 / 3, 1 / 2])


def test_the_decision_stands_in_the_parameters(client, pool):
    """Flat values under our own prefix, as the protocol wants parameters."""
    pool.alive = False
    _, answer = ask(client, {"inputs": [STORES, ITEMS]})
    parameters = answer["parameters"]
    assert parameters["brownfield_source"] == "constant"
    assert parameters["brownfield_reason"] == "FALLBACK"
    assert parameters["brownfield_degraded"] is True
    assert parameters["brownfield_cause"] == "worker"
    assert set(outputs(answer)) == {"items"}  # the constant gives no scores


def test_nested_data_and_one_column_matrices_are_taken(client):
    """The protocol allows nested data; a scalar field may come as ``[rows, 1]``."""
    stores = {**STORES, "shape": [2, 1], "data": [[7], [8]]}
    items = {**ITEMS, "data": [["MILK", "EGGS"], ["BREAD", ""]]}
    assert ask(client, {"inputs": [stores, items]})[0] == 200


@pytest.mark.parametrize("binary", [False, True])
def test_b_34_a_sentinel_as_fp32_is_a_missing_value(make_contract, binary):
    """The same record by its fields and as an FP32 tensor: missing both times, with the same padding of lists."""
    vendor = [{"property": "sentinels", "value": [-99.9], "vendor": "brownfield"}]
    padded = [{"property": "padding", "value": -9.9, "vendor": "brownfield"}]
    fields = [
        {"name": "t", "logicalType": "number", "customProperties": vendor},
        {"name": "past", "logicalType": "array", "items": {"logicalType": "number"}, "customProperties": padded},
    ]
    served = Served("till", make_contract(fields, [{"name": "y", "logicalType": "number"}]), 50)
    t, past = np.array([-99.9], np.float32), np.array([[0.5, -9.9]], np.float32)
    inputs = [{"name": "t", "shape": [1], "datatype": "FP32"}, {"name": "past", "shape": [1, 2], "datatype": "FP32"}]
    for described, values in zip(inputs, (t, past), strict=True):
        if binary:
            described["parameters"] = {"binary_data_size": values.nbytes}
        else:
            described["data"] = values.ravel().tolist()
    text = json.dumps({"inputs": inputs}).encode()
    body, length = (text + t.tobytes() + past.tobytes(), b"%d" % len(text)) if binary else (text, None)
    _, checked = decode(served, length, body, 10)
    assert checked.columns == served.request.rows.decode(b'{"t": -99.9, "past": [0.5]}').columns


def test_only_the_requested_outputs_come(client):
    """In the order of the contract."""
    _, answer = ask(client, {"inputs": [STORES, ITEMS], "outputs": [{"name": "scores"}]})
    assert set(outputs(answer)) == {"scores"}


def test_null_members_are_as_good_as_absent_ones(client):
    """Some clients write every optional member."""
    body = {"id": None, "parameters": None, "outputs": None, "inputs": [{**STORES, "parameters": None}, ITEMS]}
    assert ask(client, body)[0] == 200
    _, answer = ask(client, wants(binary_data=None) | {"parameters": {"binary_data_output": None}})
    assert outputs(answer)["scores"]["data"] == pytest.approx([1 / 3, 1 / 2])


def test_a_timeout_in_microseconds_becomes_the_deadline(client, pool):
    """The name and unit of the schedule extension."""
    pool.delay_s = 5
    _, answer = ask(client, {"inputs": [STORES, ITEMS], "parameters": {"timeout": 5000, "priority": 1}})
    assert answer["parameters"]["brownfield_cause"] == "deadline"


def bad(**changes):
    return {"inputs": [{**STORES, **changes}, ITEMS]}


def wants(**parameters):
    return {"inputs": [STORES, ITEMS], "outputs": [{"name": "scores", "parameters": parameters}]}


BOTH = {"inputs": [STORES, ITEMS]}
BAD = {
    "B-27 negative dimension": (bad(shape=[-2]), "BF-TEN-004"),
    "B-27 zero dimension": (bad(shape=[0], data=[]), "BF-TEN-004"),
    "B-27 no dimension": (bad(shape=[]), "BF-TEN-004"),
    "B-27 overflowing product": (bad(shape=[2**32, 2**32, 2**32]), "BF-TEN-004"),
    "B-27 more than 64 bits": (bad(shape=[2**70]), "BF-REQ-002"),
    "B-27 shape beyond data": (bad(shape=[3]), "BF-TEN-005"),
    "B-27 huge shape": (bad(shape=[10**12]), "BF-REQ-002"),
    "B-27 100 dimensions": (bad(shape=[1] * 99 + [2]), "BF-TEN-004"),
    "B-27 rows disagree": (bad(shape=[1], data=[7]), "BF-TEN-004"),
    "B-27 scalar as matrix": (bad(shape=[2, 2], data=[1, 2, 3, 4]), "BF-TEN-004"),
    "nesting against the shape": (bad(shape=[2, 1], data=[[7, 8]]), "BF-TEN-005"),
    "ragged nesting": (bad(shape=[2, 1], data=[[7], [8, 9]]), "BF-TEN-005"),
    "text among numbers": (bad(data=[7, "8"]), "BF-TEN-005"),
    "boolean among numbers": (bad(data=[7, True]), "BF-TEN-005"),
    "fraction in INT64": (bad(data=[7, 8.5]), "BF-TEN-005"),
    "null in data": (bad(data=[7, None]), "BF-TEN-005"),
    "value beyond the datatype": (bad(datatype="INT8", data=[7, 300]), "BF-TEN-005"),
    "negative in UINT8": (bad(datatype="UINT8", data=[7, -1]), "BF-TEN-005"),
    "B-28 unknown datatype": (bad(datatype="OBJECT"), "BF-TEN-003"),
    "B-28 another datatype": (bad(datatype="FP32"), "BF-TEN-003"),
    "FP16 in JSON of an integer": (bad(datatype="FP16"), "BF-TEN-003"),
    "no data": ({"inputs": [{"name": "store_id", "shape": [2], "datatype": "INT64"}, ITEMS]}, "BF-TEN-005"),
    "unknown input": ({"inputs": [STORES, ITEMS, {**STORES, "name": "till"}]}, "BF-TEN-001"),
    "input twice": ({"inputs": [STORES, STORES, ITEMS]}, "BF-TEN-001"),
    "no inputs": ({"inputs": []}, "BF-TEN-002"),
    "missing input": ({"inputs": [ITEMS]}, "BF-FLD-002"),
    "unknown output": ({"inputs": [STORES, ITEMS], "outputs": [{"name": "x"}]}, "BF-TEN-001"),
    "an output as classes": (wants(classification=2), "BF-REQ-004"),
    "an output in shared memory": (wants(shared_memory_region="r", shared_memory_byte_size=64), "BF-REQ-004"),
    "binary_data as text": (wants(binary_data="false"), "BF-REQ-004"),
    "binary_data_output as text": (BOTH | {"parameters": {"binary_data_output": "false"}}, "BF-REQ-004"),
    "binary_data_output as a number": (BOTH | {"parameters": {"binary_data_output": 1}}, "BF-REQ-004"),
    "unknown member": ({"inputs": [STORES, ITEMS], "colour": 1}, "BF-JSON-009"),
    "B-17 __proto__": (bad(__proto__={}), "BF-JSON-009"),
    "another model than the path's": ({"inputs": [STORES, ITEMS], "model_name": "other"}, "BF-REQ-004"),
    "inputs not a list": ({"inputs": {}}, "BF-JSON-009"),
    "not an object": ([STORES], "BF-JSON-009"),
    "negative timeout": ({"inputs": [STORES, ITEMS], "parameters": {"timeout": -1}}, "BF-REQ-004"),
    "text timeout": ({"inputs": [STORES, ITEMS], "parameters": {"timeout": "5"}}, "BF-REQ-004"),
    "B-33 out of range": (bad(data=[7, 0]), "BF-RUL-001"),
    "B-14 duplicate member": (b'{"inputs": [], "inputs": []}', "BF-JSON-006"),
    "B-14 duplicate in a tensor": (
        json.dumps(bad()).replace('"shape"', '"name": "x", "shape"', 1).encode(),
        "BF-JSON-006",
    ),
    "B-13 deep": (b'{"inputs":' + b"[" * 100_000, "BF-JSON-005"),
    "B-15 NaN": (json.dumps(bad()).replace("[7, 8]", "[7, NaN]").encode(), "BF-JSON-007"),
    "B-07 UTF-8": (b'{"inputs": "\xff"}', "BF-JSON-003"),
    "B-08 NUL": (json.dumps({"inputs": [STORES, {**ITEMS, "data": ["\0", "", "", ""]}]}).encode(), "BF-JSON-004"),
    "B-01 empty": (b"", "BF-JSON-001"),
}


@pytest.mark.parametrize(("body", "code"), BAD.values(), ids=BAD.keys())
def test_bad_tensors_are_refused_as_the_protocol_wants(client, pool, body, code):
    """4xx, an object with the single key ``error`` that names the code, and no worker is involved."""
    status, answer = ask(client, body)
    assert 400 <= status < 500
    assert answer.keys() == {"error"}
    assert code in answer["error"]
    assert ", expected " in answer["error"]
    assert pool.calls == 0


def binary(json_part, *blobs):
    head = json.dumps(json_part).encode()
    return head + b"".join(blobs), str(len(head))


def texts(*values):
    return b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in values)


def test_binary_tensors_travel_both_ways(client):
    """Cut off in order on the way in; sizes and the length of the JSON part on the way out."""
    stores, items = np.array([7, 8]).tobytes(), texts("MILK", "EGGS", "BREAD", "")
    body, length = binary(
        {
            "inputs": [
                {
                    "name": "store_id",
                    "shape": [2],
                    "datatype": "INT64",
                    "parameters": {"binary_data_size": len(stores)},
                },
                {"name": "items", "shape": [2, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(items)}},
            ],
            "outputs": [{"name": "items", "parameters": {"binary_data": False}}, {"name": "scores"}],
            "parameters": {"binary_data_output": True},
        },
        stores,
        items,
    )
    response = asyncio.run(client.ask("POST", "/v2/models/till/infer", body, inference_header_content_length=length))
    headers = dict(response.headers)
    size = int(headers[b"inference-header-content-length"])
    answer = msgspec.json.decode(response.body[:size])
    assert headers[b"content-type"] == b"application/octet-stream"
    assert outputs(answer)["items"]["data"] == ["MILK", "BREAD"]
    assert outputs(answer)["scores"]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(response.body[size:]) == pytest.approx([1 / 3, 1 / 2])


@pytest.mark.parametrize(
    ("size", "blob", "code"),
    [
        pytest.param(16, b"\0" * 8, "BF-TEN-005", id="B-27 less than declared"),
        pytest.param(8, b"\0" * 8, "BF-TEN-005", id="B-27 less than the shape"),
        pytest.param(16, b"\0" * 24, "BF-TEN-005", id="left over"),
        pytest.param(-1, b"\0" * 16, "BF-TEN-005", id="negative size"),
        pytest.param(2**63, b"\0" * 16, "BF-TEN-005", id="huge size"),
        pytest.param("16", b"\0" * 16, "BF-TEN-005", id="size as text"),
        pytest.param(True, b"\0" * 16, "BF-TEN-005", id="size as boolean"),
    ],
)
def test_binary_sizes_that_do_not_add_up_are_refused(client, size, blob, code):
    """Before anything of that size is allocated."""
    tensor = {"name": "store_id", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": size}}
    body, length = binary({"inputs": [tensor, ITEMS]}, blob)
    status, answer = ask(client, body, inference_header_content_length=length)
    assert status == 400
    assert code in answer["error"]
    assert ", expected " in answer["error"]


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(b"\xff\xff\xff\xff" + b"a" * 8, id="length beyond the data"),
        pytest.param(texts("A", "B", "C"), id="too few"),
        pytest.param(texts("A", "B", "C", "D", "E"), id="too many"),
        pytest.param(struct.pack("<I", 1) + b"\xff" + texts("B", "C", "D"), id="B-07 not UTF-8"),
        pytest.param(texts("A", "B", "C", "\0"), id="B-08 NUL"),
        pytest.param(b"\0", id="cut short"),
    ],
)
def test_binary_texts_that_do_not_add_up_are_refused(client, blob):
    """Length by length."""
    items = {"name": "items", "shape": [2, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
    body, length = binary({"inputs": [STORES, items]}, blob)
    assert ask(client, body, inference_header_content_length=length)[0] == 400


@pytest.mark.parametrize("length", ["0", "-1", "x", "99999999", "1.5", ""])
def test_a_wrong_length_of_the_json_part_is_refused(client, length):
    """Also when it points behind the body."""
    status, answer = ask(client, {"inputs": [STORES, ITEMS]}, inference_header_content_length=length)
    assert status == 400
    assert answer.keys() == {"error"}


def echo(make_contract, tensor_property, dtype, shape, *, batched=True):
    """An integration whose model gives back its tensor."""

    class Same:
        def encode(self, columns, *_):
            return {"x": columns["x"]}

        def decode(self, tensors, *_):
            return {"y": tensors["x"]}

    contract = make_contract(
        [tensor_property("x", dtype, shape)], [tensor_property("y", dtype, shape)], batched=batched
    )
    return Served(name="till", contract=contract, deadline_ms=10_000, champion=Version("1", Same(), InlinePool(dict)))


DTYPES = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": "FP32",
    "float64": "FP64",
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("as_binary", [False, True], ids=["JSON", "binary"])
def test_every_datatype_survives_the_round_trip(make_contract, tensor_property, make_client, dtype, as_binary):
    """Bit for bit, in JSON and in binary, for whole arrays of an unbatched contract."""
    client = make_client(echo(make_contract, tensor_property, dtype, [None, 2], batched=False))

    @settings(max_examples=15)
    @given(
        hnp.arrays(
            dtype,
            st.tuples(st.integers(1, 3), st.just(2)),
            elements=hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False),
        )
    )
    def survives(array):
        tensor = {"name": "x", "shape": list(array.shape), "datatype": DTYPES[dtype]}
        if as_binary:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            body, length = binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, array.tobytes())
            headers = {"inference_header_content_length": length}
        else:
            body, headers = {"inputs": [{**tensor, "data": array.ravel().tolist()}]}, {}
        response = asyncio.run(client.ask("POST", "/v2/models/till/infer", body, **headers))
        size = int(dict(response.headers).get(b"inference-header-content-length", len(response.body)))
        assert response.status == 200, response.body
        output = outputs(msgspec.json.decode(response.body[:size]))["y"]
        back = np.frombuffer(response.body[size:], dtype) if as_binary else np.array(output["data"], dtype)
        assert output["datatype"] == DTYPES[dtype]
        assert back.reshape(output["shape"]).tobytes() == array.tobytes()

    survives()


def test_fp16_is_binary_only(make_contract, tensor_property, make_client):
    """The protocol has no JSON form of it: refused on the way in and on the way out, before the model is asked."""
    client = make_client(echo(make_contract, tensor_property, "float16", [2]))
    array = np.array([[0.5, 1.5]], np.float16)
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP16"}
    assert (
        ask(client, {"inputs": [{**tensor, "data": [0.5, 1.5]}], "parameters": {"binary_data_output": True}})[0] == 400
    )
    sized = {**tensor, "parameters": {"binary_data_size": 4}}
    body, length = binary({"inputs": [sized]}, array.tobytes())
    assert ask(client, body, inference_header_content_length=length)[0] == 400
    body, length = binary({"inputs": [sized], "parameters": {"binary_data_output": True}}, array.tobytes())
    response = asyncio.run(client.ask("POST", "/v2/models/till/infer", body, inference_header_content_length=length))
    assert response.body.endswith(array.tobytes())


def test_text_tensors_are_bytes(make_contract, tensor_property, make_client):
    """Models that take strings get them, and theirs come back."""
    client = make_client(echo(make_contract, tensor_property, "str", [None]))
    tensor = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["Käse", ""]}
    _, answer = ask(client, {"inputs": [tensor]})
    assert outputs(answer)["y"]["data"] == ["Käse", ""]


def test_metadata_describes_the_contract(served):
    """Names, datatypes and shapes of the fields; -1 where any size goes."""
    assert model_metadata(served) == {
        "name": "till",
        "versions": ["3"],
        "platform": "onnx",
        "inputs": [
            {"name": "store_id", "datatype": "INT64", "shape": [-1]},
            {"name": "items", "datatype": "BYTES", "shape": [-1, -1]},
        ],
        "outputs": [
            {"name": "items", "datatype": "BYTES", "shape": [-1, -1]},
            {"name": "scores", "datatype": "FP64", "shape": [-1, -1]},
        ],
    }
    served.champion.platform = "openvino"
    assert model_metadata(served)["platform"] == "openvino"


@pytest.mark.inside
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=200)
def test_any_bytes_are_refused_or_taken(served_once, body):
    """Whatever is sent, decoding ends in records or in a typed refusal."""
    for json_length in (None, b"3"):
        with contextlib.suppress(InputRefused):
            decode(served_once, json_length, body, 10_000)


@pytest.fixture(scope="module")
def served_once():
    from types import SimpleNamespace

    from brownfield.contract import Field, Schema

    item = Field(name="item", kind="string")
    request = Schema(
        "request",
        (
            Field(name="store_id", kind="integer", dtype="int64", required=True),
            Field(name="items", kind="list", item=item, padding=""),
        ),
    )
    return SimpleNamespace(name="till", request=request, response=Schema("response", ()), encode=encode, v2=None)


def test_whole_numbers_that_a_float_cannot_hold_are_refused(make_contract, tensor_property, make_client):
    """B-15: instead of being rounded in silence."""
    client = make_client(echo(make_contract, tensor_property, "float32", [1]))
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32"}
    assert ask(client, {"inputs": [{**tensor, "data": [2**24]}]})[0] == 200
    status, answer = ask(client, {"inputs": [{**tensor, "data": [2**24 + 1]}]})
    assert status == 422
    assert "BF-FLD-005" in answer["error"]
    status, answer = ask(client, {"inputs": [{**tensor, "data": [1e300]}]})
    assert status == 422
    assert "BF-RUL-001" in answer["error"]


@pytest.mark.parametrize("rows", [10_001, 1_000_000])
@pytest.mark.parametrize(("batched", "expected"), [(True, 413), (False, 400)], ids=["batched", "one record"])
def test_b_27_rows_of_nothing_are_refused_before_anything_is_made_of_them(
    make_contract, make_client, rows, batched, expected
):
    """B-27: of empty lists no bytes are sent, so 87 of them could name any number; too many, or no one record."""
    lists = {"name": "items", "logicalType": "array", "required": True, "items": {"logicalType": "string"}}
    client = make_client(Served("till", make_contract([lists], [lists], batched=batched), 1000))
    tensor = {"name": "items", "shape": [rows, 0], "datatype": "BYTES"}
    seen = []

    def refused():
        seen.append(ask(client, {"inputs": [{**tensor, "data": []}]}))
        binary = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 0}}]}).encode()
        seen.append(ask(client, binary, inference_header_content_length=str(len(binary))))

    assert peak_bytes(refused) < 400_000
    assert [status for status, _ in seen] == [expected, expected]
    told = ("BF-REQ-002", "at most 10000") if batched else ("BF-TEN-004", "items: v2.shape")
    assert all(part in answer["error"] for _, answer in seen for part in told)


@pytest.mark.parametrize("fields", [1, 2], ids=["plain", "not plain"])
def test_b_27_more_rows_than_are_taken_are_refused_by_their_shape(make_contract, tensor_property, make_client, fields):
    """B-27: whatever their numbers are, none of them becomes an array."""
    tensors = [tensor_property(name, "float32", [2]) for name in "xz"[:fields]]
    client = make_client(Served("till", make_contract(tensors, [tensor_property("y", "float32", [2])]), 1000))
    inputs = [{"name": name, "shape": [10_001, 2], "datatype": "FP32", "data": [0.5]} for name in "xz"[:fields]]
    assert ask(client, {"inputs": inputs})[0] == 413
    assert ask(client, {"inputs": [{**one, "shape": [10_000, 2]} for one in inputs]})[0] == 400


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("scalar", [[0], [-1], [2], [1, 1]]),
        ("list", [[], [-1], [1, 1]]),
        ("tensor", [[], [0], [-1], [3], [2, 2], [1] * 40]),
    ],
)
def test_b_27_too_many_rows_of_another_shape_are_of_another_shape(
    make_contract, tensor_property, make_client, field, wrong
):
    """B-27: sending fewer would not help, so it is 400 with any number of rows; of a good shape the number decides."""
    prop, datatype, inner = {
        "scalar": ({"name": "x", "logicalType": "integer", "required": True}, "INT64", []),
        "list": (
            {"name": "x", "logicalType": "array", "required": True, "items": {"logicalType": "integer"}},
            "INT64",
            [1],
        ),
        "tensor": (tensor_property("x", "float32", [2]), "FP32", [2]),
    }[field]
    client = make_client(Served("till", make_contract([prop], [prop]), 1000))

    def told(rows, inner):
        count = rows * max(0, int(np.prod(inner)))
        value = 0.5 if datatype == "FP32" else 1
        tensor = {"name": "x", "shape": [rows, *inner], "datatype": datatype, "data": [value] * count}
        return ask(client, {"inputs": [tensor]})

    for shape in wrong:
        for rows in (3, 10_001):
            status, answer = told(rows, shape)
            assert (status, "BF-TEN-004" in answer["error"]) == (400, True), (rows, shape, answer)
    assert told(3, inner)[0] == 503  # there is no model
    assert told(10_001, inner)[0] == 413


def test_a_tensor_of_one_record_may_be_longer_than_rows_are_many(make_contract, tensor_property, make_client):
    """Where a request is one record, the first dimension of a tensor is its own."""
    contract = make_contract(
        [tensor_property("x", "int8", [None])], [tensor_property("y", "int8", [None])], batched=False
    )
    client = make_client(Served("till", contract, 1000))
    tensor = {"name": "x", "shape": [10_001], "datatype": "INT8", "data": [1] * 10_001}
    assert ask(client, {"inputs": [tensor]})[0] == 503  # there is no model
