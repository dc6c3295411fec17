"""What a request costs at our own HTTP door, beside the same path as ASGI app under uvicorn and a hand-written FastAPI.

All run at the same time on the same machine and are loaded in turns by ``wrk`` with a V2 JSON request of 32 numbers,
so the ratios hold although the figures move. Ours have everything on: contract check, features, a model in a process
of its own, output check, decision, journal, metrics, deadline, fallback armed. FastAPI has pydantic models of the V2
protocol and runs the model in its own process; it gets an environment of its own. ``bare`` is the same door with
nothing behind it but a typed decode and the model in the same process: the ceiling of this design. CPU is that of the
whole process tree, per answered request.

    python benchmarks/http_door.py [--seconds 3] [--rounds 5] [--peers FOLDER] [--connections 16]
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from served_mlp import SCRIPT, environment_with, free_port, lay_out, load, mlp, wait_for

ASGI = """
import asyncio, sys
from pathlib import Path
import uvicorn
from brownfield.integration import load_workspace
from brownfield.serving import Supervisor
from brownfield.serving.front import Front
from brownfield.serving.gateway import asgi_app

class UnderUvicorn(Front):
    async def listen(self, listener):
        config = uvicorn.Config(asgi_app(self.handler), http="httptools", ws="none", lifespan="off",
                                access_log=False, log_config=None, log_level="warning", server_header=False,
                                proxy_headers=False)
        await uvicorn.Server(config).serve([listener])

class Served(Supervisor):
    front_class = UnderUvicorn

Served(load_workspace(Path(sys.argv[1])), port=int(sys.argv[2])).run()
"""
BARE = """
import asyncio, socket, sys
import msgspec, numpy, uvloop, onnxruntime
from brownfield.serving.gateway import Door, Limits, Response

class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]

class Request(msgspec.Struct):
    inputs: list[Tensor]

class Bare:
    draining, limits, decode = False, Limits(), msgspec.json.Decoder(Request).decode
    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.run = onnxruntime.InferenceSession(path, options).run
    def now_ns(self):
        return 0
    def open(self, method, path, headers, **_):
        return self
    def cancel(self, call):
        pass
    def answer(self, call, body, reply):
        if not body:  # somebody asks whether it is there
            reply(Response(200, [], b""))
            return
        x = self.decode(body).inputs[0]
        [y] = self.run(None, {"x": numpy.array(x.data, numpy.float32).reshape(x.shape)})
        y = {"name": "y", "datatype": "FP32", "shape": y.shape, "data": y[0].tolist()}
        out = {"model_name": "mlp", "outputs": [y]}
        reply(Response(200, [(b"content-type", b"application/json")], msgspec.json.encode(out)))

async def main():
    await Door(Bare(sys.argv[1])).start(socket.create_server(("127.0.0.1", int(sys.argv[2]))))
    await asyncio.Event().wait()

asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
"""
FASTAPI = """
import os
from typing import Literal
import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
app = FastAPI()

class Input(BaseModel):
    name: str
    shape: list[int]
    datatype: Literal["FP32"]
    data: list[float]

class Request(BaseModel):
    id: str | None = None
    inputs: list[Input]

class Output(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]

class Answer(BaseModel):
    model_name: str
    model_version: str
    outputs: list[Output]

@app.post("/v2/models/mlp/infer")
async def infer(request: Request) -> Answer:
    tensor = request.inputs[0]
    x = np.array(tensor.data, np.float32)
    if tensor.name != "x" or x.size != 32 * tensor.shape[0] or not np.isfinite(x).all():
        raise HTTPException(400, "not the tensor that the model takes")
    [y] = session.run(None, {"x": x.reshape(tensor.shape)})
    output = Output(name="y", shape=list(y.shape), datatype="FP32", data=y.ravel().tolist())
    return Answer(model_name="mlp", model_version="1", outputs=[output])
"""


def peers(folder: Path) -> Path:
    """Make the environment of the peers, unless it is there; its Python."""
    return environment_with(folder, ["fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "numpy"])


def commands(folder: Path, python: Path, ports: dict[str, int]) -> dict[str, list[str]]:
    """Lay out everything that is served, and give the commands that serve it."""
    for name in ("door", "asgi"):
        lay_out(folder / name)
    for name, program in {"asgi_server": ASGI, "bare": BARE, "fast": FASTAPI}.items():
        (folder / f"{name}.py").write_text(program, encoding="utf-8")
    model = folder / "mlp.onnx"
    model.write_bytes(mlp()[0])
    fast = [str(python), "-m", "uvicorn", "fast:app", "--no-access-log", "--log-level", "warning"]
    fast += ["--loop", "uvloop", "--http", "httptools"]
    ours = [sys.executable, "-m", "brownfield", "serve", str(folder / "door")]
    made = {
        "door": [*ours, "--port", str(ports["door"])],
        "ASGI, uvicorn": [sys.executable, "asgi_server.py", str(folder / "asgi"), str(ports["ASGI, uvicorn"])],
        "FastAPI": [*fast, "--port", str(ports["FastAPI"])],
        "FastAPI, 2 workers": [*fast, "--port", str(ports["FastAPI, 2 workers"]), "--workers", "2"],
        "bare": [sys.executable, "bare.py", str(model), str(ports["bare"])],
    }
    os.environ["MODEL"] = str(model)
    return made


NAMES = ("door", "ASGI, uvicorn", "FastAPI", "FastAPI, 2 workers", "bare")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--only", choices=NAMES, action="append")
    options = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    tensor = {"name": "x", "shape": [1, 32], "datatype": "FP32", "data": [round(0.01 * n, 2) for n in range(32)]}
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        script = folder / "v2.lua"
        script.write_text(SCRIPT % json.dumps({"inputs": [tensor]}), encoding="utf-8")
        ports = {name: free_port() for name in NAMES}
        started: dict[str, subprocess.Popen[bytes]] = {}
        for name, command in commands(folder, peers(options.peers or folder / "peers"), ports).items():
            if name in (options.only or NAMES):
                started[name] = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
                stack.callback(started[name].wait, 30)
                stack.callback(started[name].terminate)
        for name in started:
            wait_for(ports[name])
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in started}
        for _ in range(options.rounds):
            for name, process in started.items():
                url = f"http://127.0.0.1:{ports[name]}/v2/models/mlp/infer"
                runs[name].append(load(url, script, process.pid, options.connections, options.seconds))
        report(runs)


def report(runs: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians, and the ratios to the door within this run."""
    medians = {
        name: {key: statistics.median(each[key] for each in those) for key in those[0]} for name, those in runs.items()
    }
    print(f"{'':20}{'requests/s':>12}{'p99 ms':>9}{'CPU us':>9}{'door is':>9}")
    for name, figures in medians.items():
        ratio = medians["door"]["rps"] / figures["rps"] if "door" in medians else float("nan")
        print(f"{name:20}{figures['rps']:>12,.0f}{figures['p99_ms']:>9.2f}{figures['cpu_us']:>9.1f}{ratio:>8.2f}x")


if __name__ == "__main__":
    main()
