"""A quantiser that fails in whatever way is a reason in one line, not the end of a search."""

import shutil
import sys
from pathlib import Path

import pytest

from brownfield.fit import Recipe
from brownfield.fit.build import BuildFailed, build, write_calibration
from brownfield.model import inspect_onnx

STATIC = Recipe(kind="static", calibrator="minmax")
DYNAMIC = Recipe(kind="dynamic", operators=("MatMul", "Gemm"))


@pytest.fixture
def quantiser(monkeypatch, tmp_path):
    """Replace the builder's program by a few lines."""

    def replace(text: str) -> None:
        (tmp_path / "program.py").write_text("import json, os, sys, time\noptions = json.loads(sys.argv[1])\n" + text)
        monkeypatch.setattr(sys.modules["brownfield.fit.build"], "_BUILDER", tmp_path / "program.py")

    return replace


@pytest.mark.full
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("os._exit(3)", "exit 3"),
        ("time.sleep(60)", "did not end within 1 s"),
        ('print(json.dumps({"error": "ShapeInferenceError: no shape"}))', "ShapeInferenceError"),
        ('open(options["target"], "wb").write(b"not a model"); print("{}")', "refused"),
        ('print("{}")', "wrote no file"),
    ],
)
def test_whatever_a_quantiser_does_is_a_reason(quantiser, mlp, tmp_path, program: str, reason: str) -> None:
    """Crash, exit, hang, error, rubbish, nothing: the reason names it and no file is left."""
    quantiser(program)
    with pytest.raises(BuildFailed, match=reason):
        build(STATIC, mlp(), tmp_path / "made", calibration=tmp_path / "c.npz", timeout_s=1)
    assert not (tmp_path / "made").exists()
    assert not list(tmp_path.glob(".build-*"))


def test_a_file_with_other_tensors_is_refused(quantiser, mlp, convolution, tmp_path) -> None:
    """What is served must take and give what the bundle says."""
    quantiser(f'import shutil; shutil.copy({str(convolution / "model.onnx")!r}, options["target"]); print("{{}}")')
    with pytest.raises(BuildFailed, match="other tensors"):
        build(STATIC, mlp(), tmp_path / "made", calibration=tmp_path / "c.npz")


@pytest.mark.full
def test_a_quantiser_that_eats_memory_is_a_reason(mlp, rows, tmp_path) -> None:
    """Its limit ends it, nothing else."""
    write_calibration(tmp_path / "c.npz", rows.split(0).calibration)
    with pytest.raises(BuildFailed, match="quantiser"):
        build(STATIC, mlp(), tmp_path / "made", calibration=tmp_path / "c.npz", memory_mib=48)


@pytest.mark.full
@pytest.mark.parametrize(
    "recipe", [Recipe(kind="optimised"), STATIC, Recipe(kind="dynamic", operators=("MatMul", "Gemm"))]
)
def test_files_are_made_that_take_and_give_the_same(mlp, rows, tmp_path, recipe: Recipe) -> None:
    """Every recipe gives a file that passes inspection, int8 ones a smaller one."""
    write_calibration(tmp_path / "c.npz", rows.split(0).calibration)
    build(recipe, mlp(256), tmp_path / "made", calibration=tmp_path / "c.npz")
    assert inspect_onnx(tmp_path / "made" / "model.onnx").inputs == inspect_onnx(mlp(256) / "model.onnx").inputs
    before, after = ((folder / "model.onnx").stat().st_size for folder in (mlp(256), tmp_path / "made"))
    assert after < before * (0.5 if recipe.quantised else 1.1)


@pytest.mark.full
def test_relative_folders_are_those_of_the_caller(mlp, rows, tmp_path, monkeypatch) -> None:
    """The builder runs in a folder of its own, and still finds model, calibration rows and target."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(mlp(), "model")
    write_calibration(Path("c.npz"), rows.split(0).calibration)
    build(STATIC, Path("model"), Path("made"), calibration=Path("c.npz"))
    assert inspect_onnx(tmp_path / "made" / "model.onnx").inputs
