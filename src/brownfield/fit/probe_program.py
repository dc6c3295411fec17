"""Measures packed candidates on the machine that it is started on, and writes what it found: the probe's own program.

It is the ``__main__.py`` of the file that ``brownfield fit --pack-probe`` writes. The target needs Python, numpy and
onnxruntime; what is measured, and how, is the code that measures at home. Started by ``python3 probe.pyz``.
"""

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

__all__ = ["main"]

_TASK = "task.json"
_OLDEST = (3, 11)
_NEEDED = ("numpy", "onnxruntime")


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the result, and give the exit status: 0 done, 2 refused before anything is measured."""
    parser = argparse.ArgumentParser(prog="probe.pyz", description="Measure the packed models on this machine.")
    parser.add_argument("--out", default="probe-result.npz", help="where to write the result")
    options = parser.parse_args(arguments)
    if sys.version_info < _OLDEST:
        return _refuse(f"this probe needs Python {'.'.join(map(str, _OLDEST))} or newer")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _refuse(f"this Python ({sys.executable}) has no {' and no '.join(missing)}")
    if not Path(options.out).absolute().parent.is_dir():
        return _refuse(f"there is no folder for {options.out}")
    with tempfile.TemporaryDirectory(prefix="brownfield-probe-") as folder:
        with zipfile.ZipFile(sys.argv[0]) as packed:
            task = json.loads(packed.read(_TASK))
            changed = _unpack(packed, task["files"], Path(folder))
        if changed:
            return _refuse(f"{changed} is not the file that was packed")
        sys.path.insert(0, folder)
        _measure(task, Path(folder), Path(options.out))
    print(f"wrote {options.out}; bring it back and run: brownfield fit --on {options.out}")  # noqa: T201 (its answer)
    return 0


def _refuse(why: str) -> int:
    print(f"refused: {why}", file=sys.stderr)  # noqa: T201 (a program of its own)
    return 2


def _unpack(packed: zipfile.ZipFile, files: dict[str, str], folder: Path) -> str:
    """Write the listed files, each checked by its SHA-256 first; the first that is another, or is not listed."""
    extra = set(packed.namelist()) - files.keys() - {_TASK, "__main__.py"}
    if extra:
        return min(extra)
    for name, digest in files.items():
        try:
            content = packed.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError):
            return name
        if hashlib.sha256(content).hexdigest() != digest:
            return name
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return ""


def _measure(task: dict[str, Any], folder: Path, out: Path) -> None:
    import numpy as np

    from brownfield.errors import BrownfieldError
    from brownfield.fit.measure import answers, memory_needed, running, trial
    from brownfield.fit.parcel import pack, unpack
    from brownfield.fit.rows import Rows
    from brownfield.host import read_host

    with np.load(folder / "rows.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    parts = [Rows(tuple(unpack(part, arrays)), batched=task["batched"]) for part in ("search", "final")]
    session = dataclasses.make_dataclass("Session", [(key, Any, value) for key, value in task["session"].items()])
    host, reference = read_host(), folder / task["models"][0]["folder"]
    found: dict[str, Any] = {"key": task["key"], "host": _facts(host), "rows": []}
    answered: dict[str, Any] = {}
    try:
        with running(reference, session()) as (process, caller, _):
            found["host"]["engines"] = f"{process.hello.engine} {process.hello.engine_version}"
            answered |= pack("reference", answers(caller, parts[1]))
        _say("the model against itself")
        with trial(reference, reference, session(), parts[0], memory_mib=None, **task["timing"]) as (timing, _):
            found["noise"] = {"ratio": timing.ratio.value, "steal_share": timing.steal_share}
    except BrownfieldError as error:  # an instruction that this processor lacks, for one
        found["rows"] = [{"model": task["models"][0]["name"], "session": {}, **_why(error)}]
    else:
        _try_all(task, folder, session, parts, found, answered)
        if found["rows"][0].get("cause") == "memory" and task["memory_mib"]:
            found["memory_mib"] = memory_needed(reference, session(), parts[0], task["memory_mib"])
    with out.open("wb") as file:
        result = np.frombuffer(json.dumps(found).encode(), dtype=np.uint8)
        np.savez(file, allow_pickle=False, result=result, **answered)


def _try_all(
    task: dict[str, Any],
    folder: Path,
    session: Any,
    parts: Any,
    found: dict[str, Any],
    answered: dict[str, Any],
) -> None:
    """Measure every model in the default session, then the model itself and the fastest with more threads."""
    from brownfield.fit.parcel import pack

    tried: list[tuple[dict[str, Any], dict[str, Any]]] = [(model, {}) for model in task["models"]]
    if importlib.util.find_spec("openvino") is not None:
        tried += [(task["models"][0], changed) for changed in task["engines"]]
    plain = len(tried)
    while tried:
        model, changed = tried.pop(0)
        number = len(found["rows"])
        _say(", ".join([model["name"], *(f"{key} {value}" for key, value in changed.items())]))
        row, given = _one(folder, model, session(**changed), parts, task)
        found["rows"].append({"model": model["name"], "session": changed, **row})
        answered |= pack(f"a{number}", given)
        if number + 1 == plain:
            tried = _more(found["rows"], task, found["host"]["cores"])


def _why(error: Any) -> dict[str, str]:
    cause, ended = str(getattr(error, "cause", "") or type(error).__name__), str(getattr(error, "ended", ""))
    what = error.what or str(error)
    return {"cause": cause, "failure": f"{what} ({ended})" if ended and ended not in what else what}


def _one(
    folder: Path, model: dict[str, Any], session: Any, parts: Any, task: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    from brownfield.errors import BrownfieldError
    from brownfield.fit.measure import answers, cost_curve, isolated, trial

    search, final = parts
    reference, tried = folder / task["models"][0]["folder"], folder / model["folder"]
    try:
        with trial(reference, tried, session, search, memory_mib=task["memory_mib"], **task["timing"]) as (
            timing,
            caller,
        ):
            given = answers(caller, final)
            alone, curve = isolated(caller, final), cost_curve(caller, final)
    except BrownfieldError as error:
        return _why(error), []
    return {"timing": dataclasses.asdict(timing), "isolated": alone, "curve_us": curve}, given


def _more(rows: list[dict[str, Any]], task: dict[str, Any], cores: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Try the model and the fastest candidate with more threads, as many as this machine has."""
    timed = [row for row in rows if "timing" in row]
    if not timed:
        return []
    fastest = min(timed, key=lambda row: row["timing"]["p99_us"][0])
    chosen = [rows[0]] + ([fastest] if fastest is not rows[0] else [])
    models = {model["name"]: model for model in task["models"]}
    counts = [2**power for power in range(1, 9) if 2**power <= cores]
    return [(models[row["model"]], {**row["session"], "threads": count}) for row in chosen for count in counts]


def _facts(host: Any) -> dict[str, Any]:
    wanted = ("cpu_model", "cores", "memory_mib", "machine", "kernel")
    return {**{name: getattr(host, name) for name in wanted}, "cpu_flags": sorted(host.cpu_flags), "engines": ""}


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)  # noqa: T201 (a program of its own)


if __name__ == "__main__":
    sys.exit(main())
