"""Let a model answer in a throw-away process before there is a bundle: golden records are made so.

In: a folder with the model's files and the tensors. Out: the tensors that it gave. The engine runs in a sandboxed child
with bounded memory and time; what goes wrong there is an error here.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from brownfield.errors import BrownfieldError
from brownfield.model.golden import Golden, Tensors
from brownfield.model.process import ModelProcess, Program, StartFailed, call
from brownfield.model.rules import refused
from brownfield.model.session import ServedSession

__all__ = ["Answer", "as_golden", "compute"]

Answer: TypeAlias = dict[str, npt.NDArray[Any]] | BrownfieldError
"""Outputs by name, or why there are none."""


def compute(
    folder: Path,
    inputs: Sequence[Tensors],
    *,
    program: Program = Program(),  # noqa: B008 (frozen)
    session: ServedSession = ServedSession(),  # noqa: B008 (frozen)
    timeout_s: float = 60.0,
) -> list[Answer]:
    """Run a model on each of several inputs, one after the other, in one process.

    Parameters
    ----------
    folder
        Holds the model's files; the process may read nothing else of ours. It may take 4 GiB of memory
        and four times the size of these files.
    inputs
        Every input of the graph by name, once per run.
    program
        What runs the model.
    session
        How it is served: another engine gives other answers.
    timeout_s
        For loading, and again for each run.

    Returns
    -------
    list
        Per run the outputs by name, or its error.

    Raises
    ------
    BundleRefused
        ``probe-load``, ``probe-memory``, ``probe-timeout``, ``probe-crash`` or ``probe-sandbox`` when the model
        cannot be loaded.
    """
    memory_mib = 4096 + 4 * sum(path.stat().st_size for path in folder.iterdir()) // 2**20
    answers: list[Answer] = []
    with tempfile.TemporaryDirectory(prefix="brownfield-") as runtime:
        try:
            process = ModelProcess.start(
                folder,
                runtime_folder=Path(runtime),
                program=program,
                memory_mib=memory_mib,
                max_batch_rows=1,
                ready_timeout_s=timeout_s,
                **session.started_with,
            )
        except StartFailed as error:
            raise refused(f"probe-{error.cause}", got=error.what) from error
        with process:
            for tensors in inputs:
                try:
                    answers.append(dict(call(process.socket_path, tensors, timeout_s=timeout_s)))
                except BrownfieldError as error:
                    answers.append(error)
    return answers


def as_golden(inputs: Tensors, answer: Answer) -> Golden:
    """Golden records of one run of :func:`compute`.

    Raises
    ------
    BundleRefused
        ``probe-run`` when the run failed, ``probe-nan`` when it gave NaN or infinity.
    """
    if isinstance(answer, BrownfieldError):
        raise refused("probe-run", got=str(answer)) from answer
    for name, array in answer.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise refused("probe-nan", path=ascii(name), expected="finite numbers", got="NaN or infinity")
    return Golden(inputs, answer)
