"""The confined side of :mod:`brownfield.fit.metric`: code and answers on stdin, a number per row on stdout.

Started as ``python -I metric_child.py ROOT MEMORY_MIB``. Before the site's code runs it may read no file but those of
Python itself, write none, connect to nothing and start no process; what it prints is not kept.
"""

import io
import os
import sys
from importlib.abc import SourceLoader
from traceback import extract_tb
from types import ModuleType

import numpy as np

__all__ = ["main"]

_FILE = "metric.py"


def main(root: str, memory_mib: int) -> int:
    """Score every row; a row that cannot be scored is NaN."""
    sys.path.insert(0, root)
    from brownfield.confinement import SandboxPolicy, apply, readable_by_default

    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as task:
        given = {name: task[name] for name in task.files}
    code, name, truth = str(given.pop("code")), str(given.pop("name")), given.pop("truth")
    rows: list[dict[str, np.ndarray]] = [{} for _ in range(len(truth))]
    for key, array in given.items():
        row, _, output = key.partition(".")
        rows[int(row)][output] = array
    answer, sys.stdout = os.dup(1), sys.stderr
    apply(SandboxPolicy(), readable_by_default(), memory_mib)
    module = ModuleType("metric")
    try:
        _Given(code).exec_module(module)
    except Exception as error:  # noqa: BLE001 (whatever the file raises is what the caller is told)
        sys.stderr.write(f"\n{type(error).__name__}{_line_of(error)} when the file was read")
        return 1
    score = getattr(module, name, None)
    if not callable(score):
        sys.stderr.write(f"\na file without a function {name}")
        return 1
    taken = [_scored(score, outputs, truth[row]) for row, outputs in enumerate(rows)]
    with os.fdopen(answer, "wb") as out:
        out.write(np.array([value for value, _ in taken], dtype=np.float64).tobytes())
    why = next((f"{why} at row {row}" for row, (_, why) in enumerate(taken) if why), "")
    sys.stderr.write(f"\n{why}")
    return 0


class _Given(SourceLoader):
    """Loads a module from a text that was read before this process was confined."""

    def __init__(self, code: str) -> None:
        self._code = code.encode()

    def get_filename(self, _fullname: str) -> str:
        return _FILE

    def get_data(self, _path: str) -> bytes:
        return self._code


def _line_of(error: Exception) -> str:
    """Where in the file: the text of an error is not told, for it might hold a record's value."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == _FILE]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    return "" if line is None else f" in line {line}"


def _scored(score: object, outputs: dict[str, np.ndarray], truth: object) -> tuple[float, str]:
    try:
        value = float(score(outputs, truth))  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001 (a row that cannot be scored is counted by the caller)
        return float("nan"), f"{type(error).__name__}{_line_of(error)}"
    return (value, "") if 0 <= value <= 1 else (float("nan"), "no number from 0 to 1")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
