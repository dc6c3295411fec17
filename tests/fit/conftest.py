"""Small models, rows for them, and rows of the table made by hand."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from brownfield.fit import Accuracy, Candidate, Recipe, Row, Rows, Session, Timing
from brownfield.fit.choose import Noise
from brownfield.statistics import Interval

INPUTS, CLASSES = 32, 5


@pytest.fixture(scope="session")
def mlp(tmp_path_factory) -> Callable[..., Path]:
    """Folder with the ``model.onnx`` of a classifier of the given width, made once each."""
    made: dict[int, Path] = {}

    def make(width: int = 64) -> Path:
        if width not in made:
            made[width] = tmp_path_factory.mktemp(f"mlp{width}")
            onnx.save(_mlp(width), made[width] / "model.onnx")
        return made[width]

    return make


@pytest.fixture
def calm(monkeypatch) -> None:
    """Judge as on a quiet machine: the noise of this one, told apart in ``test_choose``, is no subject of the test."""
    monkeypatch.setattr(Noise, "complaint", "")
    monkeypatch.setattr(Noise, "margin", 0.05)


@pytest.fixture(scope="session")
def row_of() -> Callable[..., Row]:
    """Row of the table, judged to the end, with tight intervals."""

    def make(recipe: Recipe, *, ratio: float, p50_ms=0.8, p99_ms=1.0, peak_mib=60.0, drop=(0.0, 0.0, 0.004)) -> Row:
        timing = Timing(
            runs=960,
            p50_us=Interval(p50_ms * 1000, p50_ms * 990, p50_ms * 1010),
            p99_us=(p99_ms * 1000, p99_ms * 970, p99_ms * 1030),
            mean_us=p50_ms * 1000,
            ratio=Interval(ratio, ratio * 0.97, ratio * 1.03),
            reference_p50_us=800,
            peak_mib=peak_mib,
            ready_s=0.2,
            steal_share=0,
        )
        accuracy = Accuracy(
            metric="agreement",
            rows=1000,
            value=1 - drop[0],
            drop=Interval(*drop),
            finite=True,
            largest_difference=0.0,
            least_cosine=1,
        )
        candidate = Candidate(recipe=recipe, session=Session())
        return Row(candidate=candidate, stage="final", timing=timing, accuracy=accuracy)

    return make


@pytest.fixture(scope="session")
def rows() -> Rows:
    """Twelve hundred rows around five centres, with their classes."""
    return Rows.from_tensors({"x": _points(1200)[0]}, batched=True)


@pytest.fixture(scope="session")
def few() -> Rows:
    """Two hundred rows."""
    return Rows.from_tensors({"x": _points(200)[0]}, batched=True)


@pytest.fixture(scope="session")
def outliers() -> Rows:
    """Rows of which one in ten is ten thousand times as loud: scales calibrated on them are garbage for the rest."""
    points, _ = _points(1200)
    points[::10] *= 1e4
    return Rows.from_tensors({"x": points}, batched=True)


@pytest.fixture(scope="session")
def convolution(tmp_path_factory) -> Path:
    """Folder with a convolutional model, which dynamic int8 is known to slow down."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array((random.normal(size=(32, inputs, 3, 3)) * 0.1).astype("f4"), f"w{index}")
        for index, inputs in enumerate((3, 32, 32))
    ]
    nodes = [
        helper.make_node("Conv", [name, f"w{index}"], [f"y{index}"], pads=[1, 1, 1, 1])
        for index, name in enumerate(("x", "y0", "y1"))
    ]
    nodes.append(helper.make_node("GlobalAveragePool", ["y2"], ["p"]))
    nodes.append(helper.make_node("Flatten", ["p"], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    folder = tmp_path_factory.mktemp("convolution")
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    return folder


def _mlp(width: int) -> onnx.ModelProto:
    random = np.random.default_rng(5)
    sizes = (INPUTS, width, width, CLASSES)
    weights, nodes, value = [], [], "x"
    for index, (before, after) in enumerate(pairwise(sizes)):
        matrix = random.normal(size=(before, after)) * np.sqrt(2 / before)
        weights.append(numpy_helper.from_array(matrix.astype("f4"), f"w{index}"))
        weights.append(numpy_helper.from_array(np.zeros(after, dtype="f4"), f"b{index}"))
        nodes.append(helper.make_node("Gemm", [value, f"w{index}", f"b{index}"], [f"h{index}"]))
        value = f"h{index}"
        if after != CLASSES:
            nodes.append(helper.make_node("Relu", [value], [f"r{index}"]))
            value = f"r{index}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INPUTS])
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", CLASSES])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _points(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(9)
    centres = random.normal(size=(CLASSES, INPUTS)) * 3
    classes = random.integers(CLASSES, size=count)
    return (centres[classes] + random.normal(size=(count, INPUTS)) * 0.5).astype("f4"), classes
