"""The one prediction path of every door: checked records in, an answer with its decision out, before the deadline.

It knows no transport and reads no store. The caller has already checked the records against the contract, so a refusal
never reaches a worker. When the model cannot answer in time and in contract, the declared fallbacks do, in order.
"""

import asyncio
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from brownfield.clock import Clock, SystemClock
from brownfield.errors import (
    BrownfieldError,
    DeadlineExceeded,
    InputRefused,
    ModelFailed,
    OutputRefused,
    Overloaded,
    Unavailable,
    WorkerUnavailable,
)
from brownfield.serving.gateway.enrich import Enrichment, LookupNote, LookupUnanswered
from brownfield.serving.gateway.latency import Split, Stage
from brownfield.serving.gateway.served import Served, Snapshot, Version
from brownfield.types import Decision, Reason

if TYPE_CHECKING:
    from brownfield.contract import Checked
    from brownfield.serving.workers.base import Tensors

__all__ = ["Answer", "Dataplane", "Unanswered"]

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a door turns into its own format.

    Parameters
    ----------
    checked
        The response after its contract check: ``columns``, ``rows`` and ``record(i)``.
    decision
        Who answered and why.
    split
        Where the time went; the door marks ``SERIALIZE`` on it.
    lookups
        What the declared lookups said.
    """

    checked: "Checked"
    decision: Decision
    split: Split
    lookups: tuple[LookupNote, ...] = ()


class Unanswered(Unavailable):
    """The model could not answer and no declared fallback did: a typed refusal, to be tried again later.

    Parameters
    ----------
    decision
        The decision not to answer, with its cause.
    """

    code = "BF-ERR-UNANSWERED"

    def __init__(self, decision: Decision) -> None:
        super().__init__(
            f"no answer from the model ({decision.cause}), and no fallback that answers",
            next_step="Try again later; declare a constant at the end of the fallback chain to never see this.",
        )
        self.decision = decision


class _BreakerOpen(Unavailable):
    """The model version is not asked until its breaker lets a call through again."""


class Dataplane:
    """Answers checked records from the snapshot in memory.

    Parameters
    ----------
    snapshot
        What is served; :attr:`snapshot` may be replaced at any time, running requests keep theirs.
    clock
        Time for deadlines and the latency split.
    """

    def __init__(self, snapshot: Snapshot, clock: Clock | None = None) -> None:
        self.snapshot = snapshot
        self.now_ns = (clock or SystemClock()).monotonic_ns

    async def predict(
        self, served: Served, checked: "Checked", split: Split | None = None, deadline_ns: int = 0
    ) -> Answer:
        """Answer ``checked`` within the deadline.

        Parameters
        ----------
        served
            The integration, from the snapshot.
        checked
            Records that passed the request schema.
        split
            The request's latency split so far; a new one by default.
        deadline_ns
            Monotonic time in nanoseconds at which the caller gives up; the declared deadline, counted from the
            split's start, when 0 or when that is sooner.

        Returns
        -------
        Answer
            From the model, or from the fallback chain and marked as degraded.

        Raises
        ------
        InputRefused
            The model's features refuse a value that the contract admits; no worker was asked.
        Unanswered
            The model could not answer and nothing in the chain did.
        """
        if split is None:
            split = Split(self.now_ns())
        declared_ns = split.started_ns + served.deadline_ns
        deadline_ns = min(deadline_ns, declared_ns) if deadline_ns else declared_ns
        champion = served.champion
        if served.enrichment is not None and champion is not None:
            answer = await self._ask_enriched(served.enrichment, champion, served, checked, split, deadline_ns)
        elif champion is None:
            answer = self._fall_back(served, checked, split, "no_model", "")
        else:
            try:
                response = await self._ask(champion, served, checked, split, deadline_ns)
            except InputRefused:
                raise  # the features refuse a value: the caller's fault, and no worker was asked
            except BrownfieldError as error:
                answer = self._fall_back(served, checked, split, _cause(error), champion.name)
            else:
                decision = _decide(served, source="model", version=champion.name, reason=Reason.STATIC)
                answer = Answer(response, decision, split)
        self._keep(served, checked, answer.decision, split)
        return answer

    async def _ask_enriched(
        self,
        enrichment: Enrichment,
        version: Version,
        served: Served,
        checked: "Checked",
        split: Split,
        deadline_ns: int,
    ) -> Answer:
        """Ask the model with what lookups add; where they lack what must be there, the fallbacks answer."""
        notes: tuple[LookupNote, ...] = ()
        try:
            columns, notes = await enrichment.apply(checked, (deadline_ns - self.now_ns()) / 1e9)
            split.mark(Stage.FEATURES, self.now_ns())
            response = await self._ask(version, served, replace(checked, columns=columns), split, deadline_ns)
        except InputRefused:
            raise
        except BrownfieldError as error:
            notes = getattr(error, "notes", notes)
            return self._fall_back(served, checked, split, _cause(error), version.name)._replace(lookups=notes)
        degraded = any(note.bf_state in {"SNAPSHOT", "FALLBACK", "REFUSE"} or note.bf_missing for note in notes)
        reason = Reason.STALE if degraded else Reason.STATIC
        decision = _decide(served, source="model", version=version.name, reason=reason)
        return Answer(response, decision, split, notes)

    async def _ask(
        self, version: Version, served: Served, checked: "Checked", split: Split, deadline_ns: int
    ) -> "Checked":
        """Ask one model version; every way in which it fails is a BrownfieldError that names the cause."""
        now_ns = self.now_ns
        rows = checked.rows
        gate, breaker = version.admission, version.breaker
        entered_ns = now_ns()
        if entered_ns >= deadline_ns:
            raise DeadlineExceeded("the deadline had passed before the model was asked")
        if not version.pool.ready:
            raise WorkerUnavailable("no model process is running")
        if not gate.admits(rows, deadline_ns - entered_ns):
            raise Overloaded("the queue is longer than the deadline")
        if not breaker.allows(entered_ns):
            raise _BreakerOpen("the model failed too often just now")
        split.mark(Stage.ADMISSION, entered_ns)
        gate.enter(rows, entered_ns)
        answered = False
        try:
            tensors = version.features.encode(checked.columns, rows)
            split.mark(Stage.FEATURES, now_ns())
            inference = await version.pool.infer(tensors, rows, deadline_ns)
            answered = True
            split.mark_model(now_ns(), inference.infer_ns)
            response = _in_contract(version, served, checked, inference.outputs)
            split.mark(Stage.OUTPUT_CHECK, now_ns())
        except BaseException as error:
            given_ns = deadline_ns - entered_ns
            if _blames_model(error, fair=2 * given_ns >= served.deadline_ns):
                breaker.failed(now_ns())
            else:
                breaker.abandoned()
            if isinstance(error, Exception) and not isinstance(error, BrownfieldError):
                _log.exception(
                    "the prediction path failed", extra={"event": "BF-GTW-PATH-FAILED", "integration": served.name}
                )
                raise ModelFailed("features or model failed unexpectedly") from error
            raise
        finally:
            gate.leave(rows, entered_ns=entered_ns, now_ns=now_ns(), answered=answered)
        breaker.succeeded(split.last_ns)
        return response

    def _fall_back(self, served: Served, checked: "Checked", split: Split, cause: str, version: str) -> Answer:
        split.mark(Stage.QUEUE if cause in {"deadline", "worker"} else Stage.ADMISSION, self.now_ns())
        for fallback in served.fallbacks:
            columns = fallback.answer(checked.columns, checked.rows)
            if columns is None:
                continue
            try:
                response = served.response.rows.check_columns(columns, checked.rows)
            except InputRefused:
                continue  # out of contract: the next in the chain answers
            split.mark(Stage.FALLBACK, self.now_ns())
            decision = _decide(served, source=fallback.source, version="", reason=Reason.FALLBACK, cause=cause)
            return Answer(response, decision, split)
        split.mark(Stage.FALLBACK, self.now_ns())
        refusal = _decide(served, source="none", version=version, reason=Reason.ERROR, cause=cause)
        self._keep(served, checked, refusal, split)
        raise Unanswered(refusal)

    def _keep(self, served: Served, checked: "Checked", decision: Decision, split: Split) -> None:
        """Count and journal the decision once the loop is free again, after the answer was written."""
        asyncio.get_running_loop().call_soon(_keep_now, served, checked, decision, split)


def _keep_now(served: Served, checked: "Checked", decision: Decision, split: Split) -> None:
    served.meter.observe(decision, split, checked.rows)
    if served.record is not None:
        served.record(decision, split, checked.rows, checked.columns)


CAUSES: dict[type[BrownfieldError], str] = {
    _BreakerOpen: "breaker",
    DeadlineExceeded: "deadline",
    LookupUnanswered: "lookup",
    ModelFailed: "model",
    OutputRefused: "output",
    Overloaded: "overload",
    WorkerUnavailable: "worker",
}


def _cause(error: BrownfieldError) -> str:
    return CAUSES.get(type(error), "model")


def _blames_model(error: BaseException, *, fair: bool) -> bool:
    """Whether the breaker counts it: not when the caller left, nor when a worker died.

    A late answer counts when the model was given a fair time: half of the declared deadline or more, which neither the
    caller nor a stall before the model had used up. The pool knows by itself that a worker is gone; its replacement
    must not wait for a breaker.
    """
    if isinstance(error, DeadlineExceeded):
        return fair
    return isinstance(error, Exception) and not isinstance(error, WorkerUnavailable | Overloaded | InputRefused)


def _in_contract(version: Version, served: Served, checked: "Checked", outputs: "Tensors") -> "Checked":
    """Decode the model's arrays and hold them against the response schema: NaN, shapes, ranges."""
    try:
        columns = version.features.decode(outputs, checked.columns, checked.rows)
        return served.response.rows.check_columns(columns, checked.rows)
    except InputRefused as refused:
        raise OutputRefused(str(refused)) from refused
    except (BrownfieldError, KeyError, ValueError, IndexError, TypeError) as error:
        raise OutputRefused("the model's arrays do not have the form that its features expect") from error


_ID_BYTES = 12
_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)


def _next_id() -> str:
    """Give 96 random bits in hexadecimal; the system is asked for many at a time."""
    if not _ids:
        text = os.urandom(_ID_BYTES * 256).hex()
        _ids.extend(text[at : at + 2 * _ID_BYTES] for at in range(0, len(text), 2 * _ID_BYTES))
    return _ids.pop()


def _decide(served: Served, *, source: str, version: str, reason: Reason, cause: str = "") -> Decision:
    return Decision(
        id=_next_id(),
        integration=served.name,
        source=source,
        version=version,
        reason=reason,
        degraded=source != "model",
        contract=served.contract.reference,
        cause=cause,
    )
