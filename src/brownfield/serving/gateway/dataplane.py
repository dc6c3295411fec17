"""The one prediction path of every door: checked records in, an answer with its decision out, before the deadline.

It knows no transport and reads no store. The caller has already checked the records against the contract, so a refusal
never reaches a worker. When the model cannot answer in time and in contract, the declared fallbacks do, in order.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from brownfield.clock import Clock, SystemClock
from brownfield.contract import Checked
from brownfield.errors import (
    BrownfieldError,
    DeadlineExceeded,
    InputRefused,
    ModelFailed,
    OutputRefused,
)
from brownfield.model.process import AnswerLate
from brownfield.serving.fallback.previous_version import PreviousVersion
from brownfield.serving.gateway.answer import Answer
from brownfield.serving.gateway.asks import Ask, ModelCall, halved, merged, own_rows, report, resolve
from brownfield.serving.gateway.causes import Unanswered, as_ours, blames_model, cause_of, had_no_memory, is_callers
from brownfield.serving.gateway.deciding import decide
from brownfield.serving.gateway.enrich import is_degraded
from brownfield.serving.gateway.flights import Flights
from brownfield.serving.gateway.latency import Split, Stage
from brownfield.serving.gateway.lateness import late_answer
from brownfield.serving.gateway.served import Served, Snapshot, Version, in_contract
from brownfield.serving.gateway.suspects import is_blocked, parted, suspect
from brownfield.serving.gateway.telling import Telling
from brownfield.serving.gateway.waiting import NEVER_NS
from brownfield.types import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.serving.gateway.enrich import Enrichment
    from brownfield.serving.workers.base import Inference

__all__ = ["Dataplane"]

_ADMISSION: Final = int(Stage.ADMISSION)
_FEW_ROWS: Final = 7  # of a call and behind it: a turn of the loop is less than another call costs
_STATIC: Final = Reason.STATIC


class Dataplane:
    """Answers checked records from the snapshot in memory.

    Parameters
    ----------
    snapshot
        What is served; :attr:`snapshot` may be replaced at any time, running requests keep theirs.
    clock
        Time for deadlines and the latency split.

    Attributes
    ----------
    telling
        Tells callers, and keeps what was decided.
    """

    def __init__(self, snapshot: Snapshot, clock: Clock | None = None) -> None:
        self.snapshot = snapshot
        self.now_ns = (clock or SystemClock()).monotonic_ns
        self.telling = Telling()
        self._flights = Flights(self)
        self._is_telling = False  # callers, of a list that must not change meanwhile

    async def predict(
        self, served: Served, checked: "Checked", split: Split | None = None, deadline_ns: int = 0
    ) -> Answer:
        """Answer ``checked`` within the deadline; :meth:`ask` for callers that are coroutines.

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
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        ask = Ask(served, checked, split or Split(self.now_ns()), deadline_ns, resolve, future)
        self.ask(ask)
        try:
            return await future
        except asyncio.CancelledError:
            ask.cancel()
            raise

    def ask(self, ask: Ask) -> None:
        """Tell ``ask.done`` the answer, now or later, exactly once unless it is cancelled; see :meth:`predict`."""
        served, split = ask.served, ask.split
        declared_ns = split.started_ns + served.deadline_ns
        if not 0 < ask.deadline_ns < declared_ns:
            ask.deadline_ns = declared_ns
        champion = served.champion
        if served.enrichment is not None and (champion is not None or served.may_ask_previous):
            ask.model_call = ModelCall([ask])
            ask.model_call.begin(self._enrich(ask, served.enrichment, champion))
        elif champion is None:
            self.fall_back(ask, "no_model")
        else:
            self._ask_champion(ask, champion)

    def hurry(self, served: Served, *, look: bool) -> None:
        """Ask the model for who waits, and with ``look`` give what all models have answered: a long turn is ahead."""
        if self._is_telling:
            return  # whoever was told something has asked again: who tells goes on with the others first
        champion = served.champion
        if champion is not None and champion.sending:
            self._send(champion)
        if look:
            for each in self.snapshot.integrations.values():
                if each.champion is not None and each.champion.calls:
                    self._take_in(each.champion)
            self.telling.settle()

    def _take_in(self, version: Version) -> None:
        """Give the answers that have come, and ask for who is next."""
        version.pool.look()
        self._is_telling = True
        try:
            for call in tuple(version.calls):
                call.go_on()
        except Exception as error:  # noqa: BLE001 (it is none of the request's that is being refused)
            report(error)
        finally:
            self._is_telling = False
        if version.sending:
            self._send(version)
            version.pool.look()

    async def _enrich(self, ask: Ask, enrichment: "Enrichment", champion: Version | None) -> None:
        """Ask with what lookups add; where they lack what must be there, the fallbacks answer."""
        try:
            columns, ask.notes = await enrichment.apply(ask.checked, (ask.deadline_ns - self.now_ns()) / 1e9)
        except Exception as error:  # noqa: BLE001 (what is none of ours is logged, and the fallback answers)
            ask.notes = getattr(error, "notes", ())
            ours = as_ours(error, ask.served)
            if isinstance(ours, InputRefused):
                self.telling.tell(ask, ours)
            else:
                self.fall_back(ask, cause_of(ours))
            return
        ask.split.mark(Stage.FEATURES, self.now_ns())
        ask.known = Checked(ask.checked.rows, columns, ask.checked.single, ask.checked.whole)
        if ask.over:
            return
        if champion is None:
            self.fall_back(ask, "no_model")
        else:
            self._ask_champion(ask, champion)

    def _ask_champion(self, ask: Ask, champion: Version) -> None:
        if champion.cache is not None and not ask.fresh:
            self._flights.ask(ask, champion, champion.cache)
        else:
            self.ask_model(ask, champion)

    def ask_model(self, ask: Ask, champion: Version) -> None:
        """Let the ask wait for the model, or fall back at once when it could not be answered in time."""
        now_ns = self.now_ns()
        if champion.poison.watching and is_blocked(champion, ask, now_ns):
            self.fall_back(ask, "poison")
            return
        cause = champion.refuses(ask, now_ns)
        if cause:
            if cause == "deadline":
                ask.served.meter.late("enqueue")
            elif cause == "overload":
                ask.served.meter.shed(ask.priority)
            if cause != "deadline" and champion.pacing.holds(ask, cause, now_ns, champion.row_ns, self._release):
                return
            self.fall_back(ask, cause)
            return
        ask.split.mark(_ADMISSION, now_ns)
        champion.queue(ask, now_ns)
        if not champion.sending:
            self._send_soon(champion)

    def _release(self, held: list[Ask]) -> None:
        """Answer for those who were turned away and are many."""
        self._is_telling = True
        try:
            for ask in held:
                self.fall_back(ask, ask.cause)
        finally:
            self._is_telling = False

    def _send_soon(self, version: Version, *, after_answers: bool = False) -> None:
        """Look at who waits, at the end of this turn of the loop; of the next, where who was told may ask again."""
        if not version.sending:
            version.sending, soon = True, asyncio.get_running_loop().call_soon
            soon(soon, self._send, version) if after_answers else soon(self._send, version)

    def _send(self, version: Version) -> None:
        """Ask the model for who is next, as long as it may be asked for more; who waits too long is answered for."""
        version.sending = False
        now_ns = self.now_ns()
        hopeless_ns = now_ns + round(version.hopeless_ns)
        if version.waiting.soonest_ns <= hopeless_ns:
            self._expire(version, now_ns, hopeless_ns)
        window = version.window
        while version.waiting.rows and len(version.calls) < window and not version.apart:
            group = version.waiting.take(version.call_rows)
            for ask in group:
                ask.queued = None
            if version.poison.watching:
                group = self._set_apart(version, group)
            if group:
                self._start(version, group)
        self._ask_alone(version)
        if version.waiting.rows:
            self._watch(version, version.waiting.soonest_ns)

    def _set_apart(self, version: Version, group: list[Ask]) -> list[Ask]:
        """Hold back who is suspected of ending workers, to be asked alone; give the others."""
        suspects, others = parted(version, group)
        for ask in suspects:
            ask.expected_ns = 0.0
            self._watch(version, ask.deadline_ns)
        version.apart.extend(suspects)
        return others

    def _ask_alone(self, version: Version) -> None:
        """Ask for the next suspect, once nothing else is with the workers."""
        while version.apart and not version.calls:
            ask = version.apart[0]
            if not ask.over:
                self._start(version, [ask])
                return
            version.apart.popleft()
            version.admission.forget(ask.checked.rows)
            version.breaker.abandoned()
            self._send_soon(version)

    def _watch(self, version: Version, until_ns: int) -> None:
        """Look at the deadlines again at that time: one timer for all who wait."""
        if version.watched_ns and version.watched_ns <= until_ns:
            return
        if version.watch is not None:
            version.watch.cancel()
        version.watched_ns = until_ns
        delay_s = max(0, until_ns - self.now_ns()) / 1e9
        version.watch = asyncio.get_running_loop().call_later(delay_s, self._look, version)

    def _look(self, version: Version) -> None:
        version.watch, version.watched_ns = None, 0
        self._expire(version, self.now_ns(), 0)

    def _expire(self, version: Version, now_ns: int, hopeless_ns: int) -> None:
        """Answer for all who have given up, or will before an answer, and look again when the next one does."""
        self._is_telling = True
        try:
            for ask in version.waiting.expired(max(now_ns, hopeless_ns)):
                version.forget(ask)
                ask.served.meter.late("dequeue")
                self.fall_back(ask, "deadline")
            soonest_ns = version.waiting.soonest_ns
            for call in version.calls:
                if call.soonest_ns <= now_ns:
                    for ask in call.late(now_ns):
                        ask.served.meter.late("completion")
                        self.fall_back(ask, "deadline")
                soonest_ns = min(soonest_ns, call.soonest_ns)
            for ask in tuple(version.apart):
                if ask.over or ask.model_call in version.calls:
                    continue
                if ask.deadline_ns <= now_ns:
                    ask.served.meter.late("dequeue")
                    self.fall_back(ask, "deadline")
                else:
                    soonest_ns = min(soonest_ns, ask.deadline_ns)
        finally:
            self._is_telling = False
        if soonest_ns < NEVER_NS:
            self._watch(version, soonest_ns)

    def _start(self, version: Version, group: list[Ask]) -> None:
        call = ModelCall(group)
        for ask in group:
            ask.model_call = call
        call.alone = len(group) == 1 and not version.calls
        for other in version.calls:
            other.alone = False
        version.calls.add(call)
        if call.soonest_ns < NEVER_NS:
            self._watch(version, call.soonest_ns)
        call.begin(self._call(version, call, group))

    async def _call(self, version: Version, call: ModelCall, asks: list[Ask]) -> None:
        """Ask a model version once for all of a group; every way in which it fails has a cause and a way out."""
        served, now_ns = asks[0].served, self.now_ns
        loaded = version.pool.workers > 0  # else the time until it is tells nothing of calls
        try:
            checked = asks[0].known if len(asks) == 1 else merged(asks, call.rows)
            call.sent_ns = now_ns()
            tensors = version.features.encode(checked.columns, checked.rows)
            encoded_ns = now_ns()
            inference = await version.pool.infer(tensors, checked.rows, call.deadline_ns)
            answered_ns = now_ns()
            response = in_contract(version, served, checked, inference.outputs)
        except Exception as error:  # noqa: BLE001 (what is none of ours is logged and counts as the model's failure)
            await self._went_wrong(version, call, error, loaded=loaded)
        except BaseException:
            self._leave(version, call)
            version.breaker.abandoned()  # every caller has left
            raise
        else:
            checked_ns = now_ns()
            self._leave(version, call, inference if loaded else None)
            if version.poison.watching or version.poison.late_calls:
                suspect(version, call, None, checked_ns)
            version.breaker.succeeded(checked_ns)
            at = 0
            for ask in asks:
                rows = ask.checked.rows
                if ask.deadline_ns < checked_ns or ask.over:
                    at += rows
                    self.late(ask)
                    continue
                own = response if len(asks) == 1 else own_rows(response, at, rows)
                at += rows
                split = ask.split
                split.mark_call(call.sent_ns, encoded_ns, answered_ns, inference.infer_ns, checked_ns)
                if ask.cause:
                    self._answer_degraded(ask, own, source="previous_version", version=version.name)
                    continue
                reason = Reason.STALE if ask.notes and is_degraded(ask.notes) else _STATIC
                decision = decide(served, source="model", version=version.name, reason=reason)
                self.telling.tell(ask, Answer(own, decision, split, None, ask.notes), decision)
            if version.costs is not None:
                version.costs.observe(inference.call_rows or checked.rows, inference.infer_ns)
            if version is served.champion:
                served.meter.executed(checked.rows, inference.call_rows)

    async def _went_wrong(self, version: Version, call: ModelCall, error: Exception, *, loaded: bool) -> None:
        """Answer otherwise, and take the call off the workers: at once, or when they have come to its end."""
        served, alone = call.asks[0].served, version.pool.workers == 1
        began_ns = max(call.sent_ns, version.admission.last_answer_ns if alone else 0)  # it was at another one before
        fair = loaded and 2 * (call.deadline_ns - began_ns) >= served.deadline_ns
        suspect(version, call, error, self.now_ns())
        late = error if loaded and isinstance(error, AnswerLate) else None
        if late is None or not alone:
            self._leave(version, call, late=late is not None)
            self._failed(version, call.asks, as_ours(error, served, version), fair=fair)
            return
        inference, silent = None, False
        try:
            self._failed(version, call.asks, late, fair=fair)
            inference, silent = await late_answer(version, call, late)
        finally:
            self._leave(version, call, inference, late=silent)

    def _failed(self, version: Version, asks: "Sequence[Ask]", error: BrownfieldError, *, fair: bool) -> None:
        """Blame who is to blame and fall back; several asks are asked for by halves, for one alone may be at fault."""
        if len(asks) > 1 and isinstance(error, InputRefused | ModelFailed | OutputRefused):
            if had_no_memory(error):
                version.share_less(sum(ask.checked.rows for ask in asks))
            halves = halved(asks)
            asked_before = not isinstance(error, InputRefused)  # the features refused before the model was asked
            if halves and (not asked_before or version.retries.spend(len(halves))):
                for half in halves:
                    half[-1].expected_ns = 0.0
                    version.admission.enter(sum(ask.checked.rows for ask in half))
                    self._start(version, half)
                return
        large = had_no_memory(error) and sum(ask.checked.rows for ask in asks) > 1  # that tells nothing of other calls
        if blames_model(error, fair=fair) and not large:
            version.breaker.failed(self.now_ns())
        else:
            version.breaker.abandoned()
        for ask in asks:
            if isinstance(error, InputRefused):  # the features refuse a value, no worker was asked
                if not ask.cause and is_callers(error, ask.served):
                    self.telling.tell(ask, error)
                else:  # one that a lookup gave, or that only the version before does not know
                    self.fall_back(ask, "lookup")
            elif isinstance(error, DeadlineExceeded):
                self.late(ask)
            else:
                self.fall_back(ask, cause_of(error))

    def late(self, ask: Ask) -> None:
        """Fall back for one whose deadline passed while a worker had it."""
        if not ask.over:
            ask.served.meter.late("completion")
            self.fall_back(ask, "deadline")

    def _leave(
        self, version: Version, call: ModelCall, inference: "Inference | None" = None, *, late: bool = False
    ) -> None:
        """Take a call off the workers, and let the next one go."""
        version.calls.discard(call)
        if version.apart and version.apart[0] is call.asks[0]:
            version.apart.popleft()
        rows, waiting, now_ns, admission = call.rows, version.waiting.rows, self.now_ns(), version.admission
        if inference is not None:
            run_ns, call_rows = inference.infer_ns, inference.call_rows or rows
            admission.leave(rows, sent_ns=call.sent_ns, now_ns=now_ns, run_ns=run_ns, call_rows=call_rows)
        elif late:
            admission.give_up(rows, sent_ns=call.sent_ns, now_ns=now_ns)
        else:
            admission.forget(rows)
        if (inference is not None or late) and call.asks[-1].expected_ns:  # it came last, so most was before it
            admission.compare(call.asks[-1].expected_ns, now_ns)
        few = (waiting > 0 or len(call.asks) > 1) and rows + waiting <= _FEW_ROWS
        if few or waiting or version.apart:
            self._send_soon(version, after_answers=few)

    def fall_back(self, ask: Ask, cause: str) -> None:
        """Answer from the fallback chain, whose next is asked in its turn; with a typed refusal behind its end."""
        if ask.over:
            return
        served, checked, split = ask.served, ask.checked, ask.split
        split.mark(Stage.QUEUE if cause in {"deadline", "worker"} else _ADMISSION, self.now_ns())
        ask.cause = ask.cause or cause
        for fallback in served.fallbacks[ask.fallen :]:
            ask.fallen += 1
            if isinstance(fallback, PreviousVersion):
                if self._ask_previous(ask, fallback):
                    return
                continue
            try:
                columns = fallback.answer(checked.columns, checked.rows)
                if columns is None:
                    continue
                response = served.response.rows.check_columns(columns, checked.rows)
            except Exception as error:  # noqa: BLE001 (out of contract, or a bug: the next in the chain answers)
                as_ours(error, served)  # a bug is logged
                continue
            self._answer_degraded(ask, response, source=fallback.source)
            return
        split.mark(Stage.FALLBACK, self.now_ns())
        version = served.champion.name if served.champion is not None else ""
        refusal = decide(served, source="none", version=version, reason=Reason.ERROR, cause=ask.cause)
        self.telling.tell(ask, Unanswered(refusal), refusal)

    def _ask_previous(self, ask: Ask, fallback: PreviousVersion) -> bool:
        """Ask the version before this one, if it may be asked; whether it was."""
        version, now_ns = fallback.version, self.now_ns()
        if version is None or ask.cause not in fallback.causes:
            return False
        if (version.poison.watching and is_blocked(version, ask, now_ns)) or version.refuses(ask, now_ns):
            return False
        version.queue(ask, now_ns)
        self._send_soon(version)
        return True

    def _answer_degraded(self, ask: Ask, response: "Checked", *, source: str, version: str = "") -> None:
        ask.split.mark(Stage.FALLBACK, self.now_ns())
        decision = decide(ask.served, source=source, version=version, reason=Reason.FALLBACK, cause=ask.cause)
        self.telling.tell(ask, Answer(response, decision, ask.split, None, ask.notes), decision)
