"""What the hop to a model's own process costs: paired with the same model called in process, on the same machine.

Model M1 (32 numbers, MLP 32-128-64-1). Interleaved rounds, medians of the rounds:
one caller's round trip, beside a bare socket's (on an idle virtual machine most of it is waking the other core);
16 callers' throughput; the moment at which a killed process is noticed.
The engine is imported in a process of the benchmark's own (the reference), never in this one.

Run: ``python benchmarks/hop.py [--rounds 5]``.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import uvloop

from brownfield.errors import WorkerUnavailable
from brownfield.model.process import ModelChannel, ModelProcess

CALLS = 4000
CALLERS = 16
REFERENCE = """
import json, sys, time
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
row = np.ones((1, 32), "f4")
for line in sys.stdin:
    calls = int(line)
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        session.run(["y"], {"x": row})
        took.append(time.perf_counter() - began)
    print(json.dumps([float(np.percentile(took, 50)), float(np.percentile(took, 99)), calls / sum(took)]), flush=True)
"""


ECHO = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as end:
    while data := end.recv(4096):
        end.send(data)
"""


def bare_round_trip() -> float:
    """Median seconds of 176 bytes to another process and back, without anything of ours: the floor of any hop."""
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen([sys.executable, "-c", ECHO, str(theirs.fileno())], pass_fds=[theirs.fileno()]):
        theirs.close()
        took = []
        for _ in range(CALLS):
            began = time.perf_counter()
            ours.send(b"x" * 176)
            ours.recv(4096)
            took.append(time.perf_counter() - began)
        ours.shutdown(socket.SHUT_RDWR)
    return statistics.median(took)


def write_model(path: Path) -> None:
    """Write M1 with seeded weights."""
    draw = np.random.default_rng(7)
    weights = {
        name: onnx.numpy_helper.from_array(draw.normal(0, 0.1, shape).astype("f4"), name)
        for name, shape in {"a": (32, 128), "b": (128,), "c": (128, 64), "d": (64,), "e": (64, 1), "f": (1,)}.items()
    }
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,32] x) => (float[n,1] y) '
        "{ h1 = Gemm(x, a, b) r1 = Relu(h1) h2 = Gemm(r1, c, d) r2 = Relu(h2) y = Gemm(r2, e, f) }"
    )
    model.graph.initializer.extend(weights.values())
    onnx.save(model, path)


async def one_caller(channel: ModelChannel) -> list[float]:
    """Seconds of each round trip of one caller."""
    row = np.ones((1, 32), "f4")
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await channel.infer({"x": row}, time.monotonic_ns() + 10**9)
        took.append(time.perf_counter() - began)
    return took


async def many_callers(channel: ModelChannel) -> float:
    """Answers per second with several callers that each wait for their answer."""
    row = np.ones((1, 32), "f4")

    async def caller() -> None:
        for _ in range(CALLS * 4 // CALLERS):
            await channel.infer({"x": row}, time.monotonic_ns() + 10**9)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return CALLS * 4 / (time.perf_counter() - began)


async def death(process: ModelProcess) -> float:
    """Seconds between kill -9 and the first failed call."""
    channel = await ModelChannel.connect(process.socket_path)
    os.kill(process.pid, signal.SIGSTOP)
    pending = channel.infer({"x": np.ones((1, 32), "f4")})
    await asyncio.sleep(0.01)
    began = time.perf_counter()
    os.kill(process.pid, signal.SIGKILL)
    try:
        await pending
    except WorkerUnavailable:
        return time.perf_counter() - began
    raise AssertionError("a killed process answered")


async def measure(folder: Path, reference: subprocess.Popen[str], rounds: int) -> dict[str, float]:
    """Interleave the two, then kill a few."""
    figures: dict[str, list[float]] = {}
    with ModelProcess.start(folder, runtime_folder=folder / "run") as process:
        channel = await ModelChannel.connect(process.socket_path)
        await one_caller(channel)
        for _ in range(rounds):
            reference.stdin.write(f"{CALLS}\n")
            reference.stdin.flush()
            p50, p99, rate = json.loads(reference.stdout.readline())
            bare = bare_round_trip()
            took = await one_caller(channel)
            for name, value in {
                "in process, one call, p50 us": p50 * 1e6,
                "in process, one call, p99 us": p99 * 1e6,
                "in process, calls/s": rate,
                "bare socket round trip, p50 us": bare * 1e6,
                "hop, 1 caller, p50 us": float(np.percentile(took, 50)) * 1e6,
                "hop, 1 caller, p99 us": float(np.percentile(took, 99)) * 1e6,
                "hop, 16 callers, calls/s": await many_callers(channel),
                "model process, resident MiB": process.resident_mib,
            }.items():
                figures.setdefault(name, []).append(value)
        channel.close()
    for _ in range(rounds):
        began = time.perf_counter()
        with ModelProcess.start(folder, runtime_folder=folder / "run") as process:
            figures.setdefault("start to ready, ms", []).append((time.perf_counter() - began) * 1e3)
            figures.setdefault("killed to noticed, ms", []).append(await death(process) * 1e3)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    medians["hop at 16 callers / in process"] = medians["hop, 16 callers, calls/s"] / medians["in process, calls/s"]
    return medians


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "model.onnx")
        with subprocess.Popen(
            [sys.executable, "-c", REFERENCE, str(Path(folder) / "model.onnx")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        ) as reference:
            figures = uvloop.run(measure(Path(folder), reference, rounds))
        for name, value in figures.items():
            print(f"{name:36}{value:12,.2f}")


if __name__ == "__main__":
    main()
