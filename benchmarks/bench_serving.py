"""The prediction path with everything on, beside FastAPI, mosec, PyTriton, MLServer, LitServe, BentoML and Ray Serve.

Every server runs in a process tree of its own, the peers in environments that this script makes with pip under
``--peers`` (a peer that cannot be installed or started is left out with the reason). All are alive at the same time and
loaded in turns, so the ratios hold although the figures move. Peers that are not loaded are stopped (SIGSTOP): idle,
LitServe takes a fifth of a core, which would be missing to the others. Load generator and servers share the machine.

``brownfield`` is what this script imports (``make bench-serving`` gives it the compiled request path), and
``interpreted`` the same from its source, where those are two.

``closed``: wrk, 16 connections and 1, for M1 and M2, 16 for M3 (see ``serving_models.py``); median requests per second,
p50, p99, CPU of the whole process tree per request, ratios to ours, and the share of the bare door that is left; for M3
also the rows per second of its engine alone, in calls of 32 rows.
``rows``: 100 rows a request, JSON and binary, beside ONNX Runtime in process (``many_rows.py``).
``overload``: an open loop measured from the intended moment (``openloop.py``) at 0.5, 1, 2 and 10 times of what wrk
reached, ours and the peers, over 1,000 connections: with fewer than are due within a deadline requests wait for one at
the generator, where no server sees them. Goodput, latencies of answers and of refusals, memory.
The generator's limit is the least of what it reached in five runs beside the bare door, asked for more than that bears,
on the cores that they share: no more is offered to anybody. (Two such runs on shared virtual cores differ by half.)
The bare door's own curve stands beside ours: what it misses of a deadline, nobody keeps.
``identity``: 100,000 requests with known distinct answers, 64 callers.

``--cpus awake``, the default, keeps idle CPUs from sleeping during the whole run, for every server alike, as ours does
by ``serving.cpu_wake_us: 0`` while it is asked; ``--cpus host`` leaves them as the host has them. On a virtual machine
where a CPU takes tens of microseconds to wake, that is most of what one caller waits for, with any server.

The environments of the peers are made with the Python that runs this script, and anew for another one. Builds of one
version differ by a fifth, so it says which one it is: that of ``.venv`` (``make PYTHON=...``).

Every run is one entry of the JSON file of ``--json``; what stands there is not measured again, so the whole may be made
in pieces.

    python benchmarks/bench_serving.py [--only closed overload] [--models m1 m3] [--servers brownfield mosec] [--quick]
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import brownfield
from brownfield.wake import WakeBound
from http_door import BARE
from many_rows import engine_rate, rows
from openloop import Load
from openloop import run as open_loop
from served_mlp import SCRIPT, environment_with, free_port, load
from serving_models import MODELS, Model, lay_out

HERE = Path(__file__).resolve().parent
APPS = HERE / "peers"
OURS = "brownfield"
ENGINE_ALONE = "engine alone"
VARIANTS = {"m3-one-thread": "overload", "m3-openvino": "closed"}
"""Of M3, by the only section that is of interest of them; without peers."""
CONNECTIONS = 1000
"""Of the open loop."""
INTERPRETED = "interpreted"
SOURCE = HERE.parent / "src"
_SETTLE_S = 0.3
_ENGINE_ROWS = 32
_FEW_FALLBACKS = 0.01  # of the answers of a closed loop: with more it would not be the model that is measured
_CLOSED_DEADLINE_MS = 2000  # a closed loop is to count answers of the model, not how quick its fallback is


@dataclass(frozen=True)
class Peer:
    """Another server: what pip installs, how it is started, where it listens.

    Parameters
    ----------
    packages
        For pip.
    command
        Behind ``python`` of its environment; ``{port}`` stands for its port.
    path
        Of a prediction.
    workers
        Processes that run the model.
    environment
        Further variables.
    plain
        Whether it takes ``{"x": [[...]]}`` instead of V2.
    start_s
        Longest wait for its first answer.
    """

    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str = "/infer"
    workers: int = 1
    environment: tuple[tuple[str, str], ...] = ()
    plain: bool = False
    start_s: float = 60.0


_UVICORN = ("-m", "uvicorn", "fastapi_app:app", "--no-access-log", "--log-level", "error", "--loop", "uvloop")
_FASTAPI = ("fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "numpy")
PEERS: dict[str, Peer] = {
    "fastapi": Peer(_FASTAPI, (*_UVICORN, "--http", "httptools", "--port", "{port}", "--workers", "2"), workers=2),
    "mosec": Peer(
        ("mosec", "msgspec", "onnxruntime", "numpy"), ("mosec_app.py", "--port", "{port}"), "/inference", workers=2
    ),
    "pytriton": Peer(("nvidia-pytriton", "onnxruntime", "numpy"), ("pytriton_app.py",), "/v2/models/m/infer"),
    "mlserver": Peer(
        ("mlserver==1.7.1", "uvloop<0.22", "onnxruntime", "numpy"), ("mlserver_app.py",), "/v2/models/m/infer"
    ),
    "litserve": Peer(("litserve", "onnxruntime", "numpy"), ("litserve_app.py",), "/predict", workers=2),
    "bentoml": Peer(
        ("bentoml", "onnxruntime", "numpy"),
        ("-m", "bentoml", "serve", "bentoml_app:Model", "--port", "{port}"),
        plain=True,
    ),
    "ray": Peer(("ray[serve]", "onnxruntime", "numpy"), ("ray_app.py",), start_s=120.0),
}
GOALS = {"fastapi": 3.5, "mosec": 2, "pytriton": 12, "mlserver": 14, "litserve": 14, "bentoml": 40, "ray": 40}


@dataclass(frozen=True)
class Server:
    """One that is running."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    body: bytes

    def tree(self) -> list[psutil.Process]:
        """Its processes, each before those that it started."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def memory_mib(self) -> float:
        """Proportional memory of the process tree."""
        total = 0
        for one in self.tree():
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
        return round(total / 2**20, 1)

    def stop(self) -> None:
        """Take the processor from all of it."""
        for one in self.tree():
            with contextlib.suppress(psutil.Error):
                one.suspend()

    def go_on(self) -> None:
        """Give it back, to those first who are watched by the others."""
        for one in reversed(self.tree()):
            with contextlib.suppress(psutil.Error):
                one.resume()


class Results:
    """What was measured, in a file that grows by each run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self.absent: dict[str, str] = {}

    def measured(self, key: str, measure: Callable[[], Any]) -> Any:
        """Give the entry of a key, measured now unless it is there."""
        if key not in self.entries:
            self.entries[key] = measure()
            self.path.write_text(json.dumps(self.entries, indent=1, sort_keys=True), encoding="utf-8")
            print(f"  {key}: {_short(self.entries[key])}", flush=True)
        return self.entries[key]


def _short(entry: Any) -> str:
    return json.dumps({name: value for name, value in entry.items() if name != "by_second"})


def main() -> None:
    """Run what is asked for and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[*SECTIONS])
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    servers = [OURS, INTERPRETED, "bare", *PEERS]
    parser.add_argument("--servers", nargs="+", choices=servers, default=servers)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--cpus", choices=("awake", "host"), default="awake")
    parser.add_argument("--quick", action="store_true", help="short runs, one round: to see that it works")
    parser.add_argument("--peers", type=Path, default=Path.home() / ".cache" / "brownfield" / "serving-peers")
    parser.add_argument("--json", type=Path, default=Path("bench_serving.json"))
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.overload_seconds = 1, 1, 3
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    results = Results(options.json)
    print(f"Python {sys.version}, for every server alike")
    with _cpus(options.cpus):
        _measure(options, results)


def _measure(options: argparse.Namespace, results: Results) -> None:
    for name in options.models:
        try:
            model = MODELS[name]()
        except ImportError as missing:
            print(f"{name} is left out: {missing}")
            continue
        for section in options.only:
            if section != VARIANTS.get(name, section):
                continue
            with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
                servers: dict[str, Server] = {}
                if section != "rows":
                    deadline_ms = model.deadline_ms if section == "overload" else _CLOSED_DEADLINE_MS
                    servers = stack.enter_context(running(model, Path(folder), deadline_ms, options, results))
                SECTIONS[section](model, servers, options, results)


@contextlib.contextmanager
def _cpus(how: str) -> Iterator[None]:
    """Keep idle CPUs from sleeping, or not, and say so."""
    if how == "host":
        print("idle CPUs sleep as the host has it")
        yield
        return
    with contextlib.closing(WakeBound(0)) as bound:
        bound.hold()
        print("idle CPUs are kept from sleeping, for every server alike")
        yield


# --- servers ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(
    model: Model, folder: Path, deadline_ms: int, options: argparse.Namespace, results: Results
) -> Iterator[dict[str, Server]]:
    """Start everything that is asked for, and end it."""
    servers: dict[str, Server] = {}
    (folder / "model.onnx").write_bytes(model.onnx)
    with contextlib.ExitStack() as stack:
        for name in options.servers:
            if (name == "bare" and model.name != "m1") or (name != OURS and model.name in VARIANTS):
                continue
            if name == INTERPRETED and (model.is_m3 or brownfield.__file__ == str(SOURCE / "brownfield/__init__.py")):
                continue
            try:
                servers[name] = _started(name, model, folder, deadline_ms, options.peers, awake=options.cpus == "awake")
            except (OSError, subprocess.CalledProcessError, TimeoutError, RuntimeError) as error:
                results.absent[name] = f"{type(error).__name__} {error}"
                print(f"{name} is left out: {results.absent[name]}", flush=True)
                continue
            stack.callback(_end, servers[name].process)
        for name in servers.keys() & PEERS.keys():
            servers[name].stop()
        yield servers


@contextlib.contextmanager
def _going(server: Server) -> Iterator[None]:
    """Let a peer run while it is measured; ours takes nothing while it is idle, and would replace what stood still."""
    if server.name not in PEERS:
        yield
        return
    server.go_on()
    time.sleep(_SETTLE_S)
    try:
        yield
    finally:
        server.stop()


def _started(name: str, model: Model, folder: Path, deadline_ms: int, cache: Path, *, awake: bool = False) -> Server:
    port, peer = free_port(), PEERS.get(name)
    environment = {**os.environ, "MODEL": str(folder / "model.onnx"), "PORT": str(port)}
    body, path, start_s, place = model.body(), f"/v2/models/{model.name}/infer", 60.0, folder
    if peer is not None:
        python = environment_with(cache / name, peer.packages)
        command = [str(python), *(part.format(port=port) for part in peer.command)]
        threads = model.threads if peer.workers == 1 else 1
        environment |= {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(APPS),
            "THREADS": str(threads),
            "WORKERS": str(peer.workers),
            "PORT2": str(free_port()),
            "PORT3": str(free_port()),
            "LD_LIBRARY_PATH": f"{sys.base_prefix}/lib",
            **dict(peer.environment),
        }
        path, start_s, place = peer.path, peer.start_s, APPS
        if peer.plain:
            parts = [tensor["data"] for tensor in model.request()["inputs"]]
            body = json.dumps({"x": [[value for part in parts for value in part]]}).encode()
    elif name == "bare":
        (folder / "bare.py").write_text(BARE, encoding="utf-8")
        command = [sys.executable, "bare.py", str(folder / "model.onnx"), str(port)]
    else:
        if name == INTERPRETED:
            environment["PYTHONPATH"] = str(SOURCE)
        lay_out(folder / name, model, deadline_ms=deadline_ms)
        if awake:
            with (folder / name / "brownfield.yaml").open("a", encoding="utf-8") as file:
                file.write("serving: {cpu_wake_us: 0}\n")
        command = [sys.executable, "-m", "brownfield", "serve", str(folder / name), "--port", str(port)]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True)
    server = Server(name, process, f"http://127.0.0.1:{port}{path}", body)
    try:
        _until_it_answers(server, model, start_s)
    except BaseException:
        _end(process)
        print((folder / f"{name}.log").read_text(errors="replace")[-600:])
        raise
    return server


def _until_it_answers(server: Server, model: Model, longest_s: float) -> None:
    """Wait until the server gives the engine's own answer."""
    import onnxruntime  # only to know the answer

    inputs = {
        tensor["name"]: np.array(tensor["data"], model.inputs[tensor["name"]].dtype).reshape(tensor["shape"])
        for tensor in model.request()["inputs"]
    }
    near = 1e-2 if model.session else 1e-4  # bf16 rounds
    known = onnxruntime.InferenceSession(model.onnx).run(None, inputs)[0].ravel()
    request = urllib.request.Request(server.url, server.body, {"Content-Type": "application/json"})  # noqa: S310
    until = time.monotonic() + longest_s
    said = "nobody listens"
    while time.monotonic() < until:
        if server.process.poll() is not None:
            raise RuntimeError(f"it ended with {server.process.returncode}")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 (a server of this benchmark)
                answer = json.load(response)
            given = np.ravel(answer["outputs"][0]["data"] if isinstance(answer, dict) else answer)
            if given.shape == known.shape and np.allclose(given, known, rtol=0, atol=near):
                return
            said = "another answer than the engine's"
        except (OSError, http.client.HTTPException) as error:
            said = str(error)
        time.sleep(0.3)
    raise TimeoutError(f"no right answer within {longest_s:g} s: {said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and everything that it started."""
    tree = []
    with contextlib.suppress(psutil.Error):
        tree = psutil.Process(process.pid).children(recursive=True)
        for one in (*reversed(tree), psutil.Process(process.pid)):
            with contextlib.suppress(psutil.Error):
                one.resume()
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in tree:
        with contextlib.suppress(psutil.Error):
            one.kill()


# --- what is measured -------------------------------------------------------------------------------------------------


def closed(model: Model, servers: dict[str, Server], options: argparse.Namespace, results: Results) -> None:
    """Let wrk ask in a closed loop."""
    for connections in (16,) if model.is_m3 else (16, 1):
        print(f"\n{model.name}, {connections} connections, closed loop (wrk)")
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for turn in range(options.rounds):
            for name, server in servers.items():
                key = f"closed {model.name} c{connections} {name} {turn}"
                with _told(key):
                    runs[name].append(results.measured(key, partial(_wrk, server, connections, options)))
            if model.is_m3:
                key = f"closed {model.name} {ENGINE_ALONE} {turn}"
                runs.setdefault(ENGINE_ALONE, []).append(results.measured(key, partial(_alone, model, options)))
        _table(model, {name: those for name, those in runs.items() if those}, results.absent)


@contextlib.contextmanager
def _told(key: str) -> Iterator[None]:
    """Go on without a run in which requests failed, and say so."""
    try:
        yield
    except (AssertionError, subprocess.CalledProcessError) as error:
        print(f"  {key} is left out: {error}", flush=True)


def _wrk(server: Server, connections: int, options: argparse.Namespace) -> dict[str, float]:
    ours = server.name in {OURS, INTERPRETED}
    with _going(server), tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % server.body.decode())
        script.flush()
        before = _fallbacks(server) if ours else 0.0
        figures = load(server.url, Path(script.name), server.process.pid, connections, max(1, round(options.seconds)))
        given = _fallbacks(server) - before if ours else 0.0
    assert given <= _FEW_FALLBACKS * figures["rps"] * options.seconds, f"{given:.0f} answers were the fallback's"
    return figures


def _fallbacks(server: Server) -> float:
    """Answers that were not the model's so far."""
    with urllib.request.urlopen(server.url.split("/v2/")[0] + "/metrics") as response:  # noqa: S310 (ours)
        text = response.read().decode()
    others = re.findall(r'^brownfield_answers_total\{.*source="(?!model")[^"]*".*\} (\S+)$', text, re.MULTILINE)
    return sum(map(float, others))


def _alone(model: Model, options: argparse.Namespace) -> dict[str, float]:
    """Measure the model's engine without a server, in calls of 32 rows."""
    rate = engine_rate(model, _ENGINE_ROWS, options.seconds)
    return {"rps": rate, "p50_ms": math.nan, "p99_ms": math.nan, "cpu_us": math.nan}


def _table(model: Model, runs: dict[str, list[dict[str, float]]], absent: dict[str, str]) -> None:
    medians = {
        name: {key: statistics.median(each[key] for each in those) for key in those[0]} for name, those in runs.items()
    }
    ours = medians.get(OURS)
    print(f"{'':12}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}{'ours is':>9}{'goal':>7}")
    for name, figures in medians.items():
        ratio = f"{ours['rps'] / figures['rps']:.2f}x" if ours else ""
        goal = f"{GOALS[name]:g}x" if name in GOALS and model.name == "m1" else ""
        line = f"{figures['rps']:>12,.0f}{figures['p50_ms']:>9.3f}{figures['p99_ms']:>9.2f}{figures['cpu_us']:>9.1f}"
        print(f"{name:12}{line}{ratio:>9}{goal:>7}")
    for name, reason in absent.items():
        print(f"{name:12} was not measured: {reason}")


def overload(model: Model, servers: dict[str, Server], options: argparse.Namespace, results: Results) -> None:
    """Send an open load of a half, once, twice and ten times of what each server reaches."""
    reached = results.measured("generator", lambda: {"per_s": _limits(options.peers)})["per_s"]
    limit = min(reached)
    print(
        f"\n{model.name}, open loop; the generator reaches {limit:,.0f} to {max(reached):,.0f}/s of the bare door, the "
        f"least is its limit; deadline {model.deadline_ms} ms; {CONNECTIONS} connections"
    )
    header = "".join(
        f"{text:>11}" for text in ("offered", "model/s", "p50", "p99", "fallback p99", "refused p99", "lost")
    )
    print(f"{'':12}{header}{'MiB':>7}")
    for name, server in servers.items():
        if name == INTERPRETED:
            continue
        with _going(server):
            capacity = results.measured(
                f"capacity {model.name} {name}",
                lambda server=server: {"per_s": _capacity(model, server, options.seconds)},
            )["per_s"]
            for times in (0.5, 1, 2, 10):
                rate = min(times * capacity, limit)
                figures = results.measured(
                    f"overload {model.name} {name} {times}x",
                    lambda server=server, rate=rate: {
                        **open_loop(Load(server.url, server.body, rate, options.overload_seconds, CONNECTIONS)),
                        "memory_mib": server.memory_mib(),
                    },
                )
                print(_overload_line(f"{name} {times}x", figures))


def _limits(peers: Path) -> list[float]:
    """Measure what the generator reaches of the bare door when it asks for more than that bears, five times."""
    model = MODELS["m1"]()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(model.onnx)
        bare = _started("bare", model, Path(folder), model.deadline_ms, peers)
        try:
            load = Load(bare.url, bare.body, 250_000, 3, CONNECTIONS, timeout_s=3)
            return [open_loop(load)["rates"]["model"] for _ in range(5)]
        finally:
            _end(bare.process)


def _capacity(model: Model, server: Server, seconds: float) -> float:
    """Answers of the model a second under a closed loop of so few connections that none comes to its deadline."""
    connections = 4 if model.is_m3 else 16
    with contextlib.suppress(AssertionError, subprocess.CalledProcessError), tempfile.NamedTemporaryFile("w") as script:
        script.write(SCRIPT % server.body.decode())
        script.flush()
        return load(server.url, Path(script.name), server.process.pid, connections, max(2, round(seconds)))["rps"]
    return 100.0


def _overload_line(name: str, figures: dict[str, Any]) -> str:
    def shown(kind: str, what: str) -> str:
        return f"{figures[kind][what]:>11,.1f}" if kind in figures else f"{'-':>11}"

    lost = figures["rates"]["timeout"] + figures["rates"]["error"]
    parts = [f"{figures['offered']:>11,.0f}", f"{figures['rates']['model']:>11,.0f}"]
    parts += [shown("model", "p50_ms"), shown("model", "p99_ms"), shown("fallback", "p99_ms")]
    parts += [shown("refused", "p99_ms"), f"{lost:>11,.0f}", f"{figures['memory_mib']:>7.0f}"]
    return f"{name:12}" + "".join(parts)


def identity(model: Model, servers: dict[str, Server], options: argparse.Namespace, results: Results) -> None:
    """Ask 100,000 distinct questions whose answers are known, from 64 connections."""
    if OURS not in servers or model.name != "m1":
        return
    count = 2_000 if options.quick else 100_000
    with _going(servers[OURS]):
        figures = results.measured(
            f"identity {model.name}", lambda: asyncio.run(_distinct(model, servers[OURS], count))
        )
    print(f"\n{model.name}: {figures['wrong']} wrong of {figures['asked']:,} distinct questions ({figures['degraded']} "
          "of them by the fallback)")  # fmt: skip


async def _distinct(model: Model, server: Server, count: int) -> dict[str, int]:
    import onnxruntime  # only to know the answers

    draw = np.random.default_rng(5).random((count, 32), np.float32).round(3)
    [known] = onnxruntime.InferenceSession(model.onnx).run(None, {"x": draw})
    figures = {"asked": count, "wrong": 0, "degraded": 0}
    numbers = iter(range(count))
    port = int(server.url.split(":")[2].split("/")[0])

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            tensor = {"name": "x", "shape": [1, 32], "datatype": "FP32", "data": draw[number].tolist()}
            request = Load(server.url, json.dumps({"inputs": [tensor]}).encode(), 1, 1).request
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r")[0])
            answer = json.loads(await reader.readexactly(length))
            if answer["parameters"]["brownfield_degraded"]:
                figures["degraded"] += 1
            elif abs(answer["outputs"][0]["data"][0] - known[number, 0]) > 1e-5:
                figures["wrong"] += 1
        writer.close()

    await asyncio.gather(*(caller() for _ in range(64)))
    return figures


SECTIONS = {"closed": closed, "rows": rows, "overload": overload, "identity": identity}


if __name__ == "__main__":
    main()
