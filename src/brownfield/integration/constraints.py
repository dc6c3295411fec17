"""``constraints``: what the site can bear and what it needs."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, field

from brownfield.integration.kinds import FieldName, RelativePath
from brownfield.integration.reader import Spec

__all__ = ["Accuracy", "ConstraintsSpec"]


class Accuracy(Spec, frozen=True, kw_only=True):
    """How much accuracy a smaller model may cost."""

    metric: Annotated[FieldName, Meta(description="Name of the metric, as the bundle's manifest spells it.")]
    file: (
        Annotated[
            RelativePath,
            Meta(description="Python file with the metric as a function of outputs and truth of a row, from 0 to 1."),
        ]
        | None
    ) = None
    max_drop: Annotated[float, Meta(ge=0, le=1, description="Largest loss, in the metric's own unit.")]
    slices: Annotated[
        Mapping[FieldName, Annotated[float, Meta(ge=0, le=1)]],
        Meta(max_length=16, description="By field: the largest loss among the rows of each of its values."),
    ] = field(default_factory=dict)


class ConstraintsSpec(Spec, frozen=True, kw_only=True):
    """Limits for the model's process, and the load that is expected."""

    cpu_cores: Annotated[float, Meta(gt=0, le=1024, description="Processor cores that the model may use.")] = 1
    memory_mib: (
        Annotated[int, Meta(ge=16, le=16_777_216, description="Memory that the model's process may use.")] | None
    ) = None
    latency_p99_ms: (
        Annotated[float, Meta(gt=0, le=3_600_000, description="Time within which 99 of 100 answers are due.")] | None
    ) = None
    expected_rate_per_s: (
        Annotated[float, Meta(gt=0, le=10_000_000, description="Requests a second at the busiest time.")] | None
    ) = None
    accuracy: Annotated[Accuracy, Meta(description="How much accuracy a smaller model may cost.")] | None = None
