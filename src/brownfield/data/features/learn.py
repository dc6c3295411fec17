"""Learn what a features file leaves open, in one pass over the training columns.

In: a FeaturesSpec and chunks of columns. Out: frozen Features.
Refused: a column without values, a scale of zero, an empty vocabulary, more distinct values than memory should hold.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from brownfield.data.features.features import Features
from brownfield.data.features.spec import FeaturesSpec, InputSpec, ScalingSpec, VocabularySpec
from brownfield.data.features.vocabulary import Vocabulary, flatten, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brownfield.data.features.inputs import InputFeature
    from brownfield.types import Columns

__all__ = ["learn"]

_DECLARE = "Declare it in the features file, or learn it from rows that have it: `learn` in Python."
MAX_DISTINCT = 1_000_000
"""Distinct values of one field that learning keeps count of; more is a field that is no category."""


def learn(spec: FeaturesSpec, columns: "Iterable[Columns]" = ()) -> Features:
    """Learn means, ranges and vocabularies, and freeze them.

    Parameters
    ----------
    spec
        The checked features file.
    columns
        Training columns in chunks, each read once; may be empty when everything was declared.

    Returns
    -------
    Features
        What the bundle keeps.

    Raises
    ------
    DeclarationError
        When a column has nothing to learn from: no values, one value only where a scale is needed, or too many.
    """
    moments = {i: _Moments() for i, one in enumerate(spec.inputs) if one.scaling and not one.scaling.known}
    counts = {i: _Counts(one) for i, one in enumerate(spec.inputs) if one.vocabulary}
    learners: dict[int, _Moments | _Counts] = {**moments, **counts}
    for chunk in columns:
        for position, learner in learners.items():
            learner.update(chunk[spec.inputs[position].field])
    inputs: list[InputFeature] = []
    vocabularies: dict[str, Vocabulary] = {}
    for position, one in enumerate(spec.inputs):
        options = dict(one.options)
        if one.scaling is not None:
            options |= _scaled(one, one.scaling, moments.get(position))
        if one.vocabulary is not None:
            options["vocabulary"] = counts[position].vocabulary(one.vocabulary)
        if options.get("vocabulary"):
            vocabularies[one.field] = options["vocabulary"]
        try:
            inputs.append(one.kind(**options))
        except ValueError as error:
            raise one.place.error(str(error)) from error
    outputs = tuple(
        one.kind(**{**one.options, "labels": vocabularies[one.labels_from]} if one.labels_from else one.options)
        for one in spec.outputs
    )
    return Features(inputs=tuple(inputs), outputs=outputs, batched=spec.batched)


class _Moments:
    """Count, mean, variance, minimum and maximum of the values that are not missing, merged chunk by chunk.

    References
    ----------
    Chan, Golub, LeVeque, *Updating formulae and a pairwise algorithm for computing sample variances*, 1979.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.minimum = np.inf
        self.maximum = -np.inf

    def update(self, column: Sequence[Any] | npt.NDArray[Any]) -> None:
        """Take in one chunk; ``None`` and NaN are missing."""
        values = np.array(column, dtype=np.float64)
        values = values[~np.isnan(values)]
        if not len(values):
            return
        count = self.count + len(values)
        with np.errstate(all="ignore"):  # an infinite value is refused when the scale is made
            mean = values.mean()
            delta = mean - self.mean
            spread = np.square(values - mean).sum() + delta * delta * self.count * len(values) / count
        self.squares += float(spread)
        self.mean += float(delta) * len(values) / count
        self.count = count
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))

    @property
    def std(self) -> float:
        """Standard deviation of the population; exactly 0 of one value only, whatever its mean is rounded to."""
        if self.minimum == self.maximum:
            return 0.0
        return float(np.sqrt(self.squares / self.count))


def _scaled(spec: InputSpec, scaling: ScalingSpec, moments: _Moments | None) -> dict[str, float | None]:
    center, scale, fill = scaling.center, scaling.scale, scaling.fill
    if moments is not None:
        if not moments.count:
            raise spec.place.error(f"{spec.field!r} has no value to learn from", next_step=_DECLARE)
        if scale is None and scaling.kind == "standard":
            center, scale = moments.mean, moments.std
        elif scale is None:
            center, scale = moments.minimum, moments.maximum - moments.minimum
        if isinstance(fill, str):
            fill = {"mean": moments.mean, "min": moments.minimum, "max": moments.maximum}[fill]
    if center is None or not scale or not np.isfinite([center, scale]).all():
        raise spec.place.error(
            f"{spec.field!r} cannot be scaled by {scaling.kind}: it holds one value only, or one that is not finite",
            next_step="Use `scaling: none`, or declare the scale.",
        )
    return {"center": center, "scale": scale, "fill": None if fill is None else float(fill)}


class _Counts:
    """How often each value of a field, or each item of its lists, occurs."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self.counter: Counter[Any] = Counter()

    def update(self, column: Sequence[Any] | npt.NDArray[Any]) -> None:
        """Take in one chunk; ``None`` is missing."""
        items = plain(column) if not self.spec.lists else flatten(column)[0]
        self.counter.update(item for item in items if item is not None)
        if len(self.counter) > MAX_DISTINCT:
            raise self.spec.place.error(
                f"{self.spec.field!r} holds more than {MAX_DISTINCT} distinct values",
                next_step="It is no category; leave it out, or group its values before.",
            )

    def vocabulary(self, wanted: VocabularySpec) -> Vocabulary:
        """Return the most frequent values; equally frequent ones in their natural order."""
        kept = [(-count, label) for label, count in self.counter.items() if count >= wanted.min_count]
        if not kept:
            raise self.spec.place.under("vocabulary").error(
                f"no value of {self.spec.field!r} occurs {wanted.min_count} times or more", next_step=_DECLARE
            )
        return Vocabulary(tuple(label for _, label in sorted(kept)[: wanted.top]))
