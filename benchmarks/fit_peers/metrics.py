"""How right answers are, written for the benchmark alone: nothing of Brownfield is used here.

In: the answers of a model to rows, and the truth. Out: for each row what it got right and what there was to get right,
so that a mean over rows and a rate over characters are the same thing: the sum of the first over that of the second.
"""

from collections.abc import Callable

import numpy as np

__all__ = ["METRICS", "loss", "ratio"]

Answers = list[dict[str, np.ndarray]]
Parts = tuple[np.ndarray, np.ndarray]
_RESAMPLES, _SEED = 4000, 2


def _within_ten(answers: Answers, truth: np.ndarray) -> Parts:
    """Share of a product type's categories among the ten best."""
    right = [wanted[np.argsort(-answer["scores"][0])[:10]].sum() for answer, wanted in zip(answers, truth, strict=True)]
    return np.array(right) / truth.sum(axis=1), np.ones(len(truth))


def _first_of_all(answers: Answers, truth: np.ndarray) -> Parts:
    """Whether the best category is one of the type's."""
    right = [wanted[answer["scores"][0].argmax()] for answer, wanted in zip(answers, truth, strict=True)]
    return np.array(right, dtype=float), np.ones(len(truth))


def _characters(answers: Answers, truth: np.ndarray) -> Parts:
    """Characters of a line less the errors in reading it: one less the character error rate."""
    right, there = [], []
    for answer, wanted in zip(answers, truth.tolist(), strict=True):
        steps = answer["characters"].ravel().tolist()
        read = [step for place, step in enumerate(steps) if step and (place == 0 or steps[place - 1] != step)]
        drawn = [each for each in wanted if each]
        right.append(len(drawn) - _errors(read, drawn))
        there.append(len(drawn))
    return np.array(right, dtype=float), np.array(there, dtype=float)


def _errors(read: list[int], drawn: list[int]) -> int:
    """Levenshtein distance."""
    before = list(range(len(drawn) + 1))
    for place, character in enumerate(read, 1):
        now = [place]
        for at, other in enumerate(drawn):
            now.append(min(now[-1] + 1, before[at + 1] + 1, before[at] + (character != other)))
        before = now
    return before[-1]


def _kind(answers: Answers, truth: np.ndarray) -> Parts:
    """Whether the likeliest kind of file is the right one."""
    right = [answer["target_label"].argmax() == wanted for answer, wanted in zip(answers, truth, strict=True)]
    return np.array(right, dtype=float), np.ones(len(truth))


def _speech(answers: Answers, truth: np.ndarray) -> Parts:
    """Whether speech is likelier than not where somebody speaks, and there alone."""
    right = [(answer["output"].item() >= 0.5) == wanted for answer, wanted in zip(answers, truth, strict=True)]
    return np.array(right, dtype=float), np.ones(len(truth))


def _hidden(answers: Answers, truth: np.ndarray) -> Parts:
    """Share of the hidden half of a basket among the ten best that were not shown."""
    right = []
    for answer, wanted in zip(answers, truth, strict=True):
        order = [item for item in np.argsort(-answer["scores"][0]) if wanted[item] >= 0][:10]
        right.append(sum(wanted[item] > 0 for item in order) / (wanted > 0).sum())
    return np.array(right), np.ones(len(truth))


METRICS: dict[str, dict[str, Callable[[Answers, np.ndarray], Parts]]] = {
    "minilm": {"recall@10": _within_ten, "recall@1": _first_of_all},
    "ocr": {"1 - CER": _characters},
    "magika": {"accuracy": _kind},
    "silero": {"accuracy": _speech},
    "recommender": {"recall@10": _hidden},
}
"""By model, the metrics by name; the floor is declared for the first."""


def ratio(parts: Parts) -> float:
    """Return the metric over all rows."""
    return float(parts[0].sum() / parts[1].sum())


def loss(before: Parts, after: Parts) -> tuple[float, float, float]:
    """Loss of the second against the first on the same rows, with a 95 % bootstrap interval over rows."""
    random = np.random.default_rng(_SEED)
    rows = len(before[0])
    lost = before[0] - after[0]
    found = np.empty(_RESAMPLES)
    for turn in range(_RESAMPLES):
        drawn = random.integers(0, rows, rows)
        found[turn] = lost[drawn].sum() / before[1][drawn].sum()
    low, high = np.quantile(found, [0.025, 0.975])
    return float(lost.sum() / before[1].sum()), float(low), float(high)
