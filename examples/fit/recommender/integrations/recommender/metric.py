"""How much of the hidden half of a basket is among ten suggestions that the till has not seen yet."""

import numpy as np


def recall_at_10_of_others(outputs: dict[str, np.ndarray], truth: np.ndarray) -> float:
    """Compare the ten best scores with what was hidden (1), leaving out what was shown (-1)."""
    scores = np.where(truth < 0, -np.inf, outputs["scores"].ravel())
    best = np.argsort(-scores, kind="stable")[:10]
    return float((truth[best] > 0).sum() / (truth > 0).sum())
