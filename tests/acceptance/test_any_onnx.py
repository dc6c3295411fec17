"""Any ONNX model a person brings: ``init --model``, ``serve``, a foreign V2 client, and onnxruntime's own answers.

onnxruntime runs in a process of its own, as it would without this platform.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tritonclient.http as triton
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import np_to_triton_dtype

RUN_BY_ITSELF = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = json.load(sys.stdin)
feed = {n: np.array(data, dtype=object if d == "object" else d).reshape(shape) for n, (d, shape, data) in given.items()}
names = [output.name for output in session.get_outputs()]
got = dict(zip(names, session.run(names, feed)))
print(json.dumps({name: [str(a.dtype), list(a.shape), a.ravel().tolist()] for name, a in got.items()}))
"""

rng = np.random.default_rng(20261121)


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def weights(name, *shape):
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)


def constant(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def convolution():
    """An image network: batch, height and width are free."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    graph = [value("image", 1, ["b", 3, "h", "w"])], [value("logits", 1, ["b", 5])], [weights("w", 5, 3, 3, 3)]
    return nodes, *graph, {"image": rng.random((2, 3, 9, 7), np.float32)}


def two_towers():
    """Several inputs and outputs of several types, with names that no programming language takes."""
    nodes = [
        helper.make_node("Gather", ["table", "user id:0"], ["u"]),
        helper.make_node("Mul", ["u", "größe/1"], ["scores.2"]),
        helper.make_node("ReduceSum", ["scores.2", "axis"], ["total"], keepdims=0),
        helper.make_node("Not", ["new?"], ["old!"]),
    ]
    inputs = [value("user id:0", 7, ["n"]), value("größe/1", 1, ["n", 4]), value("new?", 9, ["n"])]
    outputs = [value("scores.2", 1, ["n", 4]), value("total", 1, ["n"]), value("old!", 9, ["n"])]
    given = {
        "user id:0": np.array([0, 1, 1], np.int64),
        "größe/1": rng.random((3, 4), np.float32),
        "new?": np.array([True, False, True]),
    }
    return nodes, inputs, outputs, [weights("table", 2, 4), constant("axis", np.array([1], np.int64))], given


def recurrent():
    """A voice detector's shape: state goes in and comes out, the rate is a number without dimensions."""
    nodes = [
        helper.make_node("Concat", ["frame", "state"], ["joined"], axis=1),
        helper.make_node("MatMul", ["joined", "w"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["stateN"]),
        helper.make_node("Cast", ["sr"], ["rate"], to=1),
        helper.make_node("ReduceMean", ["stateN"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "rate"], ["speech"]),
    ]
    inputs = [value("frame", 1, [1, 6]), value("state", 1, [1, 4]), value("sr", 7, [])]
    outputs = [value("speech", 1, []), value("stateN", 1, [1, 4])]
    given = {"frame": rng.random((1, 6), np.float32), "state": rng.random((1, 4), np.float32), "sr": np.array(8000)}
    return nodes, inputs, outputs, [weights("w", 10, 4)], given


def found():
    """As many rows come out as the data say: no dimension in common with what went in."""
    nodes = [helper.make_node("Greater", ["x", "half"], ["g"]), helper.make_node("NonZero", ["g"], ["where"])]
    outputs = [value("where", 7, [2, "found"])]
    given = {"x": np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.6]], np.float32)}
    return nodes, [value("x", 1, ["rows", 2])], outputs, [constant("half", np.float32(0.5))], given


def branches():
    """Control flow: a graph inside a graph, chosen by the data."""
    then = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "then", [], [value("a", 1, [2, 3])])
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["b"])], "else", [], [value("b", 1, [2, 3])])
    nodes = [helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other)]
    inputs = [value("x", 1, [2, 3]), value("flag", 9, [])]
    given = {"x": rng.normal(size=(2, 3)).astype(np.float32), "flag": np.array(True)}
    return nodes, inputs, [value("y", 1, [2, 3])], [], given


def narrow():
    """Halves, unsigned bytes and doubles keep their width."""
    nodes = [
        helper.make_node("Mul", ["h", "h"], ["h2"]),
        helper.make_node("BitShift", ["u", "one"], ["u2"], direction="LEFT"),
        helper.make_node("Sqrt", ["d"], ["d2"]),
    ]
    inputs = [value("h", 10, ["n", 2]), value("u", 2, ["n", 1]), value("d", 11, ["n"])]
    outputs = [value("h2", 10, ["n", 2]), value("u2", 2, ["n", 1]), value("d2", 11, ["n"])]
    given = {
        "h": np.array([[0.1, 3], [5, 0.25]], np.float16),
        "u": np.array([[1], [200]], np.uint8),
        "d": np.array([2.0, 1e300]),
    }
    return nodes, inputs, outputs, [constant("one", np.array(1, np.uint8))], given


def texts():
    """Texts in and texts out, with characters of any script."""
    nodes = [helper.make_node("Identity", ["words"], ["same"]), helper.make_node("Shape", ["words"], ["size"])]
    given = {"words": np.array([["tea", "größe"], ["入力", ""]], dtype=object)}
    outputs = [value("same", TensorProto.STRING, ["n", 2]), value("size", 7, [2])]
    return nodes, [value("words", TensorProto.STRING, ["n", 2])], outputs, [], given


GRAPHS = (convolution, two_towers, recurrent, found, branches, narrow, texts)


def slug(build):
    return build.__name__.replace("_", "-")


@pytest.fixture(scope="module")
def zoo(run, serve, tmp_path_factory):
    """Every graph begun by the command line, served by one process; the models by name."""
    folder = tmp_path_factory.mktemp("zoo")
    models = {}
    for build in GRAPHS:
        nodes, inputs, outputs, initial, _ = build()
        graph = helper.make_graph(nodes, "g", inputs, outputs, initial)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        models[build] = folder / f"{build.__name__}.onnx"
        onnx.save(model, models[build])
        begun = run("init", folder / slug(build), "--model", models[build])
        assert begun.returncode == 0, begun.stderr
        home = folder / slug(GRAPHS[0]) / "integrations" / slug(build)
        if build is not GRAPHS[0]:
            shutil.copytree(folder / slug(build) / "integrations" / slug(build), home)
    return serve(folder / slug(GRAPHS[0])), models


def by_itself(model, given):
    feed = {name: [str(array.dtype), list(array.shape), array.ravel().tolist()] for name, array in given.items()}
    done = subprocess.run(
        [sys.executable, "-c", RUN_BY_ITSELF, model], input=json.dumps(feed), capture_output=True, text=True, check=True
    )
    return {
        name: np.array(data, dtype=object if dtype == "object" else dtype).reshape(shape)
        for name, (dtype, shape, data) in json.loads(done.stdout).items()
    }


@pytest.mark.full
@pytest.mark.parametrize("build", GRAPHS, ids=lambda build: build.__name__)
def test_answers_are_onnxruntimes_own(zoo, build):
    """Any graph answers a foreign client with the very bits that onnxruntime gives by itself, names and types too."""
    served, models = zoo
    given = build()[-1]
    tensors = []
    for name, array in given.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    with triton.InferenceServerClient(served.url.removeprefix("http://")) as client:
        result = client.infer(slug(build), tensors)
    assert result.get_response()["parameters"]["brownfield_source"] == "model"
    expected = by_itself(models[build], given)
    assert [output["name"] for output in result.get_response()["outputs"]] == list(expected)
    for name, array in expected.items():
        got = result.as_numpy(name)
        if got.dtype == object:
            got = np.array([text.decode() for text in got.ravel()], dtype=object).reshape(got.shape)
        assert got.dtype == array.dtype, name
        assert got.shape == array.shape, name
        if array.dtype == object:
            assert got.tolist() == array.tolist()
        else:
            np.testing.assert_array_equal(got, array, err_msg=name)
