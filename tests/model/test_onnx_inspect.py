"""Hostile and odd model files are refused by rule, before any engine sees them."""

import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from brownfield.errors import BundleRefused
from brownfield.model import RULES, TensorSpec, inspect_onnx
from brownfield.model.onnx_inspect import inspect_onnx_bytes

LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("*.onnx"))


def _refusal(folder, data):
    path = folder / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(BundleRefused) as refusal:
        inspect_onnx(path)
    return refusal.value


def _zip():
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "seems"),
    [
        pytest.param(b"<!DOCTYPE html><html>404</html>", "an HTML page", id="B-51-html"),
        pytest.param(b"\n  <html><body>login", "an HTML page", id="B-51-html-late"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS", id="B-51-lfs"),
        pytest.param(b'{"error": "not found"}', "JSON", id="B-51-json"),
        pytest.param(b'<?xml version="1.0"?><net/>', "XML", id="B-51-xml"),
        pytest.param(np.random.default_rng(3).bytes(4096), "none, or not the whole", id="B-51-random"),
        pytest.param(b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5", id="B-51-hdf5"),
        pytest.param(b"\x40\0\0\0\0\0\0\0" + b'{"w":{}}', "safetensors", id="B-51-safetensors"),
        pytest.param(pickle.dumps([1], protocol=5), "a pickle", id="B-52-pickle"),
        pytest.param(pickle.dumps([1], protocol=2), "a pickle", id="B-52-pickle-2"),
        pytest.param(pickle.dumps([1], protocol=0), "a pickle", id="B-52-pickle-0"),
        pytest.param(_zip(), "a zip archive", id="B-52-zip"),
        pytest.param(b"\x93NUMPY\x01\0", "NumPy", id="B-52-npy"),
    ],
)
def test_other_formats_are_named(tmp_path, data, seems):
    """A file that is no ONNX model is refused with what it seems to be."""
    refusal = _refusal(tmp_path, data)
    assert refusal.rule == "model-format"
    assert seems in str(refusal)


def test_an_empty_file_is_refused(tmp_path):
    """B-51: a file of zero bytes is refused as empty."""
    assert _refusal(tmp_path, b"").rule == "model-empty"


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_model_is_refused(tmp_path, model_of, keep):
    """B-51: a model that was cut off is refused by one rule or another, never read as something smaller."""
    data = model_of()
    assert _refusal(tmp_path, data[: int(len(data) * keep)]).rule in {
        "model-format",
        "onnx-structure",
        "onnx-initializer",
    }


def _value(kind, name="x"):
    if kind == "sequence":
        return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, ["n"])
    if kind == "optional":
        inner = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
        return helper.make_value_info(name, helper.make_optional_type_proto(inner))
    if kind == "map":
        inner = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
        return helper.make_value_info(name, helper.make_map_type_proto(TensorProto.STRING, inner))
    if kind == "sparse":
        return helper.make_sparse_tensor_value_info(name, TensorProto.FLOAT, [3])
    return helper.make_tensor_value_info(name, kind, ["n", 3])


FOREIGN = (
    TensorProto.BFLOAT16,
    TensorProto.COMPLEX64,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.INT4,
    TensorProto.UNDEFINED,
)


@pytest.mark.parametrize("kind", ["sequence", "optional", "map", "sparse", *FOREIGN])
@pytest.mark.parametrize("side", ["input", "output"])
def test_types_without_a_word_in_the_protocol_are_refused(tmp_path, model_of, kind, side):
    """B-54: an input or output that V2 cannot carry is refused by name, on its own side."""
    name = "x" if side == "input" else "y"
    refusal = _refusal(tmp_path, model_of(**{f"{side}s": [_value(kind, name)]}))
    assert refusal.rule == f"onnx-{side}-type"
    assert refusal.path == f"'{name}'"
    assert ("Cast it" in refusal.next_step) == (kind in FOREIGN)


def _nested(depth):
    node = helper.make_node("Identity", ["w"], ["i"])
    for level in range(depth):
        out = helper.make_tensor_value_info("i", TensorProto.FLOAT, None)
        branch = helper.make_graph([node], f"g{level}", [], [out])
        node = helper.make_node(
            "If",
            ["c"],
            ["i"],
            then_branch=branch,
            else_branch=branch
            if level == 0
            else helper.make_graph([helper.make_node("Identity", ["w"], ["i"])], "e", [], [out]),
        )
    return [node]


def _function(name, calls):
    return helper.make_function(
        "local",
        name,
        ["a"],
        ["b"],
        [helper.make_node(calls, ["a"], ["b"], domain="local")],
        [helper.make_opsetid("local", 1)],
    )


def _filled(*sizes):
    shape = numpy_helper.from_array(np.array(sizes, dtype=np.int64), "s")
    return {"nodes": [helper.make_node("ConstantOfShape", ["s"], ["y"])], "weights": [shape]}


LOCAL = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param(
            {"nodes": [helper.make_node("Evil", ["x"], ["y"], domain="com.evil")]}, "onnx-domain", id="domain"
        ),
        pytest.param({"nodes": [helper.make_node("NoSuchOperator", ["x"], ["y"])]}, "onnx-operator", id="operator"),
        pytest.param({"nodes": [helper.make_node("Gelu", ["x"], ["y"])]}, "onnx-operator", id="operator-too-new"),
        pytest.param({"opsets": [helper.make_opsetid("", 999)]}, "onnx-opset", id="opset-too-new"),
        pytest.param({"opsets": [helper.make_opsetid("", 0)]}, "onnx-opset", id="opset-zero"),
        pytest.param({"opsets": [helper.make_opsetid("ai.onnx.ml", 3)]}, "onnx-opset", id="opset-missing"),
        pytest.param({"ir_version": 99}, "onnx-opset", id="file-version"),
        pytest.param({"nodes": _nested(20)}, "onnx-nesting", id="depth"),
        pytest.param({"opsets": LOCAL, "functions": [_function("f", "f")]}, "onnx-nesting", id="recursion"),
        pytest.param(
            {"opsets": LOCAL, "functions": [_function("f", "g"), _function("g", "f")]}, "onnx-nesting", id="mutual"
        ),
        pytest.param(_filled(1_000_000_000, 8), "onnx-constant", id="constant-bomb"),
        pytest.param({"outputs": []}, "onnx-structure", id="no-output"),
        pytest.param({"inputs": [_value(1), _value(1)]}, "onnx-names", id="two-of-one-name"),
        pytest.param({"inputs": [_value(1, "")]}, "onnx-names", id="no-name"),
        pytest.param({"inputs": [helper.make_tensor_value_info("x", 1, None)]}, "onnx-input-shape", id="no-rank"),
        pytest.param({"inputs": [helper.make_tensor_value_info("x", 1, [-3])]}, "onnx-input-shape", id="negative"),
    ],
)
def test_hostile_graphs_are_refused(tmp_path, model_of, changes, rule):
    """B-54: what the engine should never meet is refused by its own rule."""
    refusal = _refusal(tmp_path, model_of(**changes))
    assert refusal.rule == rule
    if rule == "onnx-opset" and refusal.got != "none":
        assert "Export the model for" in refusal.next_step


def test_too_many_nodes_are_refused(tmp_path, model_of, monkeypatch):
    """B-54: a graph with more nodes than allowed is refused."""
    monkeypatch.setattr("brownfield.model.onnx_inspect.MAX_NODES", 2)
    nodes = [helper.make_node("Identity", ["x"], [f"y{i}"]) for i in range(3)]
    assert _refusal(tmp_path, model_of(nodes=nodes)).rule == "onnx-nodes"


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.dims.append(10**9),
        lambda weight: weight.dims.__setitem__(0, -1),
        lambda weight: setattr(weight, "raw_data", b"\0" * 4),
        lambda weight: setattr(weight, "data_type", 99),
        lambda weight: setattr(weight, "data_type", TensorProto.STRING),
        lambda weight: setattr(weight.segment, "begin", 1),
    ],
    ids=["huge", "negative", "short", "type", "texts", "segment"],
)
def test_weights_that_lie_about_their_size_are_refused(tmp_path, model_of, change):
    """B-54: a weight whose data are not as long as its shape says is refused before memory is taken for it."""
    model = onnx.load_from_string(model_of())
    change(model.graph.initializer[0])
    assert _refusal(tmp_path, model.SerializeToString()).rule == "onnx-initializer"


def _external(model_of, **entries):
    model = onnx.load_from_string(model_of())
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "weights.bin"} | entries).items():
        weight.external_data.add(key=key, value=value)
    return model.SerializeToString()


def _place(folder, how):
    outside = folder / "outside"
    outside.mkdir()
    (outside / "weights.bin").write_bytes(b"\0" * 24)
    inside = folder / "in"
    inside.mkdir()
    if how == "plain":
        (inside / "weights.bin").write_bytes(b"\0" * 24)
    elif how == "symlink":
        (inside / "weights.bin").symlink_to(outside / "weights.bin")
    elif how == "hard-link":
        os.link(outside / "weights.bin", inside / "weights.bin")
    elif how == "fifo":
        os.mkfifo(inside / "weights.bin")
    elif how == "folder":
        (inside / "weights.bin").mkdir()
    return inside


def test_weights_beside_the_model_are_admitted(tmp_path, model_of):
    """A plain file of the same folder may hold weights, and is named in the signature."""
    folder = _place(tmp_path, "plain")
    (folder / "model.onnx").write_bytes(_external(model_of, offset="0", length="24"))
    assert inspect_onnx(folder / "model.onnx").external_files == ("weights.bin",)


@pytest.mark.parametrize("how", ["symlink", "hard-link", "fifo", "folder", "missing"])
def test_weights_in_anything_but_a_plain_file_are_refused(tmp_path, model_of, how):
    """B-53: links of either sort, pipes, folders and missing files are refused, and a pipe is not waited for."""
    assert _refusal(_place(tmp_path, how), _external(model_of)).rule == "onnx-external-data"


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../outside/weights.bin"},
        {"location": "/etc/hostname"},
        {"location": "sub/weights.bin"},
        {"location": "/dev/zero"},
        {"location": ".."},
        {"location": ""},
        {"location": "*/_ORT_MEM_ADDR_/*"},
        {"location": "weights.bin\0"},
        {"offset": "-1"},
        {"offset": "8"},
        {"offset": "0x8"},
        {"length": "999999999999"},
        {"length": "12"},
        {"surprise": "1"},
    ],
    ids=lambda entries: "-".join(entries.values())[:20],
)
def test_external_weights_stay_in_their_place(tmp_path, model_of, entries):
    """B-53: ways out of the folder, ranges beyond the file and unknown keys are refused."""
    assert _refusal(_place(tmp_path, "plain"), _external(model_of, **entries)).rule == "onnx-external-data"


def test_external_weights_in_a_subgraph_or_constant_are_seen(tmp_path, model_of):
    """B-53: weights that hide in a Constant node of a subgraph are checked like all others."""
    constant = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    constant.external_data.add(key="location", value="../outside/weights.bin")
    out = helper.make_tensor_value_info("k", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Constant", [], ["k"], value=constant)], "b", [], [out])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    assert _refusal(_place(tmp_path, "plain"), model_of(nodes=[node])).rule == "onnx-external-data"


def _function_with_default(attribute):
    """A function one of whose attributes has a default, which its node takes."""
    node = helper.make_node("Constant", [], ["b"])
    node.attribute.append(onnx.AttributeProto(name="value", ref_attr_name=attribute.name, type=attribute.type))
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_function("local", "f", ["a"], ["b"], [node], opsets, attribute_protos=[attribute])


def _outside():
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return tensor


def _graph_of(*tensors):
    return helper.make_graph([helper.make_node("Identity", ["c"], ["k"])], "b", [], [_value(1, "k")], [*tensors])


@pytest.mark.parametrize(
    ("default", "rule"),
    [
        (_outside(), "onnx-external-data"),
        ([_outside()], "onnx-external-data"),
        (_graph_of(_outside()), "onnx-external-data"),
        ([_graph_of(_outside())], "onnx-external-data"),
        (TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[10**9]), "onnx-initializer"),
        (
            helper.make_sparse_tensor(*(numpy_helper.from_array(np.ones(1, t)) for t in ("f4", "i8")), [9]),
            "onnx-structure",
        ),
        (numpy_helper.from_array(np.ones(2, "f4"), "c"), None),
        (_graph_of(numpy_helper.from_array(np.ones(2, "f4"), "c")), None),
        (1.5, None),
    ],
    ids=["tensor", "tensors", "graph", "graphs", "short", "sparse", "good-tensor", "good-graph", "number"],
)
def test_what_a_function_takes_by_default_is_seen(tmp_path, model_of, default, rule):
    """B-53, B-54: weights and graphs that hide in the default of a function's attribute are checked like all others."""
    function = _function_with_default(helper.make_attribute("value", default))
    data = model_of(opsets=LOCAL, functions=[function])
    if rule is None:
        assert inspect_onnx_bytes(data).nodes
    else:
        assert _refusal(_place(tmp_path, "plain"), data).rule == rule


def test_a_function_that_calls_itself_by_default_is_refused(tmp_path, model_of):
    """B-54: also by a graph that it takes by default."""
    graph = helper.make_graph([helper.make_node("f", ["k"], ["k"], domain="local")], "g", [], [_value(1, "k")])
    function = _function_with_default(helper.make_attribute("value", graph))
    assert _refusal(tmp_path, model_of(opsets=LOCAL, functions=[function])).rule == "onnx-nesting"


def _outcome(data):
    try:
        inspect_onnx_bytes(data)
    except BundleRefused as refusal:
        return refusal.rule
    return "admitted"


SEED = onnx.load(LIGHT[-1]).SerializeToString()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_models_are_read_or_refused(data):
    """S-09: whatever bytes of a real model are changed, removed or doubled, the outcome is a signature or a refusal."""
    mutated = bytearray(SEED[:2000] if data.draw(st.booleans()) else SEED)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        how = data.draw(st.sampled_from(["change", "remove", "double"]))
        if how == "change":
            mutated[at] = data.draw(st.integers(0, 255))
        elif how == "remove":
            del mutated[at : at + data.draw(st.integers(1, 9))]
        else:
            mutated[at:at] = mutated[at : at + data.draw(st.integers(1, 99))]
    assert _outcome(bytes(mutated)) in {"admitted", *RULES}


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_real_networks_are_admitted(path):
    """The nine networks that come with onnx are admitted, with images in and 1,000 scores out."""
    signature = inspect_onnx(path)
    assert [(each.dtype, each.shape) for each in signature.inputs] == [("float32", (1, 3, 224, 224))]
    assert np.prod(signature.outputs[0].shape) == 1000
    assert not signature.batched


def test_an_input_with_a_default_is_no_input(tmp_path, model_of):
    """Weights that old exporters list among the inputs are no inputs of the signature."""
    (tmp_path / "model.onnx").write_bytes(model_of(inputs=[_value(1), helper.make_tensor_value_info("w", 1, [3, 2])]))
    assert [each.name for each in inspect_onnx(tmp_path / "model.onnx").inputs] == ["x"]


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (TensorProto.BOOL, "bool"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.INT64, "int64"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.STRING, "str"),
    ],
)
def test_types_carry_their_numpy_names(tmp_path, model_of, number, name):
    """Every type of the protocol is told by its NumPy name, dynamic dimensions by None and their own name."""
    (tmp_path / "model.onnx").write_bytes(
        model_of(inputs=[helper.make_tensor_value_info("a b/c:0", number, ["n", None, 3])])
    )
    signature = inspect_onnx(tmp_path / "model.onnx")
    assert signature.inputs == (TensorSpec("a b/c:0", name, (None, None, 3), ("n", "", "")),)
