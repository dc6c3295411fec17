"""A metric that the site wrote itself: one function of a Python file, run in a confined process of its own.

In: the file's text, answers, the truth. Out: a score for each row. Refused: a function that is missing, that cannot
judge the fp32 model's own answers, or that gives something else than a share from 0 to 1.
"""

import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.errors import DeclarationError

__all__ = ["Metric", "Scores", "scores"]

_CHILD = Path(__file__).parent / "metric_child.py"
_ROOT = str(Path(__file__).resolve().parents[2])
_TIMEOUT_S = 300.0
_MEMORY_MIB = 4096


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A function by its name, and the text and the name of the Python file that holds it.

    It is called with the outputs of one row by name (with the first dimension of one row, as the graph gives them) and
    that row's truth, and gives a share from 0 to 1: the larger, the better.
    """

    name: str
    code: str
    file: str = ""


class Scores(NamedTuple):
    """A score for each row, NaN where there is none.

    Parameters
    ----------
    values
        By row.
    why
        Why the first row without a score has none: the type of the error and its line, never its text, which might
        hold a record's value; empty where every row has one.
    """

    values: npt.NDArray[np.float64]
    why: str


def scores(metric: Metric, answers: Sequence[Mapping[str, npt.NDArray[Any]]], truth: npt.NDArray[Any]) -> Scores:
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
        raise _refused(metric, f"no answer within {_TIMEOUT_S:g} s") from error
    if done.returncode:
        raise _refused(metric, _last_line(done.stderr) or str(done.returncode))
    if len(done.stdout) != 8 * len(answers):
        raise _refused(metric, "a file that ends its process")
    values = np.frombuffer(done.stdout, dtype=np.float64).copy()
    return Scores(values, _last_line(done.stderr) if np.isnan(values).any() else "")


def _last_line(told: bytes) -> str:
    return told.decode(errors="replace").strip().rpartition("\n")[2][:200]


def _refused(metric: Metric, got: str) -> DeclarationError:
    return DeclarationError(
        where=metric.file or None,
        path="constraints.accuracy.file",
        expected="a Python file with the metric as a function of outputs and truth",
        got=got,
    )
