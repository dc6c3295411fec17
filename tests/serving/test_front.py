"""A gateway between its supervisor and its manager: what each of the two leaves behind when it goes or gives up."""

import asyncio
import ssl
import threading
from types import SimpleNamespace

import pytest

from brownfield.errors import Unavailable
from brownfield.serving import front
from brownfield.serving.board import Board
from brownfield.serving.declared import read_declared
from brownfield.serving.lookups import Lookups
from brownfield.serving.plan import Placement, Plan
from brownfield.serving.tls import server_context
from harness.certificates import make_certificate


class Exited(BaseException):
    """The process would have ended here."""


@pytest.fixture
def gateway(risk, tmp_path):
    """A gateway that was forked and answers nobody."""
    risk.declare(tmp_path, model_path=None)
    made = front.Front(0, read_declared(tmp_path), tmp_path, host="127.0.0.1")
    made._board = Board(made._declared, tmp_path, tell=lambda *_: None)
    return made


@pytest.fixture
def ended(monkeypatch):
    """The lookups that were ended, in turn."""
    found = []

    def end(lookups):
        found.append(lookups)

    monkeypatch.setattr(Lookups, "end", end)
    return found


def plan_of(gateway):
    return Plan(declaration=gateway._declared.digest, started=True, placements=())


def test_an_orphan_ends_whatever_becomes_of_its_journals(gateway, monkeypatch):
    """An error of any kind does not keep a gateway alive whose supervisor has gone."""

    def close():
        raise RuntimeError("a journal that is broken")

    def leave(status):
        raise Exited(status)

    monkeypatch.setattr(gateway, "_journals", SimpleNamespace(close=close))
    monkeypatch.setattr(front.os, "_exit", leave)
    with pytest.raises(Exited):
        gateway._orphaned()


def test_what_is_prepared_too_late_is_let_go(gateway, ended, monkeypatch):
    """A manager that waited long enough gives the reload up while a gateway still prepares."""
    going_on = threading.Event()

    def read_slowly(folder):
        assert going_on.wait(60)
        return read_declared(folder)

    monkeypatch.setattr(front, "read_declared", read_slowly)

    async def run():
        preparing = asyncio.create_task(gateway._asked("prepare", plan_of(gateway)))
        await asyncio.sleep(0)
        aborting = asyncio.create_task(gateway._asked("abort", None))
        await asyncio.sleep(0)
        going_on.set()
        await asyncio.gather(preparing, aborting)
        with pytest.raises(Unavailable, match="nothing was prepared"):
            await gateway._asked("commit", None)

    asyncio.run(run())
    assert len(ended) == 1


def test_what_a_manager_prepared_before_it_was_killed_is_let_go(gateway, ended):
    """The next one to prepare takes its place, also when it is refused."""

    async def run():
        await gateway._asked("prepare", plan_of(gateway))
        await gateway._asked("prepare", plan_of(gateway))
        assert len(ended) == 1
        with pytest.raises(front.DeclarationError):
            await gateway._asked("prepare", Plan(declaration="another", started=True, placements=()))
        with pytest.raises(Unavailable, match="nothing was prepared"):
            await gateway._asked("commit", None)

    asyncio.run(run())
    assert len(ended) == 2


@pytest.mark.parametrize("how", ["a plan", "a reload"])
def test_callers_who_wait_for_what_is_replaced_are_let_go_when_that_is_in_force(gateway, ended, how):
    """Not before: a reload that is given up replaces nothing."""
    waited_for = SimpleNamespace(pool=SimpleNamespace(on_demand=lambda: None, fail_arrival=lambda: let_go.append(how)))
    let_go = []

    async def run():
        gateway._board._asked["risk"] = waited_for
        gateway.handler = gateway._health = SimpleNamespace(publish=lambda _: None, starting=False)
        gateway._handlers = (gateway.handler,)
        gateway._lookups = Lookups(gateway._declared.spec, gateway._clock)
        if how == "a plan":
            await gateway._asked("plan", plan_of(gateway))
        else:
            await gateway._asked("prepare", plan_of(gateway))
            await gateway._asked("abort", None)
            await gateway._asked("prepare", plan_of(gateway))
            assert not let_go
            await gateway._asked("commit", None)

    asyncio.run(run())
    assert let_go == [how]
    assert waited_for.pool.on_demand is None


def test_a_gateway_keeps_no_bundle_that_no_plan_names(gateway, ended):
    """Each reload brings its own: those of earlier ones would be held for as long as it runs."""
    gateway._declared.bundles.update(old="old", stays="stays")
    placement = Placement(integration="gone", digest="stays")
    plan = Plan(declaration=gateway._declared.digest, started=True, placements=(placement,))

    async def run():
        await gateway._asked("prepare", plan)
        return gateway._prepared[0].declared.bundles

    assert asyncio.run(run()) == {"stays": "stays"}
    assert set(gateway._declared.bundles) == {"old", "stays"}


def shows(context, certificate):
    """Whether a listener shows a certificate to new connections."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cadata=certificate)
    client = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (client, server, client):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError:
        return False
    return client.version() is not None


def test_a_reload_that_is_refused_late_keeps_the_certificate(risk, tmp_path, ended):
    """What one gateway has prepared already is not shown when another refuses."""
    old = make_certificate(tmp_path).read_text()
    risk.declare(tmp_path, model_path=None)
    with (tmp_path / "brownfield.yaml").open("a") as file:
        file.write("serving: {tls: {certificate_file: certificate.pem, key_file: key.pem}}\n")
    declared = read_declared(tmp_path)
    context = server_context(declared.spec.serving.tls, tmp_path)
    gateway = front.Front(0, declared, tmp_path, host="127.0.0.1", tls=context)
    gateway._board = Board(declared, tmp_path, tell=lambda *_: None)
    new = make_certificate(tmp_path).read_text()

    async def run():
        await gateway._asked("prepare", plan_of(gateway))
        await gateway._asked("abort", None)

    asyncio.run(run())
    assert len(ended) == 1
    assert shows(context, old)
    assert not shows(context, new)


@pytest.mark.parametrize(
    ("looks", "counted"),
    [
        ([{"risk": 0}, {"risk": 5}, {}, {"risk": 7}, {"risk": 7}], [{"risk": 5}, {"risk": 2}]),
        ([{}, {"risk": 1_000_000}, {"risk": 1_000_003}], [{"risk": 3}]),
        ([{"risk": 0}, {"risk": 9}, {}, {"risk": 0}, {"risk": 1}], [{"risk": 9}, {"risk": 1}]),
    ],
    ids=["nobody might have it loaded for a while", "it was kept loaded before", "it was gone and is declared again"],
)
def test_a_request_is_demand_for_a_model_once(gateway, monkeypatch, looks, counted):
    """What was counted before, or before the model might be evicted, does not make it the one asked for most."""
    monkeypatch.setattr(front, "_COUNT_EVERY_S", 0.0)
    told, over = [], asyncio.Event()

    def on_demand():
        if not looks:
            over.set()
        return list(looks.pop(0).items()) if looks else []

    async def run():
        gateway._board = SimpleNamespace(on_demand=on_demand)
        gateway._tell = lambda _, content: told.append(content)
        telling = asyncio.create_task(gateway._keep_telling())
        await over.wait()
        telling.cancel()

    asyncio.run(run())
    assert told == counted
