"""What the gateway has no time for: the fallbacks answer, or it is refused unread; either is decided and kept."""

import asyncio
import json
import re
from types import SimpleNamespace

import httpx
import pytest

from brownfield.serving.gateway.admission import Admission
from brownfield.serving.gateway.latency import Split
from brownfield.serving.gateway.pressure import Verdict
from brownfield.serving.gateway.shedding import refuse_unread
from brownfield.serving.workers.base import Inference

pytestmark = pytest.mark.inside

GOOD = {"store_id": 1, "items": ["MILK"]}
V2 = {
    "id": "7",
    "inputs": [
        {"name": "store_id", "shape": [1], "datatype": "INT64", "data": [1]},
        {"name": "items", "shape": [1, 1], "datatype": "BYTES", "data": ["MILK"]},
    ],
}
PATHS = {"named": ("/v1/till/predict", GOOD), "V2": ("/v2/models/till/infer", V2)}


@pytest.fixture
def kept(served):
    """What the journal is given."""
    found = []
    served.record = lambda decision, _split, rows, columns: found.append((decision, rows, columns))
    return found


@pytest.fixture
def under(handler, monkeypatch):
    """Puts the gateway under pressure, with this verdict on whatever comes."""
    return lambda verdict: monkeypatch.setattr(handler.pressure, "judge", lambda *_: verdict)


def ask(client, path, body):
    """Status, header fields and body, once what comes after the answer is done as well."""

    async def run():
        response = await client.ask("POST", path, body)
        await asyncio.sleep(0)
        return response.status, dict(response.headers), json.loads(response.body)

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def loose(handler):
    """Without slots, so that the verdict can be set."""
    handler.pressure = SimpleNamespace(judge=handler.pressure.judge, began_ns=2**63)


@pytest.mark.parametrize("form", PATHS)
def test_f77_what_is_shed_is_answered_by_the_fallback(client, served, pool, kept, under, form):
    """F-77: the model is not asked; the answer says who gave it and why; it is counted and journalled."""
    under(Verdict.SHED)
    asked = []
    pool.function = asked.append
    status, fields, answer = ask(client, *PATHS[form])
    [(decision, rows, columns)] = kept
    assert (status, fields[b"brownfield-decision"].decode()) == (200, decision.id)
    assert (decision.source, decision.cause, decision.degraded, rows) == ("constant", "overload", True, 1)
    assert list(columns["store_id"]) == [1]
    assert asked == []
    assert (answer.get("id"), answer["outputs"][0]["data"]) == ("7", ["BREAD"]) if form == "V2" else True
    assert answer["prediction"]["items"] == ["BREAD"] if form == "named" else True
    assert served.meter.answers == {("", "constant", "FALLBACK", "overload"): 1}
    assert served.meter.sheds == [1, 0, 0]


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize("why", ["no time to read it", "no fallback"])
def test_f77_what_is_refused_unread_is_decided_and_kept(client, served, kept, under, form, why):
    """F-77: 503 with Retry-After and a decision of its own, counted and journalled, and no answer is like another's."""
    under(Verdict.REFUSE if why == "no time to read it" else Verdict.SHED)
    if why == "no fallback":
        served.fallbacks = ()
    replies = [ask(client, *PATHS[form]) for _ in range(2)]
    assert [decision.id.encode() for decision, *_ in kept] == [
        fields[b"brownfield-decision"] for _, fields, _ in replies
    ]
    assert kept[0][0].id != kept[1][0].id
    for (status, fields, answer), (decision, rows, columns) in zip(replies, kept, strict=True):
        assert (status, fields[b"retry-after"]) == (503, b"1")
        assert b"total;dur=" in fields[b"server-timing"]
        assert (decision.source, decision.cause, decision.reason, rows, columns) == (
            "none",
            "overload",
            "ERROR",
            0,
            None,
        )
        if form == "V2":
            assert answer == {"error": "more is asked for than can be answered in time. Try again in a moment."}
        else:
            assert (answer["code"], answer["decision"]["id"]) == ("BF-ERR-UNANSWERED", decision.id)
    assert served.meter.answers == {("3", "none", "ERROR", "overload"): 2}
    assert served.meter.sheds == [2, 0, 0]


def test_a_shed_request_is_held_to_its_contract_still(client, kept, under):
    """Who sends nonsense is told so, whatever else there is to do."""
    under(Verdict.SHED)
    assert ask(client, "/v1/till/predict", {"store_id": 0, "items": []})[0] == 422
    assert kept == []


def test_who_was_let_in_does_not_wait_for_the_refusals_after_it(client, pool):
    """The model is asked when the first request of a turn is refused, not when all of them are."""
    verdicts, asked = iter([Verdict.ASK, Verdict.REFUSE]), []
    client.handler.pressure = SimpleNamespace(judge=lambda *_: next(verdicts), began_ns=2**63)
    answer = pool.function
    pool.function = lambda tensors: (asked.append(1), answer(tensors))[1]

    async def turn():
        handler, headers = client.handler, {b"content-length": b"33"}
        call = handler.open("POST", b"/v1/till/predict", headers)
        handler.answer(call, json.dumps(GOOD).encode(), lambda _: None)
        before = list(asked)
        refused = handler.open("POST", b"/v1/till/predict", headers)
        return before, list(asked), refused.status

    assert asyncio.run(turn()) == ([], [1], 503)


def test_an_answer_does_not_wait_for_the_refusals_after_it(client, served, monkeypatch):
    """The model's answer is taken in while others are refused, told once, and the next in the queue is asked for."""
    verdicts = iter([Verdict.ASK] * 2 + [Verdict.REFUSE] * 2)
    client.handler.pressure = SimpleNamespace(judge=lambda *_: next(verdicts), began_ns=2**63)
    served.champion.pool = pool = _Slow()
    monkeypatch.setattr(Admission, "window", lambda *_: 1)
    headers, told = {b"content-length": b"33"}, []

    async def turn():
        handler = client.handler
        for name in ("first", "second"):
            call = handler.open("POST", b"/v1/till/predict", headers)
            handler.answer(call, json.dumps(GOOD).encode(), lambda response, name=name: told.append((name, response)))
        handler.open("POST", b"/v1/till/predict", headers)
        began = len(pool.waiting)
        pool.come = True
        handler._looked_ns = 0
        handler.open("POST", b"/v1/till/predict", headers)
        in_this_turn = list(told)
        for _ in range(5):
            await asyncio.sleep(0)
        return began, in_this_turn, len(pool.waiting)

    began, in_this_turn, asked = asyncio.run(turn())
    assert (began, asked) == (1, 2)
    assert [(name, response.status) for name, response in in_this_turn] == [("first", 200)]
    assert [name for name, _ in told] == ["first"]


class _Slow:
    """A pool whose answers are there when ``come`` is set, and taken in when somebody looks; only the first comes."""

    ready = True
    workers = 1

    def __init__(self):
        self.waiting = []
        self.come = False

    async def infer(self, tensors, rows, _deadline_ns):
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        await future
        return Inference({"y": 1 / (1 + tensors["x"])}, 1000, rows)

    def look(self):
        if self.come and not self.waiting[0].done():
            self.waiting[0].set_result(None)


def test_a_refusal_names_the_version_that_would_have_answered(served):
    """Also after a promotion, though its text is made once."""
    first = json.loads(refuse_unread(served, Split(0), v2=False)[1].body)
    served.champion.name = "4"
    second = json.loads(refuse_unread(served, Split(0), v2=False)[1].body)
    assert [each["decision"]["version"] for each in (first, second)] == ["3", "4"]


def test_callers_are_known_to_it(make_client, served):
    """By the name of their token, so that one cannot take the share of another."""
    names = []

    def judge(_now, _deadline, _priority, caller, _under_way):
        names.append(caller)
        return Verdict.ASK

    client = make_client(served, authorize=lambda *_, **__: SimpleNamespace(name="till 7", priority="interactive"))
    client.handler.pressure = SimpleNamespace(judge=judge, began_ns=2**63)
    assert ask(client, "/v1/till/predict", GOOD)[0] == 200
    assert names == ["till 7"]


@pytest.mark.full
def test_f77_in_a_burst_every_request_is_one_decision(risk, serving, tmp_path):
    """F-77: answered, fallen back or refused, each of 4,000 is told so, counted once, and its decision is its own."""
    running = serving(risk.workspace(tmp_path, deadline_ms=10))
    port = int(running.url.rsplit(":", 1)[1])
    body = b'{"x": [1, 2, 3, 4]}'
    request = b"POST /v1/risk/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    found = []

    async def caller():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request * 20)
        for _ in range(20):
            status = int((await reader.readline()).split()[1])
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            found.append((status, json.loads(await reader.readexactly(length))["decision"]))
        writer.close()

    async def burst():
        await asyncio.gather(*(caller() for _ in range(200)))

    asyncio.run(burst())
    assert len(found) == len({decision["id"] for _, decision in found}) == 4000
    assert {(status, decision["source"]) for status, decision in found} <= {
        (200, "model"),
        (200, "constant"),
        (503, "none"),
    }
    assert sum(decision["cause"] == "overload" for _, decision in found) > 0
    text = httpx.get(f"{running.url}/metrics").text
    counted = re.findall(r"^brownfield_answers_total\{.*\} (\d+)$", text, re.MULTILINE)
    assert sum(map(int, counted)) == 4000
