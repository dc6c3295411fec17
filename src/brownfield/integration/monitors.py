"""``monitors``: what is watched while the model answers."""

from typing import Annotated

from msgspec import Meta

from brownfield.integration.kinds import FieldName
from brownfield.integration.reader import Spec

__all__ = ["DriftSpec", "MonitorsSpec", "OutcomesSpec", "SloSpec"]


class DriftSpec(Spec, frozen=True, kw_only=True):
    """Whether requests still look like those the model has learned from."""

    false_alarms_per_month: Annotated[
        float, Meta(gt=0, le=1_000, description="False alarms that may be expected in a month without drift.")
    ] = 1


class SloSpec(Spec, frozen=True, kw_only=True):
    """What callers are promised."""

    availability: (
        Annotated[float, Meta(gt=0, lt=1, description="Share of requests that are answered in time, such as 0.999.")]
        | None
    ) = None
    latency_p99_ms: (
        Annotated[float, Meta(gt=0, le=3_600_000, description="Time within which 99 of 100 answers are given.")] | None
    ) = None


class OutcomesSpec(Spec, frozen=True, kw_only=True):
    """What became of the decisions."""

    key: Annotated[FieldName, Meta(description="Field by which an outcome finds its decision.")] = "decision_id"
    delay_d: Annotated[float, Meta(ge=0, le=3_660, description="Days until the outcomes of a day are complete.")] = 0


class MonitorsSpec(Spec, frozen=True, kw_only=True):
    """The three things that can be watched."""

    drift: Annotated[DriftSpec, Meta(description="Whether requests still look alike.")] | None = None
    slo: Annotated[SloSpec, Meta(description="What callers are promised.")] | None = None
    outcomes: Annotated[OutcomesSpec, Meta(description="What became of the decisions.")] | None = None
