"""Questions that are asked once for many: nobody is worse off for waiting with others than for asking alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from brownfield.clock import SystemClock
from brownfield.contract import Field
from brownfield.errors import ModelFailed
from brownfield.serving.fallback.previous_version import PreviousVersion
from brownfield.serving.gateway import Dataplane, Snapshot, Split, Version
from brownfield.serving.gateway.asks import Ask
from brownfield.serving.gateway.cache import Cache
from brownfield.serving.gateway.enrich import Enrichment, Found, Joined, Take
from brownfield.serving.gateway.priority import Priority
from brownfield.serving.gateway.statistics import model_statistics
from brownfield.serving.workers.inline import InlinePool
from brownfield.types import Reason
from harness.waiting import eventually

ONE = {"store_id": 1, "items": ["MILK"]}


@pytest.fixture
def cached(served) -> Cache:
    """The recommender with a cache of a minute, one record in each call, and more time than a busy machine stalls."""
    served.champion.cache = Cache(60)
    served.deadline_ns = 10_000_000_000
    return served.champion.cache


class Callers:
    """Callers of one data plane, and what they were told, in that order."""

    def __init__(self, served) -> None:
        self.served = served
        self.plane = Dataplane(Snapshot({served.name: served}))
        self.told = {}

    def ask(self, name, record=ONE, *, left_ms=0, priority=Priority.INTERACTIVE, caller=""):
        """Ask now."""
        split = Split(self.plane.now_ns())
        deadline_ns = split.started_ns + left_ms * 1_000_000 if left_ms else 0
        ask = Ask(self.served, self.served.request.rows.check([record]), split, deadline_ns, self._tell, name)
        ask.priority, ask.caller = priority, caller
        self.plane.ask(ask)
        return ask

    def _tell(self, ask, result):
        assert ask.context not in self.told
        self.told[ask.context] = result

    async def all_told(self, number):
        """Wait until so many were told, and counted."""
        await eventually(lambda: len(self.told) == number, timeout_s=30)
        await eventually(lambda: sum(self.served.meter.answers.values()) == number, timeout_s=30)

    def decisions(self):
        """Source, cause and reason by caller."""
        found = {name: getattr(result, "decision", None) for name, result in sorted(self.told.items())}
        return {name: (each.source, each.cause, each.reason) for name, each in found.items()}


MODEL = ("model", "", Reason.STATIC)
AGAIN = ("model", "", Reason.CACHED)
LATE = ("constant", "deadline", Reason.FALLBACK)


def test_who_has_time_left_does_not_give_up_with_the_impatient(served, pool, cached):
    """Who had more time than the flight flies once more, together; what is counted adds up."""
    pool.delay_s = 0.2

    async def run():
        callers = Callers(served)
        callers.ask("hasty", left_ms=50)
        callers.ask("patient")
        callers.ask("patient too")
        await callers.all_told(3)
        return callers.decisions()

    assert asyncio.run(run()) == {"hasty": LATE, "patient": MODEL, "patient too": AGAIN}
    assert pool.calls == 2
    assert sum(served.meter.lates.values()) == 1
    assert (served.meter.cache_hits, served.meter.cache_misses) == (1, 2)
    assert cached.flights == {}


def test_who_flies_once_more_gives_up_alone(served, pool, cached):
    """The second flight has the time of the most patient; who has less is answered by a deadline of its own."""
    pool.delay_s = 0.5

    async def run():
        callers = Callers(served)
        for name, left_ms in (("a", 50), ("b", 150), ("c", 250), ("d", 0)):
            callers.ask(name, left_ms=left_ms)
        await callers.all_told(4)
        assert list(callers.told) == ["a", "b", "c", "d"]
        return callers.decisions()

    assert asyncio.run(run()) == {"a": LATE, "b": LATE, "c": LATE, "d": MODEL}
    assert pool.calls == 2
    assert sum(served.meter.lates.values()) == 3
    assert (served.meter.cache_hits, served.meter.cache_misses) == (0, 4)


def test_whose_time_ends_at_nearly_the_same_moment_fly_together(served, pool, cached):
    """Their first bytes came in another order than their questions."""

    async def run():
        callers = Callers(served)
        first = callers.ask("first", left_ms=9000)
        split = Split(callers.plane.now_ns())
        checked = served.request.rows.check([ONE])
        callers.plane.ask(Ask(served, checked, split, first.deadline_ns - 500_000, callers._tell, "second"))
        await callers.all_told(2)
        return callers.decisions()

    assert asyncio.run(run()) == {"first": MODEL, "second": AGAIN}
    assert pool.calls == 1


def test_a_hit_is_counted_when_it_is_given(served, pool, cached):
    """Who falls back with others was given nothing: no count of calls goes below zero."""
    pool.function = fails

    async def run():
        callers = Callers(served)
        for name in range(3):
            callers.ask(name)
        await callers.all_told(3)

    asyncio.run(run())
    assert (served.meter.cache_hits, served.meter.cache_misses) == (0, 3)
    assert model_statistics([served])[0]["execution_count"] == 0


def fails(tensors):
    """A model that gives nothing."""
    raise ModelFailed("op")


@pytest.mark.parametrize("of_cache", [False, True])
@pytest.mark.parametrize(
    ("priority", "caller"),
    [pytest.param(Priority.BATCH, "till", id="fairness"), pytest.param(Priority.INTERACTIVE, "flood", id="priority")],
)
def test_with_a_cache_priority_and_fairness_are_what_they_are_without(served, pool, cached, of_cache, priority, caller):
    """Two calls are with the model; the next one goes before all the others that wait."""
    pool.delay_s = 0.02
    if not of_cache:
        served.champion.cache = None

    async def run():
        callers = Callers(served)
        for store in range(1, 13):
            callers.ask(store, ONE | {"store_id": store}, priority=Priority.BATCH, caller="flood")
        await asyncio.sleep(0)
        callers.ask("next", ONE | {"store_id": 100}, priority=priority, caller=caller)
        await callers.all_told(13)
        return list(callers.told)

    assert asyncio.run(run()).index("next") == 2


def test_who_goes_first_does_not_wait_for_a_question_that_does_not(served, pool, cached):
    """It flies before it, and all who come later fly with it; behind the queue the priorities are the same."""
    pool.delay_s = 0.02

    async def run():
        callers = Callers(served)
        for store in range(1, 9):
            callers.ask(store, ONE | {"store_id": store}, priority=Priority.BATCH)
        await asyncio.sleep(0.005)
        callers.ask("waits", ONE | {"store_id": 8})
        callers.ask("waits too", ONE | {"store_id": 8}, priority=Priority.BATCH)
        callers.ask("at the model", ONE | {"store_id": 1})
        await callers.all_told(11)
        return list(callers.told)

    told = asyncio.run(run())
    assert set(told[:5]) == {1, "at the model", 2, "waits", "waits too"}
    assert pool.calls == 9


def test_what_is_shed_is_counted_for_its_priority(served, cached):
    """A flight is shed as its first would be."""
    gate = served.champion.admission
    gate.call_ns = served.deadline_ns
    gate.enter(5)

    async def run():
        callers = Callers(served)
        callers.ask("batch", priority=Priority.BATCH)
        await callers.all_told(1)

    asyncio.run(run())
    assert served.meter.sheds == [0, 1, 0]


@pytest.mark.inside
def test_all_who_are_shed_together_are_counted(served, cached):
    """In a flood a flight is held until the end of a beat, and others come to wait with it."""
    gate, held = served.champion.admission, []
    gate.call_ns = served.deadline_ns
    gate.enter(5)

    def hold(ask, cause, _now_ns, _row_ns, release):
        ask.cause = cause
        held.append((release, [ask]))
        return True

    served.champion.pacing = SimpleNamespace(holds=hold)

    async def run():
        callers = Callers(served)
        for name, priority in (("one", Priority.INTERACTIVE), ("two", Priority.BATCH), ("three", Priority.BATCH)):
            callers.ask(name, priority=priority)
        [(release, asks)] = held
        release(asks)
        await callers.all_told(3)
        return callers.decisions()

    assert set(asyncio.run(run()).values()) == {("constant", "overload", Reason.FALLBACK)}
    assert served.meter.sheds == [1, 2, 0]


def test_the_version_before_is_asked_once(served, pool, cached):
    """A flight that came to nothing asks nobody else: who waited falls back."""
    pool.function = fails
    before = InlinePool(lambda tensors: {"y": tensors["x"] * 0 + 0.9})
    place = PreviousVersion()
    place.version = Version("2", served.champion.features, before)
    served.fallbacks = (place, *served.fallbacks)

    async def run():
        callers = Callers(served)
        callers.ask("one")
        await callers.all_told(1)
        return callers.decisions()

    assert asyncio.run(run()) == {"one": ("previous_version", "model", Reason.FALLBACK)}
    assert (pool.calls, before.calls) == (1, 1)


@pytest.mark.parametrize("of_cache", [False, True])
def test_the_answer_of_a_model_that_is_replaced_meanwhile_is_the_models(served, pool, cached, of_cache):
    """It was the champion when it was asked: nothing fell back."""
    pool.delay_s = 0.02
    if not of_cache:
        served.champion.cache = None

    async def run():
        callers = Callers(served)
        callers.ask("one")
        await asyncio.sleep(0.005)
        served.champion = Version("4", served.champion.features, pool)
        await callers.all_told(1)
        return callers.told["one"].decision

    decision = asyncio.run(run())
    assert (decision.source, decision.version, decision.degraded) == ("model", "3", False)


def test_an_answer_that_cannot_be_kept_is_given(served, cached):
    """Whatever goes wrong with keeping it is told to the loop."""

    class Full(Cache):
        def put(self, *_):
            raise MemoryError

    served.champion.cache = Full(60)
    reported = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        callers = Callers(served)
        callers.ask("one")
        callers.ask("two")
        await callers.all_told(2)
        return callers.decisions()

    assert asyncio.run(run()) == {"one": MODEL, "two": AGAIN}
    assert [type(error) for error in reported] == [MemoryError]


class Products:
    """A lookup that can be gone."""

    name = "products"
    gone = False

    async def find(self, keys, rows, timeout_s):  # noqa: ARG002 (as lookups are asked)
        """One price for all."""
        if self.gone:
            return Found("REFUSE", None, {}, ["unavailable"] * rows)
        return Found("PRIMARY", datetime.now(UTC) - timedelta(seconds=1), {"price": [1.0] * rows}, [""] * rows)


@pytest.fixture
def products(served, cached) -> Products:
    """The recommender scores by a price that is looked up and is not part of the key."""

    class Features(type(served.champion.features)):
        def encode(self, columns, rows):
            return {"x": np.array([[price or 0.0] for price in columns["price"]], np.float32).reshape(rows, 1)}

    lookup = Products()
    price = Take(Field(name="price", kind="number", dtype="float64"), 60.0)
    joined = Joined(lookup, ("store_id",), (price,), {})
    served.enrichment = Enrichment([joined], SystemClock())
    served.champion.features = Features()
    served.champion.cache = Cache(60, ["store_id"])
    return lookup


def test_what_was_made_without_a_lookup_is_not_kept(served, products):
    """It says so, and the next caller is answered anew; a kept answer says what lookups said when it was made."""

    async def run():
        callers = Callers(served)
        for name, products.gone in enumerate((True, False, True)):
            callers.ask(name)
            await callers.all_told(name + 1)
        return [callers.told[name] for name in range(3)]

    answers = asyncio.run(run())
    assert [answer.decision.reason for answer in answers] == [Reason.STALE, Reason.STATIC, Reason.CACHED]
    assert [answer.checked.columns["scores"] for answer in answers] == [[[1.0]], [[0.5]], [[0.5]]]
    assert [answer.lookups[0].bf_state for answer in answers] == ["REFUSE", "PRIMARY", "PRIMARY"]


def test_who_has_its_lookups_does_not_fly_with_one_who_lacks_them(served, pool, products):
    """The other way round is fine; those who lack them alike share an answer that says so."""
    pool.delay_s = 0.02

    async def run():
        callers = Callers(served)
        for name, products.gone in (("a", True), ("b", True), ("c", False), ("d", True)):
            callers.ask(name)
        await callers.all_told(4)
        return [callers.told[name] for name in "abcd"]

    answers = asyncio.run(run())
    assert [answer.decision.reason for answer in answers] == [Reason.STALE, Reason.STALE, Reason.STATIC, Reason.CACHED]
    assert [answer.lookups[0].bf_state for answer in answers] == ["REFUSE", "REFUSE", "PRIMARY", "PRIMARY"]
    assert pool.calls == 2


def test_callers_who_all_leave_cost_nothing_more(served, pool, cached):
    """What they asked for is not asked for any more, wherever it was; who asks for it afterwards gets an answer."""
    pool.delay_s = 0.2
    records = [{"store_id": number, "items": ["MILK"]} for number in range(1, 6)]

    async def run():
        callers = Callers(served)
        asks = [callers.ask((number, again), record) for number, record in enumerate(records) for again in range(2)]
        stays = callers.ask("stays", records[1])
        await asyncio.sleep(0.05)  # the first is with the model by now, the others wait
        for ask in asks:
            ask.cancel()
        assert list(cached.flights) == [served.champion.cache.key(served, stays.known)]
        await callers.all_told(1)
        assert pool.calls == 2
        callers.ask("later", records[0])
        await callers.all_told(2)
        return callers.decisions()

    assert asyncio.run(run()) == {"stays": MODEL, "later": MODEL}
    assert pool.calls == 3
    assert cached.flights == {}


def test_who_gave_up_keeps_no_flight_for_those_who_left(served, pool, cached):
    """The most patient has gone, and the other was told when its time was over: nobody waits, and nothing is asked."""
    pool.delay_s = 5

    async def run():
        callers = Callers(served)
        callers.ask("hasty", left_ms=100)
        callers.ask("slow", left_ms=400)
        patient = callers.ask("patient")
        await callers.all_told(1)
        [flight] = cached.flights.values()
        assert patient.flight is flight
        patient.cancel()
        await callers.all_told(2)
        assert (cached.flights, patient.flight, flight.over) == ({}, None, True)
        return callers.decisions()

    assert asyncio.run(run()) == {"hasty": LATE, "slow": LATE}
