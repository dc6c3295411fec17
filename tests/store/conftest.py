"""A clock and an empty store for every test of the store."""

import pytest

from brownfield.store import open_store
from brownfield.testing import FakeClock


@pytest.fixture
def clock():
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture
def path(tmp_path):
    """Where the store of the test lies."""
    return tmp_path / "var" / "brownfield.db"


@pytest.fixture
def store(path, clock):
    """An empty store."""
    with open_store(path, clock=clock) as opened:
        yield opened
