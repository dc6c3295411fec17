"""``sources.<feed>.changes``: what happened to a table, read from a change table that its owner's triggers fill."""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from brownfield.integration.kinds import FieldName, FieldNames, names
from brownfield.integration.reader import Contradiction, Spec

__all__ = ["ChangesSpec"]


class ChangesSpec(Spec, frozen=True, kw_only=True):
    """The change table of a feed's table."""

    table: (
        Annotated[FieldName, Meta(description="The change table; `brownfield check --ddl` prints how it is made.")]
        | None
    ) = None
    key: Annotated[FieldNames, Meta(description="Field, or fields, that name a row of the table.")] | None = None
    give: Annotated[
        Literal["each", "latest"],
        Meta(description="each: every change is a record; latest: of one read, only the last change of each key."),
    ] = "each"
    deletes: Annotated[
        Literal["skip", "records"],
        Meta(description="skip: a deleted row is no record; records: it is one, with its last values and op d."),
    ] = "skip"
    lag_s: Annotated[
        int, Meta(ge=1, le=604_800, description="Longest time that a transaction of the legacy system stays open.")
    ] = 300
    slot: (
        Annotated[
            str, Meta(min_length=1, max_length=64, description="Always refused: a replication slot of the server.")
        ]
        | None
    ) = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse replication slots, and a change table without its name or key."""
        if self.slot is not None:
            yield Contradiction(
                ("slot",),
                "a change table",
                "a replication slot",
                "While nobody reads a slot, the server keeps its log until the legacy disk is full.",
            )
            return
        if self.table is None:
            yield Contradiction((), "the key table", "none")
        if self.key is None:
            yield Contradiction((), "the key key", "none", "Name the field that names a row.")

    @property
    def keys(self) -> tuple[str, ...]:
        """Fields that name a row of the table."""
        return () if self.key is None else names(self.key)
