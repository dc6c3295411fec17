"""A metric that the site wrote itself: one function of a Python file, run in a confined process of its own.

In: the file's text, answers, the truth. Out: a score for each row. Refused: a function that is missing, that cannot
judge the fp32 model's own answers, or that gives something else than a share from 0 to 1.
"""

import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.errors import DeclarationError

__all__ = ["Metric", "scores"]

_CHILD = Path(__file__).parent / "metric_child.py"
_ROOT = str(Path(__file__).resolve().parents[2])
_TIMEOUT_S = 300.0
_MEMORY_MIB = 4096


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A function by its name, and the text of the Python file that holds it.

    It is called with the outputs of one row by name (with the first dimension of one row, as the graph gives them) and
    that row's truth, and gives a share from 0 to 1: the larger, the better.
    """

    name: str
    code: str


def scores(
    metric: Metric, answers: Sequence[Mapping[str, npt.NDArray[Any]]], truth: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Score each row; NaN where the function raised or gave no share.

    Parameters
    ----------
    metric
        Which function.
    answers
        Outputs by name, a row each.
    truth
        By row.

    Raises
    ------
    DeclarationError
        When the file does not run, or has no such function; also when it needs too long or too much memory.
    """
    with io.BytesIO() as task:
        arrays = {f"{row}.{name}": array for row, answer in enumerate(answers) for name, array in answer.items()}
        np.savez(
            task, allow_pickle=False, truth=truth, code=np.array(metric.code), name=np.array(metric.name), **arrays
        )
        given = task.getvalue()
    try:
        done = subprocess.run(  # noqa: S603 (our own program, no shell)
            [sys.executable, "-I", str(_CHILD), _ROOT, str(_MEMORY_MIB)],
            input=given,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
            cwd="/",
            env={"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(f"no answer within {_TIMEOUT_S:g} s") from error
    if done.returncode:
        raise _refused(done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200] or str(done.returncode))
    if len(done.stdout) != 8 * len(answers):
        raise _refused("a file that ends its process")
    return np.frombuffer(done.stdout, dtype=np.float64).copy()


def _refused(got: str) -> DeclarationError:
    return DeclarationError(
        path="constraints.accuracy.file",
        expected="a Python file with the metric as a function of outputs and truth",
        got=got,
    )
