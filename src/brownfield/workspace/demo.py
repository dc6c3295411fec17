"""The demonstration: an old grocery system is laid out, brought in, served, broken on purpose, and measured.

It leaves an ordinary workspace behind, with ``summary.json`` and ``report.html`` beside its declaration.
"""

import base64
import csv
import importlib
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import msgspec
import numpy as np

from brownfield.errors import NotFound
from brownfield.serving import Background, serve_workspace
from brownfield.store import private_folder, write_private
from brownfield.workspace.traffic import Answered, send_paced

__all__ = ["DemoSummary", "run_demo"]

Progress: TypeAlias = Callable[[str, int, int | None], None]

_INTEGRATION = "store-recommendations"
_STORES = 12
_REQUESTS_PER_STORE = 375
_RATE_PER_S = 200.0
_LAID_OUT = ".laid-out"  # marks a legacy system that was written to its end
_OUTAGE_BEGINS = 0.4  # share of the traffic after which the model process is killed
_KILLS = 3  # its first replacements are killed too


class DemoSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the demonstration saw; every number is counted or measured in this run.

    Parameters
    ----------
    silos
        Per source: rows in, accepted, quarantined, and quarantined by rule.
    unified_rows
        Rows of the one validated table.
    answers
        Requests sent, answered, failed, and answered by source and by cause of degradation.
    kills
        How often the model process was killed, and when (seconds from the first request).
    recall_at_10
        Value and 95 % interval by who answered; the fallback also on the model's own requests.
    latency_ms
        p50 and p99 by stage, ``caller`` being what the caller waited.
    model
        Version and digest of the bundle that answered.
    seconds
        Time taken by each part of the demonstration.
    """

    silos: dict[str, dict[str, Any]]
    unified_rows: int
    answers: dict[str, Any]
    kills: list[float]
    recall_at_10: dict[str, tuple[float, float, float]]
    latency_ms: dict[str, tuple[float, float]]
    model: dict[str, str]
    seconds: dict[str, float]


def run_demo(folder: Path, *, port: int = 8080, progress: Progress) -> DemoSummary:
    """Lay out the retail example in a folder and carry it through its first day.

    Parameters
    ----------
    folder
        Becomes a workspace; what is there already of the legacy system is used again.
    port
        Port of the prediction door while the demonstration runs.
    progress
        ``progress(what, done, total)``.

    Returns
    -------
    DemoSummary
        Also written to ``summary.json`` and, as a page, to ``report.html``.

    Raises
    ------
    NotFound
        When the data package of the example is not installed.
    Unavailable
        When the workspace does not come up.
    """
    seconds: dict[str, float] = {}
    example = example_folder()
    with _timed(seconds, "legacy system"):
        copy_declarations(example, folder)
        make_key(folder)
        if not (folder / "legacy" / _LAID_OUT).exists():
            _script(example, "zoo").lay_out(folder, progress=_titled(progress, "lay out"))
            (folder / "legacy" / _LAID_OUT).touch()
    popular = folder / "integrations" / _INTEGRATION / "popular_by_store.csv"
    if not popular.exists():
        popular.write_text("store_id,items,scores\n", encoding="utf-8")
    with _timed(seconds, "silos into one table"):
        silos, table = _bring_in(folder, _titled(progress, "bring in"))
        _script(example, "popularity").write_popular_by_store(table, popular)
    requests = _requests_of_the_busiest_stores(_script(example, "baskets"), table)
    with _timed(seconds, "traffic"):
        answered, kills = _traffic(folder, port, requests, progress)
    summary = _summarise(
        folder, silos=silos, table=table, requests=requests, answered=answered, kills=kills, seconds=seconds
    )
    from brownfield.workspace.demo_report import write_report

    (folder / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    write_report(folder / "report.html", summary, answered)
    return summary


def example_folder(name: str = "retail") -> Path:
    """Folder of a shipped example: inside the installed package, or beside the source of a checkout."""
    installed = Path(__file__).parent / "examples" / name
    checkout = Path(__file__).parents[3] / "examples" / name
    for folder in (installed, checkout):
        if folder.is_dir():
            return folder
    raise NotFound(f"the example {name!r} is not part of this installation", where=str(installed))


def copy_declarations(example: Path, folder: Path) -> None:
    """Copy the declarations, contract and bundle of an example; its scripts stay where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(example / "brownfield.yaml", folder)
    shutil.copytree(example / "integrations", folder / "integrations", dirs_exist_ok=True)


def make_key(folder: Path) -> None:
    """Make the key that encrypts refused records of classified fields, unless there is one."""
    key = folder / "keys" / "quarantine.key"
    if not key.exists():
        private_folder(key.parent)
        write_private(key, base64.b64encode(secrets.token_bytes(32)) + b"\n")


def _titled(progress: Progress, verb: str) -> Progress:
    """Say of each kind of work what is done to it."""
    return lambda what, done, total: progress(f"{verb} {what}", done, total)


def _script(example: Path, name: str) -> ModuleType:
    """Import a script of the example; the scripts import each other by name, as they do on the command line."""
    if str(example) not in sys.path:
        sys.path.insert(0, str(example))
    return importlib.import_module(name)


def _requests_of_the_busiest_stores(baskets: ModuleType, table: Path) -> list[dict[str, Any]]:
    """Held-out baskets of the twelve stores that have most of them, in a seeded mixed order."""
    requests = baskets.held_out_requests(table, limit=_REQUESTS_PER_STORE, seed=7)
    busiest = {store for store, _ in Counter(ask["store_id"] for ask in requests).most_common(_STORES)}
    chosen = [ask for ask in requests if ask["store_id"] in busiest]
    return [chosen[index] for index in np.random.default_rng(7).permutation(len(chosen))]


class _timed:  # noqa: N801 (reads as the statement it is)
    """Note how long a part took."""

    def __init__(self, seconds: dict[str, float], part: str) -> None:
        self._seconds, self._part = seconds, part

    def __enter__(self) -> None:
        self._start_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._part] = round(time.monotonic() - self._start_s, 2)


def _bring_in(folder: Path, progress: Progress) -> tuple[dict[str, dict[str, Any]], Path]:
    """Run the pipeline of the one integration; counts per silo, and the path of the unified table."""
    from brownfield.data.pipeline import custody_of, run_pipeline
    from brownfield.integration import load_workspace
    from brownfield.store import open_store

    workspace = load_workspace(folder)
    store = open_store(folder / "var" / "brownfield.db")
    try:
        report = run_pipeline(
            workspace.integrations[_INTEGRATION],
            workspace.connections,
            store,
            folder / "var" / "data" / _INTEGRATION,
            progress,
            custody=custody_of(workspace),
        )
    finally:
        store.close()
    silos = {
        name: {
            "rows_in": source.rows_in,
            "accepted": source.accepted,
            "quarantined": source.quarantined,
            "by_rule": dict(source.by_rule),
        }
        for name, source in report.sources.items()
    }
    return silos, report.tables["basket_lines"].path


def _traffic(
    folder: Path, port: int, requests: Sequence[Any], progress: Progress
) -> tuple[list[Answered], list[float]]:
    """Ask for every basket while the model process is killed for a while in the middle."""
    bodies = [msgspec.json.encode({"store_id": ask["store_id"], "items": ask["items"]}) for ask in requests]
    kills: list[float] = []
    what = "baskets ask for recommendations"
    progress(what, 0, len(bodies))
    with serve_workspace(folder, port) as running:
        killer = threading.Thread(target=_outage, args=(running, len(bodies), kills), daemon=True)
        killer.start()
        answered = send_paced(
            "127.0.0.1",
            port,
            f"/v1/{_INTEGRATION}/predict",
            bodies,
            rate_per_s=_RATE_PER_S,
            done=lambda count: progress(what, count, len(bodies)),
        )
        killer.join()
    return answered, kills


def _outage(running: Background, requests: int, kills: list[float]) -> None:
    """Kill the model process in mid-traffic, and its first replacements as soon as they are up."""
    start_s = time.monotonic()
    ends_s = requests / _RATE_PER_S
    time.sleep(ends_s * _OUTAGE_BEGINS)
    while len(kills) < _KILLS and (now_s := time.monotonic() - start_s) < ends_s:
        for pid in _model_pids(running.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                kills.append(round(now_s, 2))
        time.sleep(0.2)


def _model_pids(server_pid: int) -> list[int]:
    """Process ids of the model processes below a server, read from ``/proc``."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{server_pid}/task").iterdir():
            for pid in map(int, (task / "children").read_text(encoding="ascii").split()):
                found += [pid] if _is_model(pid) else _model_pids(pid)
    return found


def _is_model(pid: int) -> bool:
    try:
        return b"model/process/child/__main__.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _summarise(  # noqa: PLR0913 (the parts of one summary)
    folder: Path,
    *,
    silos: dict[str, dict[str, Any]],
    table: Path,
    requests: Sequence[Any],
    answered: Sequence[Answered],
    kills: list[float],
    seconds: dict[str, float],
) -> DemoSummary:
    import pyarrow.dataset as ds

    decisions = [each.body.get("decision", {}) for each in answered]
    by_source = Counter(decision.get("source", "none") for decision in decisions)
    causes = Counter(decision["cause"] for decision in decisions if decision.get("cause"))
    versions = Counter(decision["version"] for decision in decisions if decision.get("source") == "model")
    manifest = msgspec.json.decode(
        (folder / "integrations" / _INTEGRATION / "bundles" / "store-recommender" / "manifest.json").read_bytes()
    )
    return DemoSummary(
        silos=silos,
        unified_rows=ds.dataset(table, format="parquet").count_rows(),
        answers={
            "sent": len(requests),
            "answered": sum(each.status == 200 for each in answered),  # noqa: PLR2004 (OK)
            "failed": sum(each.status != 200 for each in answered),  # noqa: PLR2004 (OK)
            "by_source": dict(by_source),
            "by_cause": dict(causes),
        },
        kills=kills,
        recall_at_10=_recalls(folder, requests, answered),
        latency_ms=_latencies(answered),
        model={"name": manifest["name"], "version": ", ".join(versions), "cores": str(os.cpu_count())},
        seconds=seconds,
    )


def _recalls(
    folder: Path, requests: Sequence[Any], answered: Sequence[Answered]
) -> dict[str, tuple[float, float, float]]:
    """Recall by who answered, and the fallback table's own recall on the baskets that the model answered."""
    baskets = importlib.import_module("baskets")
    by_model = [each for each in answered if _source(each) == "model"]
    by_fallback = [each for each in answered if _source(each) not in {"model", "none"}]
    popular = _popular(folder / "integrations" / _INTEGRATION / "popular_by_store.csv")

    def recalls(answers: list[Answered], suggestions: list[list[str]]) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return np.asarray(baskets.recalls_at_10(suggestions, [requests[each.index]["truth"] for each in answers]))

    values = {
        "model": recalls(by_model, [each.body["prediction"]["items"] for each in by_model]),
        "fallback table, same baskets": recalls(
            by_model, [popular.get(requests[each.index]["store_id"], []) for each in by_model]
        ),
        "fallback, during the outage": recalls(by_fallback, [each.body["prediction"]["items"] for each in by_fallback]),
    }
    return {name: _mean_with_interval(each) for name, each in values.items() if len(each)}


def _popular(table: Path) -> dict[int, list[str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return {int(row["store_id"]): row["items"].split("|") for row in csv.DictReader(file)}


def _source(answer: Answered) -> str:
    return str(answer.body.get("decision", {}).get("source", "none"))


def _mean_with_interval(values: "np.ndarray[Any, np.dtype[np.float64]]") -> tuple[float, float, float]:
    """Mean and percentile-bootstrap 95 % interval over baskets (1,000 resamples, fixed seed)."""
    generator = np.random.default_rng(7)
    means = values[generator.integers(0, len(values), (1_000, len(values)))].mean(axis=1)
    lower, upper = np.quantile(means, [0.025, 0.975])
    return round(float(values.mean()), 4), round(float(lower), 4), round(float(upper), 4)


def _latencies(answered: Sequence[Answered]) -> dict[str, tuple[float, float]]:
    """p50 and p99 in ms, by stage of the server's account, and for the caller; model answers and fallbacks apart."""
    model = [each for each in answered if _source(each) == "model"]
    fallback = [each for each in answered if _source(each) not in {"model", "none"}]
    series = {"caller, model answers": [each.latency_ms for each in model]}
    if fallback:
        series["caller, fallback answers"] = [each.latency_ms for each in fallback]
    for stage in dict.fromkeys(stage for each in model[:50] for stage in each.stages_ms):
        series[f"server, {stage}"] = [each.stages_ms[stage] for each in model if stage in each.stages_ms]
    return {
        name: (round(float(np.quantile(values, 0.5)), 3), round(float(np.quantile(values, 0.99)), 3))
        for name, values in series.items()
        if values
    }
