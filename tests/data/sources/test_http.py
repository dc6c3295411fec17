"""The HTTP client of lookups against a real service: where it goes, what it takes, how long it waits."""

import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from brownfield.data.sources import Ask, Budget, BudgetSpent, HttpClient, Site
from brownfield.errors import BrownfieldError, DeclarationError, SourceUnavailable
from harness.http_service import Answer, service  # noqa: F401 (a fixture)

sys.path.insert(0, str(Path(__file__).parents[2] / "integration"))
from test_urls import REFUSED

ASK = Ask("GET", "/products/1")


@pytest.fixture
def client(tmp_path, service):  # noqa: F811 (the fixture)
    """Make a client of the service."""
    made = []

    def make(url=service.url, network="this_machine", *, budget=None, **options):
        site = Site(url, network, tls="off" if url.startswith("http:") else "verify")
        budget = budget or Budget(tmp_path / "budget", "crm", 4, 10_000)
        made.append(HttpClient(lambda: site, budget, keep_open=True, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.full
def test_an_answer_comes_back_whole_over_one_kept_connection(client, service):  # noqa: F811
    """Status, media type and body are the service's; twenty requests take one connection."""
    service.answer = lambda *_: Answer(b'{"a": 1}', headers={"Content-Type": "Application/JSON; charset=utf-8"})
    crm = client()
    replies = [crm.ask(ASK) for _ in range(20)]
    assert {(each.status, each.media_type, each.body) for each in replies} == {(200, "application/json", b'{"a": 1}')}
    assert (len(service.asked), service.connections) == (20, 1)


@pytest.mark.parametrize("form", REFUSED, ids=[f"S-11-B-72-{name}" for name in REFUSED])
def test_s11_no_connection_is_made_to_a_refused_url(client, monkeypatch, form):
    """S-11, B-72: every form of the table is refused before a name is resolved or a socket opened."""
    opened = []
    monkeypatch.setattr(socket, "create_connection", lambda *args: opened.append(args))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: opened.append(args))
    with pytest.raises(DeclarationError):
        client(REFUSED[form], "private").ask(ASK)
    assert opened == []


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("public", "10.1.2.3"),
        ("public", "127.0.0.1"),
        ("public", "169.254.169.254"),
        ("public", "::ffff:10.0.0.1"),
        ("private", "127.0.0.1"),
        ("private", "203.0.114.9"),
        ("private", "169.254.169.254"),
        ("this_machine", "10.1.2.3"),
        ("this_machine", "169.254.169.254"),
    ],
)
def test_f68_s11_a_name_that_stands_for_another_network_is_refused(client, monkeypatch, network, address):
    """F-68, S-11: the address class is checked after resolution, all addresses of a name, and nothing is connected."""
    opened = []
    good = {"public": "203.0.114.9", "private": "10.9.9.9", "this_machine": "127.0.0.1"}[network]
    found = [(2, 1, 6, "", (each, 80)) for each in (good, address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", lambda *args: opened.append(args))
    with pytest.raises(DeclarationError) as told:
        client("http://crm.example/", network).ask(ASK)
    assert opened == []
    assert address not in str(told.value)


def test_s11_the_checked_address_is_the_one_that_is_connected(client, service, monkeypatch):  # noqa: F811
    """S-11, DNS rebinding: a name is resolved once for a connection; a second answer is never asked for."""
    answers = iter(["127.0.0.1", "169.254.169.254"])
    real = socket.getaddrinfo
    asked = []

    def resolve(host, port, *args, **options):
        if host == "crm.example":
            asked.append(host)
            return [(2, 1, 6, "", (next(answers), port))]
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    reply = client(f"http://crm.example:{service.port}/").ask(ASK)
    assert (reply.status, asked) == (200, ["crm.example"])
    assert service.asked[0][2]["host"] == f"crm.example:{service.port}"


def test_f68_a_name_that_stands_for_nothing_is_an_outage(client):
    """F-68: a name server that knows no address is told as a source out of reach."""
    with pytest.raises(SourceUnavailable, match="out of reach"):
        client("http://no-such-host.invalid/", "private").ask(ASK)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_s11_a_redirect_is_never_followed(client, service, status):  # noqa: F811
    """S-11: wherever it leads, a redirect is an outage, and the place it names is not asked."""
    service.answer = lambda *_: Answer(status=status, headers={"Location": f"{service.url}/elsewhere"})
    with pytest.raises(SourceUnavailable, match="redirect"):
        client().ask(ASK)
    assert [path for _, path, _, _ in service.asked] == ["/products/1"]


@pytest.mark.parametrize(
    ("answer", "why", "step"),
    [
        (Answer(status=302), "a redirect", "the place itself"),
        (Answer(status=401), "let us in", "credential in auth"),
        (Answer(b"{}", headers={"Content-Encoding": "gzip"}), "packed", "as they are"),
        (Answer(b"x" * 5_000_000), "longer than", "budget.max_answer_kib"),
        (Answer(b"x" * 100, cut_at=10), "ends too early", "Look whether it runs"),
    ],
    ids=["redirect", "401", "packed", "long", "half"],
)
def test_every_outage_names_the_connection_and_what_to_do(client, service, answer, why, step):  # noqa: F811
    """Whoever reads it knows which of the declared services it was."""
    service.answer = lambda *_: answer
    with pytest.raises(SourceUnavailable, match=why) as outage:
        client(max_bytes=1_000_000).ask(ASK)
    assert outage.value.where.startswith("connection ")
    assert step in outage.value.next_step


def test_a_credential_that_no_header_can_carry_is_refused_without_being_shown(client, service):  # noqa: F811
    """Of two lines the second would be a header of its own; nothing is asked."""
    made = client()
    site = made.resolve()
    made.resolve = lambda: replace(site, headers={"Authorization": "Bearer geheim\nX-Other: 1"})
    with pytest.raises(DeclarationError, match=r"^connection .*a credential of one line") as refused:
        made.ask(ASK)
    assert "geheim" not in str(refused.value)
    assert service.asked == []


def test_nothing_is_tried_twice(client, service):  # noqa: F811
    """A request that fails is asked once: the client has no retries of its own."""
    service.answer = lambda *_: Answer(b"x" * 100, cut_at=10)
    with pytest.raises(SourceUnavailable):
        client().ask(ASK)
    assert len(service.asked) == 1


def test_f44_a_slow_first_byte_costs_no_more_than_the_deadline(client, service):  # noqa: F811
    """F-44: the caller is told at its deadline, not when the service is done."""
    service.answer = lambda *_: Answer(wait_s=12.0)
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable, match="no answer within"):
        client(timeout_s=0.2).ask(ASK)
    assert time.monotonic() - begun < 6


def test_f44_a_dripping_answer_costs_no_more_than_the_deadline(client, service):  # noqa: F811
    """F-44: a byte now and then does not keep the caller; the deadline is for the whole answer."""
    service.answer = lambda *_: Answer(b"x" * 1_000, drip_s=0.02)
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable):
        client(timeout_s=0.3).ask(ASK)
    assert time.monotonic() - begun < 10


def test_f45_half_an_answer_is_none(client, service):  # noqa: F811
    """F-45: a connection that ends within the body gives no reply."""
    service.answer = lambda *_: Answer(b'{"a": 1}' * 100, cut_at=50)
    with pytest.raises(SourceUnavailable, match="failed"):
        client().ask(ASK)


def test_a_long_or_packed_answer_is_refused(client, service):  # noqa: F811
    """An answer beyond the cap, or compressed without having been asked for, is not read."""
    service.answer = lambda *_: Answer(b"x" * 1_001)
    with pytest.raises(SourceUnavailable, match="longer than 1000 bytes"):
        client(max_bytes=1_000).ask(ASK)
    service.answer = lambda *_: Answer(b"x", headers={"Content-Encoding": "gzip"})
    with pytest.raises(SourceUnavailable, match="packed"):
        client().ask(ASK)


def test_a_dead_kept_connection_is_not_used_again(client, service):  # noqa: F811
    """When the service ended a kept connection, the next request opens another."""
    crm = client()
    service.answer = lambda *_: Answer(headers={"Connection": "close"})
    assert crm.ask(ASK).status == 200
    assert crm.ask(ASK).status == 200
    assert service.connections == 2


@pytest.mark.full
def test_f43_attempts_on_a_flapping_service_stay_within_the_budget(client, service, tmp_path):  # noqa: F811
    """F-43, I10: while it refuses connections the tries come later and later, whoever asks."""
    service.refusing = True
    now = [1_000_000.0]

    def pass_time(pause_s):
        now[0] += pause_s

    budget = Budget(tmp_path / "small", "crm", 1, 1_000, now=lambda: now[0], sleep=pass_time)
    tries = 0
    while now[0] < 1_000_001.5:
        tries += 1
        pass_time(0.01)
        with pytest.raises(BrownfieldError):
            client(budget=budget, timeout_s=0.2).ask(ASK)
    assert 2 <= service.connections <= 6
    assert tries > service.connections


@pytest.mark.full
def test_requests_stay_within_the_budget_of_every_second(client, service, tmp_path):  # noqa: F811
    """No second holds more requests than are declared."""
    crm = client(budget=Budget(tmp_path / "small", "crm", 1, 20))
    for _ in range(25):
        crm.ask(ASK)
    at = service.asked_at
    assert max(sum(begin <= each < begin + 1 for each in at) for begin in at) <= 20


def test_i10_who_is_in_a_hurry_takes_nothing_from_who_comes_next(client, service, tmp_path):  # noqa: F811
    """I10: requests that our budget has no time for are told so at once, and the next is asked in its turn."""
    crm = client(budget=Budget(tmp_path / "small", "crm", 1, 20))
    assert crm.ask(ASK).status == 200
    for _ in range(64):
        with pytest.raises(BudgetSpent):
            crm.ask(ASK, timeout_s=0.001)
    assert crm.ask(ASK, timeout_s=2.0).status == 200
    assert len(service.asked) == 2


def test_i10_a_connection_of_ours_that_another_holds_is_our_budget(client, tmp_path):
    """I10: whether another process or another thread has the only one, the service is not to blame."""
    budget = Budget(tmp_path / "small", "crm", 1, 1_000)
    crm = client(budget=budget)
    with budget.connection(), pytest.raises(BudgetSpent, match="all 1 connections"):
        crm.ask(ASK, timeout_s=0.1)
    with crm._places, pytest.raises(BudgetSpent, match="all connections"):
        crm.ask(ASK, timeout_s=0.01)
