"""A browser is not made a deputy of foreign pages (S-02)."""

import asyncio

import httpx
import pytest

from brownfield.errors import Forbidden
from brownfield.serving.gateway import ROUTES, Dataplane, Handler, Origins, Snapshot

FOREIGN = [
    pytest.param({b"host": b"evil.example"}, id="DNS rebinding"),
    pytest.param({b"host": b"evil.example:8080"}, id="DNS rebinding with the port"),
    pytest.param({b"host": b"localhost.evil.example"}, id="a name that begins like ours"),
    pytest.param({b"host": b"127.0.0.1.evil.example"}, id="a name that begins like our address"),
    pytest.param({b"host": b"[::2]:8080"}, id="another IPv6 address"),
    pytest.param({b"host": b""}, id="an empty name"),
    pytest.param({b"host": b"127.0.0.1", b"origin": b"https://evil.example"}, id="a page of another site"),
    pytest.param({b"host": b"127.0.0.1", b"origin": b"null"}, id="a page without a site"),
    pytest.param(
        {b"host": b"127.0.0.1", b"origin": b"http://127.0.0.1.evil.example"}, id="a site that begins like ours"
    ),
]
OURS = [
    {},
    {b"host": b"127.0.0.1:8080"},
    {b"host": b"LOCALHOST"},
    {b"host": b"localhost."},
    {b"host": b"[::1]:8080"},
    {b"host": b"scoring.till:80"},
    {b"host": b"127.0.0.1", b"origin": b"http://localhost:3000"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_s02_what_a_foreign_page_sends_is_refused_on_every_route_and_method(headers):
    """S-02: reading and writing, DELETE included, before anything else is looked at."""
    handler = Handler(Dataplane(Snapshot({})), origins=Origins(["scoring.till"]))

    async def run():
        paths = {route.path.encode() for route in ROUTES}
        methods = ("GET", "POST", "PUT", "DELETE", "PATCH")
        return {(await handler.handle(method, path, headers, b"")).status for path in paths for method in methods}

    assert asyncio.run(run()) == {403}


@pytest.mark.parametrize("headers", OURS)
def test_what_names_this_listener_is_admitted(headers):
    """Under loopback's names, declared ones, or none at all (HTTP/1.0)."""
    Origins(["scoring.till"]).check(headers)


def test_a_name_that_was_admitted_does_not_admit_another():
    """What is remembered is the whole field."""
    origins = Origins()
    origins.check({b"host": b"127.0.0.1"})
    with pytest.raises(Forbidden):
        origins.check({b"host": b"127.0.0.2"})


@pytest.mark.full
def test_s02_a_served_workspace_without_tokens_asks_for_its_host(risk, serving, tmp_path):
    """S-02: the supervisor turns it on where no token is asked for."""
    risk.declare(tmp_path, model_path=None)
    url = serving(tmp_path).url + "/v2/health/live"
    statuses = [
        httpx.get(url, headers=headers).status_code
        for headers in ({}, {"host": "evil.example"}, {"origin": "http://evil.example"})
    ]
    assert statuses == [200, 403, 403]
