"""The prediction path: one answer for every accepted request, whatever the model does."""

import asyncio
import time

import numpy as np
import pytest

from brownfield.errors import DeadlineExceeded, InputRefused, ModelFailed, RejectionCode, Violation, WorkerUnavailable
from brownfield.serving.fallback.breaker import Breaker
from brownfield.serving.fallback.table import Table
from brownfield.serving.gateway import Dataplane, Snapshot, Split, Unanswered
from brownfield.serving.gateway.latency import Stage
from brownfield.serving.workers.base import Inference
from brownfield.types import Reason


def ask(served, *, records=({"store_id": 1, "items": ["MILK"]},), deadline_ns=0):
    """One prediction through a data plane that serves only this integration."""

    async def run():
        checked = served.request.rows.check(list(records))
        plane = Dataplane(Snapshot({served.name: served}))
        try:
            async with asyncio.timeout(30):
                return await plane.predict(served, checked, Split(plane.now_ns()), deadline_ns)
        finally:
            await asyncio.sleep(0)  # what is kept is kept after the answer

    return asyncio.run(run())


def test_the_model_answers_with_its_decision(served):
    """Version, contract and reason stand in the decision, and the answer is not degraded."""
    answer = ask(served)
    decision = answer.decision
    assert answer.checked.columns == {"items": [["MILK"]], "scores": [[0.5]]}
    assert (decision.source, decision.version, decision.reason) == ("model", "3", Reason.STATIC)
    assert (decision.degraded, decision.cause, decision.contract) == (False, "", "till@1.0.0")
    assert answer.split.total_ns == sum(answer.split.parts_ns)


def breaks(error):
    """A model that raises."""

    def model(tensors):
        raise error

    return model


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        pytest.param(lambda tensors: {"y": tensors["x"] * np.nan}, "output", id="F-09 NaN"),
        pytest.param(lambda tensors: {"y": tensors["x"] * np.inf}, "output", id="F-09 infinity"),
        pytest.param(lambda tensors: {"y": tensors["x"] + 7}, "output", id="out of range"),
        pytest.param(lambda tensors: {"y": tensors["x"][:0]}, "output", id="F-10 no rows"),
        pytest.param(lambda tensors: {"z": tensors["x"]}, "output", id="F-10 another tensor"),
        pytest.param(breaks(ModelFailed("op")), "model", id="model error"),
        pytest.param(breaks(WorkerUnavailable("died")), "worker", id="F-02 worker death"),
        pytest.param(breaks(RuntimeError("bug")), "model", id="unexpected error"),
    ],
)
def test_a_failing_model_gives_the_fallback(served, pool, model, cause):
    """Whatever the model does, the caller gets a declared answer that says what it is and why."""
    pool.function = model
    answer = ask(served)
    assert answer.checked.columns["items"] == [["BREAD"]]
    decision = answer.decision
    assert (decision.source, decision.reason, decision.degraded) == ("constant", Reason.FALLBACK, True)
    assert (decision.cause, decision.version) == (cause, "")


def test_the_log_says_once_how_a_model_goes_wrong(served, pool, caplog):
    """Callers learn the cause alone, so the reason stands in the log: each once, and no more than eight."""
    pool.function = breaks(ModelFailed("the model answered with an error: KeyError"))
    ask(served)
    pool.function = lambda tensors: {"y": tensors["x"] * np.nan}
    for _ in range(2):
        ask(served)
    for number in range(20):
        served.champion.breaker.retry_now()
        pool.function = breaks(ModelFailed(f"{number}" * 1000))
        ask(served)
    told = [each for each in caplog.records if getattr(each, "event", "") == "BF-GTW-MODEL-FAILED"]
    assert [each.version for each in told] == ["till 3"] * 8
    assert told[0].reason == "the model answered with an error: KeyError"
    assert "scores" in told[1].reason
    assert max(len(each.reason) for each in told) == 300


def test_a_model_that_answers_nothing_in_time_gives_the_fallback_by_the_deadline(served, pool):
    """The deadline is the caller's, not the model's."""
    pool.delay_s = 5
    served.deadline_ns = 30_000_000
    answer = ask(served)
    assert answer.decision.cause == "deadline"
    assert 25e6 < answer.split.total_ns < 80e6


def test_the_wait_before_the_model_is_no_time_of_the_features(served, pool):
    """Who waits for its turn reads so in its latency split: that is the queue, not the making of tensors."""
    pool.delay_s = 0.1
    checked = served.request.rows.check([{"store_id": 1, "items": []}])

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        return await asyncio.gather(*(plane.predict(served, checked) for _ in range(6)))

    splits = [answer.split for answer in asyncio.run(run())]
    assert max(split.total_ns for split in splits) > 180e6
    assert max(split.parts_ns[Stage.FEATURES] for split in splits) < 50e6


def test_a_caller_may_give_less_time_than_declared(served, pool):
    """A V2 timeout shortens the deadline, and such a failure is not the model's."""
    pool.delay_s = 5

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        checked = served.request.rows.check([{"store_id": 1, "items": []}])
        causes = []
        for _ in range(8):
            split = Split(plane.now_ns())
            answer = await plane.predict(served, checked, split, split.started_ns + 2_000_000)
            causes.append(answer.decision.cause)
        return causes

    assert asyncio.run(run()) == ["deadline"] * 8
    assert served.champion.breaker.closed


def test_a_caller_cannot_stretch_the_declared_deadline(served, pool):
    """A later deadline of the caller's is cut to the declared one."""
    pool.delay_s = 5
    served.deadline_ns = 20_000_000
    answer = ask(served, deadline_ns=2**62)
    assert answer.split.total_ns < 100e6


def test_an_open_breaker_answers_without_asking_the_model(served, pool):
    """After five failures the model is left alone."""
    served.champion.breaker = Breaker(sustained_s=0)
    pool.function = breaks(ModelFailed("op"))
    causes = [ask(served).decision.cause for _ in range(8)]
    assert causes == ["model"] * 5 + ["breaker"] * 3
    assert pool.calls == 5


def test_f07_an_integration_whose_breaker_is_due_for_a_trial_is_ready(served, pool):
    """F-07: with nobody else to answer, a balancer that goes by readiness must bring the call that closes it."""
    served.champion.breaker = Breaker(sustained_s=0, open_s=0.2)
    served.fallbacks = ()
    pool.function = breaks(ModelFailed("op"))
    for _ in range(5):
        with pytest.raises(Unanswered):
            ask(served)
    assert not served.ready
    time.sleep(0.25)
    assert (served.ready, served.model_ready) == (True, False)
    pool.function = lambda tensors: {"y": 1 / (1 + tensors["x"])}
    assert ask(served).decision.source == "model"
    assert served.model_ready


def test_more_than_can_be_answered_in_time_gives_the_fallback_at_once(served, pool):
    """Admission goes by the estimated wait."""
    gate = served.champion.admission
    gate.call_ns = served.deadline_ns
    gate.enter(5)
    answer = ask(served)
    assert answer.decision.cause == "overload"
    assert pool.calls == 0


def test_without_a_model_the_fallback_answers(served):
    """Contract before model: a workspace serves before there is a bundle."""
    served.champion = None
    answer = ask(served)
    assert (answer.decision.source, answer.decision.cause) == ("constant", "no_model")


def test_the_chain_is_asked_in_order(served, pool):
    """A table that has the key answers before the constant; without a match it passes on."""
    pool.alive = False
    served.fallbacks = (Table(("store_id",), {(7,): {"items": ["EGGS"]}}), *served.fallbacks)
    assert ask(served, records=[{"store_id": 7, "items": []}]).decision.source == "table"
    assert ask(served, records=[{"store_id": 8, "items": []}]).decision.source == "constant"


def test_a_fallback_out_of_contract_is_passed_over(served, pool):
    """Every answer keeps the response contract, a fallback's as well."""
    pool.alive = False
    served.fallbacks = (Table(("store_id",), {(1,): {"items": ["EGGS"], "scores": [9.0]}}), *served.fallbacks)
    assert ask(served).decision.source == "constant"


def test_a_fallback_that_fails_is_passed_over(served, pool):
    """A bug of one in the chain costs nobody an answer, whoever shares the call."""

    class Broken:
        source = "rule"

        def answer(self, *_):
            raise TypeError("bug")

    pool.function = breaks(ModelFailed("op"))
    served.fallbacks = (Broken(), *served.fallbacks)
    assert ask(served).decision.source == "constant"


def test_when_nothing_answers_the_refusal_is_typed(served, pool):
    """It carries a decision with the cause, and is counted like every other."""
    pool.alive = False
    served.fallbacks = ()
    with pytest.raises(Unanswered) as caught:
        ask(served)
    decision = caught.value.decision
    assert (decision.source, decision.reason, decision.cause) == ("none", Reason.ERROR, "worker")


def test_features_that_refuse_a_value_refuse_the_request(served, pool):
    """That is the caller's fault: no worker, no fallback, nothing for the breaker."""

    class Strict:
        def encode(self, *_):
            raise InputRefused([Violation("items", "items.vocabulary", RejectionCode.RULE_ENUM)])

    served.champion.features = Strict()
    for _ in range(6):
        with pytest.raises(InputRefused):
            ask(served)
    assert pool.calls == 0
    assert served.champion.breaker.closed


def test_every_decision_is_counted_and_kept_once(served, pool):
    """The journal gets the decision, the split, the rows and the inputs, after the answer."""
    kept = []
    served.record = lambda *what: kept.append(what)
    answer = ask(served)
    pool.alive = False
    fallback = ask(served)
    assert [one[0] for one in kept] == [answer.decision, fallback.decision]
    assert kept[0][2:] == (1, {"store_id": [1], "items": [["MILK"]]})
    assert served.meter.rows == 2
    assert sum(served.meter.answers.values()) == 2


def test_a_refusal_answers_no_record(served, pool):
    """Records answered are those of the model and of the fallbacks."""
    ask(served)
    pool.alive = False
    ask(served)
    served.fallbacks = ()
    with pytest.raises(Unanswered):
        ask(served)
    assert served.meter.rows == 2
    assert sum(served.meter.answers.values()) == 3


def test_a_cancelled_caller_leaves_nothing_behind(served, pool):
    """No row stays in the queue and the breaker has no trial open."""
    pool.delay_s = 5

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        checked = served.request.rows.check([{"store_id": 1, "items": []}])
        task = asyncio.create_task(plane.predict(served, checked))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert served.champion.admission.waiting_rows == 0
    assert served.champion.breaker.closed


def test_decisions_have_identifiers_of_their_own(served):
    """Outcomes are joined by them."""
    assert len({ask(served).decision.id for _ in range(50)}) == 50


class LoadsOnce:
    """A pool whose first call has the model loaded, which takes its time; ``fault`` is what comes of that call."""

    ready = True

    def __init__(self, load_s, fault=None):
        self.workers = 0
        self.load_s = load_s
        self.fault = fault

    def look(self):
        """Nothing has come."""

    async def infer(self, tensors, rows, deadline_ns):  # noqa: ARG002 (as pools are asked)
        """Answer, after a millisecond where it is loaded."""
        fault, self.fault = self.fault, None
        await asyncio.sleep(0.001 if self.workers else self.load_s)
        self.workers = 1
        if fault is not None:
            raise fault
        return Inference({"y": 1 / (1 + tensors["x"])}, 100_000)


def test_what_loading_took_is_not_expected_of_later_calls(served):
    """F-74: behind a first request that waited for its model, many at once are answered by it, and none is shed."""
    served.champion.pool = LoadsOnce(0.6)
    checked = served.request.rows.check([{"store_id": 1, "items": ["MILK"]}])

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))
        await plane.predict(served, checked)
        answers = await asyncio.gather(*(plane.predict(served, checked) for _ in range(8)))
        return [answer.decision.cause for answer in answers]

    assert asyncio.run(run()) == [""] * 8
    assert served.champion.admission.waiting_rows == 0
    assert sum(served.meter.sheds) == 0


def test_a_deadline_that_loading_used_up_is_not_held_against_the_model(served):
    """It had no fair time, so its breaker stays closed; a late call of one that was loaded counts as ever."""
    pool = served.champion.pool = LoadsOnce(0.3, DeadlineExceeded("late"))
    served.champion.breaker = Breaker(minimum_calls=1, sustained_s=0)
    assert ask(served).decision.cause == "deadline"
    assert served.champion.breaker.closed
    assert served.champion.admission.call_ns == 0
    pool.fault = DeadlineExceeded("late")
    assert ask(served).decision.cause == "deadline"
    assert not served.champion.breaker.closed
