"""What a lookup may declare beside its places: when it changes from one to the next, and how many copies it keeps."""

from typing import Annotated

from msgspec import Meta

from brownfield.integration.reader import Spec

__all__ = ["FailoverSpec", "SnapshotsSpec"]


class FailoverSpec(Spec, frozen=True, kw_only=True):
    """When a lookup goes on to the next place of its chain, and when it comes back."""

    failures: Annotated[int, Meta(ge=1, le=100, description="Failures within window_s after which it goes on.")] = 3
    window_s: Annotated[float, Meta(gt=0, le=3_600, description="Seconds over which failures are counted.")] = 10.0
    good_probes: Annotated[
        int, Meta(ge=1, le=100, description="Probes in a row that a better place must answer before it is used again.")
    ] = 5
    cool_down_s: Annotated[
        float, Meta(ge=0, le=86_400, description="Seconds that a change lasts at least, before the way back.")
    ] = 30.0


class SnapshotsSpec(Spec, frozen=True, kw_only=True):
    """How many copies of a lookup are kept for the time when it is gone, and how large they may be."""

    keep: Annotated[int, Meta(ge=1, le=100, description="Copies that are kept, the newest included.")] = 2
    max_mib: Annotated[
        int, Meta(ge=1, le=1_048_576, description="Most MiB that the copies of a lookup take together.")
    ] = 1_024
