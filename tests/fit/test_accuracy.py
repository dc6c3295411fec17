"""How right a candidate is: decisions, labels, bounds, and neighbours in a batch."""

import numpy as np
import pytest

from brownfield.errors import DeclarationError
from brownfield.fit import Recipe, Rows, Session
from brownfield.fit.accuracy import compare
from brownfield.fit.build import build, write_calibration
from brownfield.fit.measure import isolated, running


def _answers(*scores) -> list[dict[str, np.ndarray]]:
    return [{"y": np.array([row], dtype="f4")} for row in scores]


def _rows(count: int, labels=None) -> Rows:
    return Rows.from_tensors({"x": np.zeros((count, 1))}, batched=True, labels=labels)


def _compare(before, after, metric="agreement", labels=None):
    return compare(before, after, _rows(len(before), labels), metric=metric, seed=0)


def test_agreement_is_the_largest_score() -> None:
    """Other scores with the same winner agree; another winner does not."""
    found = _compare(_answers([1, 2], [2, 1], [0, 3]), _answers([1, 9], [5, 6], [1, 2]))
    assert found.value == pytest.approx(2 / 3)
    assert found.drop.value == pytest.approx(1 / 3)


def test_single_numbers_agree_within_a_hundredth_of_the_scale() -> None:
    """Next to nothing is compared with the largest answer, not with itself."""
    before = _answers([100.0], [0.001])
    assert _compare(before, _answers([100.5], [0.5])).value == 1
    assert _compare(before, _answers([100.5], [1.5])).value == 0.5


def test_no_loss_in_few_rows_is_not_proof() -> None:
    """Ten rows that agree bound the loss at 31 %, four hundred at 1 %."""
    assert _compare(_answers(*[[0, 1]] * 10), _answers(*[[0, 1]] * 10)).drop.upper == pytest.approx(0.308, abs=1e-3)
    assert _compare(_answers(*[[0, 1]] * 400), _answers(*[[0, 1]] * 400)).drop.upper < 0.01


def test_labels_pair_rows_won_and_lost() -> None:
    """As many won as lost is no loss, with bounds that remember both."""
    before = _answers(*[[0, 1]] * 50, *[[1, 0]] * 50)
    after = _answers(*[[0, 1]] * 40, *[[1, 0]] * 10, *[[0, 1]] * 10, *[[1, 0]] * 40)
    found = _compare(before, after, "accuracy", [1] * 100)
    assert (found.value, found.drop.value) == (0.5, 0.0)
    assert found.drop.lower < -0.1 < 0.1 < found.drop.upper


def test_recall_counts_the_share_of_what_was_wanted() -> None:
    """Two of two among the best two is one; one of two is a half."""
    labels = [[1, 0, 1], [1, 0, 1]]
    found = _compare(_answers([3, 1, 2], [3, 1, 2]), _answers([3, 1, 2], [3, 2, 1]), "recall_at_2", labels)
    assert (found.value, found.drop.value) == (0.75, 0.25)


@pytest.mark.parametrize(("metric", "labels"), [("accuracy", None), ("f1", [1, 0]), ("recall_at_5", [1, 0])])
def test_a_metric_that_cannot_be_computed_is_refused(metric: str, labels: list[int] | None) -> None:
    """An unknown one, one without labels, and one whose labels have another form."""
    with pytest.raises(DeclarationError, match="metric"):
        _compare(_answers([0, 1], [0, 1]), _answers([0, 1], [0, 1]), metric, labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_seen(bad: float) -> None:
    """One of them in any row."""
    assert not _compare(_answers([0, 1], [0, 1]), _answers([0, 1], [0, bad])).finite


def test_answers_of_another_shape_are_wrong() -> None:
    """Fewer scores are no answers."""
    found = _compare(_answers([0, 1]), _answers([1]))
    assert (found.value, found.finite) == (0, False)


@pytest.mark.full
def test_dynamic_int8_lets_a_loud_neighbour_change_answers_and_fp32_does_not(mlp, rows, tmp_path) -> None:
    """Scales of each request are shared by all its rows; static scales and fp32 keep callers apart."""
    write_calibration(tmp_path / "calibration.npz", rows.split(0).calibration)
    recipes = {
        "dynamic": Recipe(kind="dynamic", operators=("MatMul", "Gemm")),
        "static": Recipe(kind="static", calibrator="minmax"),
    }
    found = {}
    for name, recipe in recipes.items():
        build(recipe, mlp(), tmp_path / name, calibration=tmp_path / "calibration.npz")
        with running(tmp_path / name, Session()) as (_, caller, _):
            found[name] = isolated(caller, rows)
    with running(mlp(), Session()) as (_, caller, _):
        found["fp32"] = isolated(caller, rows)
    assert found == {"dynamic": False, "static": True, "fp32": True}


def test_what_is_no_number_can_be_kept_in_the_journal() -> None:
    """JSON has no word for NaN and infinity: an Accuracy has none of them."""
    import msgspec

    from brownfield.fit import Accuracy

    found = _compare(_answers([0, 1], [0, 1]), _answers([0, np.nan], [np.inf, 1]))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Accuracy) == found


def test_a_state_that_moves_costs_the_row() -> None:
    """Labels judge the first output; where a further one, handed on to the next request, moves, the row is lost."""
    rows = Rows.from_tensors({"x": np.zeros((4, 1), dtype="f4")}, batched=False, labels=[1, 1, 1, 1])
    fp32 = [{"score": np.array([[0.9]]), "state": np.full((2, 3), 1.0)} for _ in range(4)]
    near, far = ([{**answer, "state": answer["state"] + by} for answer in fp32] for by in (0.005, 0.05))
    assert compare(fp32, near, rows, metric="accuracy", seed=0).drop.value == 0
    assert compare(fp32, far, rows, metric="accuracy", seed=0).drop.value == 1
