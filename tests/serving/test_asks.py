"""Callers who come in one turn of the loop share a call to the model, and never see one another."""

import asyncio
import gc

import numpy as np
import pytest

from brownfield.contract import Checked
from brownfield.errors import InputRefused, ModelFailed, RejectionCode, Violation
from brownfield.model.process import RunFailed
from brownfield.serving.fallback.breaker import Breaker
from brownfield.serving.gateway import Dataplane, Served, Snapshot, Split
from brownfield.serving.gateway.asks import Ask
from brownfield.serving.gateway.cache import Cache
from harness.waiting import eventually


def answers(served, records, *, deadlines_ns=None):
    """Answers to callers who come in one turn of the loop, one record each; refusals as they are."""

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        now_ns = plane.now_ns()
        asked = [
            asyncio.ensure_future(
                plane.predict(
                    served,
                    served.request.rows.check([record]),
                    Split(now_ns),
                    now_ns + deadlines_ns[index] if deadlines_ns else 0,
                )
            )
            for index, record in enumerate(records)
        ]
        async with asyncio.timeout(30):
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(run())


def record(items, store_id=1):
    """A request with so many items, the first of which names the caller."""
    return {"store_id": store_id, "items": [f"item {store_id}", *["MILK"] * (items - 1)][:items]}


@pytest.fixture
def calls(served, pool):
    """Rows of each call to the model; callers may share calls of up to 8 rows."""
    rows = []
    function = pool.function

    def counted(tensors):
        rows.append(len(tensors["x"]))
        return function(tensors)

    pool.function = counted
    served.champion.row_cap = 8
    return rows


def test_i6_every_caller_gets_its_own_rows(served, calls):
    """I6: whoever shares the call, each answer is the one that its records alone give; no call passes the row cap."""
    sizes = [int(size) for size in np.random.default_rng(0).integers(1, 21, 50)]
    given = answers(served, [record(size, store_id=caller + 1) for caller, size in enumerate(sizes)])
    for caller, (size, answer) in enumerate(zip(sizes, given, strict=True)):
        assert answer.checked.columns["items"] == [[f"item {caller + 1}"]]
        assert answer.checked.columns["scores"][0] == pytest.approx([1 / (1 + size)])
        assert answer.split.total_ns == sum(answer.split.parts_ns)
    assert calls == [8] * 6 + [2]


def test_where_calls_are_not_shared_each_caller_is_asked_for_alone(served, calls):
    """A row cap of 1 is for models whose rows feel one another."""
    served.champion.row_cap = 1
    answers(served, [record(1)] * 5)
    assert calls == [1] * 5


def test_callers_of_different_patience_share_a_call_and_give_up_alone(served, pool, calls):
    """One who gives less time neither hurries nor delays the others: each is answered by a deadline of its own."""
    pool.delay_s, served.deadline_ns = 0.1, 60_000_000_000
    given = answers(served, [record(1)] * 3, deadlines_ns=[20_000_000, 50_000_000_000, 60_000_000_000])
    assert [answer.decision.cause for answer in given] == ["deadline", "", ""]
    assert calls == [3]
    assert served.meter.lates == {"enqueue": 0, "dequeue": 0, "completion": 1}
    assert served.champion.breaker.closed


def test_i6_one_answer_out_of_contract_harms_no_other(served, pool, calls):
    """I6, F-09: where one row of a shared call is NaN, the others are asked for again and answered by the model."""
    served.champion.row_cap = 8
    shared = pool.function
    pool.function = lambda tensors: {"y": np.where(tensors["x"] == 13, np.nan, shared(tensors)["y"])}
    given = answers(served, [record(size) for size in (1, 2, 13, 4)])
    assert [answer.decision.source for answer in given] == ["model", "model", "constant", "model"]
    assert given[2].decision.cause == "output"
    assert calls == [4, 2, 2, 1, 1]


def test_f79_a_model_that_fails_for_all_is_not_asked_for_each(served, pool, calls):
    """F-79, R-11: shared calls are made again by halves, out of the one budget; then the fallback answers."""
    served.champion.row_cap = 32
    shared = pool.function
    pool.function = lambda tensors: {"y": shared(tensors)["y"] * np.nan}
    given = answers(served, [record(1)] * 96)
    assert [answer.decision.cause for answer in given] == ["output"] * 96
    assert len(calls) == 3 + 10
    assert served.champion.admission.waiting_rows == 0
    for _ in range(20):
        served.champion.retries.earn()
    calls.clear()
    answers(served, [record(1)] * 96)
    assert len(calls) == 3 + 2


def test_f23_calls_that_are_too_large_for_the_memory_become_smaller_and_stay_so(served, pool, calls):
    """F-23: everybody is answered by the model, the size is halved until it fits, and it is remembered."""
    served.champion.row_cap = 32
    shared = pool.function

    def small(tensors):
        outputs = shared(tensors)
        if len(tensors["x"]) > 8:
            raise RunFailed("no memory", cause="memory")
        return outputs

    pool.function = small
    given = answers(served, [record(1)] * 32)
    assert {answer.decision.source for answer in given} == {"model"}
    assert sorted(calls) == [8, 8, 8, 8, 16, 16, 32]
    calls.clear()
    answers(served, [record(1)] * 32)
    assert calls == [8, 8, 8, 8]


def test_f79_one_at_fault_among_32_is_found_within_the_budget(served, pool, calls):
    """F-79, I6: also in a quiet system, where nothing was earned."""
    served.champion.row_cap = 32
    shared = pool.function
    pool.function = lambda tensors: {"y": np.where(tensors["x"] == 13, np.nan, shared(tensors)["y"])}
    given = answers(served, [record(13 if n == 21 else 1) for n in range(32)])
    assert [n for n, answer in enumerate(given) if answer.decision.source != "model"] == [21]
    assert len(calls) == 1 + 10


def test_i6_one_value_that_breaks_the_model_harms_no_other(served, pool, calls):
    """I6: an error of the model in a shared call becomes the error of the one caller who causes it."""
    shared = pool.function

    def fails(tensors):
        outputs = shared(tensors)
        if (tensors["x"] == 13).any():
            raise ModelFailed("op")
        return outputs

    pool.function = fails
    given = answers(served, [record(size) for size in (1, 13, 2)])
    assert [answer.decision.cause for answer in given] == ["", "model", ""]
    assert served.champion.admission.waiting_rows == 0


def test_features_that_refuse_one_caller_refuse_that_one_alone(served, calls):
    """The refusal of a value is told to the caller who sent it."""
    features = served.champion.features

    class Strict:
        decode = features.decode

        def encode(self, columns, rows):
            if any(len(items) == 13 for items in columns["items"]):
                raise InputRefused([Violation("items", "items.vocabulary", RejectionCode.RULE_ENUM)])
            return features.encode(columns, rows)

    served.champion.features = Strict()
    given = answers(served, [record(1), record(13), record(2)])
    assert isinstance(given[1], InputRefused)
    assert [given[0].decision.source, given[2].decision.source] == ["model", "model"]


@pytest.fixture
def of_two_tensors(served, make_contract, tensor_property) -> Served:
    """A contract whose field ``b`` has a length of its own in each request, and features that read ``a`` alone."""

    class Features:
        def encode(self, columns, rows):  # noqa: ARG002 (as features are asked)
            return {"x": columns["a"][:, :1]}

        def decode(self, tensors, columns, rows):
            assert len(columns["b"]) == rows
            return {"y": tensors["y"]}

    request = [tensor_property("a", "float32", [2]), tensor_property("b", "float32", [None])]
    contract = make_contract(request, [tensor_property("y", "float32", [1])])
    served.champion.features = Features()
    return Served("till", contract, 1000, served.champion)


def test_fields_of_any_length_that_the_features_do_not_read_may_be_shared(of_two_tensors, calls):
    """Callers who send different lengths share a call, and each gets its own rows."""
    given = answers(of_two_tensors, [{"a": [n, n], "b": [0.0] * n} for n in (1, 3, 7, 3)])
    assert [answer.checked.columns["y"].tolist() for answer in given] == [[[1 / (1 + n)]] for n in (1, 3, 7, 3)]
    assert calls == [4]


def test_records_that_cannot_be_put_together_are_asked_for_alone(served, calls):
    """Whatever fails before the model is asked: everybody is answered, and no call stays under way."""

    class Odd(list):
        def __iter__(self):
            raise RuntimeError("bug")

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        checked = [served.request.rows.check([record(1)]) for _ in range(3)]
        checked[1] = Checked(1, checked[1].columns | {"store_id": Odd([1])})
        async with asyncio.timeout(30):
            return await asyncio.gather(*[plane.predict(served, each) for each in checked])

    assert [answer.decision.source for answer in asyncio.run(run())] == ["model"] * 3
    assert not served.champion.calls
    assert served.champion.admission.waiting_rows == 0


@pytest.mark.parametrize("row_cap", [8, 512], ids=["more than a shared call", "less than a shared call"])
def test_f23_one_request_too_large_for_the_memory_takes_the_model_from_nobody_else(served, pool, calls, row_cap):
    """F-23: the fallback answers it however often it comes, the model the others; one record too large is a fault."""
    function = pool.function
    served.champion.row_cap = row_cap

    def small_memory(tensors):
        if len(tensors["x"]) > 8 or tensors["x"].max() > 3:
            raise RunFailed("no memory", cause="memory")
        return function(tensors)

    pool.function = small_memory
    breaker = served.champion.breaker = Breaker(minimum_calls=2, sustained_s=0)

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        large = served.request.rows.check([record(1)] * 9)
        small = served.request.rows.check([record(1)])
        return [(await plane.predict(served, checked)).decision for _ in range(3) for checked in (large, small)]

    decisions = [(each.source, each.cause) for each in asyncio.run(run())]
    assert decisions == [("constant", "model"), ("model", "")] * 3
    assert breaker.closed
    assert served.champion.admission.waiting_rows == 0
    assert answers(served, [record(4)])[0].decision.cause == "model"
    assert answers(served, [record(4)] * 2)[0].decision.cause in {"model", "breaker"}
    assert not breaker.closed


def test_a_trial_ends_when_everybody_has_given_up_before_it_fails(served, pool, calls):
    """The breaker learns of it, also where nobody is left to be asked for again."""
    breaker = served.champion.breaker = Breaker(minimum_calls=1, sustained_s=0)
    failing = asyncio.Event()

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        checked = served.request.rows.check([record(1)])
        asks = [Ask(served, checked, Split(plane.now_ns()), 0, lambda *_: None) for _ in range(2)]
        for ask in asks:
            plane.ask(ask)
        breaker.failed(0)
        assert breaker.allows(2**62)  # the trial: this call

        async def infer(*_):
            await failing.wait()
            raise ModelFailed("op")

        pool.infer = infer
        await asyncio.sleep(0.01)
        for ask in asks:
            ask.over = True  # given up, and nobody cancelled the call
        failing.set()
        await eventually(lambda: not served.champion.calls)

    asyncio.run(run())
    assert breaker.openings == 2


def test_f19_the_model_is_not_asked_for_callers_who_left(served, calls):
    """F-19: one who leaves before the call is sent costs the model nothing, and no row stays in the queue."""
    told = []

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        checked = served.request.rows.check([record(1)])
        asks = [Ask(served, checked, Split(plane.now_ns()), 0, lambda ask, _: told.append(ask)) for _ in range(3)]
        for ask in asks:
            plane.ask(ask)
        asks[0].cancel()
        asks[2].cancel()
        await eventually(lambda: told)
        return asks

    asks = asyncio.run(run())
    assert told == [asks[1]]
    assert calls == [1]
    assert served.champion.admission.waiting_rows == 0
    assert served.champion.breaker.closed


def test_i6_a_caller_who_cannot_be_told_harms_no_other(served, calls):
    """I6: what goes wrong with giving one answer goes to the loop; the others of the call get theirs."""
    told, reported = [], []

    def tell(ask, _):
        if ask.context == 1:
            raise OSError("gone")
        told.append(ask.context)

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        plane = Dataplane(Snapshot({served.name: served}))
        checked = served.request.rows.check([record(1)])
        for caller in range(4):
            plane.ask(Ask(served, checked, Split(plane.now_ns()), 0, tell, caller))
        await eventually(lambda: sum(served.meter.answers.values()) == 4)

    asyncio.run(run())
    assert told == [0, 2, 3]
    assert [str(error) for error in reported] == ["gone"]
    assert calls == [4]


def test_a_shared_call_ends_only_when_its_last_caller_has_left(served, pool, calls):
    """Others still wait for it."""
    pool.delay_s = 0.02

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        checked = served.request.rows.check([record(1)])
        asked = [asyncio.ensure_future(plane.predict(served, checked)) for _ in range(2)]
        await asyncio.sleep(0.005)
        asked[0].cancel()
        answer = await asked[1]
        pool.delay_s = 60
        alone = asyncio.ensure_future(plane.predict(served, checked))
        await asyncio.sleep(0.005)
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        return answer

    assert asyncio.run(run()).decision.source == "model"
    assert calls == [2]
    assert served.champion.admission.waiting_rows == 0


@pytest.mark.full
@pytest.mark.parametrize("cache", [None, Cache(60)])
def test_answers_leave_nothing_for_the_garbage_collector(served, calls, cache):
    """Its pauses would be seen by callers: no request may end in a cycle of references."""
    served.champion.cache = cache
    answers(served, [record(1)] * 100)
    gc.collect()
    gc.disable()
    try:
        answers(served, [record(2, store_id=1 + number // 2) for number in range(100)])
        left = gc.collect()
    finally:
        gc.enable()
    assert left < 100  # the loop and the tasks of this test itself leave some; each request would add ten
