"""Rows to calibrate with, to search by and to judge by: three parts that never meet.

In: tensors whose first dimension counts rows. Out: one request per row, and a split that depends on the seed alone.
Refused: columns of different lengths.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from brownfield.errors import DeclarationError

__all__ = ["Rows", "Split", "Tensors"]

Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]

_MOST_CALIBRATION, _MOST_SELECTION, _MOST_FINAL = 128, 300, 5000
_CALIBRATION_SHARE, _SELECTION_SHARE = 0.15, 0.25


class Split(NamedTuple):
    """The three parts of the rows."""

    calibration: "Rows"
    selection: "Rows"
    final: "Rows"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Requests of one row each.

    Parameters
    ----------
    samples
        Inputs of the graph by name, a request each.
    batched
        Whether several of them may be joined along their first dimensions.
    labels
        Truth by row: a class, or 0 and 1 for each class; None where nobody knows.
    invented
        Whether they were made up from the contract: good for timing, no ground to judge accuracy on.
    slices
        By field, its value in each row as a text: groups in which the accuracy is judged apart.
    """

    samples: tuple[Tensors, ...]
    batched: bool
    labels: npt.NDArray[Any] | None = None
    invented: bool = False
    slices: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)

    @classmethod
    def from_tensors(
        cls, tensors: Tensors, *, batched: bool, labels: Sequence[Any] | None = None, invented: bool = False
    ) -> Self:
        """Cut tensors into rows.

        Parameters
        ----------
        tensors
            Inputs of the graph by name; the first dimension counts rows.
        batched
            Whether that dimension is the graph's own; if not, the graph takes a row without it.
        labels
            Truth by row.
        invented
            See the class.

        Raises
        ------
        DeclarationError
            When their lengths differ, or there are no rows.
        """
        lengths = {len(array) for array in tensors.values()} | ({len(labels)} if labels is not None else set())
        if len(lengths) != 1 or 0 in lengths:
            found = ", ".join(str(length) for length in sorted(lengths))
            raise DeclarationError("the rows", expected="columns of one length, at least one row", got=found)
        samples = tuple(
            {
                name: np.ascontiguousarray(array[row : row + 1]) if batched else np.asarray(array[row])
                for name, array in tensors.items()
            }
            for row in range(lengths.pop())
        )
        return cls(samples, batched, None if labels is None else np.asarray(labels), invented)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        """SHA-256 of all rows and labels."""
        whole = hashlib.sha256()
        for sample in self.samples:
            for name, array in sample.items():
                text = repr(array.tolist()).encode() if array.dtype.kind in "OUS" else array.tobytes()
                whole.update(f"{name} {array.dtype} {array.shape} ".encode() + text)
        if self.labels is not None:
            whole.update(repr(self.labels.tolist()).encode())
        for name, values in self.slices.items():
            whole.update(repr((name, values.tolist())).encode())
        return whole.hexdigest()

    def take(self, chosen: npt.NDArray[Any]) -> "Rows":
        """Return the chosen rows, in the order given."""
        labels = None if self.labels is None else self.labels[chosen]
        slices = {name: values[chosen] for name, values in self.slices.items()}
        return Rows(tuple(self.samples[int(row)] for row in chosen), self.batched, labels, self.invented, slices)

    def joined(self, count: int) -> Tensors:
        """One request of ``count`` rows, each as often as it takes; of batched rows alone."""
        picked = [self.samples[index % len(self.samples)] for index in range(count)]
        return {name: np.concatenate([sample[name] for sample in picked]) for name in picked[0]}

    def split(self, seed: int) -> Split:
        """Share the rows out by chance: at most 128 to calibrate with, 300 to search by, the rest to judge by."""
        order = np.random.default_rng(seed).permutation(len(self))
        calibration = min(_MOST_CALIBRATION, int(len(self) * _CALIBRATION_SHARE))
        selection = calibration + max(1, min(_MOST_SELECTION, int(len(self) * _SELECTION_SHARE)))
        final = order[selection:] if len(self) > selection else order
        return Split(
            self.take(order[:calibration]),
            self.take(order[calibration:selection] if selection <= len(self) else order),
            self.take(final[:_MOST_FINAL]),
        )
