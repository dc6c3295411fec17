"""Let a model compute in a process of its own, once, before there is a bundle that serves.

In: a folder with ``model.onnx`` and the tensors. Out: the tensors that it gave. The engine runs in a sandboxed child
with bounded time and memory; what goes wrong there is an error here.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from brownfield.errors import BrownfieldError
from brownfield.model.golden import Golden, Tensors
from brownfield.model.process import ModelProcess, StartFailed, call
from brownfield.model.rules import refused

__all__ = ["checked_golden", "compute", "golden_of"]


def compute(
    folder: Path, inputs: Sequence[Tensors], *, memory_mib: int | None = None, timeout_s: float = 60.0
) -> list[dict[str, npt.NDArray[Any]] | BrownfieldError]:
    """Run a model on each of several inputs, one after the other, in one throw-away process.

    Parameters
    ----------
    folder
        Holds ``model.onnx`` and its weights; the process may read nothing else of ours.
    inputs
        Every input of the graph by name, once per run.
    memory_mib
        Bound on the memory of the process; 4 GiB and four times the size of the model when left out.
    timeout_s
        For loading, and again for each run.

    Returns
    -------
    list
        Per input the outputs by name, or the error of that run.

    Raises
    ------
    BundleRefused
        ``model-load`` when the engine cannot load the model within the limits.
    """
    answers: list[dict[str, npt.NDArray[Any]] | BrownfieldError] = []
    if memory_mib is None:
        memory_mib = 4096 + 4 * sum(path.stat().st_size for path in folder.iterdir()) // 2**20
    with tempfile.TemporaryDirectory(prefix="brownfield-") as runtime:
        with _started(folder, Path(runtime), memory_mib, timeout_s) as process:
            for tensors in inputs:
                try:
                    answers.append(dict(call(process.socket_path, tensors, timeout_s=timeout_s)))
                except BrownfieldError as error:
                    answers.append(error)
    return answers


def _started(folder: Path, runtime: Path, memory_mib: int, timeout_s: float) -> ModelProcess:
    try:
        return ModelProcess.start(
            folder, runtime_folder=runtime, memory_mib=memory_mib, max_batch_rows=1, ready_timeout_s=timeout_s
        )
    except StartFailed as error:
        raise refused("model-load", got=error.what) from error


def golden_of(folder: Path, inputs: Tensors) -> Golden:
    """Golden records: inputs, and what the model in ``folder`` makes of them.

    Raises
    ------
    BundleRefused
        ``golden-output`` when it cannot answer, or answers with NaN.
    """
    return checked_golden(inputs, compute(folder, [inputs])[0])


def checked_golden(inputs: Tensors, outputs: Tensors | BrownfieldError) -> Golden:
    """Golden records of one run of :func:`compute`.

    Raises
    ------
    BundleRefused
        ``golden-output`` when the run failed, or gave NaN.
    """
    if isinstance(outputs, BrownfieldError):
        raise refused("golden-output", got=str(outputs)) from outputs
    for name, array in outputs.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise refused("golden-output", path=ascii(name), expected="numbers", got="NaN")
    return Golden(inputs, outputs)
