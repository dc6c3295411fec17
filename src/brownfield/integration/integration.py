"""``integration.yaml`` as a frozen spec: what is declared, and what it becomes once its files are read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, field

from brownfield.integration.constraints import ConstraintsSpec
from brownfield.integration.doors import DoorsSpec
from brownfield.integration.fallback import FallbackSpec
from brownfield.integration.fit import FitSpec
from brownfield.integration.kinds import Identifier, Line, RelativePath, Slug
from brownfield.integration.mapping import MappingSpec
from brownfield.integration.model import ModelSpec
from brownfield.integration.monitors import MonitorsSpec
from brownfield.integration.pipeline import PipelineSpec
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.rollout import RolloutSpec
from brownfield.integration.sources import SourceSpec
from brownfield.integration.unified import EnrichSpec, UnifiedSpec
from brownfield.integration.write_back import WriteBackSpec

if TYPE_CHECKING:
    from brownfield.contract import Contract, Schema
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
    write_back: Annotated[
        Mapping[Identifier, WriteBackSpec], Meta(max_length=64, description="Where unified rows are written back.")
    ] = field(default_factory=dict)
    pipeline: (
        Annotated[PipelineSpec, Meta(description="How often all this is done while served; without it by hand only.")]
        | None
    ) = None
    enrich: Annotated[
        tuple[EnrichSpec, ...], Meta(max_length=32, description="Lookups that are joined to each request.")
    ] = ()
    constraints: Annotated[ConstraintsSpec, Meta(description="What the site can bear.")] = ConstraintsSpec()
    features: (
        Annotated[
            RelativePath, Meta(description="How records become tensors; without it the fields are the graph's inputs.")
        ]
        | None
    ) = None
    model: Annotated[ModelSpec, Meta(description="Which bundle answers; none yet is allowed.")] | None = None
    fit: Annotated[FitSpec, Meta(description="What brownfield fit makes the model of, and judges it by.")] = FitSpec()
    fallback: Annotated[FallbackSpec, Meta(description="Who answers when the model must not.")] = FallbackSpec()
    doors: Annotated[DoorsSpec, Meta(description="How callers reach it.")] = DoorsSpec()
    rollout: Annotated[RolloutSpec, Meta(description="How a new version spreads.")] | None = None
    monitors: Annotated[MonitorsSpec, Meta(description="What is watched.")] | None = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse what keys of different parts make impossible together."""
        yield from self._name_contradictions()
        yield from self._queue_contradictions()
        yield from self._time_contradictions()
        yield from _enrich_contradictions(self.enrich, self.sources)
        if self.rollout is not None and self.model is None:
            yield Contradiction(("rollout",), "a model beside rollout", "none")

    def _time_contradictions(self) -> Iterator[Contradiction]:
        slo = self.monitors.slo if self.monitors is not None else None
        for name, promised_ms in (
            ("constraints.latency_p99_ms", self.constraints.latency_p99_ms),
            ("monitors.slo.latency_p99_ms", slo.latency_p99_ms if slo is not None else None),
        ):
            if promised_ms is not None and promised_ms > self.fallback.deadline_ms:
                yield Contradiction(
                    ("fallback", "deadline_ms"),
                    f"at least {name} ({promised_ms:g})",
                    str(self.fallback.deadline_ms),
                    "At the deadline the fallback answers, so no answer takes longer.",
                )
        cache = self.model.cache if self.model is not None else None
        ages_h = [place.max_age_h for source in self.sources.values() for place in source.chain if place.max_age_h]
        if cache is not None and ages_h and cache.ttl_s > min(ages_h) * 3_600:
            yield Contradiction(
                ("model", "cache", "ttl_s"),
                f"at most the shortest max_age_h of a source ({min(ages_h):g} h)",
                f"{cache.ttl_s:g} s",
                "A cached answer must not outlive the data that it was made from.",
            )

    def _name_contradictions(self) -> Iterator[Contradiction]:
        for part, declared in (("sources", self.sources), ("unified", self.unified)):
            for name in declared:
                if name in {"request", "response"}:
                    next_step = "The contract uses it for what callers send and get."
                    yield Contradiction((part, name), "another name", name, next_step)
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

    def _queue_contradictions(self) -> Iterator[Contradiction]:
        made_from = {table.from_ for table in self.unified.values()}
        for name, source in self.sources.items():
            if name not in made_from and any(place.queue is not None for place in source.chain):
                yield Contradiction(
                    ("sources", name),
                    "a unified table that is made from this queue",
                    "none",
                    "Declare one under unified: a broker forgets what it was told is safe.",
                )


def _enrich_contradictions(
    enrich: tuple[EnrichSpec, ...], sources: Mapping[str, SourceSpec]
) -> Iterator[Contradiction]:
    """Refuse what cannot be joined to a request: feeds, lookups without a copy at hand, parts of a key."""
    for index, each in enumerate(enrich):
        path: tuple[str | int, ...] = ("enrich", index, "source")
        source = sources.get(each.source)
        if source is None:
            yield Contradiction(path, _one_of(sources), each.source)
        elif source.feed:
            yield Contradiction(path, "a lookup", f"the feed {each.source}")
        elif not (source.keeps_copies or source.is_asked_by_key):
            next_step = "Add {snapshot: last_good, max_age_h: ...} to its chain: requests are answered from the copy."
            yield Contradiction(path, "a lookup with a snapshot, or one that is asked key by key", "neither", next_step)
        elif set(each.keys) != set(source.keys):
            yield Contradiction(("enrich", index, "on"), f"the whole key ({', '.join(source.keys)})", "another")


def _one_of(sources: Mapping[str, SourceSpec]) -> str:
    return f"one of the sources ({', '.join(sources) or 'none is declared'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationSpec:
    """One integration, with its contract compiled and its features read.

    Parameters
    ----------
    folder
        Where ``integration.yaml`` lies; every path of the declaration is below it.
    mappings
        The mapping files, by the path under which a place declares them.
    digest
        SHA-256, in hexadecimal, of the declaration, contract, features and mappings as they were read.
    """

    name: str
    folder: Path
    purpose: str | None
    owner: str | None
    contract: "Contract"
    contract_path: Path
    sources: Mapping[str, SourceSpec]
    unified: Mapping[str, UnifiedSpec]
    mappings: Mapping[str, MappingSpec]
    write_back: Mapping[str, WriteBackSpec]
    pipeline: PipelineSpec | None
    enrich: tuple[EnrichSpec, ...]
    constraints: ConstraintsSpec
    features: "Document | None"
    features_path: Path | None
    model: ModelSpec | None
    fit: FitSpec
    fallback: FallbackSpec
    doors: DoorsSpec
    rollout: RolloutSpec | None
    monitors: MonitorsSpec | None
    document: "Document"
    digest: str

    @property
    def features_request(self) -> "Schema":
        """What features see of a request: its own fields, and those that lookups add."""
        request = self.contract.schema("request")
        added = [self.contract.schema(each.source).field(name) for each in self.enrich for name in each.take]
        return replace(request, fields=(*request.fields, *added)) if added else request

    def file(self, relative: str) -> Path:
        """Return the path of a declared file."""
        return self.folder / relative
