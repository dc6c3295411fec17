"""Make a candidate's model file in a process of its own, and look at it before any engine runs it.

In: a recipe and the folder of the model. Out: a folder with ``model.onnx``. Refused with :class:`BuildFailed`, which
is a row of the table and not the end of a search: a quantiser that raises, crashes, eats memory or does not end, and
a file that takes or gives other tensors than the model did.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from brownfield.endings import how_it_ended
from brownfield.errors import BundleRefused, ModelFailed
from brownfield.fit.candidates import Recipe
from brownfield.fit.rows import Rows
from brownfield.model import inspect_onnx, place_model

__all__ = ["BuildFailed", "bring", "build", "rank", "write_calibration"]

_BUILDER = Path(__file__).parent / "builder.py"
_MODEL = "model.onnx"


class BuildFailed(ModelFailed):
    """No model file could be made by a recipe."""


def write_calibration(path: Path, rows: Rows) -> None:
    """Keep rows where the builder finds them."""
    arrays = {f"{row}.{name}": array for row, sample in enumerate(rows.samples) for name, array in sample.items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def build(  # noqa: PLR0913 (all but the first three are keywords)
    recipe: Recipe,
    source: Path,
    target: Path,
    *,
    calibration: Path,
    ranges: Path | None = None,
    timeout_s: float = 300.0,
    memory_mib: int = 8192,
) -> None:
    """Make a model file, whole or not at all.

    Parameters
    ----------
    recipe
        How; :data:`~brownfield.fit.candidates.FP32` needs no file of its own and is none of ours to make.
    source
        Folder with ``model.onnx``.
    target
        Folder that shall hold the new ``model.onnx``; left alone when it exists.
    calibration
        As :func:`write_calibration` wrote it.
    ranges
        Where to keep what was calibrated for the next file with the same calibrator and operators.
    timeout_s, memory_mib
        Limits of the quantiser's process.

    Raises
    ------
    BuildFailed
        With the reason in one line.
    """
    target = target.resolve()  # the builder runs elsewhere
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as work:
        made = Path(work) / "made.onnx"
        options = _options("build", recipe, source, Path(work), calibration, ranges)
        _run_builder({**options, "target": str(made), "memory_mib": memory_mib}, timeout_s)
        if not made.is_file():
            raise BuildFailed("the quantiser wrote no file")
        bring(made, source, target)


def bring(made: Path, source: Path, target: Path) -> None:
    """Put a file in place as a candidate, whole or not at all, once it takes and gives what the model does.

    Parameters
    ----------
    made
        The file; weights beside it come along.
    source, target
        As :func:`build` takes them.

    Raises
    ------
    BuildFailed
        When the file is not admitted, or takes or gives other tensors than the model.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bring-", dir=target.parent) as work:
        staged = Path(work) / "staged"
        staged.mkdir()
        try:
            signature = place_model(staged, made)
        except BundleRefused as error:
            raise BuildFailed(f"the file that was made is refused ({error.rule})") from error
        before = inspect_onnx(source / _MODEL)
        if _form(signature.inputs) != _form(before.inputs) or _names(signature.outputs) != _names(before.outputs):
            raise BuildFailed("the file that was made takes or gives other tensors than the model")
        shutil.move(staged, target)


def rank(
    recipe: Recipe, source: Path, *, calibration: Path, ranges: Path, timeout_s: float = 300.0, memory_mib: int = 8192
) -> list[str]:
    """Names of the nodes that a static recipe quantises, by how much each alone changes the answers, worst first.

    Raises
    ------
    BuildFailed
        With the reason in one line.
    """
    ranges.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=ranges.parent) as work:
        options = _options("rank", recipe, source, Path(work), calibration, ranges)
        said = _run_builder({**options, "memory_mib": memory_mib}, timeout_s)
    return msgspec.convert(said.get("layers"), list[str])


def _options(
    job: str, recipe: Recipe, source: Path, work: Path, calibration: Path, ranges: Path | None
) -> dict[str, object]:
    return {
        "job": job,
        "model": str(source.resolve() / _MODEL),
        "work": str(work.resolve()),
        "calibration": str(calibration.resolve()),
        "ranges": str((ranges or work / "ranges.json").resolve()),
        "recipe": msgspec.to_builtins(recipe),
    }


def _run_builder(options: dict[str, object], timeout_s: float) -> dict[str, object]:
    command = [sys.executable, "-I", str(_BUILDER), json.dumps(options)]
    environment = {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(  # noqa: S603 (our own program, no shell)
            command, capture_output=True, check=False, timeout=timeout_s, env=environment, cwd=str(options["work"])
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"the quantiser did not end within {timeout_s:g} s") from error
    if done.returncode:
        ended = how_it_ended(done.returncode)
        raise BuildFailed(f"the quantiser's process ended ({ended})")
    said: dict[str, object] = json.loads(done.stdout or b"{}")
    if "error" in said:
        raise BuildFailed(f"the quantiser failed: {said['error']}")
    return said


def _form(specs: tuple[object, ...]) -> list[tuple[object, ...]]:
    return [(spec.name, spec.dtype, spec.shape) for spec in specs]  # type: ignore[attr-defined]


def _names(specs: tuple[object, ...]) -> list[tuple[object, ...]]:
    return [(spec.name, spec.dtype) for spec in specs]  # type: ignore[attr-defined]
