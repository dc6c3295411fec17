"""What a candidate does to its own process is its row: a crash while it answers, memory without end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest

from brownfield.fit import Recipe, Verdict, Wanted, search
from brownfield.fit import measure as measuring
from brownfield.workspace.fit import _most_rows

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("calm")]

FP32 = Recipe(kind="as_is")
STATIC = Recipe(kind="static", calibrator="minmax")
HUNGRY = """
    import json, sys
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper
    options = json.loads(sys.argv[1])
    model = onnx.load(options["model"])
    graph, y = model.graph, model.graph.output[0].name
    for node in graph.node:
        node.output[:] = ["plain" if name == y else name for name in node.output]
    graph.initializer.extend([
        numpy_helper.from_array(np.array([int(sys.argv[2]) if len(sys.argv) > 2 else 400_000_000]), "many"),
        numpy_helper.from_array(np.array([0]), "first"),
        numpy_helper.from_array(np.array(0, "f4"), "nothing"),
    ])
    graph.node.extend([
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "first"], ["rows"]),
        helper.make_node("Mul", ["rows", "many"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Add", ["plain", "zero"], [y]),
    ])
    onnx.save(model, options["target"])
    print("{}")
"""


def test_b56_a_candidate_that_eats_memory_is_a_row(mlp, few, tmp_path, monkeypatch) -> None:
    """B-56: it loads, needs 1.6 GB to answer a row, and has 512 MiB: that is its reason, and fp32 is chosen."""
    (tmp_path / "program.py").write_text(textwrap.dedent(HUNGRY), encoding="utf-8")
    monkeypatch.setattr(sys.modules["brownfield.fit.build"], "_BUILDER", tmp_path / "program.py")
    limits = Wanted(memory_mib=512)
    fit = search(mlp(), few, limits, folder=tmp_path / "fit", tried=[FP32, STATIC], run_in=[], time_limit_s=120.0)
    row = next(row for row in fit.rows if row.candidate.recipe == STATIC)
    assert (row.stage, row.cause) == ("screen", "memory")
    assert (fit.choice.verdict, fit.choice.chosen) == (Verdict.FITS, "fp32")


def test_f14_a_candidate_that_crashes_the_engine_is_a_row(mlp, few, tmp_path, monkeypatch) -> None:
    """F-14: its process ends by SIGSEGV while it is timed; the search goes on, and the next call has the row still."""
    source, real = mlp(), measuring.running

    @contextmanager
    def crashing(folder, session, memory_mib=None):
        with real(folder, session, memory_mib) as (process, caller, ready_s):
            if folder != source:
                os.kill(process.pid, signal.SIGSEGV)
                process.wait(30.0)
            yield process, caller, ready_s

    monkeypatch.setattr(measuring, "running", crashing)
    parts = {"folder": tmp_path / "fit", "tried": [FP32, STATIC], "run_in": [], "time_limit_s": 120.0}
    first = search(source, few, Wanted(), **parts)
    row = next(row for row in first.rows if row.candidate.recipe == STATIC)
    assert (row.stage, row.timing) == ("screen", None)
    assert row.failure
    assert first.choice.reasons[STATIC.name] == row.failure
    assert (first.choice.verdict, first.choice.chosen) == (Verdict.FITS, "fp32")
    again = search(source, few, Wanted(), **parts)
    assert again.resumed >= 3
    assert again.choice.reasons[STATIC.name] == row.failure


def test_a_batch_beyond_the_memory_ends_the_cost_curve_and_not_the_candidate(mlp, few, tmp_path) -> None:
    """48 MB a row: 8 rows fit into 700 MiB, 32 do not; the candidate is chosen, and its curve says how far it goes."""
    source = tmp_path / "model"
    source.mkdir()
    options = {"model": str(mlp() / "model.onnx"), "target": str(source / "model.onnx")}
    program = [sys.executable, "-c", textwrap.dedent(HUNGRY), json.dumps(options), "12000000"]
    subprocess.run(program, check=True, capture_output=True)
    limits = Wanted(memory_mib=700)
    fit = search(source, few, limits, folder=tmp_path / "fit", tried=[FP32], run_in=[], time_limit_s=120.0)
    assert fit.choice.chosen == "fp32"
    assert set(fit.chosen.curve_us) == {"1", "8"}
    assert _most_rows(fit.chosen) == 8
