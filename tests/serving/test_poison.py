"""F-05: a request that ends workers is found among those that were there with it, and blocked; the others go on."""

import asyncio

import pytest

from brownfield.clock import SystemClock
from brownfield.errors import DeadlineExceeded
from brownfield.model.process import WorkerDied
from brownfield.serving.deaths import Deaths
from brownfield.serving.gateway import Dataplane, Snapshot, Split
from brownfield.serving.gateway.cache import input_digest
from brownfield.serving.workers.base import Inference
from brownfield.serving.workers.poison import Poison
from harness.virtual_time import run_virtually
from harness.waiting import eventually

DEADLY = 3


class MortalPool:
    """One worker that dies with all it holds when it is asked for a record of three items; back at once."""

    def __init__(self, error=WorkerDied) -> None:
        self.error = error
        self.deaths = 0
        self.held: list[asyncio.Future] = []
        self.together: list[int] = []
        self.ready = True
        self.workers = 1

    def look(self) -> None:
        """Have nothing that has come sooner."""

    async def infer(self, tensors, rows, deadline_ns) -> Inference:  # noqa: ARG002 (as pools are asked)
        """Answer in the next turns of the loop, unless somebody kills."""
        future = asyncio.get_running_loop().create_future()
        self.held.append(future)
        self.together.append(len(self.held))
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if DEADLY in tensors["x"][:, 0]:
                self.deaths += 1
                for other in self.held:
                    if not other.done():
                        other.set_exception(self.error("gone"))
            if not future.done():
                future.set_result(None)
            await future
        finally:
            self.held.remove(future)
        return Inference({"y": 1 / (1 + tensors["x"])}, 1000)


@pytest.fixture
def mortal(served) -> MortalPool:
    served.champion.pool = MortalPool()
    return served.champion.pool


def record(items: int, store: int = 1) -> dict:
    return {"store_id": store, "items": ["BREAD"] * items}


async def decision_of(client, items: int, store: int = 1) -> tuple[str, str]:
    _, answer = await client.predict(record(items, store))
    decision = answer["decision"]
    return decision["source"], decision["cause"]


def test_f05_a_request_that_killed_twice_alone_is_blocked(client, mortal):
    """F-05: after two deaths its fingerprint is refused without asking, and others have their model."""

    async def callers():
        answers = [await decision_of(client, DEADLY) for _ in range(5)]
        assert answers == [("constant", "worker")] * 2 + [("constant", "poison")] * 3
        assert mortal.deaths == 2
        assert await decision_of(client, 1) == ("model", "")
        assert await decision_of(client, DEADLY, store=2) == ("constant", "worker")  # another input
        assert mortal.deaths == 3

    asyncio.run(callers())


def test_f05_those_who_were_there_are_asked_alone_and_cleared(timeless_client, clock, served, mortal):
    """F-05: batch-mates are lost with the culprit once; asked one by one they succeed, and only it is blocked."""
    served.champion.row_cap = 16
    client = timeless_client

    async def callers():
        first = await asyncio.gather(*(decision_of(client, 1, store) for store in range(1, 8)), decision_of(client, 3))
        assert set(first) == {("constant", "worker")}
        mortal.together.clear()
        again = await asyncio.gather(*(decision_of(client, 1, store) for store in range(1, 8)))
        assert set(again) == {("model", "")}
        assert mortal.deaths == 1
        for _ in range(4):
            await asyncio.gather(*(decision_of(client, 1, store) for store in range(1, 4)), decision_of(client, 3))
        assert mortal.deaths == 3  # once in company, twice alone
        assert await decision_of(client, 3) == ("constant", "poison")
        final = await asyncio.gather(*(decision_of(client, 1, store) for store in range(1, 8)))
        assert set(final) == {("model", "")}

    run_virtually(callers(), clock)


def test_a_suspect_that_waits_for_its_turn_is_answered_by_its_deadline(client, served, mortal):
    """Held back behind another suspect that never comes to an end, it still gets the fallback in time."""

    async def callers():
        await asyncio.gather(decision_of(client, 1, 1), decision_of(client, 1, 2), decision_of(client, 3))

        async def silent(tensors, rows, deadline_ns):
            await asyncio.sleep((deadline_ns - SystemClock().monotonic_ns()) / 1e9)
            raise DeadlineExceeded("late")

        mortal.infer = silent
        answers = await asyncio.gather(decision_of(client, 1, 1), decision_of(client, 1, 2))
        assert answers == [("constant", "deadline")] * 2
        del mortal.infer
        assert await decision_of(client, 1, 1) == ("model", "")
        assert served.champion.admission.waiting_rows == 0
        assert not served.champion.apart

    asyncio.run(callers())


def test_a_suspect_that_gives_up_before_its_turn_is_counted(served, pool):
    """It is answered while the call before it goes on, and is not asked any more."""
    pool.delay_s, served.deadline_ns = 0.5, 10_000_000_000

    async def callers():
        plane = Dataplane(Snapshot({served.name: served}))
        fine, suspected = (served.request.rows.check([record(1, store)]) for store in (1, 2))
        served.champion.poison.lost([input_digest(served, suspected)], 0)
        other = asyncio.ensure_future(plane.predict(served, fine))
        await eventually(lambda: pool.calls)
        split = Split(plane.now_ns())
        answer = await plane.predict(served, suspected, split, split.started_ns + 20_000_000)
        assert (answer.decision.cause, other.done()) == ("deadline", False)
        assert (await other).decision.source == "model"
        await eventually(lambda: not served.champion.apart)

    asyncio.run(callers())
    assert served.meter.lates == {"enqueue": 0, "dequeue": 1, "completion": 0}
    assert pool.calls == 1
    assert served.champion.admission.waiting_rows == 0


def test_a_block_ends():
    """After its time a blocked request is tried again."""
    poison = Poison(block_s=10)
    for now_s in (0, 1):
        poison.lost([b"bad"], now_s * 10**9, alone=True)
    assert poison.is_blocked(b"bad", 10 * 10**9)
    assert not poison.is_blocked(b"bad", 12 * 10**9)
    assert not poison.watching


def test_a_block_that_has_ended_keeps_nobody_from_being_blocked_again():
    """F-05: a gateway that was not asked since learns it all the same of the others, who saw it kill once more."""
    poison = Poison(block_s=1e-9)
    for now_ns in (0, 1, 10, 11):
        assert not poison.is_blocked(b"other", now_ns)
        poison.learn("lost alone", [b"bad"], now_ns)
    assert poison.found == 2
    assert poison.is_blocked(b"bad", 11)


def test_deaths_from_outside_block_nobody():
    """R-01: a worker that is killed every half second makes suspects, and each answer clears them."""
    poison = Poison()
    for death in range(40):
        poison.lost([b"a", b"b", b"c"], death, alone=False)
        poison.lost([b"d"], death, alone=True)
        assert poison.is_suspect(b"a")
        poison.answered([b"a", b"b", b"c", b"d"])
    assert not poison.watching
    assert poison.found == 0


def test_f06_what_hangs_workers_is_suspected_when_they_are_replaced():
    """F-06: of the calls without an answer the first is to blame, alone when it was; those behind it never are."""
    poison = Poison()
    for moment in (0, 10**9):
        poison.late(lambda: [b"loop"], moment, alone=True)
        poison.late(lambda: [b"behind"], moment, alone=True)
        poison.replaced(moment + 1)
    assert poison.is_blocked(b"loop", 2 * 10**9)
    assert poison.is_suspect(b"behind")


def test_a_slow_worker_that_answers_again_suspects_nobody():
    """Late calls are forgotten with the next answer, and after a while; only a replacement makes them suspects."""
    poison = Poison()
    poison.late(lambda: [b"slow"], 0, alone=True)
    poison.late_calls.clear()
    poison.replaced(1)
    poison.late(lambda: [b"old"], 0, alone=True)
    poison.replaced(61 * 10**9)
    assert not poison.watching


def test_memory_is_bounded():
    """However many requests die, what is known of them stays small."""
    poison = Poison()
    for number in range(5000):
        poison.lost([str(number).encode()], number)
        poison.lost([b"x" + str(number).encode()] * 2, number, alone=True)
    assert len(poison._suspects) == 1024
    assert len(poison._blocked) == 4096


class Gateways:
    """Poisons of several gateways before the same workers, judged together."""

    def __init__(self, count):
        self.poisons = [Poison() for _ in range(count)]
        self.deaths = Deaths(self.learn)
        for number, one in enumerate(self.poisons):
            one.on_report = lambda *report, number=number: self.deaths.take(number, "till", "1", *report)

    def learn(self, news):
        """Let all know."""
        for one in self.poisons:
            one.learn(*news[2:], 0)

    def die(self, lost):
        """A process ends, and takes these with it, by gateway."""
        for number, digests in lost.items():
            self.poisons[number].lost(digests, 0, alone=len(digests) == 1)
        for version in tuple(self.deaths._reports):
            self.deaths._judge(version)


def test_f05_deaths_at_several_gateways_count_together():
    """F-05: once in company, then tried at two gateways beside the traffic of a third: blocked on all of them."""

    async def run():
        both = Gateways(3)
        first, _, third = both.poisons
        both.die({0: [b"bad", b"good"]})
        assert third.is_suspect(b"bad")
        third.answered([b"good"])
        assert not first.is_suspect(b"good")
        both.die({1: [b"bad"], 2: [b"x", b"y"]})
        both.die({0: [b"bad"], 2: [b"x", b"z"]})
        assert all(each.is_blocked(b"bad", 3) for each in both.poisons)
        assert not any(each.is_blocked(b"x", 3) for each in both.poisons)
        assert [each.found for each in both.poisons] == [1, 1, 1]

    asyncio.run(run())


def test_f05_suspects_who_were_on_trial_at_two_gateways_at_once_are_tried_one_after_another():
    """F-05: a death with two on trial blames nobody; one of them rests, so that the next one has one to blame."""

    async def run():
        both = Gateways(2)
        first, second = both.poisons
        both.die({0: [b"bad", b"good"]})
        both.die({0: [b"bad"], 1: [b"good"]})
        for one in both.poisons:
            assert (one.is_blocked(b"bad", 1), one.is_blocked(b"good", 1)) == (False, True)
            assert one.found == 0
        for _ in range(2):
            both.die({0: [b"bad"]})
        rested_ns = 2_000_000_001
        assert all(each.is_blocked(b"bad", rested_ns) for each in both.poisons)
        assert not second.is_blocked(b"good", rested_ns)
        assert second.is_suspect(b"good")
        second.answered([b"good"])
        assert not first.is_suspect(b"good")

    asyncio.run(run())


def test_f05_who_was_alone_at_each_of_several_gateways_was_not_alone():
    """F-05: three gateways each hold the same harmless request when a process ends, again and again: never blocked."""

    async def run():
        gateways = Gateways(3)
        for _ in range(10):
            gateways.die({0: [b"a"], 1: [b"a"], 2: [b"a"]})
            gateways.poisons[0].answered([b"a"])
        assert not any(each.watching for each in gateways.poisons)

    asyncio.run(run())


def test_what_is_blocked_can_be_taken_over():
    """A gateway that begins later blocks what the others do, for as long as they do."""
    first, later = Poison(block_s=10), Poison()
    for now_ns in (0, 1):
        first.lost([b"bad"], now_ns, alone=True)
    later.block(first.blocked(2))
    assert later.is_blocked(b"bad", 9 * 10**9)
    assert not later.is_blocked(b"bad", 11 * 10**9)
    assert first.blocked(11 * 10**9) == {}
