"""Which bundle is the one before: by the admissions in the store, among the folders beside the declared one."""

import shutil

import pytest

from brownfield.clock import SystemClock
from brownfield.integration import load_workspace
from brownfield.model import digest_of_bundle
from brownfield.serving.clerk import Clerk
from brownfield.serving.previous import base_of, earlier_of, with_previous
from brownfield.store import open_store

pytestmark = pytest.mark.full


@pytest.fixture
def workspace(risk, tmp_path):
    """Declares the bundle ``two`` with the chain that asks for the one before; ``one`` lies beside it."""
    risk.write_model(tmp_path, "one", "1", risk.model())
    risk.write_model(tmp_path, "two", "2", risk.model(weight=2.0), weight=2.0)
    risk.declare(tmp_path, model_path="bundles/two")
    declaration = tmp_path / "integrations" / "risk" / "integration.yaml"
    declaration.write_text(declaration.read_text().replace("chain: [", "chain: [previous_version, "))
    return tmp_path


def admit(workspace, *names):
    (workspace / "var").mkdir(exist_ok=True)
    with open_store(workspace / "var" / "brownfield.db", clock=SystemClock()) as store:
        for name in names:
            digest = digest_of_bundle(workspace / "integrations" / "risk" / "bundles" / name)
            store.registry.admit(integration="risk", name="risk", version=name, digest=digest, probe={})


def found_with(workspace):
    with Clerk(workspace / "var" / "brownfield.db") as clerk:
        return with_previous(load_workspace(workspace), clerk.admitted)


def found(workspace):
    specs = found_with(workspace)
    assert set(specs) <= {"risk", "risk@previous"}
    return specs["risk@previous"].model.path if "risk@previous" in specs else None


@pytest.mark.parametrize("admitted", [("one",), ("one", "two"), ("one", "two", "one")])
def test_the_last_other_bundle_that_answered_is_the_one_before(workspace, admitted):
    """Before the declared one is admitted, and after it was."""
    admit(workspace, *admitted)
    assert found(workspace) == "bundles/one"


def test_what_is_loaded_for_it_is_an_integration_without_a_chain(workspace):
    """It has the same contract and limits, and nobody behind it."""
    admit(workspace, "one")
    spec = found_with(workspace)["risk@previous"]
    assert spec.fallback.chain == ()
    assert spec.contract.reference == "risk@1.0.0"
    assert base_of(spec.name) == "risk"
    assert earlier_of(spec, {}) is None


def test_a_copy_of_the_declared_bundle_is_not_the_one_before(workspace):
    """A backup beside it has the same digest, and would fail as it does."""
    admit(workspace, "one", "two")
    bundles = workspace / "integrations" / "risk" / "bundles"
    for name in ("a-copy", "z-copy"):  # one of them is found after the declared one, whatever the order of the folder
        shutil.copytree(bundles / "two", bundles / name)
    assert found(workspace) == "bundles/one"


@pytest.mark.parametrize("lack", ["store", "admission", "other", "folder", "bundles", "step"])
def test_where_there_is_none_nothing_more_is_loaded(workspace, lack):
    """No store yet, nothing admitted, only the declared one, folders that are gone, or a chain that does not ask."""
    if lack != "store":
        admit(workspace, *{"admission": (), "other": ("two",)}.get(lack, ("one", "two")))
    if lack == "folder":
        shutil.rmtree(workspace / "integrations" / "risk" / "bundles" / "one")
    if lack == "bundles":
        shutil.rmtree(workspace / "integrations" / "risk" / "bundles")
    if lack == "step":
        declaration = workspace / "integrations" / "risk" / "integration.yaml"
        declaration.write_text(declaration.read_text().replace("previous_version, ", ""))
    assert found(workspace) is None
