"""``pipeline``: the rhythm in which a served workspace brings in what is new, and writes it back."""

from typing import Annotated

from msgspec import Meta

from brownfield.integration.reader import Spec

__all__ = ["PipelineSpec"]


class PipelineSpec(Spec, frozen=True, kw_only=True):
    """How often the sources of an integration are read while it is served."""

    every_s: Annotated[
        float, Meta(ge=0.1, le=86_400, description="Seconds from the end of one run to the next, while served.")
    ]
