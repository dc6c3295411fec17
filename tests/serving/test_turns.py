"""Answers given in the middle of a turn of the loop, while others are refused: nobody is lost, nobody waits."""

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest
from tests.serving.conftest import RetailFeatures

from brownfield.serving.gateway import Dataplane, Handler, Served, Snapshot, Version
from brownfield.serving.gateway.admission import Admission
from brownfield.serving.gateway.http import Door
from brownfield.serving.gateway.http_connection import Connection
from brownfield.serving.gateway.rounds import Verdict
from brownfield.serving.workers.base import Inference

pytestmark = pytest.mark.inside

DECLARED_US = 0  # no patience of the caller's own
_NEVER_NS = 2**63  # as the begin of a turn: so that who is let in does not look for answers


class Pool:
    """Answers calls when somebody looks, those whose number is in ``come``; each takes so many futures, one by one."""

    ready = True
    workers = 1

    def __init__(self, futures=1):
        self.asked = []
        self.rows = []
        self.come = set()
        self.looks = 0
        self._futures = futures

    async def infer(self, tensors, rows, _deadline_ns):
        """Wait to be answered."""
        call = len(self.asked)
        self.asked.append(None)
        self.rows.append(rows)
        for _ in range(self._futures):
            self.asked[call] = asyncio.get_running_loop().create_future()
            await self.asked[call]
        return Inference({"y": 1 / (1 + tensors["x"])}, 1000, rows)

    def look(self):
        """Answer what has come."""
        self.looks += 1
        for call in self.come & set(range(len(self.asked))):
            if not self.asked[call].done():
                self.asked[call].set_result(None)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self):
        self.statuses = []
        self.then = None

    def write(self, data):
        """Keep its status; what the caller does ``then``, if anything, comes in the next turn of the loop."""
        self.statuses.append(int(data[9:12]))
        if self.then is not None:
            asyncio.get_running_loop().call_soon(self.then)
            self.then = None

    def get_extra_info(self, _name):
        """Know nothing of the other end."""
        return

    def is_closing(self):
        """Stay open."""
        return False


class Site:
    """Integrations behind one door, without a network; what is to be done with a request is set from outside."""

    def __init__(self, retail, fallbacks, *, pools, row_cap=8):
        self.served = [
            Served(
                name=name,
                contract=retail,
                deadline_ms=1000,
                champion=Version("3", RetailFeatures(), pool, row_cap),
                fallbacks=fallbacks,
            )
            for name, pool in pools.items()
        ]
        self.verdict = Verdict.ASK
        self.handler = Handler(Dataplane(Snapshot({each.name: each for each in self.served})))
        self.handler.pressure = SimpleNamespace(judge=lambda *_: self.verdict, began_ns=_NEVER_NS)
        self._door = Door(self.handler)
        self.wires = []
        self.faults = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.faults.append(context))

    def caller(self):
        """Connect; gives what asks, for an integration and with microseconds of patience, and what was answered."""
        connection, wire = Connection(self._door), Wire()
        connection.connection_made(wire)
        self.wires.append(wire)

        def ask(timeout_us=DECLARED_US, name="till", rows=1):
            self.handler._looked_ns = 0
            inputs = [
                {"name": "store_id", "shape": [rows], "datatype": "INT64", "data": [1] * rows},
                {"name": "items", "shape": [rows, 1], "datatype": "BYTES", "data": ["MILK"] * rows},
            ]
            body = json.dumps({"inputs": inputs, "parameters": {"timeout": timeout_us}}).encode()
            head = f"POST /v2/models/{name}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.data_received(head.encode() + body)

        return ask, wire.statuses

    @property
    def left(self):
        """What is not as before the first request; nothing, when all were answered."""
        champions = [each.champion for each in self.served]
        return [(each.calls, each.waiting.rows, each.admission.waiting_rows) for each in champions if each.calls] + [
            self.handler.in_flight
        ] * bool(self.handler.in_flight)


@pytest.fixture
def site(retail, served):
    return lambda **options: Site(retail, served.fallbacks, **options)


async def turns(n=4):
    for _ in range(n):
        await asyncio.sleep(0)


async def until(condition):
    """Let the loop turn until something is so, for ten seconds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise TimeoutError


def test_a_model_that_takes_two_answers_is_told_each_once(site):
    """A call that goes on in the middle of a turn is not stepped again when the loop tells of the same answer."""

    async def main():
        pool = Pool(futures=2)
        one = site(pools={"till": pool})
        (ask, answered), (other, refused) = one.caller(), one.caller()
        ask()
        await turns()
        one.verdict = Verdict.REFUSE
        pool.come = {0}
        other()
        first, pool.come = pool.asked[0], set()
        await turns()  # the loop tells of the first answer, which was taken in; the second has not come
        assert not first.done()
        assert (answered, refused) == ([], [503])
        pool.come = {0}
        other()
        assert answered == [200]
        await turns()
        assert (one.faults, one.left) == ([], [])

    asyncio.run(main())


@pytest.mark.parametrize(("behind", "next_rows"), [(1, 3), (8, 8)], ids=["few", "many"])
def test_of_few_callers_who_was_told_and_asks_again_shares_the_next_call(site, monkeypatch, behind, next_rows):
    """Each call costs as much as several requests; where enough wait for a call, the model is not kept waiting."""
    monkeypatch.setattr(Admission, "window", lambda *_: 1)

    async def main():
        pool = Pool()
        one = site(pools={"till": pool}, row_cap=16)
        told, others = [one.caller() for _ in range(2)], [one.caller() for _ in range(behind)]
        for ask, _ in told:
            ask()
        await turns()
        for ask, _ in others:
            ask()
        for (ask, _), wire in zip(told, one.wires, strict=False):
            wire.then = ask
        pool.come = {0, 1, 2}
        pool.look()
        await turns(6)
        assert pool.rows == [2, next_rows]
        for _ in range(2):
            pool.look()
            await turns(6)
        assert [answered for _, answered in told + others] == [[200, 200]] * 2 + [[200]] * behind
        assert (one.faults, one.left) == ([], [])

    asyncio.run(main())


@pytest.mark.parametrize(("callers", "rows", "waits"), [(1, 3, False), (2, 1, True), (2, 4, False)])
def test_nobody_waits_for_the_next_call_of_a_caller_who_is_alone(site, monkeypatch, callers, rows, waits):
    """Nor where a call is large enough: the turn of the loop is for those who can share it."""
    monkeypatch.setattr(Admission, "window", lambda *_: 1)

    async def main():
        pool = Pool()
        one = site(pools={"till": pool})
        all_of_them = [one.caller() for _ in range(callers)]
        for ask, _ in all_of_them:
            ask(rows=rows)
        await turns()
        pool.come = {0}
        pool.look()
        while not all_of_them[0][1]:  # noqa: ASYNC110 (turn by turn)
            await asyncio.sleep(0)
        assert one.served[0].champion.sending == waits
        await turns()
        assert [answered for _, answered in all_of_them] == [[200]] * callers
        assert (one.faults, one.left) == ([], [])

    asyncio.run(main())


def test_refusals_of_one_integration_do_not_hold_up_another(site):
    """Answers of every model are given, whichever of them is asked for too often."""

    async def main():
        pools = {"till": Pool(), "loyalty": Pool()}
        one = site(pools=pools)
        (ask, answered), (other, _) = one.caller(), one.caller()
        ask()
        await turns()
        one.verdict = Verdict.REFUSE
        pools["till"].come = {0}
        other(name="loyalty")
        assert answered == [200]
        assert pools["loyalty"].looks == 0  # nobody waits for it

    asyncio.run(main())


def test_it_looks_now_and_then_and_not_at_each_refusal(site):
    """Looking costs a system call."""

    async def main():
        pool = Pool()
        one = site(pools={"till": pool})
        ask, _ = one.caller()
        ask()
        await turns()
        one.verdict = Verdict.REFUSE
        one.handler._looked_ns = one.handler.now_ns()
        for _ in range(5):
            one.handler.open("POST", b"/v2/models/till/infer", {b"content-length": b"0"})
        assert pool.looks == 0
        one.handler._looked_ns -= 500_000
        for _ in range(5):
            one.handler.open("POST", b"/v2/models/till/infer", {b"content-length": b"0"})
        assert pool.looks == 1

    asyncio.run(main())


def test_f77_who_pipelines_behind_a_late_request_harms_nobody_of_its_call(site):
    """F-77: its next request is refused while others of the call are told, and another call's answer has come."""

    async def main():
        pool = Pool()
        one = site(pools={"till": pool})
        callers = [one.caller() for _ in range(5)]
        for (ask, _), timeout_us in zip(callers, (30_000, 30_000, 100_000, 900_000), strict=False):
            ask(timeout_us)
        await turns()
        callers[4][0]()
        await turns()
        assert sorted(len(call.asks) for call in one.served[0].champion.calls) == [1, 4]
        one.verdict = Verdict.REFUSE
        callers[0][0]()
        pool.come = {1}
        begin_s = asyncio.get_running_loop().time()
        await until(lambda: all(answered for _, answered in callers[:3]))
        assert asyncio.get_running_loop().time() - begin_s < 0.5  # by the fallback, at the third one's deadline
        pool.come = {0, 1}
        pool.look()
        await until(lambda: callers[3][1] and callers[4][1])
        await turns()
        assert [answered[0] for _, answered in callers] == [200] * 5
        assert (one.faults, one.left) == ([], [])

    asyncio.run(main())


def test_f77_who_pipelines_behind_one_who_waits_harms_nobody_in_the_queue(site, monkeypatch):
    """F-77: those who give up in the queue are told one by one, and whoever has more time is still asked for."""
    monkeypatch.setattr(Admission, "window", lambda *_: 1)

    async def main():
        pool = Pool()
        one = site(pools={"till": pool}, row_cap=2)
        busy, *waiting, patient = (one.caller() for _ in range(5))
        busy[0]()
        await turns()
        for ask, _ in waiting:
            ask(30_000)
        patient[0](600_000)
        await turns()
        one.verdict = Verdict.REFUSE
        for _ in range(2):
            waiting[0][0]()
        pool.come = {0}
        await until(lambda: all(answered for _, answered in waiting))
        pool.come = set(range(9))
        one.verdict = Verdict.ASK

        def is_over():
            pool.look()
            return bool(patient[1])

        await until(is_over)
        await turns()
        assert (busy[1], patient[1], one.faults, one.left) == ([200], [200], [], [])

    asyncio.run(main())


def test_f77_answers_between_refusals_do_not_nest(site, monkeypatch):
    """F-77: callers who pipeline and are answered and refused in turns do not make the gateway's stack grow."""
    monkeypatch.setattr("brownfield.serving.gateway.handler._LOOK_EVERY_NS", -1)

    async def main():
        pool = Pool()
        one = site(pools={"till": pool}, row_cap=1)
        pool.come = set(range(10_000))
        depths, look = [], pool.look

        def measuring():
            depths.append(_depth())
            look()

        pool.look = measuring
        asking = [one.caller() for _ in range(60)]
        for ask, _ in asking:
            for _ in range(3):
                ask()
        verdicts = iter([Verdict.REFUSE, Verdict.ASK] * 10_000)
        one.handler.pressure = SimpleNamespace(judge=lambda *_: next(verdicts), began_ns=_NEVER_NS)
        one.caller()[0]()

        def is_over():
            look()
            return all(len(answered) == 3 for _, answered in asking)

        await until(is_over)
        await turns()
        assert (one.faults, one.left) == ([], [])
        assert max(depths) - min(depths) < 60

    asyncio.run(main())


def test_answers_between_requests_that_are_let_in_do_not_wait_for_the_end_of_the_turn(site):
    """Sixty requests of a turn that has lasted for long: most are answered in it, and who asks last by its end."""

    async def main():
        pool = Pool()
        one = site(pools={"till": pool})
        pool.come = set(range(10_000))
        one.handler.pressure.began_ns = 0
        asking = [one.caller() for _ in range(60)]
        for ask, _ in asking:
            ask()
        given = sum(len(answered) for _, answered in asking)
        await until(lambda: pool.look() or all(answered == [200] for _, answered in asking))
        await turns()
        assert (one.faults, one.left) == ([], [])
        assert given > 40

    asyncio.run(main())


def test_in_a_short_turn_nobody_looks_for_answers(site):
    """Requests of one turn that has just begun share a call."""

    async def main():
        pool = Pool()
        one = site(pools={"till": pool}, row_cap=64)
        one.handler.pressure.began_ns = one.handler.now_ns() + 10**12
        asking = [one.caller() for _ in range(16)]
        for ask, _ in asking:
            ask()
        assert (pool.asked, pool.looks) == ([], 0)
        await turns()
        assert pool.rows == [16]
        pool.come = {0}
        await until(lambda: pool.look() or all(answered == [200] for _, answered in asking))

    asyncio.run(main())


def _depth():
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth
