"""Routes, permissions, methods and paths."""

import asyncio
import contextlib
import json

import pytest

from brownfield.errors import Forbidden, Unauthenticated
from brownfield.serving.gateway import ROUTES
from brownfield.serving.gateway.calls import Call

TOKEN = b"Bearer good"


def only_with_token(header, permission, peer):
    """Lets the good token do everything but read metrics."""
    if header is None or not header.startswith(b"Bearer "):
        raise Unauthenticated("no token")
    if header != TOKEN:
        raise Unauthenticated("wrong token")


def forbids(header, permission, peer):
    """Knows the caller and grants nothing."""
    raise Forbidden("the role does not grant this")


def concrete(path: str) -> str:
    return path.replace("{integration}", "till").replace("{version}", "3")


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "")
ODD_PATHS = ("/nothing", "/v1/other/predict", "/v2/models/other", "/admin", "/v2/repository/index", "*", "")


def ask(client, method, path, body=b"", **headers):
    response = asyncio.run(client.ask(method, path, body, **headers))
    return response.status, dict(response.headers), response.body


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("header", [None, "Bearer bad", "Basic Z29vZA=="])
def test_nothing_is_open_without_a_token_but_health(make_client, served, method, header):
    """S-01, R-23: every route and every method, known or not, answers 401 to a stranger; health alone is open."""
    client = make_client(served, authorize=only_with_token)
    headers = {} if header is None else {"authorization": header}
    for path in (*(concrete(route.path) for route in ROUTES), *ODD_PATHS):
        status, fields, body = ask(client, method, path, **headers)
        if path.startswith("/v2/health/") and method in {"GET", "HEAD"}:
            assert status == 200
            continue
        assert status == 401, (method, path)
        assert fields[b"www-authenticate"] == b"Bearer"
        assert b"till" not in body


@pytest.mark.parametrize("route", [route for route in ROUTES if route.permission], ids=lambda route: route.path)
def test_a_role_without_the_permission_is_forbidden(make_client, served, route):
    """S-05: 403, and the function is not reached."""
    client = make_client(served, authorize=forbids)
    assert ask(client, route.method, concrete(route.path))[0] == 403


def test_every_route_names_the_permission_that_is_asked_for(make_client, served):
    """The table is what is enforced."""
    asked = []
    client = make_client(served, authorize=lambda _, permission, **__: asked.append(permission))
    for route in ROUTES:
        ask(client, route.method, concrete(route.path))
    assert asked == [route.permission for route in ROUTES if route.permission]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_answers(client, route):
    """No line of the table points nowhere."""
    bodies = {
        "/predict": {"store_id": 1, "items": []},
        "/infer": {
            "inputs": [
                {"name": "store_id", "shape": [1], "datatype": "INT64", "data": [1]},
                {"name": "items", "shape": [1, 1], "datatype": "BYTES", "data": ["MILK"]},
            ]
        },
    }
    body = next((body for end, body in bodies.items() if route.path.endswith(end)), b"")
    status, fields, _ = ask(client, route.method, concrete(route.path), body)
    moves = route.path.startswith("/v2/repository/models/")  # there is no manager behind this handler
    assert status == (503 if moves else 307 if route.path == "/" else 200)
    assert b"total;dur=" in fields[b"server-timing"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS", "PRI"])
def test_another_method_is_405_with_what_is_allowed(client, route, method):
    """B-12: never an action under another name."""
    status, fields, _ = ask(client, method, concrete(route.path), x_http_method_override=route.method)
    assert status == 405
    assert route.method in fields[b"allow"].decode().split(", ")


TRICKS = (
    "/v2/../v2",
    "/v2/%2e%2e/v2",
    "//v2",
    "/v2/",
    "/v2;x=1",
    "/v2%00",
    "/v2\\",
    "/V2",
    "/v2/models/till%2finfer",
    "/v2/models/%74ill",
    "/v1/till/predict/",
    "/v1//predict",
    "/v1/../v1/till/predict",
    "/v1/till\u2215predict",
    "/" + "a" * 20_000,
)


@pytest.mark.parametrize("path", TRICKS, ids=lambda path: ascii(path)[:30])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_odd_spellings_of_a_path_lead_nowhere(make_client, served, path, method):
    """B-11, S-12: only the one canonical spelling is a path, with or without a token, and it is not repeated."""
    client = make_client(served, authorize=only_with_token)
    assert ask(client, method, path)[0] == 401
    status, _, body = ask(client, method, path, authorization=TOKEN.decode())
    assert status == 404
    assert len(body) < 500


def test_an_unknown_version_names_the_served_ones(client):
    """B-78: 404, and what to use instead."""
    status, _, body = ask(client, "POST", "/v2/models/till/versions/9/infer", {})
    assert status == 404
    assert json.loads(body) == {"error": "this version is not served. Served now: 3."}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1/till", "nothing at this path"),
        ("/v1/till/predict/", "nothing at this path"),
        ("/v2/models/till/", "nothing at this path"),
        ("/v2/models/till/versions/3/infer/", "nothing at this path"),
        ("/v2/models/till/versions/9", "this version is not served"),
        ("/v1/other/predict", "no integration of that name"),
        ("/v2/models/other", "no integration of that name"),
        ("/v2/repository/models/other/load", "no integration of that name"),
        ("/v2/models/", "nothing at this path"),
        ("/v1", "nothing at this path"),
    ],
)
def test_a_404_says_what_there_is_not(client, path, told):
    """A slash too many is no missing integration, and a missing integration is told on every path that names one."""
    status, _, body = ask(client, "GET", path)
    answer = json.loads(body)
    assert status == 404
    assert told in answer.get("error", answer.get("detail", ""))


def test_head_is_a_get(client):
    """Same status and fields; the front leaves the body out."""
    assert ask(client, "HEAD", "/v2")[0] == ask(client, "GET", "/v2")[0] == 200


def test_server_metadata_advertises_what_is_implemented(client):
    """Clients decide by it."""
    answer = json.loads(ask(client, "GET", "/v2")[2])
    assert answer["name"] == "brownfield"
    assert answer["extensions"] == ["binary_tensor_data", "model_repository", "schedule_policy", "statistics"]


def test_health_says_both_keys_and_goes_by_the_status(client, handler, served, pool):
    """The protocol's text contradicts itself on the key, so both are sent."""
    assert json.loads(ask(client, "GET", "/v2/health/live")[2]) == {"live": True}
    assert json.loads(ask(client, "GET", "/v2/health/ready")[2]) == {"live": True, "ready": True}
    handler.draining = True
    assert ask(client, "GET", "/v2/health/ready")[0] == 503
    assert ask(client, "GET", "/v2/health/live")[0] == 200


def test_ready_means_that_every_integration_can_answer(client, served, pool):
    """By the model or by the fallback; without either the workspace is not ready."""
    pool.alive = False
    assert ask(client, "GET", "/v2/health/ready")[0] == 200
    status, _, body = ask(client, "GET", "/v2/models/till/ready")
    assert (status, json.loads(body)) == (200, {"name": "till", "ready": True, "model_ready": False})
    served.fallbacks = ()
    assert ask(client, "GET", "/v2/health/ready")[0] == 503
    assert ask(client, "GET", "/v2/models/till/ready")[0] == 503


def test_a_workspace_without_integrations_is_not_ready(make_client):
    """Everything of nothing is not ready (trap 8)."""
    assert ask(make_client(), "GET", "/v2/health/ready")[0] == 503


@pytest.mark.inside
def test_a_failure_of_ours_is_a_500_without_the_inside(client, handler, monkeypatch, caplog):
    """S-13: logged for the operator, nothing said outside; a bug is not the caller's business."""

    def broken(ask):
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(handler.dataplane, "ask", broken)
    for path in ("/v1/till/predict",):
        status, _, body = ask(client, "POST", path, {"store_id": 1, "items": []})
        assert status == 500
        assert b"secret" not in body
    assert "a request failed" in caplog.text


def test_b_13_a_deep_body_of_a_repository_call_is_refused(client):
    """B-13: 400, and no failure of ours."""
    for path in ("/v2/repository/index", "/v2/repository/models/till/load", "/v2/repository/models/till/unload"):
        status, _, body = ask(client, "POST", path, b'{"parameters":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
        assert (status, b"BF-JSON-005" in body) == (400, True), body
    assert client.handler.in_flight == 0


@pytest.mark.parametrize(("wanted", "expected"), [(True, 200), (False, 200), ("yes", 400), (1, 400), (None, 400)])
def test_an_index_takes_a_truth_value_alone(client, wanted, expected):
    """Whoever asks for what is ready in another way would be told of everything."""
    status, _, body = ask(client, "POST", "/v2/repository/index", {"ready": wanted})
    assert (status, b"ready" in body) == (expected, expected == 400), body


@pytest.mark.parametrize(
    ("move", "parameters", "expected"),
    [
        ("unload", {"unload_dependents": False}, 200),
        ("unload", {"unload_dependents": True}, 200),
        ("unload", {"unload_dependents": False, "force": True}, 400),
        ("load", {"unload_dependents": False}, 400),
        ("load", {"config": "{}"}, 400),
    ],
)
def test_of_parameters_an_unload_takes_the_one_that_says_nothing_here(make_client, served, move, parameters, expected):
    """Triton's client sends ``unload_dependents`` with every unload; no model of ours depends on another."""
    moved = []

    class Backstage:
        async def load(self, name, _):
            moved.append(name)

        unload = load

    client = make_client(served, backstage=Backstage())
    assert ask(client, "POST", f"/v2/repository/models/till/{move}", {"parameters": parameters})[0] == expected
    assert moved == (["till"] if expected == 200 else [])


@pytest.mark.parametrize("answered", ["before", "in the same turn", "after"])
def test_f_19_who_leaves_is_taken_off_once(make_handler, served, answered):
    """F-19: whichever comes first, the answer or the leave."""

    class Backstage:
        async def metrics(self):
            await there.wait()
            return "x 1\n"

    there = asyncio.Event()
    handler = make_handler(served, backstage=Backstage())

    async def leave():
        task = asyncio.create_task(handler.handle("GET", b"/metrics", {}, b""))
        await asyncio.sleep(0)
        assert handler.in_flight == 1
        if answered == "before":
            there.set()
            await asyncio.sleep(0)
        if answered == "in the same turn":
            there.set()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        there.set()
        while handler._late:  # noqa: ASYNC110 (turns of the loop are what is waited for)
            await asyncio.sleep(0)

    asyncio.run(leave())
    assert handler.in_flight == 0


def test_f_20_a_head_that_came_slowly_turns_nobody_else_away(make_handler, served):
    """F-20: the turn of the loop in which it is opened begins then, not with its first byte."""

    async def opened():
        handler = make_handler(served)
        now_ns = handler.now_ns()
        first = handler.open("POST", b"/v1/till/predict", {}, started_ns=now_ns - 1_200_000_000)
        return [first, *[handler.open("POST", b"/v1/till/predict", {}) for _ in range(60)]]

    calls = asyncio.run(opened())
    assert [type(call) for call in calls] == [Call] * 61
    assert not any(call.shed for call in calls)
    assert not any(served.meter.sheds)


def test_publishing_swaps_what_is_served(handler, client, served, make_handler):
    """New paths appear and old ones go, at once."""
    from brownfield.serving.gateway import Served, Snapshot

    other = Served(name="other", contract=served.contract, deadline_ms=100)
    handler.publish(Snapshot({"other": other}))
    assert ask(client, "GET", "/v2/models/other")[0] == 200
    assert ask(client, "GET", "/v2/models/till")[0] == 404
