"""The way back from an int8 that is fast and wrong: where to start, and how many layers to leave out."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from brownfield.fit import Accuracy, Candidate, Recipe, Row, Session, Timing, Verdict, Wanted, search
from brownfield.fit.build import rank, write_calibration
from brownfield.fit.layers import counts, promising
from brownfield.statistics import Interval

GEMMS = Recipe(kind="static", operators=("Gemm",), calibrator="minmax")
DYNAMIC = Recipe(kind="dynamic", operators=("MatMul", "Gemm"))


def _row(recipe: Recipe, ratio: float, drop: float, session: Session = Session()) -> Row:  # noqa: B008 (frozen)
    timing = Timing(
        runs=240,
        p50_us=Interval(100.0, 90.0, 110.0),
        p99_us=(100.0, None, None),
        mean_us=100.0,
        ratio=Interval(ratio, ratio - 0.01, ratio + 0.01),
        reference_p50_us=100.0,
        peak_mib=10.0,
        ready_s=0.1,
        steal_share=0.0,
    )
    accuracy = Accuracy(
        metric="accuracy",
        rows=300,
        value=1 - drop,
        drop=Interval(drop, drop - 0.001, drop + 0.01),
        finite=True,
        largest_difference=0.0 if recipe.kind == "as_is" else 0.3,
        least_cosine=1.0,
    )
    return Row(candidate=Candidate(recipe=recipe, session=session), stage="screen", timing=timing, accuracy=accuracy)


FP32_ROW = _row(Recipe(kind="as_is"), 1.0, 0.0)


def test_the_least_wrong_of_the_fast_ones_is_where_to_start() -> None:
    """A faster one that is more wrong gives way, and so does one that is hardly faster than fp32."""
    others = [Recipe(kind="static", calibrator=name) for name in ("minmax", "percentile", "entropy")]
    table = [_row(others[0], 0.4, 0.3), _row(others[1], 0.5, 0.1), _row(others[2], 0.95, 0.02)]
    found = promising([FP32_ROW, *table], Wanted())
    assert found is not None
    assert found.candidate.recipe.calibrator == "percentile"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [_row(GEMMS, 0.4, 0.001)],
        [_row(GEMMS, 0.4, 0.2), _row(DYNAMIC, 0.42, 0.0)],
        [_row(GEMMS, 0.4, 0.2), _row(Recipe(kind="as_is"), 0.42, 0.0, Session(engine="openvino", precision="bf16"))],
        [_row(DYNAMIC, 0.4, 0.2)],
    ],
    ids=["nothing fast", "right already", "dynamic is as fast", "bf16 is as fast", "dynamic has no calibration"],
)
def test_nothing_is_left_out_where_nothing_can_be_won(rows) -> None:
    """No search for layers where a right candidate is as fast, or none is faster than fp32."""
    assert promising([FP32_ROW, *rows], Wanted()) is None


def test_ever_more_layers_are_left_out_up_to_half() -> None:
    """One layer is worth a try in any graph."""
    assert [list(counts(layers)) for layers in (1, 2, 5, 16)] == [[1], [1], [1, 2], [1, 2, 4, 8]]


@pytest.fixture
def one_bad_layer(tmp_path) -> Path:
    """Folder of a wide model whose last layer reads one loud number that it ignores: int8 has no steps for the rest."""
    random, width = np.random.default_rng(3), 1536

    def weights(name: str, array) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(array, dtype="f4"), name)

    last = random.normal(size=(width + 1, 5)) / np.sqrt(width)
    last[-1] = 0.0
    initializers = [
        weights("w0", random.normal(size=(32, width)) / np.sqrt(32)),
        weights("w1", random.normal(size=(width, width)) / np.sqrt(width)),
        weights("w2", last),
        weights("pick", np.eye(32, 1)),
        weights("loud", 1e4),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["a"], name="first"),
        helper.make_node("Gemm", ["a", "w1"], ["b"], name="middle"),
        helper.make_node("MatMul", ["x", "pick"], ["c"], name="pick_one"),
        helper.make_node("Mul", ["c", "loud"], ["d"], name="shout"),
        helper.make_node("Concat", ["b", "d"], ["e"], axis=1, name="beside"),
        helper.make_node("Gemm", ["e", "w2"], ["y"], name="bad"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "model").mkdir()
    onnx.save(model, tmp_path / "model" / "model.onnx")
    return tmp_path / "model"


@pytest.mark.full
def test_the_layer_that_harms_most_is_named_first(one_bad_layer, rows, tmp_path) -> None:
    """Each layer is quantised alone and the answers are compared."""
    write_calibration(tmp_path / "c.npz", rows.split(0).calibration)
    found = rank(GEMMS, one_bad_layer, calibration=tmp_path / "c.npz", ranges=tmp_path / "ranges.json")
    assert found[0] == "bad"
    assert set(found) <= {"first", "middle", "bad"}


@pytest.mark.full
@pytest.mark.usefixtures("calm")
def test_an_int8_that_is_wrong_in_one_layer_is_saved(one_bad_layer, rows, tmp_path) -> None:
    """The whole is wrong and is a row; without that layer it is right, faster than fp32, and chosen."""
    fit = search(
        one_bad_layer,
        rows,
        Wanted(max_drop=0.05),
        folder=tmp_path / "fit",
        tried=[Recipe(kind="as_is"), GEMMS],
        run_in=[],
        time_limit_s=600.0,
    )
    by_name = {row.candidate.name: row for row in fit.rows}
    assert by_name[GEMMS.name].accuracy.drop.lower > 0.05
    saved = by_name[f"{GEMMS.name}, 1 layer in fp32"]
    assert saved.candidate.recipe.left_out == ("bad",)
    assert (saved.stage, saved.accuracy.drop.upper <= 0.05) == ("final", True)
    assert (fit.choice.verdict, fit.choice.chosen) == (Verdict.FITS, saved.candidate.name)
