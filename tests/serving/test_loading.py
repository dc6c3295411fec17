"""Processes that are made ready to be kept: whatever goes wrong before they are, nothing is left running."""

import asyncio
import os

import pytest

from brownfield.model import open_bundle
from brownfield.serving import loading
from brownfield.serving.clerk import Clerk
from brownfield.serving.loading import Loaded, Loader
from harness.processes import MODEL, descendants

pytestmark = pytest.mark.full


def test_a_start_that_fails_after_the_greeting_leaves_no_process(risk, tmp_path, monkeypatch):
    """Also what is only said of a process, before it is asked anything, ends it when it cannot be said."""
    risk.declare(tmp_path)
    risk.write_model(tmp_path, "one", "1", risk.model())
    bundle = open_bundle(tmp_path / "integrations" / "risk" / "bundles" / "one")
    loader = Loader(tmp_path / "run", clerk=Clerk(tmp_path / "var"))
    try:
        keeper = asyncio.run(loader._try(Loaded("risk"), bundle))

        def fail(*_: object) -> None:
            raise TypeError("many")

        monkeypatch.setattr(loading, "_warn_of_threads", fail)
        before = descendants(os.getpid(), MODEL)
        with pytest.raises(TypeError, match="many") as held:
            keeper._start()
        assert held
        assert descendants(os.getpid(), MODEL) == before
    finally:
        loader.close()
