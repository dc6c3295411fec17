"""Many models on one small machine: what they cost in memory and time, and what they do to each other.

    python benchmarks/many_models.py [--only memory ready start cycles peers neighbours gateways embeddings]

``memory``      proportional memory (PSS) of one served perceptron (M1): supervisor, manager, gateway, model
``ready``       seconds until a model's process is ready, from its start
``start``       seconds until 20 integrations are ready, and the memory of all
``cycles``      memory before and after 200 times load and unload
``peers``       five models here, and as five FastAPI servers in an environment of their own
``neighbours``  M1's p99 alone and beside a saturated sentence encoder (M3)
``gateways``    requests a second with one gateway and with two, in turns, from 16 and 64 connections
``embeddings``  requests a second of a recommender with embeddings (M2) beside M1's, in turns

Each prints what it measured beside what must hold (issue: the fast, unbreakable prediction path).
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from brownfield.host import pss_mib
from brownfield.model.process import ModelProcess
from brownfield.serving import Background, serve_workspace
from http_door import FASTAPI, peers
from served_mlp import SCRIPT, free_port, load, mlp, wait_for
from serving_models import MODELS, Model, lay_out

CONNECTIONS, SECONDS, ROUNDS = 16, 4, 5
CROWDS = (16, 64)
SETTLED_S = 8  # until journals are written, and who was needed for a moment has ended


def tree(pid: int) -> list[psutil.Process]:
    """Give a process and all below it."""
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def tree_pss_mib(*pids: int) -> float:
    """Proportional memory of whole trees, pages that they share counted once."""
    return sum(pss_mib(each.pid) for pid in pids for each in tree(pid))


def role(process: psutil.Process) -> str:
    """Tell what a process of a workspace is for."""
    command = " ".join(process.cmdline())
    for part, name in (("__main__.py", "model"), ("__warm__.py", "zygote"), ("serving.clerk", "clerk")):
        if part in command:
            return name
    return process.name() if process.name().startswith("bf-") else "supervisor"


def table(pid: int) -> str:
    """Name each process of a workspace with its proportional memory."""
    return ", ".join(f"{role(each)} {pss_mib(each.pid):.1f}" for each in tree(pid))


def anonymous_mib(*pids: int) -> float:
    """Proportional memory of whole trees without the pages of files, which the kernel could read again."""
    rollups = (Path(f"/proc/{each.pid}/smaps_rollup").read_text("ascii") for pid in pids for each in tree(pid))
    return sum(int(text.partition("Pss_Anon:")[2].split()[0]) for text in rollups) / 1024


def shelf(folder: Path, copies: int, *, keep_loaded: bool = True, gateways: int = 1, deadline_ms: int = 0) -> Path:
    """Write a workspace of so many integrations with M1."""
    lay_out(folder, MODELS["m1"](), deadline_ms=deadline_ms)
    home = folder / "integrations" / "m1"
    declaration = json.loads((home / "integration.yaml").read_text(encoding="utf-8"))
    del declaration["constraints"]
    declaration["model"]["keep_loaded"] = keep_loaded
    for number in range(copies):
        own = home.with_name(f"m1-{number}") if copies > 1 else home
        if own != home:
            shutil.copytree(home, own)
        (own / "integration.yaml").write_text(json.dumps({**declaration, "integration": own.name}), encoding="utf-8")
    if copies > 1:
        shutil.rmtree(home)
    (folder / "brownfield.yaml").write_text(f"workspace: m1\nserving: {{gateways: {gateways}}}\n", encoding="utf-8")
    return folder


def post(url: str, body: bytes = b"") -> bytes:
    """Ask once."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (our own server)
        return bytes(answer.read())


def warmed(served: Background, *names: str) -> None:
    """Ask each model a hundred times."""
    body = MODELS["m1"]().body()
    for name in names:
        for _ in range(100):
            post(f"{served.url}/v2/models/{name}/infer", body)


def memory(folder: Path, _: argparse.Namespace) -> None:
    """Print what one served model takes."""
    with serve_workspace(shelf(folder / "one", 1)) as served:
        warmed(served, "m1")
        time.sleep(SETTLED_S)
        total = tree_pss_mib(served.process.pid)
        named = table(served.process.pid)
        print(f"gateway + M1 worker, with what stands behind them: {total:.0f} MiB PSS of 150 ({named})")


def ready(folder: Path, _: argparse.Namespace) -> None:
    """How long a start takes."""
    lay_out(folder / "ready", MODELS["m1"]())
    bundle = folder / "ready" / "integrations" / "m1" / "bundles" / "m1"
    times = []
    for _number in range(11):
        began = time.monotonic()
        with ModelProcess.start(bundle, runtime_folder=folder / "run"):
            times.append(time.monotonic() - began)
    print(f"a worker is ready: median {statistics.median(times):.2f} s, slowest {max(times):.2f} s of 0.5")


def start(folder: Path, _: argparse.Namespace) -> None:
    """How long 20 integrations take."""
    workspace = shelf(folder / "twenty", 20)
    began = time.monotonic()
    with serve_workspace(workspace, ready_timeout_s=120) as served:
        print(f"20 integrations are ready after {time.monotonic() - began:.1f} s of 30", end="")
        print(f"; {tree_pss_mib(served.process.pid):.0f} MiB PSS of all")


def cycles(folder: Path, options: argparse.Namespace) -> None:
    """Whether memory comes back."""
    with serve_workspace(shelf(folder / "cycles", 1, keep_loaded=False)) as served:
        body = MODELS["m1"]().body()

        def cycle(times: int) -> None:
            for _ in range(times):
                post(f"{served.url}/v2/repository/models/m1/load")
                post(f"{served.url}/v2/models/m1/infer", body)
                post(f"{served.url}/v2/repository/models/m1/unload")

        cycle(10)
        time.sleep(SETTLED_S)
        before, own = tree_pss_mib(served.process.pid), anonymous_mib(served.process.pid)
        cycle(options.cycles)
        time.sleep(SETTLED_S)
        after, own_after = tree_pss_mib(served.process.pid), anonymous_mib(served.process.pid)
        processes = len(tree(served.process.pid))
    print(
        f"{options.cycles} load/unload cycles: {before:.1f} MiB before, {after:.1f} after,"
        f" {100 * (after / before - 1):+.1f} % of 2 ({100 * (own_after / own - 1):+.1f} % without pages of files);"
        f" {processes} processes are left (4 are ours)"
    )


def beside_peers(folder: Path, options: argparse.Namespace) -> None:
    """Five models, here and as servers of their own."""
    python = peers(options.peers or folder / "peers")
    (folder / "fast.py").write_text(FASTAPI, encoding="utf-8")
    (folder / "mlp.onnx").write_bytes(mlp()[0])
    environment = {**os.environ, "MODEL": str(folder / "mlp.onnx"), "ORT_DISABLE_TELEMETRY": "1"}
    command = [str(python), "-m", "uvicorn", "fast:app", "--no-access-log", "--log-level", "warning"]
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serve_workspace(shelf(folder / "five", 5), ready_timeout_s=120))
        warmed(served, *(f"m1-{number}" for number in range(5)))
        time.sleep(SETTLED_S)
        parts = table(served.process.pid)
        ours, ours_own = tree_pss_mib(served.process.pid), anonymous_mib(served.process.pid)
    with contextlib.ExitStack() as stack:
        pids = []
        body = MODELS["m1"]().body()
        for port in [free_port() for _ in range(5)]:
            started = subprocess.Popen(
                [*command, "--port", str(port), "--loop", "uvloop", "--http", "httptools"], cwd=folder, env=environment
            )
            stack.callback(started.wait, 30)
            stack.callback(started.terminate)
            wait_for(port)
            for _ in range(100):
                post(f"http://127.0.0.1:{port}/v2/models/mlp/infer", body)
            pids.append(started.pid)
        time.sleep(SETTLED_S)
        theirs, theirs_own = tree_pss_mib(*pids), anonymous_mib(*pids)
    print(f"five models: {ours:.0f} MiB PSS, five FastAPI servers {theirs:.0f} MiB: {ours / theirs:.3f} of 0.5")
    print(f"  without pages of files {ours_own:.0f} and {theirs_own:.0f} MiB: {ours_own / theirs_own:.2f}")
    print(f"  ours: {parts}")


@contextlib.contextmanager
def saturated(url: str, model: Model, callers: int = 4) -> Iterator[list[int]]:
    """Ask a model without pause from so many connections; how often it answered."""
    answered, ended = [0], threading.Event()

    def ask() -> None:
        while not ended.is_set():
            post(f"{url}/v2/models/{model.name}/infer", model.body())
            answered[0] += 1

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def neighbours(folder: Path, options: argparse.Namespace) -> None:
    """Print what a busy model does to a quick one."""
    quick, busy = MODELS["m1"](), MODELS["m3"]()
    lay_out(folder / "both", quick)
    lay_out(folder / "busy", busy, deadline_ms=2000, threads=1)
    shutil.copytree(folder / "busy" / "integrations" / "m3", folder / "both" / "integrations" / "m3")
    script = folder / "m1.lua"
    script.write_text(SCRIPT % quick.body().decode(), encoding="utf-8")
    alone, beside, rates = [], [], []
    with serve_workspace(folder / "both", ready_timeout_s=120) as served:
        url = f"{served.url}/v2/models/m1/infer"
        for _ in range(options.rounds):
            alone.append(load(url, script, served.process.pid, 1, SECONDS))
            with saturated(served.url, busy) as answered:
                began = time.monotonic()
                beside.append(load(url, script, served.process.pid, 1, SECONDS))
                rates.append(answered[0] / (time.monotonic() - began))
    for said, runs in (("alone", alone), ("beside M3", beside)):
        p99 = statistics.median(each["p99_ms"] for each in runs)
        rate = statistics.median(each["rps"] for each in runs)
        print(f"M1 {said}: p99 {p99:.2f} ms of 5, {rate:,.0f} requests/s from one caller")
    print(f"M3 beside it: {statistics.median(rates):.0f} requests/s")


def gateways(folder: Path, options: argparse.Namespace) -> None:
    """Print what a second gateway brings where load generator and models share the cores with it."""
    script = folder / "gateways.lua"
    script.write_text(SCRIPT % MODELS["m1"]().body().decode(), encoding="utf-8")
    with contextlib.ExitStack() as stack:
        served = {}
        for n in (1, 2):  # with a deadline that leaves nothing to refuse: these are rates
            workspace = shelf(folder / f"gw{n}", 1, gateways=n, deadline_ms=2000)
            served[n] = stack.enter_context(serve_workspace(workspace))
        for connections in CROWDS:
            found: dict[int, list[dict[str, float]]] = {n: [] for n in served}
            for _ in range(options.rounds):
                for n, one in served.items():
                    url = f"{one.url}/v2/models/m1/infer"
                    found[n].append(load(url, script, one.process.pid, connections, SECONDS))
            print(f"{connections} connections:")
            for n, runs in found.items():
                middle = {key: statistics.median(each[key] for each in runs) for key in runs[0]}
                said = f"{middle['rps']:,.0f} requests/s, p99 {middle['p99_ms']:.2f} ms, {middle['cpu_us']:.1f} us"
                print(f"  {n} gateway(s): {said}")
            shares = [two["rps"] / one["rps"] for one, two in zip(found[1], found[2], strict=True)]
            share, low, high = statistics.median(shares), min(shares), max(shares)
            print(f"  two reach {share:.2f} of one's rate ({low:.2f} to {high:.2f})")


def embeddings(folder: Path, options: argparse.Namespace) -> None:
    """Print what a model of another size and with three inputs leaves of the rate."""
    found: dict[str, list[dict[str, float]]] = {"m1": [], "m2": []}
    with contextlib.ExitStack() as stack:
        served = {}
        for name in found:
            model = MODELS[name]()
            lay_out(folder / name, model)
            served[name] = stack.enter_context(serve_workspace(folder / name))
            (folder / f"{name}.lua").write_text(SCRIPT % model.body().decode(), encoding="utf-8")
        for _ in range(options.rounds):
            for name, one in served.items():
                url = f"{one.url}/v2/models/{name}/infer"
                found[name].append(load(url, folder / f"{name}.lua", one.process.pid, CONNECTIONS, SECONDS))
    shares = [two["rps"] / one["rps"] for one, two in zip(found["m1"], found["m2"], strict=True)]
    share, low, high = statistics.median(shares), min(shares), max(shares)
    rates = {name: statistics.median(each["rps"] for each in runs) for name, runs in found.items()}
    print(f"M2 reaches {share:.2f} of M1's rate ({low:.2f} to {high:.2f}) of 0.8", end="")
    print(f": {rates['m2']:,.0f} against {rates['m1']:,.0f} requests/s")


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "memory": memory,
    "ready": ready,
    "start": start,
    "cycles": cycles,
    "peers": beside_peers,
    "neighbours": neighbours,
    "gateways": gateways,
    "embeddings": embeddings,
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    for name in options.only:
        with tempfile.TemporaryDirectory() as place:
            PARTS[name](Path(place), options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
