"""100 rows a request, in JSON and as binary tensors, beside ONNX Runtime in a process of its own with the same batch.

Everything on, as in ``bench_serving.py``, whose section ``rows`` this is. Engine and server take turns within a round,
so the ratios hold although the figures move. A deadline of 20 s lets requests of a slow model live; that every answer
is the model's own is read from the metrics.

    python benchmarks/bench_serving.py --only rows
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from brownfield.serving import Background, serve_workspace
from served_mlp import DONE, load
from serving_models import Model, lay_out

__all__ = ["engine_rate", "rows"]

ROWS = 100
CONNECTIONS = {"m1": (4, 16), "m2": (4, 16), "m3": (1,)}  # of M3 one request takes half a second; wrk waits two at most
LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "%s"
%s
local file = io.open("%s", "rb")
wrk.body = file:read("*a")
file:close()
"""
ENGINE = """
import sys, time, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, rows = int(sys.argv[2]), int(sys.argv[3])
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
model = onnxruntime.InferenceSession(sys.argv[1], options)
kinds = {"tensor(float)": "f4", "tensor(int64)": "i8"}
inputs = {node.name: numpy.ones((rows, node.shape[1]), kinds[node.type]) for node in model.get_inputs()}
model.run(None, inputs)
began, calls = time.perf_counter(), 0
while time.perf_counter() - began < float(sys.argv[4]):
    model.run(None, inputs)
    calls += 1
print(calls * rows / (time.perf_counter() - began))
"""
OPENVINO = """
import sys, time, numpy, openvino
kinds = {"f32": "f4", "i64": "i8"}
graph = openvino.Core().read_model(sys.argv[1])
inputs = [
    numpy.ones((int(sys.argv[3]), port.partial_shape[1].get_length()), kinds[port.element_type.to_string()])
    for port in graph.inputs
]
settings = {"INFERENCE_NUM_THREADS": int(sys.argv[2]), "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": sys.argv[5]}
request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
request.infer(inputs)
began, calls = time.perf_counter(), 0
while time.perf_counter() - began < float(sys.argv[4]):
    request.infer(inputs)
    calls += 1
print(calls * int(sys.argv[3]) / (time.perf_counter() - began))
"""


def rows(model: Model, _: Any, options: Any, results: Any) -> None:
    """Measure and print the shares of the engine's rate."""
    with tempfile.TemporaryDirectory() as place, _served(model, Path(place)) as served:
        scripts = _scripts(model, Path(place))
        cases = list(product(scripts, CONNECTIONS[model.name]))
        found: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
        shares: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
        for turn, case in product(range(options.rounds), cases):
            kind, connections = case
            alone = results.measured(
                f"rows-engine {model.name} {kind} c{connections} {turn}",
                lambda: {"rows_per_s": engine_rate(model, ROWS, options.seconds)},
            )
            asked = results.measured(
                f"rows {model.name} {kind} c{connections} {turn}",
                lambda script=scripts[kind], connections=connections: _asked(
                    served, model, script, connections, options.seconds
                ),
            )
            found[case].append(asked)
            shares[case].append(asked["rps"] * ROWS / alone["rows_per_s"])
    for (kind, connections), runs in found.items():
        middle = {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        of_engine = sorted(shares[kind, connections])
        print(
            f"{model.name}, {ROWS} rows a request, {kind}, {connections} connections:"
            f" {statistics.median(of_engine):.2f} of the engine alone ({of_engine[0]:.2f} to {of_engine[-1]:.2f};"
            f" goal 0.5), {middle['rps'] * ROWS:,.0f} rows/s, {middle['cpu_us']:.0f} us of CPU a request"
        )


@contextmanager
def _served(model: Model, folder: Path) -> Iterator[Background]:
    lay_out(folder / "workspace", model, deadline_ms=20_000)
    with serve_workspace(folder / "workspace", ready_timeout_s=120) as served:
        while not _said(f"{served.url}/v2/models/{model.name}/ready").get("model_ready"):
            time.sleep(0.1)
        yield served
        metrics = urllib.request.urlopen(f"{served.url}/metrics").read().decode()  # noqa: S310 (our own server)
    answers = re.findall(r'brownfield_answers_total\{.*source="(\w+)".*\} (\d+)', metrics)
    fallen = sum(int(count) for source, count in answers if source != "model")
    assert answers, "no metrics"
    assert not fallen, f"{fallen} answers are fallbacks"


def _said(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url) as answer:  # noqa: S310 (our own server)
        return dict(json.load(answer))


def _scripts(model: Model, folder: Path) -> dict[str, Path]:
    json_bytes, binary = model.binary(ROWS)
    kinds = {
        "JSON": (model.body(ROWS), "application/json", ""),
        "binary": (
            binary,
            "application/octet-stream",
            f'wrk.headers["Inference-Header-Content-Length"] = "{json_bytes}"',
        ),
    }
    scripts = {}
    for kind, (body, media_type, header) in kinds.items():
        (folder / f"{kind}.body").write_bytes(body)
        scripts[kind] = folder / f"{kind}.lua"
        scripts[kind].write_text((LUA + DONE) % (media_type, header, folder / f"{kind}.body"), encoding="utf-8")
    return scripts


def _asked(served: Background, model: Model, script: Path, connections: int, seconds: float) -> dict[str, float]:
    url = f"{served.url}/v2/models/{model.name}/infer"
    return load(url, script, served.process.pid, connections, max(1, round(seconds)))


def engine_rate(model: Model, rows: int, seconds: float) -> float:
    """Measure rows a second of the model's engine alone, one call after another, with the threads that are declared."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model.onnx)
        file.flush()
        code = OPENVINO if model.session.get("engine") == "openvino" else ENGINE
        command = [sys.executable, "-c", code, file.name, str(model.threads), str(rows), str(seconds)]
        command.append(model.session.get("precision", ""))
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
