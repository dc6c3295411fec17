"""What is served now: one frozen snapshot per integration, swapped as a whole when the declaration changes."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from brownfield.errors import BrownfieldError, InputRefused, NotFound, OutputRefused
from brownfield.serving.fallback.breaker import Breaker
from brownfield.serving.fallback.previous_version import PreviousVersion
from brownfield.serving.gateway.admission import Admission
from brownfield.serving.gateway.costs import CostCurve
from brownfield.serving.gateway.lateness import grace_ns
from brownfield.serving.gateway.metrics import Meter
from brownfield.serving.gateway.pacing import Pacing
from brownfield.serving.gateway.priority import Priority
from brownfield.serving.gateway.waiting import Waiting
from brownfield.serving.workers.budget import RetryBudget
from brownfield.serving.workers.poison import Poison

if TYPE_CHECKING:
    import asyncio

    from brownfield.contract import Checked, Contract
    from brownfield.serving.fallback.base import Fallback
    from brownfield.serving.gateway.asks import Ask, ModelCall
    from brownfield.serving.gateway.cache import Cache
    from brownfield.serving.gateway.enrich import Enrichment
    from brownfield.serving.gateway.latency import Split
    from brownfield.serving.gateway.v2 import Plan
    from brownfield.serving.workers.base import Pool, Tensors
    from brownfield.types import Columns, Decision

__all__ = ["Kept", "Record", "Served", "Snapshot", "Version", "in_contract"]

_TRY_AFTER: Final = 25  # deadlines
_TRY_GUESSED_AFTER: Final = 250  # times what it seems to take: others may wait for so long
_NOT_HUNG_NS: Final = 1e9  # beyond the deadline a process that computes is not taken for hung, or another deadline

Kept = tuple["Decision", "Split", int, "Columns | None"]
"""What is kept of one answer: the decision, its latency split, the number of rows, the checked inputs."""

_log = logging.getLogger(__name__)

Record = Callable[["Decision", "Split", int, "Columns | None"], None]
"""Keeps one decision; called with the parts of :data:`Kept`."""


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
    costs
        What its calls cost by their rows; bounds the rows of shared calls further. None to go by ``row_cap`` alone.
    retries
        How often calls may be made again, those of the pool included.
    platform
        What runs it, as V2 metadata name it.
    integration
        Whose version it is, for the log.

    Attributes
    ----------
    label
        What the log calls it.
    told
        How its model went wrong, as the log was told.
    pacing
        Who was turned away and is answered in a moment.
    poison
        Requests that ended workers.
    apart
        Those suspected of it that are to be asked alone, the first perhaps just now.
    waiting
        Who was admitted and is not with a worker yet.
    calls
        Those that are with a worker.
    sending
        Whether what waits is looked at in this turn of the loop.
    watch, watched_ns
        The timer that looks at deadlines, and the time that it was set to; 0 without one.
    """

    def __init__(  # noqa: PLR0913 (what a version is made of)
        self,
        name: str,
        features: Any,
        pool: "Pool",
        row_cap: int = 1,
        cache: "Cache | None" = None,
        *,
        costs: CostCurve | None = None,
        retries: RetryBudget | None = None,
        platform: str = "onnx",
        integration: str = "",
    ) -> None:
        self.name = name
        self.label = f"{integration} {name}".lstrip()
        self.told: set[str] = set()
        self.platform = platform
        self.features = features
        self.pool = pool
        self.row_cap = row_cap
        self.cache = cache
        self.costs = costs
        self.retries = retries if retries is not None else RetryBudget()
        self.breaker = Breaker()
        self.admission = Admission(costs)
        self.pacing = Pacing()
        self.poison = Poison(self.label)
        self.apart: deque[Ask] = deque()
        self.waiting = Waiting()
        self.calls: set[ModelCall] = set()
        self.sending = False
        self.watch: asyncio.TimerHandle | None = None
        self.watched_ns = 0
        self._try_ns = 0  # when a large request is asked again that seems to take too long

    @property
    def call_rows(self) -> int:
        """Rows that a shared call may have now."""
        return self.row_cap if self.costs is None else min(self.row_cap, self.costs.cap)

    @property
    def row_ns(self) -> float:
        """Nanoseconds that the model needs for a record of a full call; 0 while that is not known."""
        cap = self.call_rows
        return self.admission.full_ns(cap) / cap

    @property
    def window(self) -> int:
        """Most calls that are with the workers at a time; the rest waits here, where it can be ordered and shed."""
        cap = self.call_rows
        return self.admission.window(cap, self.waiting.rows >= cap)

    @property
    def may_be_asked(self) -> bool:
        """Whether a call could be made now: its workers are up and its breaker is closed, or due for a trial."""
        return self.pool.ready and self.breaker.would_allow(time.monotonic_ns())

    def refuses(self, ask: "Ask", now_ns: int) -> str:
        """Say why the model is not to be asked for one more; empty when it is."""
        ask.expected_ns = 0.0
        left_ns = float(ask.deadline_ns - now_ns)
        if left_ns <= 0:
            return "deadline"
        if not self.pool.ready:
            return "worker"
        share_ns = left_ns * ask.priority.share
        if not self._in_time(ask, share_ns, now_ns) and not self._heals(ask.checked.rows, left_ns, share_ns, now_ns):
            return "overload"
        return "" if self.breaker.allows(now_ns) else "breaker"

    def _heals(self, rows: int, left_ns: float, share_ns: float, now_ns: int) -> bool:
        """Whether one that nobody is before is asked against the estimate, for nothing would be learned any more.

        What calls took beside the engine is no reason then. The engine's own time for a large one is; where it would
        fit into all that is left, that may have been one slow call, and is tried again now and then. Where it would
        not, but nobody ever asked for nearly as many, it is a guess, and is tried rarely.
        """
        if self.admission.waiting_rows:
            return False
        if rows <= self.call_rows:
            return True
        engine_ns = self.admission.engine_ns(rows)
        if engine_ns <= share_ns:
            return True
        guessed = self.costs is not None and self.costs.is_guess(rows)
        if now_ns < self._try_ns or engine_ns > left_ns + (max(left_ns, _NOT_HUNG_NS) if guessed else 0.0):
            return False
        self._try_ns = now_ns + round(_TRY_AFTER * left_ns if engine_ns <= left_ns else _TRY_GUESSED_AFTER * engine_ns)
        return True

    @property
    def hopeless_ns(self) -> float:
        """How long an answer takes at least that is asked for now; 0 while nobody waits behind, so that this heals."""
        cap = self.call_rows
        return 0.8 * self.admission.full_ns(cap) * (len(self.calls) + 1) if self.waiting.rows > cap else 0.0

    def _in_time(self, ask: "Ask", left_ns: float, now_ns: int) -> bool:
        """Whether an answer may be expected in time: of a large request also where nobody is before it."""
        rows, waiting, admission, cap = ask.checked.rows, self.waiting, self.admission, self.call_rows
        left_ns += (-(-rows // cap) - 1) * admission.call_ns  # a large one is one call, not as many as fill the cap
        left_ns -= min(admission.margin_ns, left_ns / 2)
        calls, sent_rows = len(self.calls), admission.waiting_rows - waiting.rows
        wait_ns = admission.wait_ns(rows + waiting.rows, cap, calls, sent_rows)  # even behind everybody
        if wait_ns > left_ns:
            wait_ns = admission.wait_ns(rows + waiting.ahead(ask, cap), cap, calls, sent_rows) - self._done_ns(now_ns)
        if wait_ns and self.pool.workers:
            ask.expected_ns = now_ns + wait_ns
        return wait_ns <= left_ns

    def _done_ns(self, now_ns: int) -> float:
        """How much of the first call that is with the workers they have computed, about."""
        if not self.calls:
            return 0.0
        first = min(self.calls, key=attrgetter("sent_ns"))
        since_ns = now_ns - max(first.sent_ns, self.admission.last_answer_ns)
        return min(float(since_ns), self.row_ns * first.rows)  # no more than the estimate has for it

    def queue(self, ask: "Ask", now_ns: int) -> None:
        """Let an admitted ask wait."""
        ask.entered_ns = now_ns
        ask.queued = self
        self.admission.waiting_rows += self.waiting.put(ask, self.call_rows)

    def keep_within(self, deadline_ns: int) -> None:
        """Go by this deadline from now on; what was learned stays."""
        if self.costs is not None:
            self.costs.keep_within(deadline_ns)
        self.breaker.keep_up_with(deadline_ns + grace_ns(deadline_ns))

    def share_less(self, rows: int) -> None:
        """Put together half as many rows from now on: a shared call of so many was too large for the memory."""
        smaller = max(1, rows // 2)
        if smaller < self.row_cap:
            self.row_cap = smaller
            extra = {"event": "BF-GTW-CALLS-HALVED", "version": self.label, "rows": smaller}
            _log.warning("a shared call was too large for the model's memory: further ones are smaller", extra=extra)

    def worker_joined(self, now_ns: int = 0) -> None:
        """Take in that a new worker can be asked."""
        self.breaker.retry_now()
        self.poison.replaced(now_ns or time.monotonic_ns())

    def forget(self, ask: "Ask") -> None:
        """Take a waiting ask out again: nobody waits for it any more."""
        ask.queued = None
        self.waiting.forget(ask)
        self.admission.forget(ask.checked.rows)
        self.breaker.abandoned()


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
    priority
        Highest priority of requests over HTTP.

    Attributes
    ----------
    v2
        What the V2 protocol knows of it before any request.
    only_tensor
        The response field, where there is one alone and it is a tensor.
    """

    def __init__(  # noqa: PLR0913 (what is declared of it)
        self,
        name: str,
        contract: "Contract",
        deadline_ms: float,
        champion: Version | None = None,
        fallbacks: "tuple[Fallback, ...]" = (),
        *,
        purpose: str = "",
        record: Record | None = None,
        enrichment: "Enrichment | None" = None,
        reason: str = "",
        priority: Priority = Priority.INTERACTIVE,
        meter: Meter | None = None,
    ) -> None:
        self.name = name
        self.contract = contract
        self.deadline_ms = deadline_ms
        self.deadline_ns = round(deadline_ms * 1e6)
        self.champion = champion
        self.fallbacks = fallbacks
        self.purpose = purpose
        self.record = record
        self.enrichment = enrichment
        self.reason = reason
        self.priority = priority
        self.meter = meter if meter is not None else Meter()
        self.reference = contract.reference
        self.request = contract.schema("request")
        self.response = contract.schema("response")
        fields = self.response.fields
        self.only_tensor = fields[0] if len(fields) == 1 and fields[0].kind == "tensor" else None
        self.v2: Plan | None = None

    @property
    def versions(self) -> list[str]:
        """The versions that can be named in a V2 path."""
        return [self.champion.name] if self.champion else []

    @property
    def may_ask_previous(self) -> bool:
        """Whether the version before this one is in the chain, and there."""
        return any(isinstance(fallback, PreviousVersion) and fallback.ready for fallback in self.fallbacks)

    @property
    def model_ready(self) -> bool:
        """Whether the model itself can answer now: its workers are up and its breaker is closed."""
        champion = self.champion
        return champion is not None and champion.pool.ready and champion.breaker.closed

    @property
    def ready(self) -> bool:
        """Whether a caller gets an answer now, from the model or from the fallback chain.

        A model whose breaker is due for a trial counts: only a caller can close it.
        """
        champion = self.champion
        return (champion is not None and champion.may_be_asked) or any(fallback.ready for fallback in self.fallbacks)


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


def in_contract(version: Version, served: Served, checked: "Checked", outputs: "Tensors") -> "Checked":
    """Decode the model's arrays and hold them against the response schema: NaN, shapes, ranges."""
    try:
        columns = version.features.decode(outputs, checked.columns, checked.rows)
        return served.response.rows.check_columns(columns, checked.rows)
    except InputRefused as refused:
        raise OutputRefused(str(refused)) from refused
    except (BrownfieldError, KeyError, ValueError, IndexError, TypeError) as error:
        raise OutputRefused("the model's arrays do not have the form that its features expect") from error
