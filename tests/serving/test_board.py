"""What one gateway serves under one declaration."""

import asyncio

import pytest

from brownfield.model import open_bundle
from brownfield.serving.board import Board
from brownfield.serving.declared import read_declared
from brownfield.serving.plan import Placement, Plan

CURVE_US = {1: 1000.0, 4: 3000.0, 16: 10_000.0, 64: 36_000.0}  # 28 rows reach 95 % of the best rate


@pytest.fixture
def take(tmp_path, risk):
    """Have a board serve a model that took so long when it was tried; the version that its integration asks then."""
    risk.workspace(tmp_path)

    def taken(curve_us, *, deadline_ms=2000, earlier=None):
        risk.declare(tmp_path, deadline_ms=deadline_ms)
        board = Board(read_declared(tmp_path), tmp_path, tell=lambda *_: None, earlier=earlier)
        bundle = open_bundle(tmp_path / "integrations" / "risk" / "bundles" / "one")
        placement = Placement(
            integration="risk", state="ready", fingerprint="same", bundle=str(bundle.folder), digest=bundle.digest,
            version="1", shares_batches=True, cost_curve_us=curve_us,
        )  # fmt: skip
        asyncio.run(board.take(Plan(declaration=board.declared.digest, started=True, placements=(placement,))))
        return board, board.snapshot["risk"].champion

    return taken


def test_calls_are_shared_from_the_start_as_was_measured_when_the_model_was_tried(take):
    """Nobody waits for a model to be learned that was measured before."""
    assert take({})[1].call_rows == 2
    assert take(CURVE_US)[1].call_rows == 28
    assert take({1: 1000.0, 4: 4000.0, 16: 16_000.0})[1].call_rows == 1


def test_a_reload_with_another_deadline_bounds_shared_calls_by_that(take):
    """A call takes no more than a quarter of the deadline, and what was learned is not lost."""
    board, version = take(CURVE_US)
    _, again = take(CURVE_US, deadline_ms=40, earlier=board)
    assert again is version
    assert again.call_rows == 16
