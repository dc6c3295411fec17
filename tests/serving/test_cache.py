"""Answers that are given again: the right ones, never too old, never a fallback, one question at a time."""

import asyncio

import numpy as np
import pytest

from brownfield.contract import Checked
from brownfield.errors import InputRefused, ModelFailed, RejectionCode, Violation
from brownfield.serving.gateway import Dataplane, Snapshot, Split
from brownfield.serving.gateway.cache import Cache, input_digest
from brownfield.types import Reason


@pytest.fixture
def cached(served, pool):
    """The recommender with a cache of one minute; the rows of each call to the model."""
    served.champion.cache = Cache(60)
    served.champion.row_cap = 8
    served.deadline_ns = 5_000_000_000
    calls = []
    function = pool.function

    def counted(tensors):
        calls.append(tensors["x"].ravel().tolist())
        return function(tensors)

    pool.function = counted
    return calls


def ask(served, *records, together=False, deadlines_ns=None):
    """Answers to requests that come one after another, or in one turn of the loop; refusals as they are."""

    async def run():
        plane = Dataplane(Snapshot({served.name: served}))

        async def one(record, deadline_ns):
            checked = served.request.rows.check(record if isinstance(record, list) else [record])
            split = Split(plane.now_ns())
            return await plane.predict(served, checked, split, split.started_ns + deadline_ns if deadline_ns else 0)

        coroutines = [
            one(record, deadline_ns)
            for record, deadline_ns in zip(records, deadlines_ns or [0] * len(records), strict=True)
        ]
        async with asyncio.timeout(30):
            if together:
                return await asyncio.gather(*coroutines, return_exceptions=True)
            return [(await asyncio.gather(each, return_exceptions=True))[0] for each in coroutines]

    return asyncio.run(run())


ONE = {"store_id": 1, "items": ["MILK"]}
OTHER = {"store_id": 2, "items": ["MILK"]}


def test_the_same_record_is_answered_again_without_the_model(served, cached):
    """The decision is its own and says CACHED; another record asks the model."""
    first, again, other = ask(served, ONE, ONE, OTHER)
    assert [answer.decision.reason for answer in (first, again, other)] == [
        Reason.STATIC,
        Reason.CACHED,
        Reason.STATIC,
    ]
    assert again.checked.columns == first.checked.columns
    assert again.decision.id != first.decision.id
    assert (first.age_s, again.age_s) == (None, 0)
    assert len(cached) == 2
    assert (served.meter.cache_hits, served.meter.cache_misses) == (1, 2)
    assert sum(served.meter.answers.values()) == 3


def test_only_the_declared_fields_make_the_key(served, cached):
    """What is not in key_fields does not matter."""
    served.champion.cache = Cache(60, ["items"])
    ask(served, ONE, OTHER)
    assert len(cached) == 1


def test_an_answer_older_than_its_time_is_asked_for_anew():
    """Its age is counted from when the model gave it."""
    cache = Cache(1.0)
    cache.put(b"key", empty_answer(), now_ns=0)
    assert cache.get(b"key", 1_000_000_000) is not None
    assert cache.get(b"key", 1_000_000_001) is None
    assert len(cache) == 0


def empty_answer():
    """An answer without columns."""
    return Checked(1, {})


def test_lists_of_different_lengths_are_kept(served, cached):
    """Each record has as many items as it has."""
    for answer in ask(served, *[[ONE, {"store_id": 2, "items": []}]] * 2):
        assert answer.checked.columns["items"] == [["MILK"], []]
    assert len(cached) == 1


@pytest.mark.parametrize(
    ("column", "kept"),
    [
        ([["MILK"], None, []], True),
        ([["MILK"] * 4000, ["EGGS"] * 96], True),
        ([["MILK"] * 4000, ["EGGS"] * 97], False),
        ([[]] * 4097, False),
        (np.zeros((4, 1024)), True),
        (np.zeros((4, 1025)), False),
        (["x" * 32_000], True),
        (["x" * 33_000], False),
        (np.array([["x" * 33_000]], dtype=object), False),
    ],
)
def test_large_answers_are_not_kept(column, kept):
    """The memory of the cache is bounded, however the values are nested; a null is one value."""
    cache = Cache(60)
    cache.put(b"key", Checked(1, {"y": column}), 0)
    assert len(cache) == kept


def test_a_kept_answer_keeps_nothing_else_that_came_with_it():
    """Neither the rows of other callers nor the outputs that nobody reads: a frame's tensors are views of it all."""
    cache = Cache(60)
    sent = np.arange(100_000, dtype=np.float32).reshape(1000, 100)
    cache.put(b"key", Checked(1, {"y": sent[7:8]}, single=True, whole=frozenset("y")), 0)
    kept = cache.get(b"key", 0).response
    assert kept.columns["y"].base is None
    assert kept.columns["y"].tolist() == sent[7:8].tolist()
    assert (kept.rows, kept.single, kept.whole) == (1, True, frozenset("y"))


def test_the_least_recently_asked_goes_first():
    """The number of entries is bounded, whatever comes."""
    cache = Cache(60, entries=2)
    for key in (b"a", b"b"):
        cache.put(key, empty_answer(), 0)
    cache.get(b"a", 0)
    cache.put(b"c", empty_answer(), 0)
    assert [cache.get(key, 0) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_all_answers_together_are_bounded_as_well():
    """Ten thousand answers of a thousand numbers each would take 320 MiB of each gateway."""
    cache = Cache(60)
    for key in range(3000):
        cache.put(str(key % 2000).encode(), Checked(1, {"y": [[0.5] * 1024]}), 0)
    assert len(cache) == 1024
    assert [cache.get(str(key).encode(), 0) is not None for key in (1975, 1976, 999)] == [False, True, True]
    cache.get(b"999", 61_000_000_000)  # too old
    cache.put(b"large", Checked(1, {"y": [[0.5] * 1025]}), 0)
    assert len(cache) == 1023
    cache.put(b"small", empty_answer(), 0)
    assert len(cache) == 1024


def test_f81_equal_questions_of_one_moment_ask_the_model_once(served, cached):
    """F-81, single flight: 200 callers with one record are one row for the model."""
    answers = ask(served, *[ONE] * 200, together=True)
    assert cached == [[1.0]]
    reasons = [answer.decision.reason for answer in answers]
    assert (reasons.count(Reason.STATIC), reasons.count(Reason.CACHED)) == (1, 199)
    assert len({answer.decision.id for answer in answers}) == 200
    assert served.champion.cache.flights == {}


def test_a_fallback_is_never_kept(served, pool, cached):
    """All who waited fall back, and the next one asks the model."""
    function = pool.function

    def fails(tensors):
        function(tensors)
        raise ModelFailed("op")

    pool.function = fails
    answers = ask(served, ONE, ONE, ONE, together=True)
    assert [answer.decision.source for answer in answers] == ["constant"] * 3
    assert [answer.decision.cause for answer in answers] == ["model"] * 3
    assert len(cached) == 1
    pool.function = function
    assert ask(served, ONE)[0].decision.reason is Reason.STATIC
    assert sum(served.meter.answers.values()) == 4


def test_a_refusal_is_told_to_all_who_waited_and_not_kept(served, cached):
    """A value that the features refuse."""

    class Strict:
        def encode(self, *_):
            raise InputRefused([Violation("items", "items.vocabulary", RejectionCode.RULE_ENUM)])

    served.champion.features = Strict()
    assert all(isinstance(answer, InputRefused) for answer in ask(served, ONE, ONE, together=True))
    assert len(served.champion.cache) == 0


def test_a_caller_with_less_time_does_not_wait_for_another(served, pool, cached):
    """It asks for itself, and is answered by its own deadline."""
    pool.delay_s = 0.05
    patient, hasty = ask(served, ONE, ONE, together=True, deadlines_ns=[0, 20_000_000])
    assert patient.decision.source == "model"
    assert (hasty.decision.source, hasty.decision.cause) == ("constant", "deadline")


def test_another_version_has_a_cache_of_its_own(served, pool, cached):
    """Promotion invalidates: what one bundle answered is never given for another."""
    from brownfield.serving.gateway import Version

    ask(served, ONE)
    served.champion = Version("4", served.champion.features, pool, 8, Cache(60))
    assert ask(served, ONE)[0].decision.reason is Reason.STATIC
    assert len(cached) == 2


def test_another_contract_or_integration_has_other_keys(served, retail):
    """The digest of the contract is in the key, and the cache belongs to one version of one integration."""
    cache = Cache(60)
    checked = served.request.rows.check([ONE])

    class Other:
        request = retail.schema("request")

        class contract:  # noqa: N801 (stands for an object)
            digest = "another"

    assert cache.key(served, checked) != cache.key(Other, checked)


def test_a_record_has_one_key_on_every_door(served):
    """A number that came as a tensor and one that came as JSON are the same value."""
    cache = Cache(60)
    named = served.request.rows.check([{"store_id": 7, "items": ["MILK", "EGGS"]}])
    columns = {"store_id": np.array([7], np.int64), "items": [["MILK", "EGGS"]]}
    assert cache.key(served, named) == cache.key(served, served.request.rows.check_columns(columns, 1))


def test_a_record_has_one_key_in_whichever_order_its_fields_come(served):
    """As the inputs of a V2 request may come."""
    checked = served.request.rows.check([ONE])
    turned = Checked(1, dict(reversed(checked.columns.items())))
    assert input_digest(served, checked) == input_digest(served, turned)


def test_the_door_says_how_old_an_answer_is_and_heeds_no_store(client, served, cached):
    """`Age` stands on what is given again; who sends `Cache-Control: no-store` gets a new answer, which is not kept."""

    async def run():
        path = "/v1/till/predict"
        return [await client.ask("POST", path, ONE, **headers) for headers in ({}, {}, {"cache_control": "no-store"})]

    assert [b"age" in dict(response.headers) for response in asyncio.run(run())] == [False, True, False]
    assert len(cached) == 2


def test_the_declared_cache_is_built(tmp_path):
    """`model.cache` in the declaration."""
    from types import SimpleNamespace

    from brownfield.serving.board import _cache

    declared = SimpleNamespace(ttl_s=5.0, key_fields=("items",))
    assert _cache(SimpleNamespace(model=SimpleNamespace(cache=declared)))._ttl_ns == 5_000_000_000
    assert _cache(SimpleNamespace(model=SimpleNamespace(cache=None))) is None
