"""The process behind the gateways: what goes wrong in one place stays there."""

import asyncio
from types import SimpleNamespace

import pytest

from brownfield.errors import BundleRefused, NotFound, Unavailable, WorkerUnavailable
from brownfield.integration import load_workspace
from brownfield.serving import residence as residence_module
from brownfield.serving.declared import read_declared
from brownfield.serving.handover import linger_s as linger_for
from brownfield.serving.loading import Loaded, Loader
from brownfield.serving.manager import Manager
from brownfield.serving.plan import Placement
from brownfield.serving.residence import Residence
from brownfield.serving.workers.keeper import WorkerState


@pytest.fixture
def manager(risk, tmp_path):
    """Makes the manager of a workspace, without running it."""
    risk.declare(tmp_path)
    return Manager(read_declared(tmp_path), tmp_path / "run", drain_s=1, tell=lambda _: None)


def test_whatever_one_model_raises_the_others_are_served(risk, tmp_path, monkeypatch, caplog):
    """At a start it is said and the fallback answers; a reload is refused. Not only by errors that are ours."""
    risk.declare(tmp_path)
    spec = load_workspace(tmp_path).integrations["risk"]
    loader = Loader(tmp_path, clerk=None)

    async def no_room(*_):
        raise OSError("No usable temporary directory found")

    monkeypatch.setattr(loader, "_load_model", no_room)
    loaded = asyncio.run(loader.load(spec))
    assert loaded.keeper is None
    assert "No usable temporary directory" in loaded.reason
    assert [record.event for record in caplog.records] == ["BF-SRV-MODEL-REFUSED"]
    with pytest.raises(Unavailable, match="No usable temporary directory"):
        asyncio.run(loader.load(spec, strict=True))


def test_a_start_that_went_wrong_ends_the_process_so_that_another_begins(manager, monkeypatch, caplog):
    """It would else say that it is starting for ever, and refuse every reload."""

    async def broken():
        raise RuntimeError("nobody thought of this")

    async def run():
        manager._ended = asyncio.Event()
        await manager._start_or_end()
        return manager._ended.is_set()

    monkeypatch.setattr(manager, "_start", broken)
    assert asyncio.run(run())
    assert manager._failed
    assert [record.event for record in caplog.records] == ["BF-SRV-START-FAILED"]


@pytest.fixture
def long_pauses(monkeypatch):
    """No pause after a load that failed ends within a test: its end is published too."""
    monkeypatch.setattr(residence_module, "_FIRST_PAUSE_S", 300.0)


@pytest.mark.parametrize(
    ("refusals", "free_mib", "states"),
    [
        ([WorkerUnavailable("its process could not be started")], 1e9, [["ready"]]),
        ([BundleRefused("no answer within 60 s", rule="probe-timeout")], 1e9, [["ready"]]),
        ([BundleRefused("it differs from its record", rule="probe-mismatch")], 1e9, []),
        ([WorkerUnavailable("no process"), BundleRefused("it differs", rule="probe-mismatch")], 1e9, [["failed"]]),
        ([BundleRefused("no memory", rule="probe-memory")], 1.0, [["failed"], ["failed"]]),
    ],
    ids=["no process", "no time", "wrong answers", "no process, then wrong answers", "no memory, and none now"],
)
@pytest.mark.usefixtures("long_pauses")
def test_what_the_host_lacked_for_a_moment_is_tried_again(manager, risk, tmp_path, refusals, free_mib, states):
    """The model answers once there is enough, without anybody's reload; one that answers wrongly is left alone."""
    risk.write_model(tmp_path, "one", "1", risk.model())
    lacks, published = [*refusals], []

    async def publish():
        published.append([each.state for each in manager._residence.placements()])

    async def run():
        manager._reloads = asyncio.Lock()
        manager._loader = Loader(tmp_path, clerk=manager._clerk)
        manager._residence = Residence(publish, used_mib=lambda: 0.0, free_mib=lambda: free_mib)
        attempt = manager._loader._load_model

        async def load(*args):
            if lacks:
                raise lacks.pop(0)
            await attempt(*args)

        manager._loader._load_model, manager._publish = load, publish
        spec = (await manager._specs(manager._spec))["risk"]
        manager._residence.replace({"risk": await manager._loader.load(spec)})
        manager._started = True
        await manager._load_refused()
        await manager._load_refused()
        loaded = manager._residence.models["risk"].loaded
        if loaded.keeper is not None:
            await loaded.keeper.end()
        manager._loader.close()
        manager._clerk.rest()

    asyncio.run(run())
    assert published == states


def test_a_reload_does_not_wait_for_a_model_that_is_tried_again(manager):
    """One that hangs in its load would hold it up for a minute; what the reload serves then stays."""
    trying, tried = asyncio.Event(), asyncio.Event()
    refused, late = Loaded("risk", reason="no memory", for_now=True), Loaded("risk", reason="no memory", for_now=True)
    fresh = Loaded("risk", keeper=SimpleNamespace(state=WorkerState.READY, socket="", load_s=0.0, longest_call_s=0.0))

    async def load(*_, **__):
        trying.set()
        await tried.wait()
        return late

    async def publish():
        pass

    async def run():
        manager._reloads, manager._loader = asyncio.Lock(), SimpleNamespace(load=load)
        manager._residence, manager._publish = Residence(publish, used_mib=lambda: 0.0), publish
        manager._residence.replace({"risk": refused})
        manager._started = True
        again = asyncio.create_task(manager._load_refused())
        await asyncio.wait_for(trying.wait(), 10)
        assert not manager._reloads.locked()
        manager._residence.replace({"risk": fresh})
        tried.set()
        await again
        return manager._residence.models["risk"].loaded

    assert asyncio.run(run()) is fresh


def test_a_reload_that_was_refused_late_leaves_gateways_that_know_what_is_the_case(manager, risk, tmp_path):
    """One that had prepared already may have been told to have a model loaded that nobody may have loaded now."""
    risk.workspace(tmp_path)
    asked = []

    class Told:
        gateways = ()

        async def require_all(self, subject, plan):
            asked.append((subject, [each.on_demand for each in plan.placements]))
            raise Unavailable("another gateway refused")

        async def tell_all(self, subject, plan=None):
            asked.append((subject, plan and [each.on_demand for each in plan.placements]))

    async def run():
        manager._reloads, manager._publishing = asyncio.Lock(), asyncio.Lock()
        manager._fleet, manager._started, manager._loading = Told(), True, []
        manager._residence = Residence(manager._publish, used_mib=lambda: 0.0)
        bundle = SimpleNamespace(folder="b", digest="d", version="1")
        keeper = SimpleNamespace(state=WorkerState.STOPPED, socket="", load_s=0.0, longest_call_s=0.0)
        one = Loaded("risk", keeper=keeper, fingerprint="f", bundle=bundle, keep_loaded=False)
        manager._residence.replace({"risk": one})
        manager._residence.models["risk"].paused = True

        async def same(*_, **__):
            return one

        manager._loader = SimpleNamespace(load=same)
        return await manager.reload()

    assert not asyncio.run(run())
    assert asked == [("prepare", [True]), ("abort", None), ("plan", [False])]


def test_the_index_knows_every_model_that_is_declared(manager, risk, tmp_path):
    """Also one that is being tried still, and one whose bundle could not be opened, with the reason."""

    async def index():
        return [
            (row["name"], row["version"], row["state"], row["reason"]) for row in await manager._asked("index", None)
        ]

    async def run():
        manager._residence = Residence(manager._publish, used_mib=lambda: 0.0)
        manager._loading = [Placement(integration="risk", state="loading")]
        trying = await index()
        manager._loading = []
        manager._residence.replace({"risk": Loaded("risk", reason="there is no manifest")})
        refused = await index()
        risk.declare(tmp_path, model_path=None)
        manager._spec = load_workspace(tmp_path)
        return trying, refused, await index()

    trying, refused, without_model = asyncio.run(run())
    assert trying == [("risk", "", "LOADING", "")]
    assert refused == [("risk", "", "UNAVAILABLE", "there is no manifest")]
    assert without_model == []


@pytest.mark.parametrize("action", ["load", "unload"])
def test_who_moves_a_model_that_is_being_tried_still_is_told_so(manager, action):
    """Not that there is no such integration: the start has not come to it yet."""

    async def run():
        manager._residence = Residence(manager._publish, used_mib=lambda: 0.0)
        manager._loading = [Placement(integration="risk", state="loading")]
        with pytest.raises(Unavailable, match=r"being tried still.*when the workspace is ready"):
            await manager._asked(action, ["risk", "night shift"])
        with pytest.raises(NotFound, match="no integration of that name"):
            await manager._asked(action, ["till", "night shift"])

    asyncio.run(run())


@pytest.mark.parametrize(("deadline_s", "linger_s"), [(0.05, 1.0), (10.0, 10.0), (600.0, 30.0)])
def test_what_is_replaced_is_kept_for_those_who_still_wait_for_it(deadline_s, linger_s):
    """As long as a request may take, half a minute at most; what stays has no part in it."""
    old, stays = SimpleNamespace(), SimpleNamespace()
    before = {"a": Loaded("a", keeper=old, deadline_s=deadline_s), "b": Loaded("b", keeper=stays, deadline_s=25.0)}
    assert linger_for(before, {"b": Loaded("b", keeper=stays)}) == linger_s
