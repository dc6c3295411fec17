"""Lookups that requests ask by key: who is asked how often, and what a service is to blame for."""

import asyncio
import socket
import threading

import pytest

from brownfield.data.pipeline.endpoints import open_client
from brownfield.integration import load_workspace
from brownfield.serving import point_lookups
from brownfield.serving.point_lookups import PointLookup
from brownfield.testing import FakeClock
from harness.http_service import Answer, service  # noqa: F401 (a fixture)

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: till
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties: [{name: product_id, logicalType: integer, required: true}]
  - name: response
    logicalType: object
    properties: [{name: score, logicalType: number, required: true}]
  - name: products
    logicalType: object
    properties:
      - {name: product_id, logicalType: integer, primaryKey: true, required: true}
      - {name: price, logicalType: number}
"""
INTEGRATION = """
integration: till
contract: contract.odcs.yaml
sources:
  products:
    lookup: product_id
    failover: {failures: 3, window_s: 30, good_probes: 1, cool_down_s: 30}
    chain:
      - {connection: crm, endpoint: {path: '/p/{product_id}'}, format: json, deadline_ms: 20000}
      - {constant: {price: 7}}
enrich: [{source: products, on: product_id, take: [price], refresh_s: 60}]
fallback: {deadline_ms: 20000, chain: [{constant: {score: 0.5}}]}
"""
CONNECTION = """
workspace: till
connections:
  crm:
    kind: http
    base_url: {env: CRM_URL}
    network: this_machine
    tls: {mode: 'off'}
    budget: {max_connections: 1, requests_per_s: 100000}
"""
SOON_S = 0.1
LONG_S = 20.0


class Crm:
    """A service with one connection, the lookup that asks it, and a moved clock; it answers while its gate is open."""

    def __init__(self, folder, running, requests_per_s=100_000, connections=1, gateways=1):
        home = folder / "integrations/till"
        home.mkdir(parents=True)
        (folder / "brownfield.yaml").write_text(
            CONNECTION.replace("100000", str(requests_per_s)).replace("connections: 1", f"connections: {connections}")
            + f"serving: {{gateways: {gateways}}}\n"
        )
        (home / "contract.odcs.yaml").write_text(CONTRACT)
        (home / "integration.yaml").write_text(INTEGRATION)
        self.service, self.clock, self.gate = running, FakeClock(), threading.Event()
        self.begun = threading.Event()
        self.status = 200
        self.gate.set()
        running.answer = self.answer
        self.spec = load_workspace(folder)
        self.lookup = self.another()

    def another(self):
        """Another lookup of the same service."""
        till = self.spec.integrations["till"]
        return PointLookup(till, till.enrich[0], self.spec, 60.0, 60.0, self.clock)

    def answer(self, _method, path, *_):
        """Its price is ten times the product."""
        self.begun.set()
        self.gate.wait(LONG_S)
        product = int(path.rpartition("/")[2])
        return Answer(b'{"product_id": %d, "price": %d}' % (product, product * 10), self.status)

    async def ask(self, *products, within_s=LONG_S):
        """The state, prices and reasons."""
        found = await self.lookup.find({"product_id": list(products)}, len(products), within_s)
        return found.state, found.values["price"], list(found.reasons)

    @property
    def asked(self):
        """The products that it was asked for."""
        return [int(path.rpartition("/")[2]) for _, path, _, _ in self.service.asked]


@pytest.fixture
def crm(tmp_path, service, monkeypatch):  # noqa: F811
    """The service and its lookup; the gate is open at the end, so that no thread waits on."""
    monkeypatch.setenv("CRM_URL", service.url)
    made = Crm(tmp_path, service)
    yield made
    made.gate.set()
    made.lookup.close()


def test_f82_many_keys_do_not_take_a_service_away_from_others(crm):
    """F-82: keys that were not asked for in time are missing, and the service is not blamed for them."""

    async def main():
        for number in range(4):
            crm.gate.clear()
            state, _, reasons = await crm.ask(*range(10 * number, 10 * number + 10), within_s=SOON_S)
            assert (state, set(reasons)) == ("PRIMARY", {"unavailable"})
            crm.gate.set()
            assert await crm.ask(100 + number) == ("PRIMARY", [1000.0 + 10 * number], [""])

    asyncio.run(main())


@pytest.fixture
def rare_crm(tmp_path, service, monkeypatch):  # noqa: F811
    """A service that may be asked once a second, and its lookup."""
    monkeypatch.setenv("CRM_URL", service.url)
    made = Crm(tmp_path, service, requests_per_s=1)
    yield made
    made.lookup.close()


def test_i10_a_budget_of_ours_that_is_spent_blames_nobody(rare_crm):
    """I10: requests of many keys leave a service that answers where it is, and it is asked again in its turn."""

    async def main():
        rare_crm.lookup._places = [(place, SOON_S, asked) for place, _, asked in rare_crm.lookup._places]
        states = [(await rare_crm.ask(*range(64 * n, 64 * n + 64)))[0] for n in range(6)]
        await asyncio.sleep(1.1)
        return states, await rare_crm.ask(1_000)

    assert asyncio.run(main()) == (["PRIMARY"] * 6, ("PRIMARY", [10_000.0], [""]))
    assert rare_crm.asked == [0, 1_000]


def test_f44_what_nobody_waits_for_is_not_asked(crm):
    """F-44: of a hundred keys in requests that were answered without it, a slow service sees at most one."""

    async def main():
        crm.gate.clear()
        await asyncio.gather(*(crm.ask(*range(10 * n, 10 * n + 10), within_s=SOON_S) for n in range(10)))
        crm.gate.set()
        await crm.ask(1000)

    asyncio.run(main())
    assert crm.asked in ([0, 1000], [1000])


def test_f44_what_had_begun_is_remembered_and_judged_by_its_own_time(crm):
    """F-44: who has little time blames nobody, and what it asked for is there for the next."""

    async def main():
        for product in range(4):
            crm.gate.clear()
            assert await crm.ask(product, within_s=SOON_S) == ("PRIMARY", [None], ["unavailable"])
            crm.gate.set()
            await crm.ask(product)

    asyncio.run(main())
    assert crm.asked == [0, 1, 2, 3]


def test_f81_a_key_that_many_wait_for_is_asked_once(crm):
    """F-81: when an answer has grown too old, all who come for it share the next."""

    async def main():
        return await asyncio.gather(*(crm.ask(5) for _ in range(20)))

    assert set(map(str, asyncio.run(main()))) == {str(("PRIMARY", [50.0], [""]))}
    assert crm.asked == [5]


def test_a_request_without_time_asks_nobody(crm):
    """It finds what is remembered."""

    async def main():
        await crm.ask(1)
        return await crm.ask(1, 2, within_s=0.0)

    assert asyncio.run(main()) == ("PRIMARY", [10.0, None], ["", "unavailable"])
    assert crm.asked == [1]


def test_f44_a_service_that_fails_is_soon_not_asked(crm):
    """F-44: three requests that it fails are enough, whoever had asked."""

    async def main():
        crm.status = 500
        return [(await crm.ask(product))[0] for product in range(5)]

    assert asyncio.run(main()) == ["PRIMARY", "PRIMARY", "FALLBACK", "FALLBACK", "FALLBACK"]
    assert crm.asked == [0, 1, 2]


def test_f44_a_name_that_nobody_resolves_counts_as_late(crm, monkeypatch):
    """F-44: an ask that no deadline reaches keeps the others from beginning; the lookup goes on to its last resort."""
    held = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: held.wait(LONG_S) or [])

    async def main():
        states = [(await crm.ask(0, within_s=10 * SOON_S))[0]]  # time enough to begin
        crm.clock.advance(2 * LONG_S + 1)
        return states + [(await crm.ask(product, within_s=SOON_S))[0] for product in range(1, 5)]

    try:
        assert asyncio.run(main()) == ["PRIMARY", "PRIMARY", "PRIMARY", "FALLBACK", "FALLBACK"]
    finally:
        held.set()


def test_f72_a_lookup_that_a_reload_ends_still_answers(crm):
    """F-72: a request that waits for one that is closed gets what is known, and so does one that comes then."""

    async def main():
        crm.gate.clear()
        waits = asyncio.ensure_future(crm.ask(1, 2))
        await asyncio.to_thread(crm.begun.wait, LONG_S)
        await asyncio.to_thread(crm.lookup.close)
        crm.gate.set()
        return await asyncio.wait_for(waits, LONG_S), await crm.ask(3)

    (_, prices, reasons), after = asyncio.run(main())
    assert (prices, reasons) == ([10.0, None], ["", "unavailable"])
    assert after == ("PRIMARY", [None], ["unavailable"])


def test_f72_a_lookup_that_probes_is_ended_from_another_thread(crm):
    """F-72: a reload ends its probes at once, and they do not begin again."""

    async def main():
        crm.status = 500
        for product in range(3):
            await crm.ask(product)
        crm.service.refusing = True
        crm.clock.advance(31)
        await crm.ask(3)
        probes = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(probes) == 1
        await asyncio.sleep(SOON_S)
        await asyncio.to_thread(crm.lookup.close)
        await asyncio.wait(probes, timeout=LONG_S)
        await crm.ask(4)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main(), debug=True) == set()


def test_f42_a_service_that_failed_with_answers_is_come_back_to(crm):
    """F-42: connections that were kept open while it failed do not keep the probes out."""

    async def main():
        crm.status = 500
        for product in range(3):
            await crm.ask(product)
        crm.status = 200
        crm.clock.advance(31)
        for _ in range(200):
            state, _, _ = await crm.ask(4)
            if state == "PRIMARY":
                return await crm.ask(5)
            await asyncio.sleep(0.05)
            crm.clock.advance(31)
        return state

    assert asyncio.run(main()) == ("PRIMARY", [50.0], [""])


def test_f80_lookups_of_one_service_share_its_connections(crm):
    """F-80: a lookup that is asked again and again keeps the only connection for others too, also behind a reload."""

    async def main():
        busy, found = crm.lookup, []
        for number in range(3):
            crm.lookup = busy
            await crm.ask(number)
            crm.lookup = crm.another()
            found.append(await crm.ask(10 + number, within_s=10 * SOON_S))
            crm.lookup.close()
        busy.close()
        return found

    assert asyncio.run(main()) == [("PRIMARY", [100.0 + 10 * number], [""]) for number in range(3)]
    assert crm.service.connections == 1


def test_f80_connections_that_nobody_uses_are_given_back(crm, monkeypatch):
    """F-80: a run, or another gateway, gets its turn while no request asks."""
    monkeypatch.setattr(point_lookups, "_IDLE_S", SOON_S)
    other = open_client("crm", crm.spec.connections["crm"].options, crm.spec.folder)

    async def main():
        await crm.ask(1)
        await asyncio.to_thread(other.reach, LONG_S)

    asyncio.run(main())


@pytest.mark.parametrize("connections", [1, 2, 5])
def test_f80_no_gateway_keeps_the_others_from_a_service(connections, tmp_path, service, monkeypatch):  # noqa: F811
    """F-80: each has its share of the connections, also while another asks without a pause."""
    monkeypatch.setenv("CRM_URL", service.url)
    one = Crm(tmp_path, service, connections=connections, gateways=2)
    one.lookup.close()
    lookups = []
    for _ in range(2):
        monkeypatch.setattr(point_lookups, "_services", {})  # as in a process of its own
        lookups.append(one.another())

    async def main():
        found = []
        for number in range(3):
            for which, one.lookup in enumerate(lookups):
                keys = range(10 * number + 1000 * which, 10 * number + 1000 * which + 4)
                found.append((await one.ask(*keys))[::2])
        return found

    assert asyncio.run(main()) == [("PRIMARY", [""] * 4)] * 6
    for each in lookups:
        each.close()


@pytest.mark.parametrize(("renew_s", "connections"), [(60.0, 1), (0.0, 2)])
def test_f71_connections_are_made_anew_now_and_then(crm, monkeypatch, renew_s, connections):
    """F-71: a service that moved, or a secret that changed, is found though requests never pause."""
    monkeypatch.setattr(point_lookups, "_RENEW_S", renew_s)

    async def main():
        await crm.ask(1)
        await crm.ask(2)

    asyncio.run(main())
    assert crm.service.connections == connections


def test_an_answer_that_is_forgotten_meanwhile_is_there_for_who_came_before(crm, monkeypatch):
    """When there are too many, the oldest answers go: not from under a request, and not a key that was asked anew."""
    monkeypatch.setattr(point_lookups, "_MOST_KEYS", 10)

    async def main():
        for product in range(10):
            await crm.ask(product)
        both = await crm.ask(0, 100)
        crm.clock.advance(61)
        for product in (3, 101, 102, 3):
            await crm.ask(product)
        return both

    assert asyncio.run(main()) == ("PRIMARY", [0.0, 1000.0], ["", ""])
    assert crm.asked == [*range(10), 100, 3, 101, 102]
