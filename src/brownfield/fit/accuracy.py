"""How right a candidate is beside the model it came from, row by row, with bounds that few rows cannot make small.

In: answers of both to the same rows. Out: an :class:`Accuracy`. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.errors import DeclarationError
from brownfield.fit.metric import Metric, scores
from brownfield.fit.rows import Rows
from brownfield.statistics import Interval, bootstrap_mean, proportion_interval

__all__ = ["AGREEMENT", "Accuracy", "compare"]

AGREEMENT = "agreement"
_NUMBER_TOLERANCE = 0.01
_DECISION = 0.5

Answers: TypeAlias = Sequence[Mapping[str, npt.NDArray[Any]]]


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate loses against the fp32 model, on the same rows.

    Parameters
    ----------
    metric
        ``agreement`` (share of rows with the fp32 model's decision), ``accuracy`` or ``recall_at_K`` (by labels, of the
        first output; where another one differs by more than 1 % of its scale the row is lost), or the name of the
        site's own function.
    rows
        Compared.
    value
        Of the candidate.
    drop
        Loss against fp32, in the metric's own unit, with 95 % bounds: exact binomial for right and wrong, bootstrap
        for shares.
    finite
        Whether every number in its answers is one.
    largest_difference
        Of any output number, as a share of the largest magnitude that fp32 gives to that output; None where there is
        no such number.
    least_cosine
        Of any row of the first output, 1 where that is no vector.
    """

    metric: str
    rows: int
    value: float
    drop: Interval
    finite: bool
    largest_difference: float | None
    least_cosine: float


def compare(reference: Answers, candidate: Answers, rows: Rows, *, metric: str | Metric, seed: int) -> Accuracy:
    """Compare answers row by row.

    Parameters
    ----------
    reference, candidate
        Outputs by name, a row each, of the fp32 model and of the candidate.
    rows
        The rows that were asked, with labels where ``metric`` needs them.
    metric
        See :class:`Accuracy`; a row whose answer the site's own function cannot judge counts as lost.
    seed
        Of the bootstrap.

    Raises
    ------
    DeclarationError
        When the metric is unknown, needs labels that the rows have not, or cannot judge the fp32 model's answers.
    """
    largest, finite = _envelope(reference, candidate)
    first = next(iter(reference[0]))
    if metric == AGREEMENT:
        after = np.array([_same(reference, candidate, row) for row in range(len(rows))], dtype=np.float64)
        before = np.ones_like(after)
    elif isinstance(metric, Metric):
        before, after = _own(metric, reference, rows), np.nan_to_num(scores(metric, candidate, _truth(rows)).values)
    else:
        score = _scorer(metric, rows)
        before = np.array([score(answer[first], row) for row, answer in enumerate(reference)])
        after = np.array([score(answer[first], row) for row, answer in enumerate(candidate)])
        after *= [_same(reference, candidate, row, of=slice(1, None)) for row in range(len(rows))]
    return Accuracy(
        metric=metric.name if isinstance(metric, Metric) else metric,
        rows=len(rows),
        value=float(after.mean()),
        drop=_drop(before, after, seed),
        finite=finite,
        largest_difference=largest if finite else None,
        least_cosine=_least_cosine(reference, candidate, first) if finite else 0.0,
    )


def _scale(array: npt.NDArray[Any]) -> float:
    return float(np.abs(array.astype(np.float64)).max(initial=0.0)) or 1.0


def _envelope(reference: Answers, candidate: Answers) -> tuple[float, bool]:
    """Largest difference of float outputs as a share of their largest magnitude, and whether all are numbers."""
    largest, finite = 0.0, True
    for name in reference[0]:
        if reference[0][name].dtype.kind != "f":
            continue
        scale = max(_scale(answer[name]) for answer in reference)
        for before, after in zip(reference, candidate, strict=True):
            now = after[name].astype(np.float64)
            if now.shape != before[name].shape:
                return np.inf, False
            finite = finite and bool(np.isfinite(now).all())
            largest = max(largest, float(np.abs(now - before[name]).max(initial=0.0)) / scale) if finite else np.inf
    return largest, finite


def _same(reference: Answers, candidate: Answers, row: int, of: slice = slice(None)) -> bool:
    """Whether the decision is the same: the largest score of a vector, else every number within 1 % of the scale."""
    for position, (name, before) in list(enumerate(reference[row].items()))[of]:
        after = candidate[row][name]
        if before.shape != after.shape:
            return False
        if before.dtype.kind != "f":
            same = bool(np.array_equal(before, after))
        elif position == 0 and before.shape and before.shape[-1] > 1:
            return bool(np.array_equal(before.argmax(axis=-1), after.argmax(axis=-1)) and np.isfinite(after).all())
        else:
            limit = _NUMBER_TOLERANCE * max(_scale(answer[name]) for answer in reference[:64])
            same = bool(np.abs(after.astype(np.float64) - before).max(initial=0.0) <= limit)
        if not same:
            return False
    return True


def _truth(rows: Rows) -> npt.NDArray[Any]:
    if rows.labels is None:
        raise DeclarationError(path="constraints.accuracy.metric", expected="rows with labels", got="none")
    return rows.labels


def _own(metric: Metric, reference: Answers, rows: Rows) -> npt.NDArray[np.float64]:
    found, why = scores(metric, reference, _truth(rows))
    unjudged = int(np.isnan(found).sum())
    if unjudged:
        raise DeclarationError(
            where=metric.file or None,
            path="constraints.accuracy.file",
            expected="a share from 0 to 1 for every row that the fp32 model answers",
            got=f"none for {unjudged:,} of {len(found):,} rows (first: {why})",
        )
    return found


def _scorer(metric: str, rows: Rows) -> Any:
    labels = _truth(rows)
    if metric == "accuracy":
        return lambda answer, row: float(_decided(answer) == labels[row])
    wanted = re.fullmatch(r"recall_at_(\d{1,4})", metric)
    if wanted is None or labels.ndim != 2:  # noqa: PLR2004 (rows and classes)
        raise DeclarationError(
            path="constraints.accuracy.metric",
            expected="accuracy with a class per row, or recall_at_K with 0 and 1 per class",
            got=ascii(metric),
        )
    count = int(wanted[1])

    def recall(answer: npt.NDArray[Any], row: int) -> float:
        best = np.argsort(-answer.ravel(), kind="stable")[:count]
        return float(labels[row][best].sum() / max(1, labels[row].sum()))

    return recall


def _decided(answer: npt.NDArray[Any]) -> Any:
    scores = answer.ravel()
    return int(scores.argmax()) if len(scores) > 1 else int(scores[0] >= _DECISION)


def _drop(before: npt.NDArray[Any], after: npt.NDArray[Any], seed: int) -> Interval:
    """Mean loss with its bounds; rows lost and rows won each within their exact binomial bounds where they count."""
    lost = before - after
    if not set(np.unique(lost)) <= {-1.0, 0.0, 1.0}:
        return bootstrap_mean(lost, seed=seed)
    worse = proportion_interval(int((lost > 0).sum()), len(lost))
    if not (lost < 0).any():
        return worse
    better = proportion_interval(int((lost < 0).sum()), len(lost))
    return Interval(float(lost.mean()), worse.lower - better.upper, worse.upper - better.lower)


def _least_cosine(reference: Answers, candidate: Answers, name: str) -> float:
    least = 1.0
    for before, after in zip(reference, candidate, strict=True):
        one, other = before[name].ravel(), after[name].ravel()
        if one.dtype.kind != "f" or len(one) < 2 or len(one) != len(other):  # noqa: PLR2004 (a number has no angle)
            continue
        norms = float(np.linalg.norm(one) * np.linalg.norm(other))
        least = min(least, float(np.dot(one.astype(np.float64), other)) / norms if norms else 1.0)
    return round(least, 6)
