"""Make a candidate's model file in a process of its own, and look at it before any engine runs it.

In: a recipe and the folder of the model. Out: a folder with ``model.onnx``. Refused with :class:`BuildFailed`, which
is a row of the table and not the end of a search: a quantiser that raises, crashes, eats memory or does not end, and
a file that takes or gives other tensors than the model did.
"""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from brownfield.errors import BundleRefused, ModelFailed
from brownfield.fit.candidates import Recipe
from brownfield.fit.rows import Rows
from brownfield.model import inspect_onnx, place_model

__all__ = ["BuildFailed", "build", "write_calibration"]

_BUILDER = Path(__file__).parent / "builder.py"
_MODEL = "model.onnx"


class BuildFailed(ModelFailed):
    """No model file could be made by a recipe."""


def write_calibration(path: Path, rows: Rows) -> None:
    """Keep rows where the builder finds them."""
    arrays = {f"{row}.{name}": array for row, sample in enumerate(rows.samples) for name, array in sample.items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def build(
    recipe: Recipe,
    source: Path,
    target: Path,
    *,
    calibration: Path,
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
    timeout_s, memory_mib
        Limits of the quantiser's process.

    Raises
    ------
    BuildFailed
        With the reason in one line.
    """
    source, target, calibration = (
        source.resolve(),
        target.resolve(),
        calibration.resolve(),
    )  # the builder runs elsewhere
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as work:
        made = Path(work) / "made.onnx"
        options = {
            "model": str(source / _MODEL),
            "work": work,
            "target": str(made),
            "calibration": str(calibration),
            "recipe": msgspec.to_builtins(recipe),
            "memory_mib": memory_mib,
        }
        _run_builder(options, timeout_s)
        if not made.is_file():
            raise BuildFailed("the quantiser wrote no file")
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


def _run_builder(options: dict[str, object], timeout_s: float) -> None:
    command = [sys.executable, "-I", str(_BUILDER), json.dumps(options)]
    environment = {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(  # noqa: S603 (our own program, no shell)
            command, capture_output=True, check=False, timeout=timeout_s, env=environment, cwd=str(options["work"])
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"the quantiser did not end within {timeout_s:g} s") from error
    if done.returncode:
        ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit {done.returncode}"
        raise BuildFailed(f"the quantiser's process ended ({ended})")
    reason = json.loads(done.stdout or b"{}").get("error")
    if reason:
        raise BuildFailed(f"the quantiser failed: {reason}")


def _form(specs: tuple[object, ...]) -> list[tuple[object, ...]]:
    return [(spec.name, spec.dtype, spec.shape) for spec in specs]  # type: ignore[attr-defined]


def _names(specs: tuple[object, ...]) -> list[tuple[object, ...]]:
    return [(spec.name, spec.dtype) for spec in specs]  # type: ignore[attr-defined]
