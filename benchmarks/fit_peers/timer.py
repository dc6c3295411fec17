"""The independent timer of ``bench_fit.py``: every model file in a process of its own, all asked in turn.

In: model files with the session each is meant for, rows. Out: the times of each and its answers. It shares no code with
Brownfield. Each process has one engine with one model; in each round every process is asked the same few rows, and the
order of the processes changes from round to round, so that what slows the machine slows all of them.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

__all__ = ["measure"]

WARM_UP = 5


def measure(
    files: dict[str, dict[str, Any]], rows: Path, *, batched: bool, folder: Path, runs: int, limit_s: float
) -> dict[str, dict[str, Any]]:
    """Time every file.

    Parameters
    ----------
    files
        By name ``model`` (a path), ``engine``, ``options`` and ``carried`` (None, or where a stream and its rows are).
    rows
        ``.npz`` of columns; the truth is left aside.
    batched
        Whether the graph's first dimension counts rows.
    folder
        For the answers, ``NAME.npz`` each.
    runs
        Wanted of each.
    limit_s
        After which no further round begins.

    Returns
    -------
    dict
        By name ``times_us`` (rounds of runs), or ``error`` where it did not load or answer.
    """
    per_round = 8
    with contextlib.ExitStack() as stack:
        children, found = {}, {}
        for name, file in files.items():
            child = stack.enter_context(_child(file, rows, batched))
            told = _ask(child, {"ready": WARM_UP})
            if "error" in told:
                found[name] = told
            else:
                children[name] = child
        times: dict[str, list[list[float]]] = {name: [] for name in children}
        until = time.monotonic() + limit_s
        random = np.random.default_rng(0)
        for turn in range(-(-runs // per_round)):
            if time.monotonic() > until:
                break
            for place in random.permutation(len(children)):
                name = list(children)[place]
                told = _ask(children[name], {"from": turn * per_round, "count": per_round})
                times[name].append(told["times_us"])
        for name, child in children.items():
            told = _ask(child, {"answers": str(folder / f"{name}.npz")})
            found[name] = {"times_us": times[name]} | told
    return found


@contextlib.contextmanager
def _child(file: dict[str, Any], rows: Path, batched: bool) -> Iterator[subprocess.Popen[str]]:  # noqa: FBT001 (as above)
    options = json.dumps(file | {"rows": str(rows), "batched": batched})
    child = subprocess.Popen(
        [sys.executable, __file__, options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            _given(pipe).close()


def _given(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _ask(child: subprocess.Popen[str], question: dict[str, Any]) -> dict[str, Any]:
    try:
        _given(child.stdin).write(json.dumps(question) + "\n")
        _given(child.stdin).flush()
        told = _given(child.stdout).readline()
    except BrokenPipeError:
        told = ""
    return dict(json.loads(told)) if told else {"error": f"the process ended ({child.wait()})"}


class _OnnxRuntime:
    """One thread, no spinning; what the options say beyond that."""

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        import onnxruntime

        given = onnxruntime.SessionOptions()
        given.intra_op_num_threads, given.inter_op_num_threads = options.get("threads", 1), 1
        given.enable_cpu_mem_arena = options.get("arena", True)
        given.add_session_config_entry("session.intra_op.allow_spinning", "0")
        onnxruntime.set_default_logger_severity(3)
        self._session = onnxruntime.InferenceSession(model, given, providers=["CPUExecutionProvider"])
        self.outputs = [each.name for each in self._session.get_outputs()]

    def run(self, row: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(self._session.run(None, row))


class _OpenVino:
    """The same with the other engine, one stream; in bf16 where the options say so."""

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        import openvino

        hints = {
            "INFERENCE_NUM_THREADS": options.get("threads", 1),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": {"bf16": "bf16"}.get(options.get("precision", ""), "f32"),
        }
        self._compiled = openvino.Core().compile_model(model, "CPU", hints)
        self._request = self._compiled.create_infer_request()
        self.outputs = [each.get_any_name() for each in self._compiled.outputs]

    def run(self, row: dict[str, np.ndarray]) -> list[np.ndarray]:
        given = self._request.infer(row)
        return [np.array(given[place]) for place in range(len(self.outputs))]


ENGINES = {"onnxruntime": _OnnxRuntime, "openvino": _OpenVino}


def main(options: dict[str, Any]) -> None:
    """Answer the parent's questions, a line each, until it ends this process."""
    out, sys.stdout = sys.stdout, sys.stderr
    with np.load(options["rows"], allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files if name != "truth"}
    count = len(next(iter(columns.values())))
    whole = options["batched"]
    rows = [
        {name: column[row : row + 1] if whole else np.asarray(column[row]) for name, column in columns.items()}
        for row in range(count)
    ]
    engine: Any = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "ready" in question:
                engine = ENGINES[options["engine"]](options["model"], options["options"])
                for row in rows[: question["ready"]]:
                    engine.run(row)
                told: dict[str, Any] = {}
            elif "answers" in question:
                carried = options["carried"]
                answers = _carried(engine, rows[0], **carried) if carried else [engine.run(row) for row in rows]
                by_name = {name: np.stack([each[at] for each in answers]) for at, name in enumerate(engine.outputs)}
                np.savez(question["answers"], allow_pickle=False, **by_name)
                told = {"answers": question["answers"]}
            else:
                places = range(question["from"], question["from"] + question["count"])
                told = {"times_us": [_timed(engine, rows[place % count]) for place in places]}
        except Exception as error:  # noqa: BLE001 (whatever an engine raises is a cell of the table)
            told = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        out.write(json.dumps(told) + "\n")
        out.flush()


def _carried(engine: Any, row: dict[str, np.ndarray], stream: str, rows: str) -> list[list[np.ndarray]]:
    """Answer the rows of a stream that is asked piece by piece with the state that the model itself gave before."""
    with np.load(stream, allow_pickle=False) as stored, np.load(rows, allow_pickle=False) as numbers:
        pieces, wanted = stored["input"], stored["picked"][numbers["final"]]
    state, answers = np.zeros_like(row["state"]), []
    for piece in pieces:
        answers.append(engine.run(row | {"input": piece, "state": state}))
        state = answers[-1][engine.outputs.index("stateN")]
    return [answers[place] for place in wanted]


def _timed(engine: Any, row: dict[str, np.ndarray]) -> float:
    began = time.perf_counter_ns()
    engine.run(row)
    return (time.perf_counter_ns() - began) / 1000


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
