"""What the benchmarks of the prediction path share: a workspace with a small model (M1), and a measured run of wrk."""

import contextlib
import itertools
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import numpy_helper

from brownfield.contract import compile_contract
from brownfield.data.features import identity
from brownfield.integration import load_document
from brownfield.model import Golden, write_bundle

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: mlp
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties:
      - name: x
        required: true
        customProperties: [{property: tensor, value: {dtype: float32, shape: [32]}, vendor: brownfield}]
  - name: response
    logicalType: object
    properties:
      - name: y
        required: true
        customProperties: [{property: tensor, value: {dtype: float32, shape: [1]}, vendor: brownfield}]
"""
DECLARATION = """
integration: mlp
contract: contract.odcs.yaml
model: {path: bundles/mlp}
fallback: {deadline_ms: 50, chain: [{constant: {y: [0.5]}}]}
"""
_HEAD = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[%s]==]
"""
DONE = """
function done(summary, latency)
  local errors = summary.errors
  local wrong = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  local p50, p99 = latency:percentile(50), latency:percentile(99)
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, wrong, p50, p99))
end
"""
SCRIPT = _HEAD + DONE


def mlp() -> tuple[bytes, np.ndarray, np.ndarray]:
    """M1 of the notes: a perceptron 32-128-64-1; its bytes, golden inputs and outputs."""
    rng = np.random.default_rng(0)
    nodes, initializers, sizes, name = [], [], [32, 128, 64, 1], "x"
    x = rng.random((4, 32), np.float32)
    value = x
    for layer, (inner, outer) in enumerate(itertools.pairwise(sizes)):
        weight = rng.normal(0, inner**-0.5, (inner, outer)).astype(np.float32)
        initializers.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(onnx.helper.make_node("MatMul", [name, f"w{layer}"], [f"m{layer}"]))
        name = "y" if outer == 1 else f"r{layer}"
        nodes.append(onnx.helper.make_node("Sigmoid" if outer == 1 else "Relu", [f"m{layer}"], [name]))
        value = value @ weight
        value = 1 / (1 + np.exp(-value)) if outer == 1 else np.maximum(value, 0)
    graph = onnx.helper.make_graph(
        nodes,
        "mlp",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 32])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 1])],
        initializers,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), x, value.astype(np.float32)


def lay_out(folder: Path) -> None:
    """Write the workspace."""
    integration = folder / "integrations" / "mlp"
    integration.mkdir(parents=True)
    (folder / "brownfield.yaml").write_text("workspace: mlp\n", encoding="utf-8")
    (integration / "contract.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    (integration / "integration.yaml").write_text(DECLARATION, encoding="utf-8")
    contract = compile_contract(load_document(CONTRACT, "contract.odcs.yaml").data)
    model, x, y = mlp()
    write_bundle(
        integration / "bundles" / "mlp",
        name="mlp",
        version="1",
        model=model,
        features=identity(contract.schema("request"), contract.schema("response")),
        contract=contract,
        golden=Golden({"x": x}, {"y": y}),
    )


def environment_with(folder: Path, packages: Sequence[str]) -> Path:
    """Make an environment of this very Python with these packages, unless it is there; its Python."""
    python, made = folder / "bin" / "python", folder / ".made-with"
    wanted = "\n".join([sys.version, *packages])
    if not made.exists() or made.read_text(encoding="utf-8") != wanted:
        print(f"installing {' '.join(packages)}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        made.write_text(wanted, encoding="utf-8")
    return python


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until somebody listens who does not say that it is not ready."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).close()
            except urllib.error.HTTPError as error:
                if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                    time.sleep(0.05)
                    continue
            return
        time.sleep(0.05)
    raise TimeoutError(port)


def cpu_s(pid: int) -> float:
    """User and system seconds of a process and its children, those that have ended among them."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


def load(url: str, script: Path, pid: int, connections: int, seconds: int) -> dict[str, float]:
    """One run of wrk: requests per second, p50, p99 and CPU per request."""
    before = cpu_s(pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", said)
    assert found, said
    requests, duration_us, wrong, p50_us, p99_us = map(int, found.groups())
    assert requests
    assert not wrong, f"{wrong} of {requests} requests failed"
    return {
        "rps": requests / duration_us * 1e6,
        "p50_ms": p50_us / 1000,
        "p99_ms": p99_us / 1000,
        "cpu_us": (cpu_s(pid) - before) / requests * 1e6,
    }
