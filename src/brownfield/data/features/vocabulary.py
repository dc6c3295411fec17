"""A vocabulary: the distinct values of a field in a fixed order, looked up as indices.

In: labels as they stood in the training data or in the declaration. Out: the index of each value, vectorised.
Refused: an empty vocabulary, a value listed twice, values of more than one type.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["ABSENT", "Label", "Vocabulary", "flatten", "plain"]

Label: TypeAlias = str | int | bool
"""A value that may stand in a vocabulary; numbers with a fraction may not, since they do not compare safely."""

ABSENT = -1
"""The index of a value that the vocabulary does not hold."""


class Vocabulary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Distinct labels in a fixed order; the index of a label is its place.

    Parameters
    ----------
    labels
        At least one, all of one type, each once.

    Examples
    --------
    >>> Vocabulary(("milk", "bread")).indices(["bread", "tea"]).tolist()
    [1, -1]
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("a vocabulary needs at least one label")
        if len({type(label) for label in self.labels}) > 1:
            raise ValueError("the labels of a vocabulary must be of one type")
        if len(self._index) < len(self.labels):
            raise ValueError("a label stands twice in the vocabulary")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def _index(self) -> dict[Label, int]:
        return {label: position for position, label in enumerate(self.labels)}

    @cached_property
    def array(self) -> npt.NDArray[np.object_]:
        """The labels as an array of objects, shape ``(len(self),)``, so that many are taken at once."""
        array = np.empty(len(self.labels), dtype=object)
        array[:] = self.labels
        return array

    def indices(self, values: Iterable[Any]) -> npt.NDArray[np.int64]:
        """Index of every value, :data:`ABSENT` for one that is not there (``None`` never is)."""
        find = self._index.get
        return np.array([find(value, ABSENT) for value in values], dtype=np.int64)


def plain(column: Sequence[Any] | npt.NDArray[Any]) -> Sequence[Any]:
    """Return a column as plain Python values: arrays become (nested) lists.

    Examples
    --------
    >>> plain(np.array([1, 2]))
    [1, 2]
    """
    if isinstance(column, np.ndarray):
        values: list[Any] = column.tolist()
        return values
    return column


def flatten(column: Sequence[Any] | npt.NDArray[Any]) -> tuple[Iterable[Any], npt.NDArray[np.int64]]:
    """Return the items of a column of lists one after the other, and the row of each; a missing list is empty.

    Examples
    --------
    >>> items, rows = flatten([["a", "b"], None, ["c"]])
    >>> list(items), rows.tolist()
    (['a', 'b', 'c'], [0, 0, 2])
    """
    lists = [() if items is None else items for items in plain(column)]
    lengths = [len(items) for items in lists]
    return chain.from_iterable(lists), np.repeat(np.arange(len(lists)), lengths)
