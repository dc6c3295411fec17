"""Processes that are made ready to be kept: from files that were verified, and nothing is left where that fails."""

import asyncio
import os
import shutil
import signal
import threading
from types import SimpleNamespace

import pytest

from brownfield.errors import BundleRefused
from brownfield.integration import load_workspace
from brownfield.model import open_bundle
from brownfield.serving import loading as loading_module
from brownfield.serving.clerk import Clerk
from brownfield.serving.loading import Loaded, Loader
from brownfield.serving.residence import Residence
from brownfield.serving.workers.keeper import WorkerState
from harness.processes import MODEL, descendants
from harness.waiting import eventually


@pytest.fixture
def loader(tmp_path):
    """Loads models of the workspace ``risk``; what it starts has its sockets here."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    with Clerk(tmp_path / "no.db") as clerk:
        made = Loader(runtime, clerk=clerk)
        yield made
        made.close()


@pytest.fixture
def spec(risk, tmp_path):
    """The declaration of a model that answers with the sum."""
    return load_workspace(risk.workspace(tmp_path)).integrations["risk"]


async def _nobody():
    """Tell nobody."""


def _events(caplog, event):
    return [record for record in caplog.records if record.event == event]


def test_b62_a_model_that_was_changed_while_it_answered_is_not_started_again(loader, spec, risk, caplog):
    """B-62: the log and the model's state say why; there are pauses, then quarantine; the files put back heal it."""

    async def run():
        loaded = await loader.load(spec)
        residence = Residence(_nobody, used_mib=lambda: 0.0)
        residence.replace({"risk": loaded})
        graph = loaded.bundle.folder / "model.onnx"
        good = graph.read_bytes()
        graph.write_bytes(risk.model(1.0001)[: len(good)])
        assert graph.stat().st_size == len(good)

        os.kill(loaded.keeper.process.pid, signal.SIGKILL)
        await eventually(lambda: loaded.keeper.state is WorkerState.QUARANTINED, 30)
        [refused] = residence.placements()
        assert (refused.state, refused.sockets) == ("quarantined", ())
        assert "its bundle has changed on disk: " in refused.reason
        assert "too often" not in refused.reason
        assert "model.onnx: A file's SHA-256 is not the one in the manifest" in refused.reason
        [told] = _events(caplog, "BF-SRV-BUNDLE-CHANGED")
        assert (told.integration, told.rule) == ("risk", "manifest-digest")
        assert (await loader.load(spec, loaded)).reason.endswith("is not the one in the manifest")

        graph.write_bytes(good)
        healed = await loader.load(spec, loaded)
        residence.replace({"risk": healed})
        [placement] = residence.placements()
        assert (placement.state, placement.reason) == ("ready", "")
        await healed.keeper.end()

    asyncio.run(run())


def test_b62_the_same_files_anew_are_started(loader, spec, caplog):
    """B-62: an rsync of the same content, or a restore, is no other model."""

    async def run():
        loaded = await loader.load(spec)
        first = loaded.keeper.process.pid
        for path in tuple(loaded.bundle.folder.iterdir()):
            path.with_name("fresh").write_bytes(path.read_bytes())
            path.with_name("fresh").rename(path)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: loaded.keeper.state is WorkerState.READY and loaded.keeper.process.pid != first, 30)
        await loaded.keeper.end()

    asyncio.run(run())
    assert _events(caplog, "BF-SRV-BUNDLE-CHANGED") == []


def test_a_bundle_that_moved_is_started_from_where_it_is_declared(loader, spec, risk, tmp_path):
    """A process of the same bundle in another folder is not kept: the next one would not start once that is gone."""

    async def run():
        loaded = await loader.load(spec)
        home = tmp_path / "integrations" / "risk"
        shutil.copytree(home / "bundles" / "one", home / "bundles" / "moved")
        risk.declare(tmp_path, model_path="bundles/moved")
        moved = await loader.load(load_workspace(tmp_path).integrations["risk"], loaded)
        await loaded.keeper.end()
        shutil.rmtree(home / "bundles" / "one")
        first = moved.keeper.process.pid
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: moved.keeper.state is WorkerState.READY and moved.keeper.process.pid != first, 30)
        await moved.keeper.end()

    asyncio.run(run())


def test_b62_a_model_that_is_changed_while_it_is_started_never_answers(loader, spec, risk, monkeypatch):
    """B-62: what was put in its place after it was checked may have been loaded: its process ends at once."""

    async def run():
        loaded = await loader.load(spec)
        await loaded.keeper.end()
        begun = []

        class Changing:
            @staticmethod
            def start(*args, **options):
                begun.append(real.start(*args, **options))
                (loaded.bundle.folder / "model.onnx").write_bytes(risk.model(1.0001))
                return begun[-1]

        real = loading_module.ModelProcess
        monkeypatch.setattr(loading_module, "ModelProcess", Changing)
        with pytest.raises(BundleRefused) as refusal:
            await loaded.keeper.begin()
        assert refusal.value.rule == "manifest-digest"
        assert loaded.keeper.state is WorkerState.STOPPED
        assert begun[0].wait(5) == "SIGKILL"

    asyncio.run(run())


@pytest.mark.full
def test_a_start_that_fails_after_the_greeting_leaves_no_process(risk, tmp_path, monkeypatch, loader):
    """Also what is only said of a process, before it is asked anything, ends it when it cannot be said."""
    risk.declare(tmp_path)
    risk.write_model(tmp_path, "one", "1", risk.model())
    bundle = open_bundle(tmp_path / "integrations" / "risk" / "bundles" / "one")
    keeper = asyncio.run(loader._try(Loaded("risk"), bundle))

    def fail(*_: object) -> None:
        raise TypeError("many")

    monkeypatch.setattr(loading_module, "_warn_of_threads", fail)
    before = descendants(os.getpid(), MODEL)
    with pytest.raises(TypeError, match="many") as held:
        keeper._start()
    assert held
    assert descendants(os.getpid(), MODEL) == before


def test_bundles_that_wait_to_be_verified_keep_no_process_from_being_replaced(tmp_path, spec):
    """A reload of many takes a thread for the one that is read; those that end and start processes are free."""
    reading, go_on = threading.Event(), threading.Event()

    class Slow:
        """Verifies one bundle at a time, and takes long for each."""

        def check(self, _folder):
            reading.set()
            go_on.wait(30)
            raise BundleRefused("it is enough", rule="manifest-digest")

    async def run():
        made = Loader(tmp_path, clerk=Slow())
        loads = [asyncio.create_task(made.load(spec)) for _ in range(40)]  # more than there are threads
        try:
            await asyncio.to_thread(reading.wait)
            ended = asyncio.ensure_future(asyncio.to_thread(bool, True))
            assert (await asyncio.wait([ended], timeout=1.0))[0]
        finally:
            go_on.set()
            await asyncio.gather(*loads)
            made.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("isolated", "named", "shares"),
    [(True, False, True), (None, True, False), (None, False, False), (False, True, False)],
)
def test_callers_share_calls_only_of_models_whose_rows_are_told_apart(isolated, named, shares):
    """As the probe saw it: what a graph calls its rows says nothing of whether they feel one another."""
    bundle = SimpleNamespace(features=SimpleNamespace(batched=True), session=SimpleNamespace(alone=False))
    report = SimpleNamespace(batch_isolated=isolated, hello=SimpleNamespace(batched=named))
    assert loading_module._may_share_batches(bundle, report) is shares


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_model_of_too_few_golden_records_is_asked_alone(loader, spec, risk, tmp_path, caplog, rows):
    """Nobody has seen that its rows do not feel one another; the log says what to do about that."""
    shutil.rmtree(tmp_path / "integrations" / "risk" / "bundles" / "one")
    risk.write_model(tmp_path, "one", "1", risk.model(), rows=rows)

    async def run():
        loaded = await loader.load(spec)
        try:
            return loaded.shares_batches, loaded.reason
        finally:
            await loaded.keeper.end()

    assert asyncio.run(run()) == (rows == 2, "")
    assert len(_events(caplog, "BF-SRV-NOT-SHARED")) == (rows < 2)
    assert len(_events(caplog, "BF-SRV-MODEL-TRIED")) == (rows == 0)
    assert _events(caplog, "BF-SRV-CONFINED-LESS") == []
