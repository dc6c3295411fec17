"""``brownfield fit`` beside Olive, NNCF and the defaults of onnxruntime, on five real models.

Usage: python benchmarks/bench_fit.py [--models minilm,ocr,magika,silero,recommender] [--tools ours,...] [--quick]
       [--work FOLDER] [--peers FOLDER] [--time-limit-s 540]

Each tool gets the model of a workspace of ``examples/fit`` and the same calibration rows, and makes what it makes; ours
gets the declaration as well. What each made is then timed by one timer that is none of ours, in processes of one model
each which are asked in turn, and judged by metrics that are none of ours, on rows that no tool was given to calibrate
or search by. A model that hands a state on is judged over its own states, piece after piece, not over those of fp32.
Peers live in environments of their own, which this script makes with pip under the folder of ``--peers`` (a temporary
one unless said). What a tool made, and what was measured of a model, is kept in the folder of ``--work`` and not made
again: an interrupted run goes on.

A *wrong success* is a tool that ends without an error and leaves a file that does not run, has a median more than 5 %
above that of fp32 by the lower end of the interval, or loses more than the floor. An expected rate is met when one
request after another keeps no more than seven tenths of the declared cores busy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brownfield.data.features import Features
from brownfield.fit import Rows
from brownfield.integration import load_workspace
from fit_peers.metrics import METRICS, loss, ratio
from fit_peers.timer import measure

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples" / "fit"
MODELS = ("minilm", "ocr", "magika", "silero", "recommender")
ENVIRONMENTS = {
    "olive": ["torch==2.13.0", "olive-ai", "requests", "datasets", "onnx", "onnxruntime"],
    "nncf": ["nncf", "openvino", "onnx", "onnxruntime", "sympy"],
}
OLIVE = {
    "olive_quantize": ["quantize", "--precision", "int8", "--implementation", "ort"],
    "olive_optimize": ["optimize", "--provider", "CPUExecutionProvider", "--precision", "int8"],
}
SUFFIX = {"nncf_accuracy": "xml"}  # its accuracy control works on OpenVINO's files, which that engine then runs
OURS, FP32, AGAIN = "ours", "fp32", "fp32_again"
TOOLS = (OURS, "ort_dynamic", "ort_static", *OLIVE, "nncf_quantize", "nncf_accuracy")
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "OLIVE_DISABLE_TELEMETRY": "1", "NNCF_CI": "1", "OMP_NUM_THREADS": "1"}
RUNS, QUICK_RUNS = 2000, 240
MEASURE_S, QUICK_MEASURE_S = 75.0, 20.0
UTILISATION, SLOWER = 0.7, 0.05
SEED, RESAMPLES = 0, 2000
Cell = dict[str, Any]


class Model:
    """One workspace, laid out, with its rows in the three parts that ours makes of them."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.workspace, self.folder = name, work / name, work / f"{name}.bench"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.workspace / "rows.npz").is_file():
            subprocess.run([sys.executable, str(EXAMPLES / name / "make.py"), str(self.workspace)], check=True)
        self.spec: IntegrationSpec = load_workspace(self.workspace).integrations[name]
        assert self.spec.model is not None
        assert self.spec.model.path is not None
        bundle = self.spec.file(self.spec.model.path)
        self.file = bundle / "model.onnx"
        features = Features.from_json((bundle / "features.json").read_bytes())
        self.batched = features.batched
        self._share_out()

    @property
    def floor(self) -> float:
        """Largest loss that the declaration allows."""
        assert self.spec.constraints.accuracy is not None
        return self.spec.constraints.accuracy.max_drop

    def part(self, name: str) -> Path:
        """File of ``calibration``, ``selection`` or ``final``."""
        return self.folder / f"{name}.npz"

    def _share_out(self) -> None:
        with np.load(self.workspace / "rows.npz", allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        numbers = np.arange(len(columns["truth"]))
        split = Rows.from_tensors({"row": numbers}, batched=True).split(SEED)
        for name, part in split._asdict().items():
            chosen = [int(sample["row"][0]) for sample in part.samples]
            np.savez(self.part(name), allow_pickle=False, **{key: column[chosen] for key, column in columns.items()})
        np.savez(self.part("numbers"), allow_pickle=False, final=chosen)

    def too_slow(self, cell: Cell) -> str:
        """Which limit of time a measured cell breaks; empty for none."""
        limits = self.spec.constraints
        if limits.latency_p99_ms is not None and cell["p99_us"] > limits.latency_p99_ms * 1000:
            return f"p99 over {limits.latency_p99_ms:g} ms"
        rate = limits.expected_rate_per_s
        if rate is not None and rate * cell["mean_us"] / 1e6 > UTILISATION * limits.cpu_cores:
            return f"{rate:g}/s needs more than {limits.cpu_cores:g} core"
        return ""


def made_by(tool: str, model: Model, peers: Path, time_limit_s: float) -> Cell:
    """Let a tool make its file: ``file``, ``engine``, ``options``, ``said``; or ``error``. Always ``seconds``."""
    began = time.monotonic()
    try:
        if tool == OURS:
            cell = of_ours(model, time_limit_s)
        elif tool in OLIVE:
            cell = of_olive(tool, model, peers, time_limit_s)
        else:
            cell = of_library(tool, model, peers, time_limit_s)
    except subprocess.TimeoutExpired:
        cell = {"error": f"no end within {time_limit_s:g} s"}
    return cell | {"seconds": round(time.monotonic() - began, 1)}


def of_ours(model: Model, time_limit_s: float) -> Cell:
    """Run ``brownfield fit`` as its documentation says."""
    rows = ["--rows", str(model.workspace / "rows.npz"), "--labels", "truth", "--seed", str(SEED)]
    command = [sys.executable, "-m", "brownfield", "fit", str(model.workspace), *rows, "--json"]
    command += ["--time-limit-s", f"{time_limit_s:g}"]
    done = run(command, time_limit_s + 60)
    if done.returncode not in (0, 1):
        return {"error": last_line(done.stderr)}
    report = json.loads(done.stdout)["fit"]
    choice = report["choice"]
    if not choice["chosen"]:
        return {"error": f"{choice['verdict']}: {choice['why']}"}
    chosen = next(row for row in report["rows"] if called(row) == choice["chosen"])
    session = chosen["candidate"].get("session", {})
    return {
        "file": str(Path(report["model_folder"]).resolve() / "model.onnx"),
        "engine": session.get("engine", "onnxruntime"),
        "options": {key: session[key] for key in ("threads", "arena", "precision") if key in session},
        "said": f"{choice['verdict']}: {choice['chosen']}",
    }


def called(row: Cell) -> str:
    """Name of the candidate of a row of the report."""
    import msgspec

    from brownfield.fit import Candidate

    return msgspec.convert(row["candidate"], Candidate).name


def of_olive(tool: str, model: Model, peers: Path, time_limit_s: float) -> Cell:
    """Run one of Olive's commands on the file."""
    target = model.folder / tool
    olive = environment("olive", peers).with_name("olive")
    command = [str(olive), *OLIVE[tool], "-m", str(model.file), "-o", str(target), "--disable_telemetry"]
    done = run(command, time_limit_s, cwd=model.folder)
    files = sorted(target.rglob("*.onnx"))
    if done.returncode or not files:
        return {"error": last_line(done.stderr or done.stdout) or f"exit {done.returncode}, no file"}
    return {"file": str(files[0]), "engine": "onnxruntime", "options": {}, "said": "success"}


def of_library(tool: str, model: Model, peers: Path, time_limit_s: float) -> Cell:
    """Call a peer's function in its environment; onnxruntime's defaults are called in NNCF's."""
    target = model.folder / f"{tool}.{SUFFIX.get(tool, 'onnx')}"
    options = {
        "name": model.name, "model": str(model.file), "target": str(target), "batched": model.batched,
        "floor": model.floor, "calibration": str(model.part("calibration")), "selection": str(model.part("selection")),
    }  # fmt: skip
    command = [str(environment("nncf", peers)), str(HERE / "fit_peers" / "tools.py"), tool, json.dumps(options)]
    done = run(command, time_limit_s, cwd=model.folder)
    if done.returncode:
        return {"error": f"the process ended ({done.returncode}): {last_line(done.stderr)}"}
    told = json.loads(done.stdout)
    engine = "onnxruntime" if target.suffix == ".onnx" else "openvino"
    return told or {"file": str(target), "engine": engine, "options": {}, "said": "success"}


def run(command: list[str], timeout_s: float, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program on one thread, without a word to anybody outside."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=timeout_s, cwd=cwd, env=os.environ | QUIET
    )


def last_line(text: str) -> str:
    """Give the last line that says something."""
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "")


def environment(name: str, peers: Path) -> Path:
    """Python of a peer's environment, made where it is not there."""
    folder = peers / f"fit-{name}"
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        print(f"making an environment for {name} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]], check=True)
        (folder / "complete").touch()
    return python


def measured(model: Model, made: dict[str, Cell], *, quick: bool) -> dict[str, Cell]:
    """Time and judge every file of a model in one interleaved run."""
    plain = {"engine": "onnxruntime", "options": {}, "model": str(model.file)}
    stream = model.workspace / "stream.npz"
    carried = {"stream": str(stream), "rows": str(model.part("numbers"))} if stream.is_file() else None
    files = {FP32: plain, AGAIN: plain} | {
        tool: {"model": cell["file"], "engine": cell["engine"], "options": cell["options"]}
        for tool, cell in made.items()
        if "file" in cell
    }
    runs, limit_s = (QUICK_RUNS, QUICK_MEASURE_S) if quick else (RUNS, MEASURE_S)
    rows = model.part("final")
    files = {name: file | {"carried": carried} for name, file in files.items()}
    found = measure(files, rows, batched=model.batched, folder=model.folder, runs=runs, limit_s=limit_s)
    with np.load(rows, allow_pickle=False) as stored:
        truth = stored["truth"]
    reference = found[FP32]
    return {name: judged(model.name, cell, reference, truth) for name, cell in found.items()}


def judged(name: str, cell: Cell, reference: Cell, truth: np.ndarray) -> Cell:
    """Give the figures of one file beside those of fp32."""
    if "error" in cell:
        return cell
    times, beside = np.array(cell["times_us"]), np.array(reference["times_us"])
    random = np.random.default_rng(SEED)
    p50, p99 = [], []
    for _ in range(RESAMPLES):
        rounds = random.integers(0, len(times), len(times))
        p50.append(np.median(times[rounds]) / np.median(beside[rounds]))
        p99.append(_p99(times[rounds]) / _p99(beside[rounds]))
    before, after = (answers_of(each["answers"]) for each in (reference, cell))
    metrics = {
        metric: [ratio(score(after, truth)), *loss(score(before, truth), score(after, truth))]
        for metric, score in METRICS[name].items()
    }
    return {
        "runs": times.size,
        "mean_us": float(times.mean()),
        "p50_us": float(np.median(times)),
        "p99_us": _p99(times),
        "p50_ratio": [float(np.median(times) / np.median(beside)), *np.quantile(p50, [0.025, 0.975]).tolist()],
        "p99_ratio": [_p99(times) / _p99(beside), *np.quantile(p99, [0.025, 0.975]).tolist()],
        "metrics": metrics,
    }


def _p99(times: np.ndarray) -> float:
    return float(np.quantile(times, 0.99))


def answers_of(file: str) -> list[dict[str, np.ndarray]]:
    """Read answers as the timer kept them."""
    with np.load(file, allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files}
    return [{name: column[row] for name, column in columns.items()} for row in range(len(next(iter(columns.values()))))]


def verdict(model: Model, made: Cell, figures: Cell | None) -> Cell:
    """Say whether the limits are met, and whether the tool's success is a wrong one and why."""
    if "error" in made:
        return {"met": False, "wrong": "", "why": made["error"]}
    if figures is None or "error" in figures:
        why = f"the file does not run: {(figures or {}).get('error', '')}"
        return {"met": False, "wrong": why, "why": why}
    _, lost, _, upper = next(iter(figures["metrics"].values()))
    wrong = []
    if figures["p50_ratio"][1] > 1.0 + SLOWER:
        wrong.append(f"{figures['p50_ratio'][0]:.2f} times the time of fp32")
    if lost > model.floor:
        wrong.append(f"loses {lost:.3f}")
    slow = model.too_slow(figures)
    unproven = f"loses up to {upper:.3f}" if upper > model.floor else ""
    return {
        "met": not slow and not unproven,
        "wrong": ", ".join(wrong),
        "why": ", ".join(wrong or [each for each in (slow, unproven) if each]) or made.get("said", ""),
    }


def print_model(model: Model, made: dict[str, Cell], figures: dict[str, Cell]) -> None:
    """Print one model's table."""
    metric = next(iter(METRICS[model.name]))
    print(f"\n{model.name}: {metric}, at most {model.floor:g} may be lost; ratios are to fp32 in the same run")
    head = f"{'tool':15} {'met':>4} {'p99 ratio':>21} {'median':>7} {'p99 ms':>8} {metric:>10} {'loss (95 %)':>26}"
    print(f"{head} {'s':>6}  why")
    for tool in (FP32, AGAIN, *TOOLS):
        cell = figures.get(tool)
        told = verdict(model, made.get(tool, {"said": ""}), cell) if tool in made or tool in (FP32, AGAIN) else None
        if told is None:
            continue
        seconds = f"{made[tool]['seconds']:.0f}" if tool in made else ""
        if cell is None or "error" in cell:
            print(f"{tool:15} {'no':>4} {'':21} {'':7} {'':8} {'':10} {'':26} {seconds:>6}  {told['why'][:90]}")
            continue
        p99, low, high = cell["p99_ratio"]
        value, lost, least, most = cell["metrics"][metric]
        print(
            f"{tool:15} {'yes' if told['met'] else 'no':>4} {f'{p99:.2f} ({low:.2f} to {high:.2f})':>21} "
            f"{cell['p50_ratio'][0]:>7.2f} {cell['p99_us'] / 1000:>8.3f} {value:>10.4f} "
            f"{f'{lost:+.4f} ({least:+.4f} to {most:+.4f})':>26} {seconds:>6}  "
            f"{'WRONG SUCCESS: ' if told['wrong'] else ''}{told['why'][:90]}"
        )


def print_score(models: list[tuple[Model, dict[str, Cell], dict[str, Cell]]]) -> None:
    """Print what each tool did over all models."""
    print(f"\n{'tool':15} {'limits met':>10} {'errors':>7} {'wrong success':>14} {'best p99 within the floor':>26}")
    for tool in TOOLS:
        met = errors = wrong = best = of = 0
        for model, made, figures in models:
            if tool not in made:
                continue
            of += 1
            told = verdict(model, made[tool], figures.get(tool))
            met, errors, wrong = met + told["met"], errors + ("error" in made[tool]), wrong + bool(told["wrong"])
            best += is_best(tool, model, made, figures)
        if of:
            print(f"{tool:15} {f'{met} of {of}':>10} {errors:>7} {wrong:>14} {f'{best} of {of}':>26}")


def is_best(tool: str, model: Model, made: dict[str, Cell], figures: dict[str, Cell]) -> bool:
    """Whether no other tool that keeps the floor has a lower p99, by more than the intervals leave open."""
    measured_ones = {each: figures[each] for each in made if "error" not in figures.get(each, {"error": ""})}
    keeps = {
        each: cell["p99_ratio"]
        for each, cell in measured_ones.items()
        if next(iter(cell["metrics"].values()))[3] <= model.floor
    }
    return tool in keeps and all(keeps[tool][1] <= high for _, _, high in keeps.values())


def main() -> None:
    """Run the benchmark, or go on with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS), help="of %(default)s")
    parser.add_argument("--tools", default=",".join(TOOLS), help="of %(default)s")
    parser.add_argument("--quick", action="store_true", help="fewer runs: for a look, not for figures")
    parser.add_argument("--make-only", action="store_true", help="let the tools work, measure another time")
    parser.add_argument("--work", type=Path, default=Path("var/bench-fit"), help="kept from run to run (%(default)s)")
    parser.add_argument("--peers", type=Path, help="environments of the peers (default: a temporary folder)")
    parser.add_argument("--time-limit-s", type=float, default=540.0, help="of each tool and model (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-fit-") as temporary:
        bench(options, options.peers or Path(temporary))


def bench(options: argparse.Namespace, peers: Path) -> None:
    """Let the tools make their files, measure them, print."""
    results = []
    for name in options.models.split(","):
        model = Model(name, options.work.resolve())
        made = kept(model.folder / "made.json")
        for tool in options.tools.split(","):
            if tool not in made:
                print(f"{name}: {tool}", file=sys.stderr)
                made[tool] = made_by(tool, model, peers.resolve(), options.time_limit_s)
                keep(model.folder / "made.json", made)
        if options.make_only:
            continue
        figures = kept(model.folder / "measured.json")
        if made.keys() - figures.keys() - {tool for tool, cell in made.items() if "error" in cell}:
            print(f"{name}: measuring", file=sys.stderr)
            figures = measured(model, made, quick=options.quick)
            keep(model.folder / "measured.json", figures)
        results.append((model, made, figures))
        print_model(model, made, figures)
    print_score(results)


def kept(file: Path) -> dict[str, Cell]:
    """Read what an earlier run found out."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def keep(file: Path, cells: dict[str, Cell]) -> None:
    """Keep what was found out, whole or not at all."""
    staged = file.with_suffix(".new")
    staged.write_text(json.dumps(cells), encoding="utf-8")
    staged.rename(file)


if __name__ == "__main__":
    main()
