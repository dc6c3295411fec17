"""``unified``: tables made of several sources, each checked against its own schema in the contract."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, field

from brownfield.integration.kinds import FieldName, FieldNames, Identifier, names
from brownfield.integration.reader import Contradiction, Spec

__all__ = ["AsOf", "EnrichSpec", "Join", "UnifiedSpec"]


class AsOf(Spec, frozen=True, kw_only=True):
    """Which of several rows of a key held at a time: the latest that began before it, never one from its future."""

    left: Annotated[FieldName, Meta(description="Field of the rows: the time at which each was true.")]
    right: Annotated[FieldName, Meta(description="Field of the source: the time from which a row holds.")]
    until: (
        Annotated[
            FieldName, Meta(description="Field of the source: the time from which a row holds no more; empty is open.")
        ]
        | None
    ) = None
    strict: Annotated[
        bool, Meta(description="Whether right must lie before left, as where a day is all that is known.")
    ] = False
    max_age_d: (
        Annotated[
            float, Meta(gt=0, le=36_525, description="Days after right from which on a row is too old to be used.")
        ]
        | None
    ) = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the source that are compared."""
        return (self.right,) if self.until is None else (self.right, self.until)


class Join(Spec, frozen=True, kw_only=True):
    """What one source adds to each row; rows without a match stay, with missing values."""

    source: Annotated[Identifier, Meta(description="Name of a lookup of this integration.")]
    on: Annotated[FieldNames, Meta(description="Field, or fields, that both sides share.")]
    take: Annotated[tuple[FieldName, ...], Meta(description="Fields of the source that are added.")] = ()
    exists: (
        Annotated[FieldName, Meta(description="Name of an added yes-or-no field: whether the source has a match.")]
        | None
    ) = None
    as_of: Annotated[AsOf, Meta(description="Which of several rows of a key held at the time of each row.")] | None = (
        None
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a join that adds nothing."""
        if not self.take and self.exists is None:
            yield Contradiction((), "take or exists", "neither", "A join that adds nothing can be left out.")

    @property
    def keys(self) -> tuple[str, ...]:
        """The fields that both sides share."""
        return names(self.on)

    @property
    def needed(self) -> tuple[str, ...]:
        """Fields of the source that the join looks at."""
        return (*self.keys, *self.take, *(() if self.as_of is None else self.as_of.fields))


class EnrichSpec(Spec, frozen=True, kw_only=True):
    """What a lookup adds to each request before the model is asked."""

    source: Annotated[Identifier, Meta(description="Name of a lookup with a snapshot, or asked key by key.")]
    on: Annotated[FieldNames, Meta(description="Its key: field, or fields, of the request and of the lookup.")]
    take: Annotated[
        tuple[FieldName, ...], Meta(min_length=1, description="Fields that features see as fields of the request.")
    ]
    refresh_s: Annotated[
        float, Meta(ge=1, le=86_400, description="Seconds between two readings; how long an answer by key is kept.")
    ] = 60.0

    @property
    def keys(self) -> tuple[str, ...]:
        """The fields that both sides share."""
        return names(self.on)


class UnifiedSpec(Spec, frozen=True, kw_only=True):
    """One table: the rows of a source, with what lookups know about them."""

    from_: Annotated[Identifier, Meta(description="Source that gives the rows.")] = field(name="from")
    join: Annotated[tuple[Join, ...], Meta(max_length=32, description="Lookups that are joined, in order.")] = ()
