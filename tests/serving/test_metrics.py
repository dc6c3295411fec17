"""The Prometheus text."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from brownfield.serving.gateway.statistics import model_statistics


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
    assert samples["nv_inference_count_total", ("model", "till")] == 5


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
