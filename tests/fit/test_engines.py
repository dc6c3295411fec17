"""OpenVINO in the search: candidates like any other, rows with a reason where it is not installed."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import brownfield
from brownfield.fit import Candidate, Recipe, Session, Verdict, Wanted, search
from brownfield.fit.candidates import engines, sessions
from brownfield.host import read_host
from brownfield.model.process import spawn

FP32 = Recipe(kind="as_is")
OPENVINO, BF16 = Session(engine="openvino"), Session(engine="openvino", precision="bf16")


def test_bf16_is_tried_only_where_rows_can_judge_it() -> None:
    """It computes other numbers."""
    assert [session.precision for session in engines(calibrated=False)] == ["fp32"]
    assert [session.precision for session in engines(calibrated=True)] == ["fp32", "bf16"]


def test_its_arithmetic_is_exact_in_fp32_alone() -> None:
    """bf16 must prove a gain and a loss within the floor, as int8 must."""
    assert Candidate(session=OPENVINO).exact
    assert not Candidate(session=BF16).exact
    assert [session.arena for session in sessions(4, "openvino", "bf16")] == [True, True, True]


@pytest.mark.full
@pytest.mark.usefixtures("calm")
def test_a_host_without_openvino_has_a_row_that_says_so(mlp, few, tmp_path, monkeypatch) -> None:
    """The extra's name is the reason; fp32 is chosen all the same."""
    copy = tmp_path / "package" / "brownfield"
    source = Path(brownfield.__file__).parent
    shutil.copytree(source / "model" / "process", copy / "model" / "process")
    shutil.copy(source / "confinement.py", copy)
    child = copy / "model" / "process" / "child"
    engine = (child / "openvino_engine.py").read_text(encoding="utf-8")
    absent = engine.replace("        import openvino\n", "        import no_openvino as openvino\n")
    assert absent != engine
    (child / "openvino_engine.py").write_text(absent, encoding="utf-8")
    monkeypatch.setattr(spawn, "_CHILD", child / "__main__.py")
    fit = search(
        mlp(1280), few, Wanted(), folder=tmp_path / "fit", tried=[FP32], run_in=[OPENVINO, BF16], time_limit_s=120.0
    )
    by_name = {row.candidate.name: row for row in fit.rows}
    for name in ("OpenVINO fp32", "OpenVINO bf16"):
        assert (by_name[name].stage, by_name[name].cause) == ("screen", "load")
        assert "pip install 'brownfield[openvino]'" in fit.choice.reasons[name]
    assert fit.choice.chosen == "fp32"


@pytest.mark.full
@pytest.mark.skipif(find_spec("openvino") is None, reason="the extra `openvino` is not installed")
def test_both_precisions_are_measured_and_judged(mlp, rows, tmp_path) -> None:
    """fp32 must give the same numbers, bf16 a proven gain; a processor without bf16 gives a row with that reason."""
    fit = search(
        mlp(640),
        rows,
        Wanted(max_drop=0.05),
        folder=tmp_path / "fit",
        tried=[FP32],
        run_in=[OPENVINO, BF16],
        time_limit_s=120.0,
    )
    by_name = {row.candidate.name: row for row in fit.rows}
    assert by_name["OpenVINO fp32"].accuracy.largest_difference < 1e-3
    assert fit.choice.verdict in {Verdict.FITS, Verdict.INVALID}
    if {"avx512_bf16", "amx_bf16"} & set(read_host().cpu_flags):
        assert by_name["OpenVINO bf16"].accuracy.finite
        assert by_name["OpenVINO bf16"].isolated in {True, None}
    else:
        assert "computes in fp32" in by_name["OpenVINO bf16"].failure
