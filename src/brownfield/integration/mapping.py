"""A mapping file: how the columns of one silo become the fields of the contract. Nothing in it is ever evaluated.

Each field names where it comes from and what is done to it, always in this order: taken, trimmed and normalised,
sentinels set apart, cast, converted. A person who has read the file approves it in the file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, field

from brownfield.integration.kinds import FieldName, Line
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.spelling import SERIALS, NumberSpelling, stamp_problem

if TYPE_CHECKING:
    from brownfield.integration.strict_yaml import Document

__all__ = ["FieldMapping", "MappingFile", "MappingSpec", "MissingReason", "Pad", "Split", "Truth", "UnitOf"]

MissingReason: TypeAlias = Literal["unknown", "not_applicable", "not_supplied", "open_ended", "withheld", "invalid"]
"""Why a value is missing; a closed list, for models and dashboards rely on it."""

Code: TypeAlias = Annotated[str, Meta(max_length=255, extra={"words": "a code, as text"})]
Scalar: TypeAlias = str | int | float | bool


class Truth(Spec, frozen=True, kw_only=True):
    """How yes and no are written."""

    yes: Annotated[tuple[Code, ...], Meta(min_length=1, description="Texts that mean true.")]
    no: Annotated[tuple[Code, ...], Meta(min_length=1, description="Texts that mean false.")]

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a text that means both."""
        for index, text in enumerate(self.no):
            if text in self.yes:
                yield Contradiction(("no", index), "a text that does not mean yes too", "one of yes")


class UnitOf(Spec, frozen=True, kw_only=True):
    """The unit in which the silo keeps the value; the contract's field has the unit that it becomes."""

    from_: Annotated[str, Meta(min_length=1, max_length=64, description="Unit in the silo.")] = field(name="from")
    factor: (
        Annotated[float, Meta(gt=0, description="What a value is multiplied by, for units that are not listed.")] | None
    ) = None
    offset: Annotated[float, Meta(description="What is added afterwards; beside factor only.")] = 0.0

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse an offset alone."""
        if self.offset and self.factor is None:
            yield Contradiction(("offset",), "factor beside offset", "none")


class Split(Spec, frozen=True, kw_only=True):
    """One part of a text."""

    by: Annotated[str, Meta(min_length=1, max_length=16, description="What stands between the parts.")]
    part: Annotated[int, Meta(ge=1, le=64, description="Which part, counted from 1.")]


class Pad(Spec, frozen=True, kw_only=True):
    """Filling a text up at its left."""

    to: Annotated[int, Meta(ge=1, le=255, description="Characters that the text has at least.")]
    with_: Annotated[str, Meta(min_length=1, max_length=1, description="The character that fills it up.")] = field(
        name="with", default="0"
    )


class FieldMapping(Spec, frozen=True, kw_only=True):
    """One field of the contract: where its value comes from, and what is done to it."""

    from_: Annotated[FieldName, Meta(description="Column of the silo.")] | None = field(name="from", default=None)
    concat: (
        Annotated[tuple[FieldName, ...], Meta(min_length=2, max_length=16, description="Columns, joined as text.")]
        | None
    ) = None
    separator: Annotated[str, Meta(max_length=16, description="Text between the columns of concat.")] = ""
    constant: Annotated[Scalar, Meta(description="The same value in every record.")] | None = None
    missing_of: (
        Annotated[FieldName, Meta(description="Field of this file: true where its value is missing.")] | None
    ) = None
    reason_of: (
        Annotated[FieldName, Meta(description="Field of this file: the reason why its value is missing.")] | None
    ) = None
    reads: (
        Annotated[
            Literal["text", "integer", "number", "boolean", "date", "timestamp"],
            Meta(description="What the column holds; text where a key below needs it, else what the contract says."),
        ]
        | None
    ) = None
    trim: Annotated[Literal["none", "left", "right", "both"], Meta(description="Blanks that are cut off.")] = "none"
    case: Annotated[Literal["keep", "lower", "upper"], Meta(description="Letters are made small or large.")] = "keep"
    leading_zeros: Annotated[Literal["keep", "strip"], Meta(description="Whether 00042 becomes 42.")] = "keep"
    pad: Annotated[Pad, Meta(description="Filling the text up at its left.")] | None = None
    split: Annotated[Split, Meta(description="One part of the text.")] | None = None
    sentinels: Annotated[
        Mapping[Code, MissingReason],
        Meta(max_length=64, description="Values that stand for a missing one, each with the reason."),
    ] = field(default_factory=dict)
    codes: (
        Annotated[
            Mapping[Code, Scalar], Meta(min_length=1, max_length=10_000, description="What each code stands for.")
        ]
        | None
    ) = None
    unknown: Annotated[
        Scalar, Meta(description="What a code that is not listed stands for; reject refuses the record.")
    ] = "reject"
    number: Annotated[NumberSpelling, Meta(description="How a number is written as text.")] | None = None
    boolean: Annotated[Truth, Meta(description="How yes and no are written.")] | None = None
    date: Annotated[str, Meta(description="How a date is written, such as dd.MM.yyyy.")] | None = None
    timestamp: Annotated[str, Meta(description="How a timestamp is written, such as yyyyMMddHHmmss.")] | None = None
    zone: Annotated[str, Meta(description="Zone of a timestamp, such as Europe/Berlin.")] | None = None
    first_year: (
        Annotated[int, Meta(ge=1, le=9900, description="First of the hundred years that yy stands for.")] | None
    ) = None
    unit: Annotated[UnitOf, Meta(description="Unit in the silo, converted into the contract's.")] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the silo that the field is made of."""
        return self.concat or (() if self.from_ is None else (self.from_,))

    @property
    def normalises(self) -> bool:
        """Whether two different texts may become one."""
        return self.trim != "none" or self.case != "keep" or self.leading_zeros == "strip" or self.split is not None

    @property
    def renames(self) -> bool:
        """Whether nothing is done to the value but to name it anew."""
        return self.from_ is not None and not (
            self.normalises or self.casts or self.sentinels or self.unit or self.pad or self.reads
        )

    @property
    def casts(self) -> tuple[str, ...]:
        """Which of the casts are declared; at most one in a mapping that was read."""
        each = ("codes", "number", "boolean", "date", "timestamp")
        return tuple(name for name in each if getattr(self, name) is not None)

    @property
    def of_text(self) -> bool:
        """Whether what is done needs the column as text."""
        return bool(self.casts or self.normalises or self.pad or self.concat)

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a field without an origin or with two, two casts, and keys that belong to another."""
        origins = [
            name
            for name, value in (
                ("from", self.from_), ("concat", self.concat), ("constant", self.constant),
                ("missing_of", self.missing_of), ("reason_of", self.reason_of),
            )
            if value is not None
        ]  # fmt: skip
        if len(origins) != 1:
            got = " and ".join(origins) or "none"
            yield Contradiction((), "one of from, concat, constant, missing_of and reason_of", got)
        if len(self.casts) > 1:
            yield Contradiction((), "one of codes, number, boolean, date and timestamp", " and ".join(self.casts))
        if origins and origins[0] in {"constant", "missing_of", "reason_of"}:
            done = self.of_text or self.sentinels or self.unit is not None or self.reads is not None
            if done:
                yield Contradiction((), f"no other key beside {origins[0]}", "more")
        for key, needed in (("zone", "timestamp"), ("separator", "concat")):
            if getattr(self, key) and getattr(self, needed) is None:
                yield Contradiction((key,), f"{key} beside {needed}", "none")
        if self.unknown != "reject" and self.codes is None:
            yield Contradiction(("unknown",), "unknown beside codes", "none")
        yield from self._stamp_contradictions()

    def _stamp_contradictions(self) -> Iterator[Contradiction]:
        counted = self.codes is not None or (self.date or self.timestamp) in SERIALS
        text_needed = (self.of_text and not counted) or self.normalises
        if self.reads not in {None, "text"} and text_needed:
            yield Contradiction(("reads",), "text, which the other keys need", str(self.reads))
        spelling = self.date if self.date is not None else self.timestamp
        if spelling is not None:
            key = "date" if self.date is not None else "timestamp"
            problem = stamp_problem(spelling, with_time=key == "timestamp", first_year=self.first_year)
            if problem is not None:
                yield Contradiction((key,), *problem)
        elif self.first_year is not None:
            yield Contradiction(("first_year",), "first_year beside a date or timestamp with yy", "neither")
        if self.zone is not None:
            try:
                ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                yield Contradiction(("zone",), "a zone of the IANA database, such as Europe/Berlin", "another text")


class MappingFile(Spec, frozen=True, kw_only=True):
    """The keys of a mapping file."""

    approved: Annotated[bool, Meta(description="Set to true by the person who has read the file.")]
    about: Annotated[Line, Meta(description="What the file is for.")] | None = None
    fields: Annotated[
        Mapping[FieldName, FieldMapping],
        Meta(min_length=1, max_length=2_000, description="Fields of the contract; others are read as they are."),
    ]

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse masks and reasons of fields that have neither."""
        for name, each in self.fields.items():
            for key, of in (("missing_of", each.missing_of), ("reason_of", each.reason_of)):
                if of is not None and (of not in self.fields or not self.fields[of].columns):
                    known = ", ".join(other for other, one in self.fields.items() if one.columns) or "none"
                    yield Contradiction(("fields", name, key), f"a field of this file that is read ({known})", of)


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingSpec:
    """A mapping file that was read.

    Parameters
    ----------
    fields
        By the name of the contract's field.
    digest
        SHA-256 of the file, in hexadecimal: the version of the mapping.
    document
        Where each key stands.
    """

    fields: Mapping[str, FieldMapping]
    digest: str
    document: "Document"

    def where(self, *path: Any) -> str:
        """Say in which line a key stands."""
        return self.document.where(["fields", *path])
