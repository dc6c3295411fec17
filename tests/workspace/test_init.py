"""A workspace begins from any ONNX model, or before there is one."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from brownfield.errors import BundleRefused, DeclarationError
from brownfield.integration import load_workspace
from brownfield.model import open_bundle, probe
from brownfield.workspace.init import init_empty, init_from_model

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def _value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def _save(folder, nodes, inputs, outputs, weights=(), opset=17):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    path = folder / "any.onnx"
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def _begun(tmp_path, model, **options):
    begun = init_from_model(tmp_path / "My Workspace", model, **options)
    integration = load_workspace(begun.folder).integrations[begun.name]
    bundle = open_bundle(integration.file(integration.model.path))
    bundle.check_contract(integration.contract)
    assert bundle.name == begun.name
    return begun, integration, bundle


def _agrees_with_the_engine(model, bundle):
    """Golden answers are onnxruntime's own."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    expected = session.run(names, dict(bundle.golden.inputs))
    for name, array in zip(names, expected, strict=True):
        got = bundle.golden.outputs[name]
        assert got.shape == array.shape
        assert np.array_equal(got, array) if array.dtype == object else np.allclose(got, array, rtol=1e-5, atol=1e-6)


def test_a_batched_model(tmp_path):
    """A graph over named batches becomes a batched contract, with golden answers that are the engine's own."""
    weights = numpy_helper.from_array(np.array([[1.0], [2.0], [3.0]], dtype=np.float32), "w")
    model = _save(
        tmp_path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [_value("x", 1, ["n", 3])],
        [_value("y", 1, ["n", 1])],
        [weights],
    )
    begun, integration, bundle = _begun(tmp_path, model)
    assert (begun.name, begun.batched, begun.warnings) == ("my-workspace", True, ())
    assert integration.contract.schema("request").field("x").shape == (3,)
    assert len(bundle.golden.inputs["x"]) == 3
    _agrees_with_the_engine(model, bundle)
    assert probe(bundle).largest_difference < 1e-6


@pytest.mark.parametrize("operator", ["Softmax", "CumSum", "ReduceMean"])
def test_a_model_that_computes_across_records_is_not_batched(tmp_path, operator):
    """Records that influence each other's answers never share a request, whatever the graph calls its dimensions."""
    zero = numpy_helper.from_array(np.array(0, dtype=np.int64), "zero")
    nodes = {
        "Softmax": [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
        "CumSum": [helper.make_node("CumSum", ["x", "zero"], ["y"])],
        "ReduceMean": [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
    }[operator]
    model = _save(tmp_path, nodes, [_value("x", 1, ["n", 3])], [_value("y", 1, ["n", 3])], [zero])
    begun, _, bundle = _begun(tmp_path, model)
    assert not begun.batched
    _agrees_with_the_engine(model, bundle)


def test_a_classifier_whose_labels_are_texts(tmp_path):
    """A row of texts is compared like any other: classes may be words, as scikit-learn's often are."""
    model = _save(
        tmp_path,
        [
            helper.make_node("LabelEncoder", ["x"], ["label"], domain="ai.onnx.ml", keys_int64s=[0, 1],
                             values_strings=["no", "yes"]),
        ],
        [_value("x", TensorProto.INT64, ["n"])],
        [_value("label", TensorProto.STRING, ["n"])],
    )  # fmt: skip
    begun, integration, bundle = _begun(tmp_path, model)
    assert begun.batched
    assert integration.contract.schema("response").field("label").shape == ()
    assert set(bundle.golden.outputs["label"]) <= {"no", "yes"}
    _agrees_with_the_engine(model, bundle)
    assert probe(bundle).batch_isolated


def test_an_output_that_is_fixed_in_the_graph_alone_is_told(tmp_path):
    """Some converters write one row where the model gives one for each record.

    Who begins with such a graph is told, and the contract takes one record at a time: three at once would be an error
    of the model's, and open the breaker for everyone.
    """
    model = _save(
        tmp_path,
        [helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0), helper.make_node("Relu", ["x"], ["p"])],
        [_value("x", 1, ["n", 3])],
        [_value("label", TensorProto.INT64, [1]), _value("p", 1, ["n", 3])],
    )
    begun, integration, bundle = _begun(tmp_path, model)
    assert not begun.batched
    assert integration.contract.schema("request").field("x").shape == (1, 3)
    assert bundle.golden.inputs["x"].shape == (1, 3)
    [warning] = begun.warnings
    assert "'label' has 1 row" in warning
    assert "dim_param" in warning


def test_a_graph_without_inputs_is_refused(tmp_path):
    """A graph that takes nothing has no request to answer, and the refusal says so."""
    value = numpy_helper.from_array(np.ones(3, dtype=np.float32), "v")
    model = _save(tmp_path, [helper.make_node("Constant", [], ["y"], value=value)], [], [_value("y", 1, [3])])
    with pytest.raises(BundleRefused, match="a graph with inputs") as refusal:
        init_from_model(tmp_path / "w", model)
    assert refusal.value.rule == "onnx-structure"


def test_what_the_engine_says_last_is_told(tmp_path):
    """B-54: of a long refusal by the engine the end is kept: there it says what is wrong, or what it would take."""
    long = "x" * 1000
    text = helper.make_tensor_value_info(long, TensorProto.STRING, [3])
    model = _save(tmp_path, [helper.make_node("Relu", [long], ["y"])], [text], [_value("y", 1, [3])])
    with pytest.raises(Exception, match=r"is invalid\.$") as engine:
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with pytest.raises(BundleRefused) as refusal:
        init_from_model(tmp_path / "w", model)
    assert " ".join(str(engine.value).split()[-4:]) in refusal.value.got


def test_dimensions_without_a_common_name_are_tried(tmp_path):
    """Where an exporter named the batch differently on both sides, running the model shows that records stand alone."""
    model = _save(
        tmp_path,
        [helper.make_node("Relu", ["x"], ["y"])],
        [_value("x", 1, ["unk__1", 3])],
        [_value("y", 1, ["unk__2", 3])],
    )
    begun, integration, _ = _begun(tmp_path, model)
    assert begun.batched
    assert integration.contract.schema("response").field("y").shape == (3,)


def test_odd_names_types_and_several_tensors(tmp_path):
    """Texts, booleans, halves and scalars under odd names arrive in contract and bundle unchanged."""
    inputs = [
        _value("a b/c:0", TensorProto.STRING, ["n", 2]),
        _value("flag.é", TensorProto.BOOL, [1, 2]),
        _value("half" * 20, TensorProto.FLOAT16, [3]),
        _value("sr", TensorProto.INT64, []),
    ]
    outputs = [
        _value("out/0", TensorProto.STRING, ["n", 2]),
        _value("not", TensorProto.BOOL, [1, 2]),
        _value("abs", TensorProto.FLOAT16, [3]),
        _value("same", TensorProto.INT64, []),
    ]
    operators = ["Identity", "Not", "Abs", "Identity"]
    nodes = [
        helper.make_node(operator, [given.name], [got.name])
        for operator, given, got in zip(operators, inputs, outputs, strict=True)
    ]
    model = _save(tmp_path, nodes, inputs, outputs)
    begun, integration, bundle = _begun(tmp_path, model, name="odd")
    assert begun.name == "odd"
    assert not begun.batched
    fields = integration.contract.schema("request").fields
    assert [(each.name, each.dtype) for each in fields] == [
        ("a b/c:0", "str"), ("flag.é", "bool"), ("half" * 20, "float16"), ("sr", "int64")
    ]  # fmt: skip
    assert bundle.golden.outputs["out/0"].tolist() == [["text", "text"]]
    _agrees_with_the_engine(model, bundle)


def test_an_output_without_a_number_of_dimensions_is_run_to_find_it(tmp_path):
    """Where the graph does not say how many dimensions an output has, one run does."""
    model = _save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [_value("x", 1, [2, 3])], [_value("y", 1, None)])
    _, integration, bundle = _begun(tmp_path, model)
    assert bundle.outputs[0].shape is None
    assert integration.contract.schema("response").field("y").shape == (None, None)


@pytest.mark.parametrize(
    "sample",
    [
        {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]},
        {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[1, 2, 3], [4, 5, 6]]}]},
        [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}],
    ],
    ids=["v2-flat", "v2-nested", "records"],
)
def test_given_records_become_golden(tmp_path, sample):
    """A sample in either form is kept as it is, with the model's answers."""
    model = _save(
        tmp_path, [helper.make_node("Neg", ["x"], ["y"])], [_value("x", 1, ["n", 3])], [_value("y", 1, ["n", 3])]
    )
    (tmp_path / "sample.json").write_text(json.dumps(sample))
    begun, _, bundle = _begun(tmp_path, model, sample=tmp_path / "sample.json")
    assert begun.batched
    assert bundle.golden.inputs["x"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert bundle.golden.outputs["y"].tolist() == [[-1, -2, -3], [-4, -5, -6]]


@pytest.mark.parametrize(
    "sample",
    ["{", "[]", "3", '{"z": [1, 2, 3]}', '{"x": [1, 2]}', '{"x": ["a", "b", "c"]}', '[{"x": [1, 2, 3]}, {}]',
     '{"inputs": [{"name": "x", "shape": [2, 3], "data": [1]}]}',
     '{"inputs": [{"name": "x", "shape": [-1], "data": [1]}]}'],
)  # fmt: skip
def test_a_sample_that_does_not_fit_is_refused(tmp_path, sample):
    """A sample of another form, name, type or shape is a typed error, and no workspace is begun."""
    model = _save(
        tmp_path, [helper.make_node("Neg", ["x"], ["y"])], [_value("x", 1, ["n", 3])], [_value("y", 1, ["n", 3])]
    )
    (tmp_path / "sample.json").write_text(sample)
    with pytest.raises(DeclarationError):
        init_from_model(tmp_path / "w", model, sample=tmp_path / "sample.json")
    assert not (tmp_path / "w").exists()


def _picky(tmp_path):
    """A model that answers 16000 alone: everything else makes it look up what is not there."""
    table = numpy_helper.from_array(np.array([1.0], dtype=np.float32), "table")
    wanted = numpy_helper.from_array(np.array(16_000, dtype=np.int64), "wanted")
    nodes = [
        helper.make_node("Sub", ["sr", "wanted"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["y"]),
    ]
    return _save(tmp_path, nodes, [_value("sr", TensorProto.INT64, [])], [_value("y", 1, [])], [table, wanted])


def test_an_invented_sample_that_fails_is_a_warning(tmp_path):
    """A model that cannot answer invented records is served without golden records, and the person is told."""
    begun, _, bundle = _begun(tmp_path, _picky(tmp_path))
    assert len(begun.warnings) == 2
    assert bundle.golden is None


@pytest.mark.full
def test_a_given_sample_that_fails_is_refused(tmp_path):
    """A model that cannot answer the records it was brought with is refused; with the right ones it is not."""
    model = _picky(tmp_path)
    sample = tmp_path / "sample.json"
    sample.write_text('{"sr": 1}')
    with pytest.raises(BundleRefused) as refusal:
        init_from_model(tmp_path / "w", model, sample=sample)
    assert refusal.value.rule == "probe-run"
    assert not (tmp_path / "w").exists()
    sample.write_text('{"sr": 16000}')
    assert _begun(tmp_path, model, sample=sample)[2].golden.outputs["y"].tolist() == 1.0


@pytest.mark.full
def test_nan_is_never_golden(tmp_path):
    """B-57: NaN in answers to a given sample refuses the model; with an invented one there are no golden records."""
    model = _save(
        tmp_path,
        [
            helper.make_node("Log", ["x"], ["l"]),
            helper.make_node("Sub", ["l", "l"], ["z"]),
            helper.make_node("Div", ["z", "z"], ["y"]),
        ],
        [_value("x", 1, [2])],
        [_value("y", 1, [2])],
    )
    assert _begun(tmp_path, model)[2].golden is None
    (tmp_path / "sample.json").write_text('{"x": [1, 2]}')
    with pytest.raises(BundleRefused) as refusal:
        init_from_model(tmp_path / "w", model, sample=tmp_path / "sample.json")
    assert refusal.value.rule == "probe-nan"


def test_a_model_that_the_engine_cannot_load_is_refused(tmp_path):
    """A graph that looks right and is not is refused by the engine in its own process, and no workspace is begun."""
    weights = numpy_helper.from_array(np.ones((2, 2), dtype=np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = _save(tmp_path, [node], [_value("x", 1, [1, 3])], [_value("y", 1, [1, 2])], [weights])
    with pytest.raises(BundleRefused) as refusal:
        init_from_model(tmp_path / "w", model)
    assert refusal.value.rule == "probe-load"
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x80\x04]."], ids=["B-51-empty", "B-51-html", "B-52-pickle"])
def test_what_is_no_model_is_refused(tmp_path, data):
    """A file that is no model begins no workspace, and nothing is left behind."""
    (tmp_path / "any.onnx").write_bytes(data)
    with pytest.raises(BundleRefused):
        init_from_model(tmp_path / "w", tmp_path / "any.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["any.onnx"]


@pytest.mark.parametrize("name", ["light_shufflenet", "light_squeezenet"])
def test_real_networks(tmp_path, name):
    """Networks that come with onnx are brought without a question, with names as the graph has them."""
    model = LIGHT / f"{name}.onnx"
    begun, _, bundle = _begun(tmp_path, model)
    assert begun.warnings == ()
    _agrees_with_the_engine(model, bundle)


def _inside(package, relative):
    spec = find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed (pip install --no-deps {package.replace('_', '-')})")
    return Path(spec.submodule_search_locations[0]) / relative


@pytest.mark.full
def test_magika(tmp_path):
    """A real classifier whose exporter named the batch twice is batched, since its records stand alone."""
    model = _inside("magika", "models/standard_v3_3/model.onnx")
    begun, integration, bundle = _begun(tmp_path, model)
    assert begun.batched
    assert integration.contract.schema("request").field("bytes").shape == (2048,)
    _agrees_with_the_engine(model, bundle)


@pytest.mark.full
def test_silero_vad(tmp_path):
    """A real model with carried state and a scalar is one record per request, under its own names."""
    model = _inside("silero_vad", "data/silero_vad_16k_op15.onnx")
    begun, integration, bundle = _begun(tmp_path, model)
    assert not begun.batched
    shapes = {each.name: each.shape for each in integration.contract.schema("request").fields}
    assert shapes == {"input": (None, None), "state": (2, None, 128), "sr": ()}
    _agrees_with_the_engine(model, bundle)


def test_a_workspace_without_a_model(tmp_path):
    """The contract comes first: the workspace passes the loader, and its fallback answers what the contract demands."""
    begun = init_empty(tmp_path / "Old Tills")
    integration = load_workspace(begun.folder).integrations["old-tills"]
    assert integration.model is None
    answer = integration.fallback.chain[0].constant
    integration.contract.schema("response").rows.check([answer])
    integration.contract.schema("request").rows.decode(b'{"store_id": 1, "amount": 9.5, "items": ["tea"]}')


@pytest.mark.parametrize("name", ["2024", "007", "1e5", "0x1f", "2024-01-01", "true", "null", "no"])
def test_a_name_that_yaml_reads_as_something_else(tmp_path, name):
    """A folder may be called as a number, a date or a truth value is written: the names in the files stay texts."""
    model = _save(
        tmp_path, [helper.make_node("Neg", ["x"], ["y"])], [_value("x", 1, ["n", 2])], [_value("y", 1, ["n", 2])]
    )
    for folder in (init_empty(tmp_path / "empty" / name).folder, init_from_model(tmp_path / name, model).folder):
        workspace = load_workspace(folder)
        integration = workspace.integrations[name]
        assert (workspace.name, integration.name, integration.contract.id) == (name, name, name)


@pytest.mark.parametrize("below", [".", "shop", "a/shop"])
def test_a_file_is_no_place_for_a_workspace(tmp_path, below):
    """It is wrong usage, and not a system that is out of reach; the file stays as it was."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DeclarationError, match="expected a folder, or a place for one, got a"):
        init_empty(tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("present", ["brownfield.yaml", "integrations"])
def test_a_workspace_is_never_written_over(tmp_path, present):
    """A folder that holds a workspace already is refused and stays as it was; one with other files is not."""
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "README").touch()
    (folder / present).touch()
    with pytest.raises(DeclarationError):
        init_empty(folder)
    assert {each.name for each in folder.iterdir()} == {"README", present}
    (folder / present).unlink()
    init_empty(folder)
    assert load_workspace(folder).name == "w"
