"""How right a candidate is in each declared group of rows: a store's region, a product line.

In: answers of the model and of the candidate to the same rows. Out: one :class:`SliceAccuracy` for each value of each
field. Every group must keep its own limit, so no correction for looking at many is needed: more groups make a wrong
yes less likely, not more.
"""

import msgspec
import numpy as np

from brownfield.fit.accuracy import Answers, compare
from brownfield.fit.metric import Metric
from brownfield.fit.rows import Rows
from brownfield.statistics import Interval

__all__ = ["SliceAccuracy", "compare_slices"]


class SliceAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy among the rows of one value.

    Parameters
    ----------
    field, value
        Which rows.
    rows
        How many of them were compared.
    accuracy
        Of the candidate, in the metric's own unit.
    drop
        Loss against the fp32 model on the same rows, with 95 % bounds.
    """

    field: str
    value: str
    rows: int
    accuracy: float
    drop: Interval

    @property
    def sentence(self) -> str:
        """Group and loss in words.

        Examples
        --------
        >>> SliceAccuracy(field="region", value="north", rows=9, accuracy=1, drop=Interval(0.0, 0.0, 0.34)).sentence
        "region 'north': it falls by 0 (0 to 0.34)"
        """
        value, lower, upper = self.drop
        return f"{self.field} {self.value!a}: it falls by {value:.3g} ({lower:.3g} to {upper:.3g})"


def compare_slices(
    reference: Answers, candidate: Answers, rows: Rows, *, metric: str | Metric, seed: int
) -> tuple[SliceAccuracy, ...]:
    """Compare answers group by group; the parameters are those of :func:`~brownfield.fit.accuracy.compare`."""
    found = []
    for name, values in rows.slices.items():
        for value in np.unique(values):
            chosen = np.flatnonzero(values == value)
            before, after = ([given[int(row)] for row in chosen] for given in (reference, candidate))
            part = compare(before, after, rows.take(chosen), metric=metric, seed=seed)
            found.append(
                SliceAccuracy(field=name, value=str(value), rows=part.rows, accuracy=part.value, drop=part.drop)
            )
    return tuple(found)
