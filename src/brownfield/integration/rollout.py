"""``rollout``: how a new version spreads, in the words of Argo Rollouts.

Weights are cumulative shares of traffic in percent.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, field

from brownfield.integration.kinds import FieldName, RelativePath
from brownfield.integration.reader import Contradiction, Reader, Schemas, Spec
from brownfield.integration.words import KeyPath, describe

if TYPE_CHECKING:
    from brownfield.integration.registry import Registry

__all__ = ["Analysis", "Mirror", "Pause", "RolloutSpec", "RolloutStep", "Segment", "Weight"]

Analysis = Annotated[tuple[FieldName, ...], Meta(max_length=32, description="Metrics that must pass in this step.")]


class Mirror(Spec, frozen=True, kw_only=True):
    """Let the new version answer a copy of the traffic; nobody sees its answers."""

    weight: Annotated[float, Meta(gt=0, le=100, description="Share of the traffic that is copied, in percent.")]
    min_samples: Annotated[int, Meta(ge=1, le=1_000_000_000, description="Answers needed for a verdict.")] = 1_000
    analysis: Analysis = ()


class Segment(Spec, frozen=True, kw_only=True):
    """Let the new version answer for those named in a file."""

    file: Annotated[RelativePath, Meta(description="CSV file with the values of the rollout's unit, one a line.")]
    analysis: Analysis = ()


class Pause(Spec, frozen=True, kw_only=True):
    """Wait; without a duration until a person decides."""

    duration_s: Annotated[int, Meta(ge=1, le=31_622_400, description="Seconds to wait.")] | None = None


class Weight(Spec, frozen=True, kw_only=True):
    """Let the new version answer a share of the traffic; a plain number is the weight."""

    weight: Annotated[float, Meta(gt=0, le=100, description="Share of the traffic, cumulative, in percent.")]
    analysis: Analysis = ()

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read a mapping, or the weight alone."""
        if isinstance(value, dict):
            return reader.struct(cls, value, path)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 100:  # noqa: PLR2004 (percent)
            return cls(weight=float(value))
        next_step = "Weights are cumulative shares of traffic."
        return reader.note(path, "a number in (0, 100]", describe(value), next_step)

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:  # noqa: ARG003 (the same for all)
        """Return the short form and the long one."""
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 100}, schemas[cls.__name__]]}


class RolloutStep(Spec, frozen=True, kw_only=True):
    """One step: exactly one of its keys."""

    set_mirror: Annotated[Mirror, Meta(description="Answer a copy of the traffic.")] | None = field(
        default=None, name="setMirror"
    )
    set_segment: Annotated[Segment, Meta(description="Answer for those named in a file.")] | None = field(
        default=None, name="setSegment"
    )
    pause: Annotated[Pause, Meta(description="Wait for a time, or for a person.")] | None = None
    set_weight: Annotated[Weight, Meta(description="Answer a share of the traffic.")] | None = field(
        default=None, name="setWeight"
    )
    analysis: Annotated[tuple[FieldName, ...], Meta(description="Wait until these metrics pass.")] | None = None

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:  # noqa: ARG003 (the same for all)
        """Return the fields, of which exactly one is given."""
        return {**schemas[cls.__name__], "minProperties": 1, "maxProperties": 1}

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a step of none or several keys."""
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(given) != 1:
            yield Contradiction((), "exactly one key in a step", str(len(given)), "Write one list item for each step.")

    @property
    def kind(self) -> str:
        """Which of the five it is: ``set_mirror``, ``set_segment``, ``pause``, ``set_weight`` or ``analysis``."""
        return next(name for name in self.__struct_fields__ if getattr(self, name) is not None)


class RolloutSpec(Spec, frozen=True, kw_only=True):
    """Who belongs together, and the steps from nobody to everybody."""

    unit: (
        Annotated[
            FieldName,
            Meta(description="Request field that keeps a caller on one version; without a value the caller is not in."),
        ]
        | None
    ) = None
    steps: Annotated[tuple[RolloutStep, ...], Meta(min_length=1, max_length=64, description="Steps, in order.")]

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse weights that do not grow, and mirroring of a version that already answers."""
        last = 0.0
        for index, step in enumerate(self.steps):
            if step.set_weight is not None:
                if step.set_weight.weight <= last:
                    yield Contradiction(
                        ("steps", index, "setWeight"),
                        f"a weight above {last:g}",
                        f"{step.set_weight.weight:g}",
                        "Weights are cumulative shares of traffic.",
                    )
                last = max(last, step.set_weight.weight)
            if step.set_mirror is not None and last:
                yield Contradiction(
                    ("steps", index, "setMirror"),
                    "mirroring before any setWeight",
                    f"a weight of {last:g} above it",
                    "A version that answers cannot be its own shadow.",
                )
            if step.set_segment is not None and self.unit is None:
                yield Contradiction(("steps", index, "setSegment"), "a unit beside steps", "none")
