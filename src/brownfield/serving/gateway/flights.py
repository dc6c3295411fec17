"""Questions that are asked once for all who have them at the same moment, and answers that are given again.

Comes in: an ask of a version with a cache. Goes out: the kept answer, or the one of a flight: a question to the model
that stands for all callers with the same key. Who is better off alone flies alone: a caller who has less time than the
flight, goes before it, or has lookups where it had none. A flight that comes to nothing asks nobody else: each caller
of it falls back, but for those who have more time than it had, who fly once more.
"""

import asyncio
from typing import TYPE_CHECKING, Final, cast

from brownfield.errors import BrownfieldError, InputRefused
from brownfield.serving.gateway.answer import Answer
from brownfield.serving.gateway.asks import SAME_DEADLINE_NS, Ask, Done
from brownfield.serving.gateway.causes import Unanswered, cause_of
from brownfield.serving.gateway.deciding import decide
from brownfield.serving.gateway.enrich import is_degraded
from brownfield.serving.gateway.latency import Split, Stage
from brownfield.serving.gateway.waiting import NEVER_NS
from brownfield.types import Reason

if TYPE_CHECKING:
    from brownfield.contract import Checked
    from brownfield.serving.gateway.cache import Cache
    from brownfield.serving.gateway.dataplane import Dataplane
    from brownfield.serving.gateway.enrich import LookupNote
    from brownfield.serving.gateway.served import Version
    from brownfield.types import Decision

__all__ = ["Flight", "Flights"]

_ADMISSION: Final = int(Stage.ADMISSION)


class Flight(Ask):
    """An ask that stands for all who wait for its answer: with the time, the priority and the caller of its first.

    Parameters
    ----------
    waiting
        Callers with the same key, the first of whom gives the records; the one with the most time gives the deadline.
    version, cache, key
        The version that is asked, its cache, and the key there.
    now_ns
        When it begins.
    done
        Told the answer.

    Attributes
    ----------
    degraded
        Whether its lookups said less than they could.
    watch
        The timer for those who have less time than the flight; None without any.
    """

    __slots__ = ("cache", "degraded", "key", "version", "waiting", "watch")

    def __init__(
        self, waiting: list[Ask], version: "Version", cache: "Cache", key: bytes, now_ns: int, done: Done
    ) -> None:
        first = waiting[0]
        deadline_ns = max([ask.deadline_ns for ask in waiting])
        super().__init__(first.served, first.checked, Split(now_ns), deadline_ns, done)
        self.known, self.notes = first.known, first.notes
        self.priority = min([ask.priority for ask in waiting])
        self.caller = first.caller
        self.counted = False
        self.fallen = len(first.served.fallbacks)  # none of the chain is asked on behalf of others
        self.waiting: list[Ask] = []
        self.version = version
        self.cache = cache
        self.key = key
        self.degraded = is_degraded(first.notes)
        self.watch: asyncio.TimerHandle | None = None
        for ask in waiting:
            self.take(ask)

    def takes(self, ask: Ask) -> bool:
        """Whether an ask is as well off with it as alone; behind the queue its priority does not matter any more."""
        return (
            self.deadline_ns <= ask.deadline_ns + SAME_DEADLINE_NS
            and (self.queued is None or self.priority <= ask.priority)
            and (not self.degraded or is_degraded(ask.notes))
        )

    def take(self, ask: Ask) -> None:
        """Stand for one more."""
        self.waiting.append(ask)
        ask.flight = self

    def cancel_when_unwanted(self) -> None:
        """End it when the last caller has left."""
        if all(ask.over for ask in self.waiting):
            self.cancel()
            self.end()

    def end(self) -> None:
        """Stand for nobody any more."""
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None
        if self.cache.flights.get(self.key) is self:
            del self.cache.flights[self.key]
        for ask in self.waiting:
            ask.flight = None


class Flights:
    """Answers asks of versions with a cache, on behalf of the prediction path.

    Parameters
    ----------
    plane
        Asks the model, tells callers and falls back.
    """

    __slots__ = ("_plane",)

    def __init__(self, plane: "Dataplane") -> None:
        self._plane = plane

    def ask(self, ask: Ask, version: "Version", cache: "Cache") -> None:
        """Give a kept answer again, wait for one that is being asked for, or ask for it on behalf of all who come."""
        now_ns = self._plane.now_ns()
        key = cache.key(ask.served, ask.known)
        kept = cache.get(key, now_ns)
        if kept is not None:
            ask.split.mark(_ADMISSION, now_ns)
            age_s = (now_ns - kept.made_ns) // 1_000_000_000
            self._give_again(ask, version, kept.response, kept.notes, Reason.CACHED, age_s)
            return
        flight = cache.flights.get(key)
        if flight is not None and flight.takes(ask):
            flight.take(ask)
        else:
            self._fly([ask], version, cache, key, now_ns)

    def _fly(self, waiting: list[Ask], version: "Version", cache: "Cache", key: bytes, now_ns: int) -> None:
        """Ask the model for all of them; who comes from now on waits for this flight rather than an earlier one."""
        flight = cache.flights[key] = Flight(waiting, version, cache, key, now_ns, self._landed)
        self._watch(flight)
        self._plane.ask_model(flight, version)

    def _watch(self, flight: Flight) -> None:
        """Look again when the next caller gives up who has less time than the flight."""
        soonest_ns = min([ask.deadline_ns for ask in flight.waiting if not ask.over], default=NEVER_NS)
        flight.watch = None
        if soonest_ns < flight.deadline_ns - SAME_DEADLINE_NS:
            delay_s = max(0, soonest_ns - self._plane.now_ns()) / 1e9
            flight.watch = asyncio.get_running_loop().call_later(delay_s, self._look, flight)

    def _look(self, flight: Flight) -> None:
        """Answer for callers who have given up while the others wait on."""
        now_ns, waiting = self._plane.now_ns(), flight.waiting
        flight.waiting = [ask for ask in waiting if ask.deadline_ns > now_ns]
        self._watch(flight)
        for ask in waiting:
            if ask.deadline_ns <= now_ns:
                ask.flight = None
                if not ask.over:
                    self._late(ask)
        flight.cancel_when_unwanted()

    def _landed(self, landed: Ask, result: Answer | BrownfieldError) -> None:
        """Give all who waited what came of their flight."""
        flight = cast("Flight", landed)
        flight.end()
        waiting = [ask for ask in flight.waiting if not ask.over]
        if isinstance(result, Answer):
            self._give(flight, waiting, result)
        elif isinstance(result, InputRefused):
            for ask in waiting:
                self._miss(ask)
                self._plane.telling.tell(ask, result)
        else:
            self._fail(flight, waiting, result.decision.cause if isinstance(result, Unanswered) else cause_of(result))

    def _give(self, flight: Flight, waiting: list[Ask], result: Answer) -> None:
        """Give everybody the answer, the first as new; it is kept unless lookups said less than they could."""
        now_ns, response, notes = self._plane.now_ns(), result.checked, flight.notes
        reason = Reason.STALE if flight.degraded else Reason.CACHED
        decision: Decision | None = result.decision
        try:
            if not flight.degraded:
                flight.cache.put(flight.key, response, now_ns, notes)
        finally:
            for ask in waiting:
                if ask.deadline_ns < now_ns:
                    self._late(ask)
                elif decision is not None:
                    self._miss(ask)
                    ask.split.mark_model(now_ns, flight.split.parts_ns[Stage.INFER])
                    self._plane.telling.tell(ask, Answer(response, decision, ask.split, None, notes), decision)
                    decision = None
                else:
                    ask.split.mark(Stage.QUEUE, now_ns)
                    self._give_again(ask, flight.version, response, notes, reason, 0)

    def _give_again(
        self,
        ask: Ask,
        version: "Version",
        response: "Checked",
        notes: "tuple[LookupNote, ...]",
        reason: Reason,
        age_s: int,
    ) -> None:
        ask.served.meter.cache_hits += 1
        ask.served.meter.cached_rows += ask.checked.rows
        decision = decide(ask.served, source="model", version=version.name, reason=reason)
        self._plane.telling.tell(ask, Answer(response, decision, ask.split, age_s, notes), decision)

    def _fail(self, flight: Flight, waiting: list[Ask], cause: str) -> None:
        """Fall back for those whom the cause concerns; who has more time than the flight had flies once more."""
        patient: list[Ask] = []
        counted = False  # the flight's own deadline was, or that it was shed
        shed = cause == "overload" and not flight.entered_ns
        for ask in waiting:
            if cause == "deadline" and ask.deadline_ns > flight.deadline_ns + SAME_DEADLINE_NS:
                patient.append(ask)
            elif cause == "deadline" and counted:
                self._late(ask)
            else:
                if shed and counted:
                    ask.served.meter.shed(ask.priority)
                counted = True
                self._miss(ask)
                self._plane.fall_back(ask, cause)
        if patient:
            self._fly(patient, flight.version, flight.cache, flight.key, self._plane.now_ns())

    def _late(self, ask: Ask) -> None:
        self._miss(ask)
        self._plane.late(ask)

    def _miss(self, ask: Ask) -> None:
        ask.served.meter.cache_misses += 1
