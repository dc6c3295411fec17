"""``integration.yaml`` as a frozen spec: what is declared, and what it becomes once its files are read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from brownfield.integration.constraints import ConstraintsSpec
from brownfield.integration.doors import DoorsSpec
from brownfield.integration.fallback import FallbackSpec
from brownfield.integration.kinds import Identifier, Line, RelativePath, Slug
from brownfield.integration.model import ModelSpec
from brownfield.integration.monitors import MonitorsSpec
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.rollout import RolloutSpec
from brownfield.integration.sources import SourceSpec
from brownfield.integration.unified import UnifiedSpec

if TYPE_CHECKING:
    from brownfield.contract import Contract
    from brownfield.integration.strict_yaml import Document

__all__ = ["IntegrationDeclaration", "IntegrationSpec"]


class IntegrationDeclaration(Spec, frozen=True, kw_only=True):
    """The keys of ``integration.yaml``."""

    integration: Annotated[Slug, Meta(description="Name of the integration; also the V2 name of its model.")]
    purpose: Annotated[Line, Meta(description="What it is for, in one sentence.")] | None = None
    owner: Annotated[Line, Meta(description="Who answers for it.")] | None = None
    contract: Annotated[RelativePath, Meta(description="The open data contract of its request, response and sources.")]
    sources: Annotated[Mapping[Identifier, SourceSpec], Meta(max_length=256, description="Where the records lie.")] = (
        field(default_factory=dict)
    )
    unified: Annotated[
        Mapping[Identifier, UnifiedSpec], Meta(max_length=64, description="Tables made of several sources.")
    ] = field(default_factory=dict)
    constraints: Annotated[ConstraintsSpec, Meta(description="What the site can bear.")] = ConstraintsSpec()
    features: (
        Annotated[
            RelativePath, Meta(description="How records become tensors; without it the fields are the graph's inputs.")
        ]
        | None
    ) = None
    model: Annotated[ModelSpec, Meta(description="Which bundle answers; none yet is allowed.")] | None = None
    fallback: Annotated[FallbackSpec, Meta(description="Who answers when the model must not.")] = FallbackSpec()
    doors: Annotated[DoorsSpec, Meta(description="How callers reach it.")] = DoorsSpec()
    rollout: Annotated[RolloutSpec, Meta(description="How a new version spreads.")] | None = None
    monitors: Annotated[MonitorsSpec, Meta(description="What is watched.")] | None = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse what keys of different parts make impossible together."""
        yield from self._unified_contradictions()
        p99 = self.constraints.latency_p99_ms
        if p99 is not None and p99 > self.fallback.deadline_ms:
            yield Contradiction(
                ("fallback", "deadline_ms"),
                f"at least constraints.latency_p99_ms ({p99:g})",
                str(self.fallback.deadline_ms),
                "An answer that is due later than the deadline is never given.",
            )
        if self.rollout is not None and self.model is None:
            yield Contradiction(("rollout",), "a model beside rollout", "none")

    def _unified_contradictions(self) -> Iterator[Contradiction]:
        for name, table in self.unified.items():
            path = ("unified", name)
            if name in self.sources:
                yield Contradiction(path, "a name that no source has", name)
            if table.from_ not in self.sources:
                yield Contradiction((*path, "from"), _one_of(self.sources), table.from_)
            for index, join in enumerate(table.join):
                if join.source not in self.sources:
                    yield Contradiction((*path, "join", index, "source"), _one_of(self.sources), join.source)
                elif self.sources[join.source].feed:
                    yield Contradiction((*path, "join", index, "source"), "a lookup", f"the feed {join.source}")


def _one_of(sources: Mapping[str, SourceSpec]) -> str:
    return f"one of the sources ({', '.join(sources) or 'none is declared'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationSpec:
    """One integration, with its contract compiled and its features read.

    Parameters
    ----------
    folder
        Where ``integration.yaml`` lies; every path of the declaration is below it.
    digest
        SHA-256, in hexadecimal, of the declaration, contract and features as they were read.
    """

    name: str
    folder: Path
    purpose: str | None
    owner: str | None
    contract: "Contract"
    contract_path: Path
    sources: Mapping[str, SourceSpec]
    unified: Mapping[str, UnifiedSpec]
    constraints: ConstraintsSpec
    features: "Document | None"
    features_path: Path | None
    model: ModelSpec | None
    fallback: FallbackSpec
    doors: DoorsSpec
    rollout: RolloutSpec | None
    monitors: MonitorsSpec | None
    document: "Document"
    digest: str

    def file(self, relative: str) -> Path:
        """Return the path of a declared file."""
        return self.folder / relative
