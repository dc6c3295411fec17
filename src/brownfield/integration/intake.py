"""``intake``: when a delivered file is ready, how it is claimed, and what must add up before it is taken."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, field

from brownfield.integration.kinds import FieldName
from brownfield.integration.reader import Contradiction, Spec

__all__ = ["IntakeSpec", "TrailerPart", "TrailerSpec"]

_MarkerKey = Annotated[
    str,
    Meta(
        pattern=r"^(count|bytes|sha256|total\..{1,255})$",
        extra={"words": "count, bytes, sha256 or total.<column>"},
    ),
]
_Place = Annotated[int, Meta(ge=1, le=65_536)]


class TrailerPart(Spec, frozen=True, kw_only=True):
    """Where a number stands in a trailer."""

    field: Annotated[_Place, Meta(description="Number of the field, from 1, in a trailer of fields.")] | None = None
    start: Annotated[_Place, Meta(description="First byte, from 1, in a trailer of fixed places.")] | None = None
    length: Annotated[_Place, Meta(description="Bytes from there.")] | None = None
    scale: Annotated[int, Meta(ge=0, le=18, description="Digits behind a decimal mark that is not written.")] = 0

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse what is not one of a field, and a start with its length."""
        if (self.start is None) != (self.length is None) or (self.field is None) == (self.start is None):
            yield Contradiction((), "either field, or start and length", "something else")


class TrailerSpec(Spec, frozen=True, kw_only=True):
    """The last record of each file, which is no data."""

    begins: Annotated[str, Meta(min_length=1, max_length=255, description="Text with which it begins.")]
    count: Annotated[TrailerPart, Meta(description="Where the number of the other records stands.")] | None = None
    totals: Annotated[
        Mapping[FieldName, TrailerPart],
        Meta(max_length=100, description="Where the sum of a column of numbers stands: an amount, or a hash total."),
    ] = field(default_factory=dict)


class IntakeSpec(Spec, frozen=True, kw_only=True):
    """How the files of a feed are taken; each is one delivery, known by its content."""

    ready: (
        Annotated[
            Literal["marker", "stable", "rename"],
            Meta(
                description="When a file is ready. marker: <name>.done is there (the default where path has a "
                "wildcard); stable: size and time did not change for stable_s; rename: once it has its name."
            ),
        ]
        | None
    ) = None
    stable_s: (
        Annotated[float, Meta(gt=0, le=3_600, description="Seconds for which a file must not change; 10.")] | None
    ) = None
    claim: Annotated[
        Literal["none", "rename"],
        Meta(description="none: files are left alone; rename: they are moved to work/, then to done/ or error/."),
    ] = "none"
    order: Annotated[
        Literal["name", "mtime"], Meta(description="Order of the files: by name, or the oldest first.")
    ] = "name"
    max_files: Annotated[int, Meta(ge=1, le=100_000, description="Most files that one run takes.")] = 100
    marker_holds: Annotated[
        tuple[_MarkerKey, ...], Meta(max_length=100, description="What each marker must say; else a file is refused.")
    ] = ()
    trailer: Annotated[TrailerSpec, Meta(description="The last record of each file.")] | None = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse what another way of being ready would need."""
        if self.stable_s is not None and self.ready != "stable":
            yield Contradiction(("stable_s",), "stable_s beside ready: stable only", str(self.ready))
        if self.marker_holds and self.ready in {"stable", "rename"}:
            yield Contradiction(("marker_holds",), "marker_holds beside ready: marker only", str(self.ready))
