"""The bundle before this one as a fallback: asked when the model itself cannot answer, and never to add load."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from brownfield.clock import SystemClock
from brownfield.contract import Field
from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.serving.fallback.previous_version import PreviousVersion
from brownfield.serving.gateway import Version
from brownfield.serving.gateway.enrich import Enrichment, Found, Joined, Take
from brownfield.serving.workers.inline import InlinePool

RECORD = {"store_id": 1, "items": ["BREAD", "MILK"]}


def nine_tenths(tensors):
    """What the version before answered."""
    return {"y": tensors["x"] * 0 + 0.9}


@pytest.fixture
def previous(served) -> InlinePool:
    """The version ``2`` stands in the chain before the constant."""
    pool = InlinePool(nine_tenths)
    place = PreviousVersion()
    place.version = Version("2", served.champion.features, pool)
    served.fallbacks = (place, *served.fallbacks)
    return pool


def ask(client):
    return asyncio.run(client.predict(RECORD))[1]


@pytest.mark.parametrize("cause", ["worker", "no_model", "output", "breaker"])
def test_f04_when_the_model_cannot_answer_the_version_before_does(client, served, pool, previous, cause):
    """F-04: the answer is that version's, says so and why, and is degraded."""
    if cause == "worker":
        pool.alive = False
    elif cause == "no_model":
        served.champion = None
    elif cause == "breaker":
        served.champion.breaker._open(0, 2**62)
    else:
        pool.function = lambda tensors: {"y": tensors["x"] * float("nan")}
    answer = ask(client)
    decision = answer["decision"]
    assert answer["prediction"]["scores"] == [pytest.approx(0.9)]
    assert (decision["source"], decision["version"], decision["cause"]) == ("previous_version", "2", cause)
    assert decision["degraded"]
    assert decision["reason"] == "FALLBACK"


@pytest.mark.parametrize("fault", ["none", "gone", "breaker"])
def test_f74_a_chain_of_the_version_before_alone_is_ready_when_that_is(client, served, previous, fault):
    """F-74: without a model the gateway is ready while that version can answer; looking is no trial of its breaker."""
    served.champion, served.fallbacks = None, served.fallbacks[:1]
    place = served.fallbacks[0]

    def said():
        ready = asyncio.run(client.ask("GET", "/v2/health/ready")).status
        page = asyncio.run(client.ask("GET", "/docs")).body.decode()
        return ready, "The fallback answers (previous_version)." in page, "Nothing can answer just now." in page

    assert said() == (200, True, False)
    if fault == "none":
        place.version = None
    elif fault == "gone":
        previous.alive = False
    else:
        place.version.breaker._open(time.monotonic_ns(), 3600 * 10**9)
    assert said() == (503, False, True)
    if fault == "breaker":
        place.version.breaker.retry_now()
        assert said() == (200, True, False)
        assert place.version.breaker.allows(2)


def test_a_page_names_the_fallbacks_that_can_answer(client, served, pool, previous):
    """The one before that is gone is left out; with the constant behind it the gateway is ready all the same."""
    pool.alive = previous.alive = False
    page = asyncio.run(client.ask("GET", "/docs")).body.decode()
    assert "The fallback answers (constant)." in page
    assert asyncio.run(client.ask("GET", "/v2/health/ready")).status == 200


def test_while_the_model_answers_the_version_before_is_not_asked(client, previous):
    """It costs memory, and no time."""
    assert ask(client)["decision"]["source"] == "model"
    assert previous.calls == 0


@pytest.mark.parametrize("fault", ["gone", "raises", "output", "none"])
def test_when_the_version_before_cannot_answer_the_next_of_the_chain_does(client, served, pool, previous, fault):
    """The first cause stays the cause."""
    pool.alive = False
    if fault == "gone":
        previous.alive = False
    elif fault == "raises":
        previous.function = {}.__getitem__
    elif fault == "output":
        previous.function = lambda tensors: {"y": tensors["x"] * float("nan")}
    else:
        served.fallbacks[0].version = None
    answer = ask(client)
    assert answer["prediction"]["items"] == ["BREAD"]
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("constant", "worker")
    assert served.champion.admission.waiting_rows == 0


def test_a_late_or_overloaded_model_does_not_load_the_version_before(client, pool, previous):
    """F-77: a second model on a busy machine makes both slower, so the next in the chain answers at once."""
    pool.delay_s = 10
    answer = ask(client)
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("constant", "deadline")
    assert previous.calls == 0


def test_what_only_the_version_before_refuses_is_no_fault_of_the_caller(client, served, pool, previous):
    """F-04: its vocabulary is older than the request, which the model knows: the next of the chain answers."""

    class Older(type(served.champion.features)):
        def encode(self, columns, rows):  # noqa: ARG002 (it knows none)
            raise InputRefused([Violation("items", "features.items.vocabulary", RejectionCode.RULE_ENUM)])

    before = served.fallbacks[0].version
    before.features = Older()
    pool.alive = False
    status, answer = asyncio.run(client.predict(RECORD))
    assert status == 200
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("constant", "worker")
    assert before.breaker.closed
    assert before.admission.waiting_rows == 0
    assert served.meter.refused == {}


class Prices:
    """A lookup of prices, which may know none."""

    name = "products"

    def __init__(self, price):
        self.price = price

    async def find(self, keys, rows, timeout_s):  # noqa: ARG002 (as lookups are asked)
        """One price for all."""
        as_of = datetime.now(UTC) - timedelta(seconds=1)
        return Found("PRIMARY", as_of, {"price": [self.price] * rows}, [""] * rows)


@pytest.fixture
def priced(served):
    """Features that read a looked-up price and know none that is missing; gives what sets the price."""

    class Features(type(served.champion.features)):
        def encode(self, columns, rows):
            if None in columns["price"]:
                raise InputRefused([Violation("price", "features.price.missing", RejectionCode.FIELD_NULL)])
            return {"x": np.array(columns["price"], np.float32).reshape(rows, 1)}

    def make(price):
        take = Take(Field(name="price", kind="number", dtype="float64"), 60.0)
        served.enrichment = Enrichment([Joined(Prices(price), ("store_id",), (take,), {})], SystemClock())
        served.champion.features = Features()

    return make


@pytest.mark.parametrize("price", [1.0, None])
def test_without_a_model_the_version_before_is_asked_with_its_lookups(client, served, previous, priced, price):
    """F-26: a new version that does not load; what lookups add reaches the one before, and its answer tells of them."""
    priced(price)
    served.fallbacks[0].version.features = served.champion.features
    served.champion = None
    answer = ask(client)
    source = "previous_version" if price is not None else "constant"
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == (source, "no_model")
    assert [note["source"] for note in answer["lookups"]] == ["products"]
    assert served.fallbacks[0].version.breaker.closed


def test_without_a_model_and_a_version_before_no_lookup_is_waited_for(client, served, priced):
    """The constant needs none."""
    priced(1.0)
    served.champion = None
    answer = ask(client)
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("constant", "no_model")
    assert "lookups" not in answer


def test_f42_a_looked_up_value_that_the_features_refuse_is_no_fault_of_the_caller(client, served, priced):
    """F-42: the fallback answers and names the lookup; before, the caller was refused a field that it never sent."""
    priced(None)
    status, answer = asyncio.run(client.predict(RECORD))
    assert status == 200
    assert (answer["decision"]["source"], answer["decision"]["cause"]) == ("constant", "lookup")
    assert answer["lookups"][0]["bf_missing"] == [{"field": "price", "reason": "null"}]
    assert served.meter.refused == {}
    assert served.champion.breaker.closed
