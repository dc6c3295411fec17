"""``fallback``: who answers, and from when on, when the model must not."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from brownfield.integration.kinds import RelativePath
from brownfield.integration.reader import Contradiction, Reader, Schemas, Spec
from brownfield.integration.words import KeyPath

if TYPE_CHECKING:
    from brownfield.integration.registry import Registry

__all__ = ["FallbackSpec", "FallbackStep"]


class FallbackStep(Spec, frozen=True, kw_only=True):
    """One who may answer; the text ``previous_version`` stands for the bundle before this one."""

    previous_version: Annotated[bool, Meta(description="Let the bundle before this one answer.")] = False
    table: (
        Annotated[
            RelativePath,
            Meta(description="CSV file; columns named like response fields are the answer, all others the key."),
        ]
        | None
    ) = None
    constant: (
        Annotated[Mapping[str, Any], Meta(description="The same answer for everyone, by response field.")] | None
    ) = None

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read a mapping with one key, or ``previous_version``."""
        if value == "previous_version":
            return cls(previous_version=True)
        return reader.struct(cls, value, path)

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:  # noqa: ARG003 (the same for all)
        """Return the short form and the long one."""
        return {
            "anyOf": [{"const": "previous_version"}, {**schemas[cls.__name__], "minProperties": 1, "maxProperties": 1}]
        }

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a step of none or several."""
        given = self.previous_version + (self.table is not None) + (self.constant is not None)
        if given != 1:
            yield Contradiction((), "exactly one of previous_version, table, constant", str(given))

    @property
    def kind(self) -> Literal["previous_version", "table", "constant"]:
        """Which of the three it is."""
        if self.previous_version:
            return "previous_version"
        return "table" if self.table is not None else "constant"


class FallbackSpec(Spec, frozen=True, kw_only=True):
    """From when on the fallback answers, and who is asked in which order."""

    deadline_ms: Annotated[
        int, Meta(ge=1, le=600_000, description="Time after which the caller gets the fallback's answer.")
    ] = 1_000
    chain: Annotated[
        tuple[FallbackStep, ...], Meta(max_length=8, description="Who is asked, in order, until one answers.")
    ] = ()

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse steps after a constant, which always answers."""
        for index, step in enumerate(self.chain[:-1]):
            if step.kind == "constant":
                yield Contradiction(("chain", index), "the constant as the last step", "steps after it")
