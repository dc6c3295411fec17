"""The Prometheus text."""

import asyncio
import json

from prometheus_client.parser import text_string_to_metric_families

from brownfield.errors import Unavailable
from brownfield.serving.gateway import Version
from brownfield.serving.gateway.cache import Cache
from brownfield.serving.gateway.metrics import HttpMeter, Meter, exposition
from brownfield.serving.gateway.statistics import model_statistics
from brownfield.serving.gateway.summing import Figures
from harness.virtual_time import run_virtually


def scrape(client):
    """All samples by name and labels, after parsing by Prometheus' own parser."""
    body = asyncio.run(client.ask("GET", "/metrics")).body.decode()
    families = list(text_string_to_metric_families(body))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def asks(client, times):
    async def run():
        for _ in range(times):
            await client.predict({"store_id": 1, "items": ["MILK"]})
        await client.predict({"store_id": 0, "items": []})
        await asyncio.sleep(0)

    asyncio.run(run())


def test_answers_are_counted_by_who_and_why(client, pool):
    """Model and fallback apart, with the cause."""
    asks(client, 3)
    pool.alive = False
    asks(client, 2)
    samples = scrape(client)
    labels = {"integration": "till", "version": "3", "source": "model", "reason": "STATIC", "cause": ""}
    assert samples["brownfield_answers_total", *sorted(labels.items())] == 3
    labels |= {"version": "", "source": "constant", "reason": "FALLBACK", "cause": "worker"}
    assert samples["brownfield_answers_total", *sorted(labels.items())] == 2
    refused = ("brownfield_refused_requests_total", ("code", "BF-RUL-001"), ("integration", "till"))
    assert samples[refused] == 2


def test_stage_times_sum_to_the_request_durations(client):
    """The split of the metrics is the split of the answers."""
    asks(client, 5)
    samples = scrape(client)
    stages = sum(value for (name, *_), value in samples.items() if name == "brownfield_stage_seconds_total")
    assert abs(stages - samples["brownfield_request_duration_seconds_sum", ("integration", "till")]) < 1e-9
    assert samples["brownfield_request_duration_seconds_count", ("integration", "till")] == 5


def test_the_views_for_other_dashboards_say_the_same(client, pool):
    """Triton's and Seldon's names are sums of our own counters (the parser appends ``_total`` to any counter)."""
    asks(client, 3)
    pool.alive = False
    asks(client, 2)
    samples = scrape(client)
    assert samples["nv_inference_request_success_total", ("model", "till")] == 3
    assert samples["nv_inference_request_failure_total", ("model", "till")] == 2
    assert samples["seldon_model_infer_total", ("model_name", "till")] == 5
    assert samples["nv_inference_count_total", ("model", "till")] == 3
    assert samples["brownfield_rows_total", ("integration", "till")] == 5


def test_values_and_callers_add_no_series(client):
    """S-35: many distinct inputs, the same series."""
    asks(client, 1)
    before = scrape(client).keys()

    async def run():
        for number in range(200):
            await client.predict({"store_id": number + 1, "items": [f"item{number}"]})
            await client.ask("GET", f"/nothing/{number}")
        await asyncio.sleep(0)

    asyncio.run(run())
    new = scrape(client).keys() - before
    assert {name for name, *_ in new} <= {"brownfield_http_responses_total"}
    assert len(new) == 1


def test_what_fallbacks_waited_for_is_no_wait_of_the_model_s_answers(client, served, pool):
    """Two deadlines that passed at the model are in ``fail``; ``queue`` has the wait of the one that it answered."""

    async def run():
        await client.predict({"store_id": 1, "items": []})
        served.deadline_ns, pool.delay_s = 60_000_000, 5
        for _ in range(2):
            _, answer = await client.predict({"store_id": 1, "items": []})
            assert answer["decision"]["cause"] == "deadline"
        await asyncio.sleep(0)

    asyncio.run(run())
    stats = model_statistics([served])[0]["inference_stats"]
    assert (stats["queue"]["count"], stats["fail"]["count"]) == (1, 2)
    assert stats["fail"]["ns"] > 100e6
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(stats[part]["ns"] for part in parts) <= stats["success"]["ns"]


def test_inferences_are_the_model_s_own(client, served, pool):
    """Records that it answered: neither those of fallbacks and refusals, nor those whose answer was given again."""
    served.champion.cache = Cache(60)
    two = [{"store_id": 1, "items": ["MILK"]}, {"store_id": 2, "items": []}]

    async def run():
        for _ in range(3):
            await client.predict(two)
        pool.alive = False
        await client.predict({"store_id": 9, "items": []})
        await asyncio.sleep(0)

    asyncio.run(run())
    [told] = model_statistics([served])
    assert (told["inference_count"], told["execution_count"]) == (2, 1)
    assert told["inference_stats"]["cache_hit"]["count"] == 2
    samples = scrape(client)
    assert samples["nv_inference_count_total", ("model", "till")] == 2
    assert samples["brownfield_rows_total", ("integration", "till")] == 7


def test_who_reads_in_the_middle_of_a_turn_reads_no_half_of_an_answer(client, served):
    """A hit was counted at once and its answer a moment later: records of the model were fewer then than before."""
    served.champion.cache = Cache(60)
    body = json.dumps({"store_id": 1, "items": ["MILK"]}).encode()

    async def run():
        await client.predict(body)
        told = []
        client.handler.answer(client.handler.open("POST", b"/v1/till/predict", {}), body, told.append)
        [statistics] = client.handler.own_statistics()
        client.handler.answer(client.handler.open("POST", b"/v1/till/predict", {}), body, told.append)
        assert [each.status for each in told] == [200, 200]
        return statistics, client.handler.own_metrics()

    statistics, text = asyncio.run(run())
    counts = {name: part["count"] for name, part in statistics["inference_stats"].items()}
    assert (statistics["inference_count"], counts["success"], counts["cache_hit"], counts["queue"]) == (1, 2, 1, 1)
    assert 'nv_inference_count{model="till"} 1\n' in text
    assert 'brownfield_rows_total{integration="till"} 3\n' in text


def test_executions_are_calls_of_the_model(timeless_client, clock, served):
    """Of the protocol: what shared one call counts once; what a process joined with others counts in parts."""
    served.champion.row_cap = 8

    async def run():
        await asyncio.gather(*(timeless_client.predict({"store_id": 1, "items": ["MILK"]}) for _ in range(5)))
        await asyncio.sleep(0)

    run_virtually(run(), clock)
    [told] = model_statistics([served])
    assert told["inference_count"] == 5
    assert 1 <= told["execution_count"] < 5
    meter = Meter()
    for rows, call_rows in ((4, 8), (4, 8), (1, 2), (1, 0)):  # two that were joined, one with the sentinel, one unknown
        meter.executed(rows, call_rows)
    assert meter.executions == 3.0


def test_statistics_are_of_the_version_that_answers(client, served, pool):
    """What another version did before is not its own; metrics go on counting."""
    features = served.champion.features
    asks(client, 3)
    served.champion = None  # it is unloaded, and comes back
    client.handler.publish(client.handler.dataplane.snapshot)
    served.champion = Version("3", features, pool)
    client.handler.publish(client.handler.dataplane.snapshot)
    assert model_statistics([served])[0]["inference_count"] == 3
    served.champion = Version("4", features, pool)
    client.handler.publish(client.handler.dataplane.snapshot)
    [told] = model_statistics([served])
    assert (told["version"], told["inference_count"], told["execution_count"]) == ("4", 0, 0)
    assert {part["count"] + part["ns"] for part in told["inference_stats"].values()} == {0}
    asks(client, 2)
    [told] = model_statistics([served])
    assert (told["inference_count"], told["inference_stats"]["success"]["count"]) == (2, 2)
    assert scrape(client)["nv_inference_count_total", ("model", "till")] == 5


def text_of(served, answered, name="till"):
    """Exposition of a gateway with so many answers of one integration."""
    served.name, http = name, HttpMeter()
    served.meter.answers = {("3", "model", "STATIC", ""): answered}
    for _ in range(answered):
        http.observe(200)
    return exposition({name: served}, http)


def parsed(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


HTTP = ("brownfield_http_responses_total", ("status", "200"))


def test_f15_no_counter_falls_with_a_gateway_that_ended_or_keeps_silent(served):
    """F-15: counts stay in the sums, whoever told them; states are of those that answer."""
    figures, seen = Figures(), []
    for told, here in (
        ({"a": 100, "b": 50}, "ab"),
        ({"a": 110}, "ab"),  # b is busy
        ({"a": 120, "b": 70}, "ab"),
        ({"a": 130}, "a"),  # b was killed
        ({"a": 130, "c": 5}, "ac"),
        ({"c": 6}, "c"),
        ({"c": 7}, "c"),
    ):
        text = figures.exposition({one: text_of(served, n) for one, n in told.items()}, here, ["# TYPE x gauge", "x 1"])
        samples = parsed(text)
        assert samples["brownfield_ready", ("integration", "till")] == 1
        assert samples["x",] == 1
        seen.append(samples[HTTP])
    assert seen == [150, 160, 190, 200, 205, 206, 207]


def test_what_is_served_no_more_is_told_of_no_more(served):
    """A killed gateway's counts of an integration go with it."""
    figures = Figures()
    figures.exposition({"a": text_of(served, 3, "old"), "b": text_of(served, 4, "old")}, "ab")
    samples = parsed(figures.exposition({"a": text_of(served, 1, "new")}, "a"))
    assert not [key for key in samples if ("integration", "old") in key]
    assert samples[HTTP] == 5


def test_f15_statistics_stay_in_the_sums_as_well(served):
    """As long as their version is served."""
    figures = Figures()
    part = model_statistics([served])[0]
    four, three = part | {"execution_count": 4}, part | {"execution_count": 3}
    figures.statistics({"a": [four], "b": [three]}, "ab")
    assert figures.statistics({"a": [four]}, "ab")[0]["execution_count"] == 7
    assert figures.statistics({"a": [four]}, "a")[0]["execution_count"] == 7
    [newer] = figures.statistics({"a": [part | {"version": "4"}]}, "a")
    assert (newer["version"], newer["execution_count"]) == ("4", 0)


def test_without_a_manager_one_of_several_gateways_tells_states_alone(make_client, served):
    """Its counts among the sums of all would be counters that fell; a single gateway's are complete."""

    class Backstage:
        gateways = 2

        async def metrics(self):
            raise Unavailable("the manager is being started again")

    backstage = Backstage()
    client = make_client(served, backstage=backstage)
    asks(client, 2)
    samples = scrape(client)
    assert samples["brownfield_ready", ("integration", "till")] == 1
    assert not [name for name, *_ in samples if name.endswith(("_total", "_count", "_success"))]
    backstage.gateways = 1
    assert scrape(client)["brownfield_rows_total", ("integration", "till")] == 2
