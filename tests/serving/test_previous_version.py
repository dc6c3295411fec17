"""The bundle before this one as a fallback: asked when the model itself cannot answer, and never to add load."""

import asyncio
import time

import pytest

from brownfield.serving.fallback.previous_version import PreviousVersion
from brownfield.serving.gateway import Version
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
