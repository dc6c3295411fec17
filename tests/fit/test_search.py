"""Whole searches on small models: everything here is built and measured for real."""

import math
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from brownfield.fit import Candidate, Recipe, Rows, Session, Verdict, Wanted, search
from brownfield.fit.measure import memory_needed, running
from brownfield.model.process import StartFailed

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("calm")]

FP32 = Recipe(kind="as_is")
STATIC = Recipe(kind="static", calibrator="minmax")
DYNAMIC = Recipe(kind="dynamic", operators=("MatMul", "Gemm"))
WIDE = 1280  # so that a call takes longer than what neighbours of the machine do to its caches
SHORT = {"run_in": [], "time_limit_s": 120.0}


def _names(fit) -> dict[str, str]:
    return {row.candidate.name: row.stage for row in fit.rows}


def test_an_int8_calibrated_on_garbage_is_a_row_and_never_chosen(mlp, outliers, tmp_path) -> None:
    """It loads, it reports no error, and its measured loss keeps it out, however fast it is."""
    fit = search(mlp(WIDE), outliers, Wanted(), folder=tmp_path / "fit", tried=[FP32, STATIC], **SHORT)
    row = next(row for row in fit.rows if row.candidate == Candidate(recipe=STATIC))
    assert row.accuracy.drop.lower > 0.05
    assert (fit.choice.verdict, fit.choice.chosen) == (Verdict.FITS, "fp32"), fit.choice
    assert fit.choice.reasons[STATIC.name].startswith("wrong")


def test_an_int8_that_is_slower_is_a_row_and_never_chosen(convolution, tmp_path) -> None:
    """Dynamic int8 of convolutions writes a smaller file and takes longer."""
    inputs = np.random.default_rng(0).normal(size=(300, 3, 12, 12)).astype("f4")
    slow = Recipe(kind="dynamic", operators=("Conv",))
    rows = Rows.from_tensors({"x": inputs}, batched=True)
    fit = search(convolution, rows, Wanted(max_drop=1.0), folder=tmp_path / "fit", tried=[FP32, slow], **SHORT)
    rows_by = {row.candidate: row for row in fit.rows}
    assert rows_by[Candidate(recipe=slow)].size_mib < rows_by[Candidate()].size_mib
    assert rows_by[Candidate(recipe=slow)].timing.ratio.lower > 1
    assert fit.choice.chosen == "fp32", fit.choice
    assert fit.choice.reasons[slow.name].startswith("slower")


def test_the_same_seed_gives_the_same_choice(mlp, rows, tmp_path) -> None:
    """Two searches from nothing choose alike, and judge by the same rows; the gain is real."""
    fits = [
        search(mlp(WIDE), rows, Wanted(max_drop=0.05), folder=tmp_path / name, tried=[FP32, STATIC], seed=3, **SHORT)
        for name in ("one", "two")
    ]
    assert [fit.choice.chosen for fit in fits] == [STATIC.name, STATIC.name]
    first, second = (fit.chosen.accuracy for fit in fits)
    assert first == second
    assert fits[0].chosen.isolated is True
    assert {"1", "8", "32"} == set(fits[0].chosen.curve_us)


def test_f02_killed_in_the_middle_it_goes_on_and_chooses_alike(mlp, rows, tmp_path) -> None:
    """F-02: after kill -9 the measurements that were complete are taken over, byte by byte, and the rest is made."""
    np.save(tmp_path / "x.npy", np.concatenate([sample["x"] for sample in rows.samples]))
    program = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        import numpy as np
        from brownfield.fit import Recipe, Rows, Wanted, search
        source, x, folder = map(Path, sys.argv[1:])
        def progress(what, done, total):
            if what.startswith("final"):
                os.kill(os.getpid(), 9)
        tried = [Recipe(kind="as_is"), Recipe(kind="static", calibrator="minmax")]
        search(source, Rows.from_tensors({"x": np.load(x)}, batched=True), Wanted(max_drop=0.05), folder=folder,
               tried=tried, progress=progress, run_in=[], time_limit_s=120.0)
    """)
    command = [sys.executable, "-c", program, str(mlp(WIDE)), str(tmp_path / "x.npy"), str(tmp_path / "fit")]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    journal = tmp_path / "fit" / "journal.jsonl"
    before = journal.read_bytes()
    shown: list[str] = []
    fit = search(
        mlp(WIDE),
        rows,
        Wanted(max_drop=0.05),
        folder=tmp_path / "fit",
        tried=[FP32, STATIC],
        progress=lambda what, _done, _total: shown.append(what),
        **SHORT,
    )
    assert fit.resumed == len(before.splitlines()) - 1 == 3
    assert journal.read_bytes().startswith(before)
    assert not any(what.startswith("screen") for what in shown)
    assert (fit.choice.verdict, fit.choice.chosen) == (Verdict.FITS, STATIC.name)


def test_a_latency_that_cannot_be_met_is_refused_with_the_shortfall(mlp, few, tmp_path) -> None:
    """A millionth of a second is not enough; the stated need is the measured 99th percentile."""
    fit = search(mlp(), few, Wanted(latency_p99_ms=0.0001), folder=tmp_path / "fit", tried=[FP32], **SHORT)
    (short,) = fit.choice.shortfalls
    row = next(row for row in fit.rows if row.candidate == Candidate())
    assert fit.choice.verdict is Verdict.DOES_NOT_FIT
    assert short.needed <= row.timing.p99_us[0] / 1000
    assert short.factor == pytest.approx(short.needed / 0.0001)


def test_too_little_memory_is_a_row_and_the_need_is_right_within_a_fifth(mlp, few, tmp_path) -> None:
    """The model does not load within the declared bound; it does with the stated need, and not with 0.8 of it."""
    model = mlp(3000)
    fit = search(model, few, Wanted(memory_mib=64), folder=tmp_path / "fit", tried=[FP32], **SHORT)
    (short,) = fit.choice.shortfalls
    assert fit.choice.verdict is Verdict.DOES_NOT_FIT
    assert {row.cause for row in fit.rows} == {"memory"}
    assert short.resource == "memory_mib"
    needed = math.ceil(short.needed)
    with running(model, Session(), needed) as (_, caller, _):
        caller.ask(few.samples[0])
    with pytest.raises(StartFailed), running(model, Session(), int(needed * 0.8)):
        pass
    assert memory_needed(model, Session(), few, 64) == pytest.approx(needed, rel=0.1)


def test_a_candidate_that_cannot_be_loaded_is_a_row(mlp, few, tmp_path, monkeypatch) -> None:
    """An engine's refusal, and a quantiser that crashes, are reasons; fp32 is measured and chosen all the same."""
    builder = tmp_path / "program.py"
    builder.write_text(
        textwrap.dedent("""
        import json, os, sys
        options = json.loads(sys.argv[1])
        if options["recipe"]["kind"] == "dynamic":
            os.kill(os.getpid(), 11)
        import onnx
        model = onnx.load(options["model"])
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("transB", 1))
        onnx.save(model, options["target"])
        print("{}")
        """)
    )
    monkeypatch.setattr(sys.modules["brownfield.fit.build"], "_BUILDER", builder)
    fit = search(mlp(WIDE), few, Wanted(), folder=tmp_path / "fit", tried=[FP32, STATIC, DYNAMIC], **SHORT)
    causes = {row.candidate.name: (row.stage, row.cause) for row in fit.rows if row.failure}
    assert causes == {STATIC.name: ("screen", "load"), DYNAMIC.name: ("build", "BuildFailed")}
    assert "SIGSEGV" in fit.choice.reasons[DYNAMIC.name]
    assert fit.choice.chosen == "fp32", fit.choice


def test_a_model_that_does_not_run_does_not_fit(tmp_path, few) -> None:
    """Without an fp32 model to compare with there is one row, and its reason."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(b"no model")
    fit = search(tmp_path / "model", few, Wanted(), folder=tmp_path / "fit", tried=[FP32], **SHORT)
    assert fit.choice.verdict is Verdict.DOES_NOT_FIT
    assert _names(fit) == {"fp32": "screen"}


def test_when_the_time_is_up_there_is_no_verdict_and_the_next_call_goes_on(mlp, few, tmp_path) -> None:
    """INVALID, said as such; what was measured is not measured again."""
    wanted, folder = Wanted(), tmp_path / "fit"
    cut = search(mlp(WIDE), few, wanted, folder=folder, tried=[FP32], time_limit_s=0.01)
    assert (cut.choice.verdict, cut.complete) == (Verdict.INVALID, False)
    whole = search(mlp(WIDE), few, wanted, folder=folder, tried=[FP32], **SHORT)
    assert whole.resumed >= 1
    assert (whole.choice.chosen, whole.complete) == ("fp32", True)
    assert folder.stat().st_mode & 0o077 == 0
    assert not (folder / "calibration.npz").exists()  # rows may be personal data
