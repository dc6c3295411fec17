"""Which models are loaded, and which go: a fake memory, keepers of paper, a clock that tests move."""

import asyncio
from types import SimpleNamespace

import pytest

from brownfield.errors import NotFound, Unavailable, WorkerUnavailable
from brownfield.model.process import StartFailed
from brownfield.serving import residence as residence_module
from brownfield.serving.loading import Loaded, LoadGate
from brownfield.serving.residence import Residence
from brownfield.serving.workers.keeper import WorkerState
from harness.waiting import eventually


class Keeper:
    """Keeps nothing, and takes memory while it does."""

    def __init__(self, load_s=1.0, refuses=None):
        self.state = WorkerState.STOPPED
        self.load_s = load_s
        self.process = None
        self.restarts = 0
        self.begun = self.renewed = 0
        self.refuses = refuses

    @property
    def socket(self):
        """Where it would listen."""
        return "s.sock" if self.state is WorkerState.READY else ""

    async def begin(self):
        """Be ready after a while."""
        self.state = WorkerState.STARTING
        await asyncio.sleep(0)
        if self.refuses:
            self.state = WorkerState.STOPPED
            raise self.refuses
        self.begun += 1
        self.state = WorkerState.READY

    async def renew(self, told):
        """Be another process from now on."""
        if self.refuses:
            raise self.refuses
        self.renewed += 1
        await told()

    def retire(self):
        """Name no socket any more."""
        self.state = WorkerState.STOPPED

    async def end(self):
        """Take no memory any more."""
        self.state = WorkerState.STOPPED


class Clock:
    """Stands until it is moved."""

    now_s = 1000.0

    def monotonic_ns(self):
        """Now."""
        return round(self.now_s * 1e9)


@pytest.fixture
def clock():
    return Clock()


def model(name, mib=100.0, *, keep=False, **options):
    """A model whose process takes so much."""
    bundle = SimpleNamespace(folder="b", digest="d", version="1")
    return Loaded(
        name,
        keeper=Keeper(**options),
        fingerprint=name,
        bundle=bundle,
        probe=SimpleNamespace(peak_mib=mib, cost_curve_us={}),
        keep_loaded=keep,
    )


@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    """No process of this machine is measured: it may well have one of the number that a test names."""
    monkeypatch.setattr(residence_module, "pss_mib", lambda _: 0.0)


def residence(clock, *models, cap_mib=250.0):
    """A residence in which every loaded model takes what its probe said."""
    told = []

    async def publish():
        told.append({each.integration: each.state for each in made.placements()})

    made = Residence(publish, used_mib=lambda: made.held_mib, cap_mib=cap_mib, free_mib=lambda: 1e9, clock=clock)
    made.replace({one.integration: one for one in models})
    made.told = told
    return made


def up(made):
    return {name for name, one in made.models.items() if one.is_up}


async def wanted(made, *names):
    """Ask for models as requests do, and wait until they are there."""
    for name in names:
        made.want(name)
        if made.models[name].loading is not None:
            await made.models[name].loading


@pytest.mark.parametrize(
    ("first_mib", "now_mib", "limit_mib", "replaced"),
    [(100, 280, 300, True), (100, 260, 300, False), (280, 290, 300, False), (100, 900, None, False)],
    ids=["F-11 grown to the bound", "below it", "large from the start", "no bound"],
)
def test_f11_a_process_that_keeps_taking_memory_is_replaced(
    clock, monkeypatch, first_mib, now_mib, limit_mib, replaced
):
    """F-11: only one that has grown, to what it may take; the gateways stop asking it before it is ended."""

    async def run():
        leaky = model("a", keep=True)
        leaky.memory_mib = limit_mib
        made = residence(clock, leaky)
        await made.load("a")
        leaky.keeper.process = SimpleNamespace(pid=4711)
        for mib in (first_mib, now_mib):
            monkeypatch.setattr(residence_module, "data_mib", lambda _, mib=mib: mib)
            made.measure()
        made.told.clear()
        await made.replace_leaking()
        return made

    made = asyncio.run(run())
    assert [each["a"] for each in made.told] == (["ready"] if replaced else [])
    assert made.models["a"].loaded.keeper.renewed == replaced
    assert made.models["a"].recycles == replaced
    assert up(made) == {"a"}


@pytest.mark.parametrize("refuses", [None, WorkerUnavailable("no")], ids=["no memory for two", "it does not start"])
def test_f11_without_room_for_a_second_process_the_first_is_ended_before(clock, monkeypatch, refuses):
    """F-11: the gateways are told that nothing listens, then where the new one does; meanwhile fallbacks answer."""

    async def run():
        leaky = model("a", mib=100.0, keep=True)
        leaky.memory_mib = 300
        made = residence(clock, leaky, cap_mib=250.0 if refuses else 150.0)
        await made.load("a")
        leaky.keeper.process = SimpleNamespace(pid=4711)
        for mib in (100, 280):
            monkeypatch.setattr(residence_module, "data_mib", lambda _, mib=mib: mib)
            made.measure()
        made.told.clear()
        leaky.keeper.refuses = refuses
        await made.replace_leaking()
        return made

    made = asyncio.run(run())
    assert [each["a"] for each in made.told] == ["unloaded", "failed" if refuses else "ready"]
    assert made.models["a"].loaded.keeper.renewed == 0


def test_a_model_is_loaded_once_however_many_ask(clock):
    """And the gateways are told."""
    made = residence(clock, model("a"))

    async def run():
        made.want("a")
        await wanted(made, "a")
        made.want("a")

    asyncio.run(run())
    assert made.models["a"].loaded.keeper.begun == 1
    assert made.told[-1] == {"a": "ready"}


def test_the_model_that_costs_least_to_be_without_goes(clock):
    """Cost is the time to load it times how often it is asked for: neither the oldest nor the least asked alone."""
    made = residence(clock, model("slow", load_s=30.0), model("quick", load_s=0.1), model("new"))

    async def run():
        await wanted(made, "slow", "quick")
        made.count({"slow": 10, "quick": 300})
        clock.now_s += 301
        await wanted(made, "new")

    asyncio.run(run())
    assert up(made) == {"slow", "new"}
    quick = made.models["quick"]
    assert (quick.evictions, quick.placement.state, quick.placement.reason) == (
        1,
        "unloaded",
        "it was evicted to load new",
    )
    assert quick.placement.on_demand


def test_a_model_that_is_kept_loaded_is_never_evicted(clock):
    """Then who comes is refused, with the numbers, and its caller's fallback answers."""
    made = residence(clock, model("kept", 200.0, keep=True), model("new"))

    async def run():
        await made.load("kept")
        await wanted(made, "new")

    asyncio.run(run())
    assert up(made) == {"kept"}
    placement = made.models["new"].placement
    assert placement.state == "failed"
    assert "it takes 100 MiB, 50 are missing" in placement.reason


def test_as_many_go_as_are_needed(clock):
    """Two small ones for a large one."""
    made = residence(clock, model("a"), model("b"), model("large", 240.0))

    async def run():
        await wanted(made, "a", "b", "large")

    asyncio.run(run())
    assert up(made) == {"large"}


def test_two_loads_at_once_do_not_take_the_same_memory(clock):
    """The second sees what the first has reserved."""
    made = residence(clock, model("a", 200.0), model("b", 200.0))

    async def run():
        made.want("a")
        made.want("b")
        await asyncio.gather(*(one.loading for one in made.models.values()))

    asyncio.run(run())
    assert len(up(made)) == 1


def test_models_that_fit_are_loaded_beside_each_other(clock):
    """What one is about to take is not counted twice while the other looks for room."""

    async def run():
        made = residence(clock, model("a"), model("b"), cap_mib=250.0)
        await asyncio.gather(made.load("a"), made.load("b"))
        return up(made)

    assert asyncio.run(run()) == {"a", "b"}


def test_what_is_unloaded_by_hand_stays_so(clock):
    """A request does not load it, a person does; the reason names who unloaded it."""
    made = residence(clock, model("a"))

    async def run():
        await made.load("a")
        await made.unload("a", "night shift")
        made.want("a")
        assert made.models["a"].loading is None
        assert made.models["a"].placement.reason == "it was unloaded by night shift"
        assert not made.models["a"].placement.on_demand
        await made.load("a")

    asyncio.run(run())
    assert up(made) == {"a"}


def test_models_that_evict_each_other_raise_an_alarm(clock, caplog):
    """Three that came back within a minute; it ends a minute later."""
    made = residence(clock, model("a", 200.0), model("b", 200.0))

    async def run():
        await wanted(made, "a", "b", "a", "b")
        assert not made.thrashing
        await wanted(made, "a")

    asyncio.run(run())
    assert made.thrashing
    assert made.reloads == 3
    assert [each.event for each in caplog.records].count("BF-SRV-THRASH") == 1
    clock.now_s += 61
    assert not made.thrashing


def test_models_that_need_more_than_there_is_do_not_keep_the_machine_loading(clock, monkeypatch):
    """Asked in turns, each stays for ten times what loading it took; the other's fallback answers until then."""
    monkeypatch.setattr(residence_module, "_SHORTEST_STAY_S", 0.0)
    made = residence(clock, model("a", 200.0, load_s=1.0), model("b", 200.0, load_s=1.0))

    async def run():
        for _ in range(600):
            for name in ("a", "b"):
                made.count({name: 1})
                await wanted(made, name)
                made.models[name].paused = False  # its pause is over: time stands still in this loop
            clock.now_s += 0.1

    asyncio.run(run())
    assert 5 <= made.models["a"].loads + made.models["b"].loads <= 7
    assert abs(made.models["a"].loads - made.models["b"].loads) <= 1
    assert made.thrashing


@pytest.mark.parametrize(
    ("urgent", "goes"),
    [("worth more", True), ("by hand", True), ("kept", True), ("nobody asks", True), ("as much", False)],
)
def test_what_was_just_loaded_goes_for_what_is_urgent(clock, urgent, goes):
    """Not for a model that is asked as often; that one is told when, and its failures do not count."""
    made = residence(clock, model("old", 200.0, load_s=3.0), model("new", 200.0, load_s=3.0, keep=urgent == "kept"))

    async def run():
        await wanted(made, "old")
        made.count({"old": 0 if urgent == "nobody asks" else 10, "new": 21 if urgent == "worth more" else 10})
        clock.now_s += 10
        if urgent == "by hand":
            await made.load("new")
        else:
            await wanted(made, "new")

    asyncio.run(run())
    new = made.models["new"]
    assert (up(made) == {"new"}) is goes
    assert (new.failures, new.paused) == (0, not goes)
    if not goes:
        assert "which stay 20 s more" in new.placement.reason
        assert (new.placement.state, new.placement.on_demand) == ("unloaded", False)


def test_who_has_to_wait_is_tried_again_when_it_may_come(clock):
    """The pause is as long as the others stay, not longer each time."""
    made = residence(clock, model("a", 200.0, load_s=0.1), model("b", 200.0, load_s=0.1))

    async def run():
        await wanted(made, "a")
        made.count({"a": 5, "b": 5})
        await wanted(made, "b")
        assert made.models["b"].paused
        clock.now_s += 1.1
        await eventually(lambda: not made.models["b"].paused)
        await wanted(made, "b")

    asyncio.run(run())
    assert up(made) == {"b"}


def test_who_waits_long_for_others_raises_the_alarm(clock, caplog):
    """Models that load slowly evict each other seldom, and each has callers without a model for minutes."""
    made = residence(clock, model("a", 200.0, load_s=30.0), model("b", 200.0, load_s=30.0))

    async def run():
        await wanted(made, "a")
        made.count({"a": 5, "b": 5})
        await wanted(made, "b")

    asyncio.run(run())
    assert "which stay 300 s more" in made.models["b"].placement.reason
    assert made.thrashing
    assert [each.event for each in caplog.records].count("BF-SRV-THRASH") == 1


@pytest.mark.parametrize("kept", [False, True], ids=["others stay for a while", "others are kept loaded"])
def test_who_lacks_memory_may_come_as_soon_as_somebody_unloads_another(clock, kept):
    """Not only when the pause is over that it was given while there was none."""
    made = residence(clock, model("a", 200.0, load_s=30.0, keep=kept), model("b", 200.0, load_s=30.0))

    async def run():
        await made.load("a")
        made.count({"a": 5, "b": 5})
        await wanted(made, "b")
        assert not made.models["b"].placement.on_demand
        await made.unload("a", "night shift")
        assert made.models["b"].placement.on_demand
        assert made.told[-1]["b"] == made.models["b"].placement.state
        await wanted(made, "b")

    asyncio.run(run())
    assert up(made) == {"b"}


def test_who_is_being_loaded_by_hand_is_not_evicted_for_another(clock):
    """The operator who was told that it is loaded would find it gone."""
    made = residence(clock, model("a", 200.0), model("b", 200.0))
    begun, go_on = asyncio.Event(), asyncio.Event()
    begin = made.models["a"].loaded.keeper.begin

    async def slowly():
        made.models["a"].loaded.keeper.state = WorkerState.STARTING
        begun.set()
        await go_on.wait()
        await begin()

    async def run():
        made.models["a"].loaded.keeper.begin = slowly
        made.count({"b": 10})
        by_hand = asyncio.create_task(made.load("a"))
        await begun.wait()
        made.want("b")
        for _ in range(10):
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(by_hand, made.models["b"].loading or asyncio.sleep(0))

    asyncio.run(run())
    assert up(made) == {"a"}
    assert made.models["a"].evictions == 0


def test_kept_models_that_take_more_than_they_may_are_said_once(clock, caplog):
    """Nobody is ended for it: they are declared to stay. It is said again when it has been otherwise."""
    made = residence(clock, model("a", keep=True), model("b", keep=True), cap_mib=150.0)

    async def run():
        made.models["a"].loaded.keeper.state = made.models["b"].loaded.keeper.state = WorkerState.READY
        for cap_mib in (150.0, 150.0, 250.0, 150.0):
            made.room.cap_mib = cap_mib
            await made.keep_within()

    asyncio.run(run())
    assert up(made) == {"a", "b"}
    said = [each for each in caplog.records if each.event == "BF-SRV-MEMORY-EXCEEDED"]
    assert [(each.used_mib, each.memory_mib) for each in said] == [(200, 150), (200, 150)]


def test_models_that_grew_or_may_take_less_now_make_room(clock):
    """The one that is worth least goes, and no more than has to; what is kept loaded stays."""
    made = residence(clock, model("kept", keep=True), model("a"), model("b"), cap_mib=400.0)

    async def run():
        await made.load("kept")
        await wanted(made, "a", "b")
        made.count({"a": 1, "b": 2})
        await made.keep_within()
        assert up(made) == {"kept", "a", "b"}
        made.models["kept"].pss_mib = 220.0
        await made.keep_within()
        assert up(made) == {"kept", "b"}
        assert made.models["a"].placement.reason == "it was evicted for all together took more than serving.memory_mib"
        made.room.cap_mib = 200.0
        await made.keep_within()
        assert up(made) == {"kept"}
        await made.keep_within()

    asyncio.run(run())
    assert up(made) == {"kept"}


def test_demand_fades(clock):
    """What was asked for a day ago counts for nothing now."""
    made = residence(clock, model("a"))
    made.count({"a": 3000})
    assert made.models["a"].rate_per_s == pytest.approx(10)
    clock.now_s += 86_400
    made.count({"a": 0})
    assert made.models["a"].rate_per_s == pytest.approx(0)


def test_who_was_asked_often_long_ago_goes_before_who_is_asked_now(clock):
    """Demand fades for all alike, also for a model that nobody asks for any more."""
    made = residence(clock, model("morning"), model("now"), model("new"))

    async def run():
        await wanted(made, "morning", "now")
        made.count({"morning": 10_000})
        clock.now_s += 3600
        made.count({"now": 100})
        await wanted(made, "new")

    asyncio.run(run())
    assert up(made) == {"now", "new"}


def test_nobody_goes_for_a_model_that_does_not_fit_all_the_same(clock):
    """It is refused with the numbers; however often it is asked for, the others answer."""
    made = residence(clock, model("a"), model("b"), model("large", 400.0))

    async def run():
        await wanted(made, "a", "b", "large")

    asyncio.run(run())
    assert up(made) == {"a", "b"}
    assert "it takes 400 MiB, 150 are missing" in made.models["large"].placement.reason


def test_what_is_to_be_kept_loaded_is_tried_again_after_its_pause(clock, monkeypatch):
    """F-11: its process was ended for its memory and the next one did not start; no request asks for such a model."""
    monkeypatch.setattr(residence_module, "_FIRST_PAUSE_S", 0.05)

    async def run():
        kept = model("a", keep=True)
        made = residence(clock, kept)
        await made.load("a")
        kept.keeper.refuses = WorkerUnavailable("no memory just now")
        await made._end(made.models["a"])
        await made._load_wanted(made.models["a"])
        kept.keeper.refuses = None
        await made.load_failed()
        assert up(made) == set(), "not during the pause"
        await eventually(lambda: not made.models["a"].paused)
        await made.load_failed()
        assert up(made) == {"a"}
        await made.unload("a", "night shift")
        await made.load_failed()
        return up(made)

    assert asyncio.run(run()) == set()


def test_a_reload_has_what_was_unloaded_by_hand_loaded_on_demand_again(clock):
    """As it brings back what is kept loaded: the hold of an operator lasts until a reload."""

    async def run():
        made = residence(clock, model("a"))
        await made.load("a")
        await made.unload("a", "night shift")
        await made.load_kept()
        assert made.placements()[0].on_demand
        assert made.told[-1] == {"a": "unloaded"}
        await wanted(made, "a")
        return up(made)

    assert asyncio.run(run()) == {"a"}


@pytest.mark.parametrize("lingers", ["it was unloaded", "a reload replaced it", "it is not held yet"])
def test_a_process_that_lingers_takes_memory_until_it_has_ended(clock, monkeypatch, lingers):
    """While it answers what it was asked before, nobody else is loaded into its memory."""
    monkeypatch.setattr(residence_module, "pss_mib", lambda pid: {4711: 200.0}.get(pid, 0.0))

    async def run():
        old, new = model("a", 200.0), model("b", 100.0)
        made = residence(clock, old, new)
        process = SimpleNamespace(pid=4711)
        if lingers == "it is not held yet":
            made.replace({"b": new})
            old.keeper.process = process
            await made.begin_first(old)  # a model that was refused is tried again, and a reload runs
        else:
            await made.load("a")
            old.keeper.process = process
        if lingers == "it was unloaded":
            old.keeper.retire()
        elif lingers == "a reload replaced it":
            made.replace({"b": new})
            made.count_beside(old)
        assert made.held_mib == 200.0
        with pytest.raises(Unavailable, match="50 are missing"):
            await made.load("b")
        old.keeper.process = None
        await old.keeper.end()
        await made.load("b")
        return made.held_mib

    assert asyncio.run(run()) == 100.0


@pytest.mark.parametrize(("free_mib", "begun"), [(300.0, 1), (80.0, 0)])
def test_what_answers_is_replaced_by_what_is_loaded_already(clock, free_mib, begun):
    """F-26: a reload loads it beside the one that is asked, where there is memory for both."""

    async def run():
        made = residence(clock, model("a"), cap_mib=None)
        made.room._free_mib = lambda: free_mib
        fresh = model("a")
        await made.begin_beside(fresh)
        assert made.room.reserved_mib == {}
        return fresh.keeper.begun

    assert asyncio.run(run()) == begun


def test_a_model_that_cannot_be_loaded_says_why_and_is_tried_again_later(clock, monkeypatch):
    """To whoever asked by hand, and in its state; a request has it tried again after a pause."""
    monkeypatch.setattr(residence_module, "_FIRST_PAUSE_S", 0.3)
    made = residence(clock, model("a", refuses=StartFailed("no such operator", cause="load")))

    async def run():
        with pytest.raises(Unavailable, match="no such operator"):
            await made.load("a")
        with pytest.raises(NotFound):
            await made.load("b")
        assert made.models["a"].placement.state == "failed"
        assert "no such operator" in made.models["a"].placement.reason
        assert not made.models["a"].placement.on_demand
        made.want("a")
        assert made.models["a"].loading is None, "nobody has it tried again at once"
        made.models["a"].loaded.keeper.refuses = None
        await eventually(lambda: made.told[-1] and made.models["a"].placement.on_demand)
        await wanted(made, "a")

    asyncio.run(run())
    assert up(made) == {"a"}


def test_a_load_by_hand_ends_the_pause_after_loads_that_failed(clock):
    """What is evicted soon after it may be asked for at once."""

    async def run():
        made = residence(clock, model("a", refuses=StartFailed("no such operator", cause="load")), model("b"))
        made.room.cap_mib = 150.0
        await wanted(made, "a")
        made.models["a"].loaded.keeper.refuses = None
        await made.load("a")
        await wanted(made, "b", "a")
        return up(made)

    assert asyncio.run(run()) == {"a"}


def test_what_a_reload_took_the_place_of_is_not_begun(clock):
    """A load by hand that still makes room then is refused: nobody would end its process."""

    async def run():
        made = residence(clock, model("a"), model("b"), cap_mib=150.0)
        await wanted(made, "b")
        old, evicted = made.models["a"], made.models["b"].loaded.keeper
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def end():
            reached.set()
            await go_on.wait()
            evicted.state = WorkerState.STOPPED

        evicted.end = end
        loading = asyncio.create_task(made.load("a"))
        await reached.wait()
        made.replace({"a": model("a")})
        go_on.set()
        with pytest.raises(Unavailable, match="reload"):
            await loading
        return old.loaded.keeper.begun, made.room.reserved_mib

    assert asyncio.run(run()) == (0, {})


def test_what_ends_while_it_is_being_evicted_is_told_as_unloaded(clock):
    """Its keeper says in between that it begins again; the gateways may ask for it once it has gone."""

    async def run():
        made = residence(clock, model("a"))
        await wanted(made, "a")
        keeper, publish = made.models["a"].loaded.keeper, made._publish

        async def publish_late():
            if keeper.state is WorkerState.STOPPED and made.told[-1:] != [{"a": "restarting"}]:
                keeper.state = WorkerState.PAUSING  # its process has ended just now
            await publish()

        made._publish = publish_late
        await made.unload("a", "somebody")
        return made.told[-2:]

    assert asyncio.run(run()) == [{"a": "restarting"}, {"a": "unloaded"}]


def test_what_is_known_stays_over_a_reload(clock):
    """Of a model that did not change; one that did begins anew, and a preview changes nothing."""
    made = residence(clock, model("a"), model("b"))
    made.count({"a": 30, "b": 30})
    fresh = {"a": made.models["a"].loaded, "b": model("b")}
    before = dict(made.models)
    assert [each.integration for each in made.preview(fresh)] == ["a", "b"]
    assert made.models == before
    made.replace(fresh)
    assert made.models["a"].rate_per_s > 0
    assert made.models["b"].rate_per_s == 0


def test_the_counts_of_an_integration_do_not_fall_when_its_version_changes(clock):
    """They are told under its name: loads, evictions, recycles, and processes that were replaced after their end."""

    async def run():
        made = residence(clock, model("a"), model("b"), cap_mib=150.0)
        await wanted(made, "a")
        await made.load("b")
        await made.load("a")
        resident = made.models["a"]
        resident.loaded.keeper.restarts, resident.recycles = 3, 2
        fresh = model("a")
        await fresh.keeper.begin()
        made.replace({"a": fresh, "b": made.models["b"].loaded})
        fresh.keeper.restarts += 1
        return made.models["a"]

    now = asyncio.run(run())
    assert (now.loads, now.evictions, now.recycles, now.restarts) == (3, 1, 2, 4)


def test_f03_one_that_hangs_in_its_start_does_not_keep_another_from_being_tried_again(clock, monkeypatch):
    """F-03: of those that are to be kept loaded each comes as soon as it can, whatever another one does."""
    monkeypatch.setattr(residence_module, "_FIRST_PAUSE_S", 0.01)

    async def run():
        hangs, other = model("hangs", keep=True), model("other", keep=True)
        made = residence(clock, hangs, other)
        for one in (hangs, other):
            one.keeper.refuses = WorkerUnavailable("no process just now")
            await made._load_wanted(made.models[one.integration])
            one.keeper.refuses = None
        await eventually(lambda: not any(one.paused for one in made.models.values()))
        begins = asyncio.Event()
        hangs.keeper.begin = begins.wait
        trying = asyncio.create_task(made.load_failed())
        await eventually(lambda: up(made) == {"other"})
        begins.set()
        await trying

    asyncio.run(run())


def test_f03_loads_go_side_by_side_unless_memory_is_short():
    """F-03: as many as there are cores; with little memory one after another, and one alone always."""
    most = []

    async def run(free_mib):
        gate, running = LoadGate(2, lambda: free_mib), []

        async def load():
            async with gate.enter(100.0):
                running.append(True)
                most.append(len(running))
                await asyncio.sleep(0)
                running.pop()

        await asyncio.gather(*(load() for _ in range(6)))

    asyncio.run(run(1000.0))
    assert max(most) == 2
    most.clear()
    asyncio.run(run(150.0))
    assert max(most) == 1
    most.clear()
    asyncio.run(run(1.0))
    assert most == [1] * 6


def test_processes_are_measured_at_a_start_only_where_memory_is_in_doubt(clock):
    """Each takes a millisecond: two hundred models that all fit are not measured again for each of them."""
    measured = []
    made = residence(clock, model("a", keep=True), model("b", keep=True), cap_mib=500.0)

    def used_mib():
        measured.append(made.held_mib)
        return made.held_mib + 50.0

    made.room._used_mib = used_mib

    async def run():
        for one in made.models.values():
            await made.begin_first(one.loaded)

    asyncio.run(run())
    assert up(made) == {"a", "b"}
    assert len(measured) == 1
    assert [made.room.has(mib) for mib in (200.0, 251.0, 250.0)] == [True, False, True]
    assert len(measured) == 2
