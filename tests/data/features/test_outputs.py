"""Tensors become response fields: exact answers, one kind at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.data.features.outputs import _best
from brownfield.errors import OutputRefused

BASKET = {"field": "items", "kind": "multi_hot", "tensor": "b", "vocabulary": ["milk", "bread", "tea", "salt"]}
TOP = {"field": "items", "kind": "top_k", "tensor": "y", "k": 2, "labels": "items", "scores": "scores"}
SCORES = np.array([[0.1, 0.9, 0.5, 0.2]], dtype=np.float32)


def test_top_k_gives_the_best_labels_first(build):
    """The labels with the highest scores come first, each with its own score."""
    decoded = build([BASKET], [TOP]).decode({"y": SCORES}, {"items": [[]]}, 1)
    assert decoded["items"] == [["bread", "tea"]]
    assert decoded["scores"][0] == pytest.approx([0.9, 0.5])


def test_top_k_leaves_out_what_the_request_holds(build):
    """Labels in the excluded request field are not answered, and unknown ones there do no harm."""
    decoded = build([BASKET], [{**TOP, "exclude": "items"}]).decode({"y": SCORES}, {"items": [["bread", "rum"]]}, 1)
    assert decoded["items"] == [["tea", "salt"]]


def test_top_k_answers_fewer_when_there_are_no_more(build):
    """With all but one label excluded one label is answered, and the model's tensor is left as it was."""
    scores = SCORES.copy()
    features = build([BASKET], [{**TOP, "exclude": "items"}])
    decoded = features.decode({"y": scores}, {"items": [["milk", "bread", "tea"]]}, 1)
    assert decoded["items"] == [["salt"]]
    assert np.array_equal(scores, SCORES)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_equal_scores_keep_the_order_of_the_labels(build, dtype):
    """Of equal scores the earlier label comes first, whatever the dtype, also where the cut falls between them."""
    scores = np.array([[1, 2, 2, 2], [1, 1, 1, 1]], dtype=dtype)
    decoded = build([BASKET], [TOP]).decode({"y": scores}, {"items": [[], []]}, 2)
    assert decoded["items"] == [["bread", "tea"], ["milk", "bread"]]


@settings(max_examples=20, deadline=None)
@given(k=st.integers(1, 60), levels=st.integers(1, 60), seed=st.integers(0, 9))
def test_large_tables_are_ranked_as_small_ones(k, levels, seed):
    """The short cut for large tables gives what sorting all scores gives, whatever the ties and cut."""
    scores = np.random.default_rng(seed).integers(0, levels, (100, 50)).astype(np.float32)
    assert np.array_equal(_best(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])


def test_minus_infinity_is_never_answered(build):
    """A label that the model itself rules out with minus infinity is not answered."""
    scores = np.array([[-np.inf, 1.0, -np.inf, -np.inf]], dtype=np.float32)
    assert build([BASKET], [TOP]).decode({"y": scores}, {"items": [[]]}, 1)["items"] == [["bread"]]


def test_argmax_gives_one_label_and_its_score(build):
    """The best label is answered with its score; of equal scores the first."""
    output = {"field": "label", "kind": "argmax", "tensor": "y", "labels": ["a", "b", "c"], "score": "score"}
    scores = np.array([[0.1, 0.7, 0.2], [0.4, 0.2, 0.4]], dtype=np.float64)
    decoded = build([BASKET], [output]).decode({"y": scores}, {}, 2)
    assert decoded == {"label": ["b", "a"], "score": [0.7, 0.4]}


@pytest.mark.parametrize("tensor", [np.array([0.25, 0.5]), np.array([[0.25], [0.5]])], ids=["flat", "column"])
def test_scalar_reads_either_form(build, tensor):
    """A tensor `[rows]` and a tensor `[rows, 1]` give the same numbers."""
    output = {"field": "score", "kind": "scalar", "tensor": "y"}
    assert build([BASKET], [output]).decode({"y": tensor}, {}, 2) == {"score": [0.25, 0.5]}


def test_scalar_picks_its_column(build):
    """`column` chooses among several."""
    output = {"field": "score", "kind": "scalar", "tensor": "y", "column": 1}
    assert build([BASKET], [output]).decode({"y": np.array([[0.25, 0.75]])}, {}, 1) == {"score": [0.75]}


def test_threshold_is_reached_by_an_equal_value(build):
    """A value equal to the threshold reaches it; labels stand for below and at or above."""
    plain = {"field": "accept", "kind": "threshold", "tensor": "y", "threshold": 0.5}
    named = {"field": "label", "kind": "threshold", "tensor": "y", "threshold": 0.5, "labels": ["no", "yes"]}
    values = np.array([0.49, 0.5, 0.51])
    assert build([BASKET], [plain, named]).decode({"y": values}, {}, 3) == {
        "accept": [False, True, True],
        "label": ["no", "yes", "yes"],
    }


@pytest.mark.parametrize(
    ("output", "tensors"),
    [
        (TOP, {}),
        (TOP, {"y": np.zeros((1, 3), dtype=np.float32)}),
        (TOP, {"y": np.zeros((2, 4), dtype=np.float32)}),
        (TOP, {"y": np.full((1, 4), np.nan, dtype=np.float32)}),
        ({"field": "score", "kind": "scalar", "tensor": "y", "column": 2}, {"y": np.zeros((1, 2))}),
        ({"field": "score", "kind": "scalar", "tensor": "y"}, {"y": np.zeros((1, 2, 3))}),
        ({"field": "accept", "kind": "threshold", "tensor": "y", "threshold": 1}, {"y": np.array([np.nan])}),
    ],
    ids=["missing", "too-few-labels", "too-many-rows", "nan", "no-column", "too-many-dimensions", "nan-threshold"],
)
def test_answers_that_cannot_be_read_are_refused(build, output, tensors):
    """A missing tensor, a wrong shape, or NaN where values are compared refuses the answer with a typed error."""
    with pytest.raises(OutputRefused):
        build([BASKET], [output]).decode(tensors, {"items": [[]]}, 1)
