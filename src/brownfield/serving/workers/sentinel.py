"""A record whose answer is known, now and then among callers' records: its answer must come back at its own place.

Comes in: the tensors of a call that several records share. Goes out: the same with one golden record more, at a random
place, and of the answer everybody's own rows again. A model that gives rows in another order than it took them answers
the golden record's question at another place than it was asked: that is told apart from an answer that is merely off.
Outputs of floats tell that. A class does not: two records share one, and a wrong one would look like a wrong place.
"""

import random
import time

import numpy as np

from brownfield.serving.workers.base import Tensors

__all__ = ["Sentinel"]

_EVERY_NS = 1_000_000_000
_RELATIVE = 1e-2  # a place is known again by its answer, also where sharing a call moves the last digits
_ABSOLUTE = 1e-3  # of the largest number of the known answer


class Sentinel:
    """One golden record that travels along.

    Parameters
    ----------
    inputs, outputs
        Tensors by name, of one record each: first dimension 1. Without an output of floats nothing travels along.
    most_rows
        Rows that a call may have; a full one is not made longer.
    seed
        Of the places that are drawn.

    Examples
    --------
    >>> one = {"x": np.array([[7.0]])}
    >>> sentinel = Sentinel(one, one, most_rows=8, seed=1)
    >>> asked, place = sentinel.added({"x": np.array([[1.0], [2.0]])}, 2)
    >>> asked["x"].ravel().tolist(), place
    ([7.0, 1.0, 2.0], 0)
    >>> sentinel.is_misplaced(asked, place), sentinel.is_misplaced({"x": asked["x"][::-1]}, place)
    (False, True)
    >>> sentinel.taken_out(asked, place)["x"].ravel().tolist()
    [1.0, 2.0]
    """

    __slots__ = ("_draw", "_due_ns", "_inputs", "_most_rows", "_outputs")

    def __init__(self, inputs: Tensors, outputs: Tensors, *, most_rows: int, seed: int | None = None) -> None:
        self._inputs = inputs
        self._outputs = {name: known for name, known in outputs.items() if known.dtype.kind == "f"}
        self._most_rows = most_rows
        self._draw = random.Random(seed)  # noqa: S311 (nobody gains by guessing a place)
        self._due_ns = 0

    def is_due(self, rows: int) -> bool:
        """Whether a call of so many rows is to take it along: once a second, where rows are that can change places."""
        if not self._outputs or not 1 < rows < self._most_rows:
            return False
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + _EVERY_NS
        return True

    def added(self, tensors: Tensors, rows: int) -> tuple[Tensors, int]:
        """Give the tensors with the golden record among them, and its place."""
        place = self._draw.randint(0, rows)
        more = {
            name: np.concatenate([array[:place], self._inputs[name], array[place:]]) for name, array in tensors.items()
        }
        return more, place

    def is_misplaced(self, outputs: Tensors, place: int) -> bool:
        """Whether its answer is at another place than it was asked at, and not at its own."""
        matching: np.ndarray | None = None
        for name, known in self._outputs.items():
            same = _matching(outputs[name], known)
            matching = same if matching is None else matching & same
        return matching is not None and not matching[place] and bool(matching.any())

    @staticmethod
    def taken_out(outputs: Tensors, place: int) -> Tensors:
        """Give the answer without the golden record's row."""
        return {name: np.concatenate([array[:place], array[place + 1 :]]) for name, array in outputs.items()}


def _matching(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which rows are the known one."""
    if rows.shape[1:] != known.shape[1:]:
        return np.zeros(len(rows), bool)
    largest = float(np.abs(known).max()) if known.size else 0.0
    same = np.isclose(rows, known, rtol=_RELATIVE, atol=_ABSOLUTE * largest)
    return np.asarray(same.reshape(len(rows), -1).all(axis=1))
