"""How well a line was read: one less the errors per character, never below 0."""

import numpy as np


def character_accuracy(outputs: dict[str, np.ndarray], truth: np.ndarray) -> float:
    """Compare the characters read with those that were drawn; 0 stands for none in both."""
    steps = outputs["characters"].ravel()
    new = np.concatenate([[True], steps[1:] != steps[:-1]])  # a character that goes on is one
    read, drawn = steps[new & (steps != 0)], truth[truth != 0]
    return max(0.0, 1.0 - _edits(read, drawn) / max(1, len(drawn)))


def _edits(one: np.ndarray, other: np.ndarray) -> int:
    """Characters to insert, delete or change (Levenshtein), a row of the table at a time."""
    row = np.arange(len(other) + 1)
    for character in one:
        changed = np.concatenate([[row[0] + 1], np.minimum(row[1:] + 1, row[:-1] + (other != character))])
        row = np.minimum.accumulate(changed - np.arange(len(row))) + np.arange(len(row))
    return int(row[-1])
