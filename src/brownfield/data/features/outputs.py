"""How the model's tensors become response fields: one frozen kind each.

In: the graph's outputs by name, and the request columns. Out: response columns.
Refused (``OutputRefused``): a tensor that is not there, of the wrong shape, or with NaN where values are compared.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.data.features.vocabulary import ABSENT, Label, Vocabulary, flatten
from brownfield.errors import OutputRefused
from brownfield.types import Columns

__all__ = ["Argmax", "OutputFeature", "RawOutput", "Scalar", "Threshold", "TopK"]

Array: TypeAlias = npt.NDArray[Any]
Decoded: TypeAlias = dict[str, list[Any] | Array]

_SORT_WHOLE = 4096
"""Scores up to which sorting all of them is the faster way."""


class _Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What every output feature names: the response field it fills and the graph output it reads."""

    field: str
    tensor: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The response fields this feature fills."""
        return (self.field,)


class TopK(_Output, frozen=True, tag="top_k"):
    """The labels with the highest scores, best first; equal scores keep the order of the labels.

    Parameters
    ----------
    k
        Labels to answer with, at most.
    labels
        What the columns of the tensor stand for.
    exclude
        Request field with a list of labels that shall not be answered; ``None`` excludes nothing.
    scores
        Response field for the scores; ``None`` leaves them out. A score of minus infinity is never answered.
    """

    k: int
    labels: Vocabulary
    exclude: str | None = None
    scores: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The response fields this feature fills."""
        return (self.field,) if self.scores is None else (self.field, self.scores)

    def decode(self, tensors: Mapping[str, Array], columns: Columns, rows: int) -> Decoded:
        """Return lists of labels, and of scores where declared."""
        scores = _table(tensors, self.tensor, rows, len(self.labels))
        if self.exclude is not None:
            scores = scores.copy()
            items, row_of = flatten(columns[self.exclude])
            found = self.labels.indices(items)
            known = found != ABSENT
            scores[row_of[known], found[known]] = -np.inf
        best = _best(scores, self.k)
        best_scores = np.take_along_axis(scores, best, axis=1)
        answered = (best_scores > -np.inf).sum(axis=1).tolist()
        labels = self.labels.array[best].tolist()
        decoded: Decoded = {self.field: [row[:n] for row, n in zip(labels, answered, strict=True)]}
        if self.scores is not None:
            decoded[self.scores] = [row[:n] for row, n in zip(best_scores.tolist(), answered, strict=True)]
        return decoded


class Argmax(_Output, frozen=True, tag="argmax"):
    """The label with the highest score; of equal scores the first.

    Parameters
    ----------
    labels
        What the columns of the tensor stand for.
    score
        Response field for its score; ``None`` leaves it out.
    """

    labels: Vocabulary
    score: str | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The response fields this feature fills."""
        return (self.field,) if self.score is None else (self.field, self.score)

    def decode(self, tensors: Mapping[str, Array], columns: Columns, rows: int) -> Decoded:  # noqa: ARG002 (one signature)
        """Return one label per row, and its score where declared."""
        scores = _table(tensors, self.tensor, rows, len(self.labels))
        best = scores.argmax(axis=1)
        decoded: Decoded = {self.field: self.labels.array[best].tolist()}
        if self.score is not None:
            decoded[self.score] = scores[np.arange(rows), best].tolist()
        return decoded


class Scalar(_Output, frozen=True, tag="scalar"):
    """One number per row.

    Parameters
    ----------
    column
        Column of the tensor, from 0.
    """

    column: int = 0

    def decode(self, tensors: Mapping[str, Array], columns: Columns, rows: int) -> Decoded:  # noqa: ARG002 (one signature)
        """Return one number per row; NaN is left for the contract to refuse."""
        return {self.field: _column(tensors, self.tensor, rows, self.column).tolist()}


class Threshold(_Output, frozen=True, tag="threshold"):
    """A decision: whether one number per row reaches a threshold.

    Parameters
    ----------
    threshold
        Reached by a value that is equal or above.
    labels
        What to answer below and at or above it; ``None`` answers ``False`` and ``True``.
    column
        Column of the tensor, from 0.
    """

    threshold: float
    labels: tuple[Label, Label] | None = None
    column: int = 0

    def decode(self, tensors: Mapping[str, Array], columns: Columns, rows: int) -> Decoded:  # noqa: ARG002 (one signature)
        """Return one decision per row."""
        values = _column(tensors, self.tensor, rows, self.column)
        if np.isnan(values).any():
            raise _refused(self.tensor, "numbers", "NaN")
        below, above = self.labels or (False, True)
        return {self.field: [above if reached else below for reached in (values >= self.threshold).tolist()]}


class RawOutput(_Output, frozen=True, tag="raw"):
    """The tensor as it stands; the contract checks its dtype, shape and values."""

    def decode(self, tensors: Mapping[str, Array], columns: Columns, rows: int) -> Decoded:  # noqa: ARG002 (one signature)
        """Return the tensor."""
        return {self.field: _tensor(tensors, self.tensor)}


OutputFeature: TypeAlias = TopK | Argmax | Scalar | Threshold | RawOutput


def _best(scores: Array, k: int) -> Array:
    """Columns of the ``k`` highest scores of every row, best first; equal scores in the order of the columns.

    Large tables are cut to ``k`` candidates before sorting (five times faster with 1,000 columns).
    """
    rows, width = scores.shape
    if scores.size <= _SORT_WHOLE or k >= width:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    limit = np.partition(scores, width - k, axis=1)[:, width - k, np.newaxis]
    above, level = scores > limit, scores == limit
    kept = above | (level & (np.cumsum(level, axis=1) <= k - above.sum(axis=1, keepdims=True)))
    columns = np.nonzero(kept)[1].reshape(rows, k)
    order = np.argsort(-np.take_along_axis(scores, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def _tensor(tensors: Mapping[str, Array], name: str) -> Array:
    if name not in tensors:
        raise _refused(name, "a tensor", "none")
    return tensors[name]


def _table(tensors: Mapping[str, Array], name: str, rows: int, width: int) -> Array:
    scores = _tensor(tensors, name)
    if scores.shape != (rows, width):
        raise _refused(name, f"shape ({rows}, {width})", f"shape {scores.shape}")
    if scores.dtype.kind != "f":
        return scores.astype(np.float64)
    if np.isnan(scores).any():
        raise _refused(name, "scores", "NaN")
    return scores


def _column(tensors: Mapping[str, Array], name: str, rows: int, column: int) -> Array:
    values = _tensor(tensors, name)
    if values.ndim == 1 and column == 0:
        values = values[:, np.newaxis]
    if values.ndim != 2 or len(values) != rows or values.shape[1] <= column:  # noqa: PLR2004 (rows and columns)
        raise _refused(name, f"shape ({rows}, > {column})", f"shape {values.shape}")
    return values[:, column]


def _refused(tensor: str, expected: str, got: str) -> OutputRefused:
    return OutputRefused(f"output {tensor!r} of the model cannot be read", expected=expected, got=got)
