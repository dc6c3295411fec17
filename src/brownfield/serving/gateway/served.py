"""What is served now: one frozen snapshot per integration, swapped as a whole when the declaration changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brownfield.errors import NotFound
from brownfield.serving.fallback.breaker import Breaker
from brownfield.serving.gateway.admission import Admission
from brownfield.serving.gateway.metrics import Meter

if TYPE_CHECKING:
    from brownfield.contract import Contract
    from brownfield.serving.fallback.base import Fallback
    from brownfield.serving.gateway.asks import Ask
    from brownfield.serving.gateway.cache import Cache
    from brownfield.serving.gateway.enrich import Enrichment
    from brownfield.serving.gateway.latency import Split
    from brownfield.serving.gateway.v2 import Plan
    from brownfield.serving.workers.base import Pool
    from brownfield.types import Columns, Decision

__all__ = ["Record", "Served", "Snapshot", "Version"]

Record = Callable[["Decision", "Split", int, "Columns | None"], None]
"""Keeps one decision: the decision, its latency split, the number of rows, the checked inputs."""


@dataclass(eq=False)
class Version:
    """One model version that can be asked.

    Parameters
    ----------
    name
        The version, as it stands in ``decision.version`` and in V2 paths.
    features
        ``encode`` and ``decode`` between records and tensors (:class:`brownfield.data.features.Features`).
    pool
        The workers that run it.
    row_cap
        Most rows of one call that several callers share; 1 where they may not share one.
    cache
        Answers that may be given again; None where that is not declared.

    Attributes
    ----------
    turn
        What was admitted in this turn of the loop.
    """

    name: str
    features: Any
    pool: "Pool"
    row_cap: int = 1
    cache: "Cache | None" = None
    breaker: Breaker = field(default_factory=Breaker)
    admission: Admission = field(default_factory=Admission)
    turn: "list[Ask]" = field(default_factory=list, init=False)

    def refuses(self, rows: int, now_ns: int, deadline_ns: int) -> str:
        """Say why the model is not to be asked for ``rows`` more records; empty when it is."""
        if now_ns >= deadline_ns:
            return "deadline"
        if not self.pool.ready:
            return "worker"
        if not self.admission.admits(rows, deadline_ns - now_ns):
            return "overload"
        return "" if self.breaker.allows(now_ns) else "breaker"


@dataclass(eq=False)
class Served:
    """One integration as it is served.

    Parameters
    ----------
    name
        The integration, also the V2 model name.
    contract
        Compiled contract with the schemas ``request`` and ``response``.
    deadline_ms
        Longest time from the first byte of a request to its answer.
    champion
        The version that answers; ``None`` when there is no model.
    fallbacks
        The declared chain, in order.
    purpose
        One sentence for people.
    record
        Called once per answer, after it was given.
    enrichment
        What lookups add to a request before the model is asked; None without any.
    reason
        Why the model cannot be asked, in words; empty while it can.

    Attributes
    ----------
    v2
        What the V2 protocol knows of it before any request.
    """

    name: str
    contract: "Contract"
    deadline_ms: float
    champion: Version | None = None
    fallbacks: tuple["Fallback", ...] = ()
    purpose: str = ""
    record: Record | None = None
    enrichment: "Enrichment | None" = None
    reason: str = ""
    meter: Meter = field(default_factory=Meter)
    v2: "Plan | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.deadline_ns = round(self.deadline_ms * 1e6)
        self.request = self.contract.schema("request")
        self.response = self.contract.schema("response")

    @property
    def versions(self) -> list[str]:
        """The versions that can be named in a V2 path."""
        return [self.champion.name] if self.champion else []

    @property
    def model_ready(self) -> bool:
        """Whether the model itself can answer now: its workers are up and its breaker is closed."""
        champion = self.champion
        return champion is not None and champion.pool.ready and champion.breaker.closed

    @property
    def ready(self) -> bool:
        """Whether a caller gets an answer now, from the model or from the fallback chain."""
        return bool(self.fallbacks) or self.model_ready


class Snapshot:
    """Every integration that is served now.

    Parameters
    ----------
    integrations
        By name.
    """

    def __init__(self, integrations: Mapping[str, Served]) -> None:
        self.integrations = dict(integrations)

    def __getitem__(self, name: str) -> Served:
        try:
            return self.integrations[name]
        except KeyError:
            raise NotFound(
                "there is no integration of that name", next_step="GET /v2 and GET /docs list what is served."
            ) from None

    @property
    def ready(self) -> bool:
        """Whether there is something to serve and each of it can answer (an empty set is not ready)."""
        return bool(self.integrations) and all(served.ready for served in self.integrations.values())
