"""A probe measures on another machine with numpy and onnxruntime alone, and only what was packed."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from brownfield.errors import DeclarationError
from brownfield.fit import Rows, Verdict, Wanted, judge_probe, pack_probe
from brownfield.fit.parcel import pack, unpack

GENEROUS = Wanted(latency_p99_ms=10_000, memory_mib=1024, max_drop=0.2)


@pytest.fixture(scope="module")
def probe(mlp, few, tmp_path_factory) -> Path:
    """A packed probe of a small model; what is kept of it lies beside it."""
    folder = tmp_path_factory.mktemp("packed")
    file = pack_probe(mlp(), few, GENEROUS, folder=folder / "kept", file=folder / "probe.pyz")
    assert file.stat().st_mode & 0o077 == 0
    return file


def bare_python(folder: Path) -> str:
    """An interpreter that finds numpy, onnxruntime and what they need, and nothing else."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in ("numpy", "numpy.libs", "onnxruntime", "google", "flatbuffers", "packaging"):
        for place in map(Path, sys.path):
            if (place / package).is_dir() and not (site / package).exists():
                shutil.copytree(place / package, site / package, copy_function=_linked)  # a sandbox follows no links
    return str(folder / "bin" / "python")


def _linked(source: str, target: str) -> None:
    """A file under a second name where that can be, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def run(python: str, probe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run a probe as a person would."""
    return subprocess.run(
        [python, "-I", str(probe), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=out.parent,
        env={"ORT_DISABLE_TELEMETRY": "1", "PATH": "/usr/bin:/bin"},
    )


def repacked(probe: Path, target: Path, change) -> Path:
    """The probe with its files as ``change`` gives them."""
    with zipfile.ZipFile(probe) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


@pytest.mark.full
def test_a_probe_runs_where_only_numpy_and_onnxruntime_are(probe, mlp, few, tmp_path) -> None:
    """Its rows, machine and noise make a verdict here; another seed, limit or probe is refused."""
    python = bare_python(tmp_path / "target")
    without = subprocess.run([python, "-I", "-c", "import msgspec"], capture_output=True, check=False)
    assert without.returncode == 1
    done = run(python, probe, tmp_path / "result.npz")
    assert done.returncode == 0, done.stderr
    kept = {"folder": probe.parent / "kept"}
    fit = judge_probe(tmp_path / "result.npz", mlp(), few, GENEROUS, **kept)
    names = {row.candidate.name for row in fit.rows}
    assert {"fp32", "fp32, optimised", "dynamic int8 of MatMul and Gemm"} <= names
    assert any("7 bits" in name for name in names)
    assert all(row.timing and row.accuracy and row.accuracy.rows for row in fit.rows if not row.failure)
    assert fit.choice.verdict in (Verdict.FITS, Verdict.FITS_WITH_CHANGES, Verdict.INVALID)
    assert fit.machine.engines.startswith("onnxruntime ")
    with pytest.raises(DeclarationError, match="the model, rows, limits and seed that were packed"):
        judge_probe(tmp_path / "result.npz", mlp(), few, Wanted(latency_p99_ms=1), **kept)
    with np.load(tmp_path / "result.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    found = json.loads(arrays["result"].tobytes())
    for change, message in (
        ({"key": "0" * 64}, "one of another probe"),
        ({"rows": [{"model": "x", "session": {}}]}, "of other models"),
    ):
        arrays["result"] = np.frombuffer(json.dumps(found | change).encode(), dtype=np.uint8)
        np.savez(tmp_path / "other.npz", **arrays)
        with pytest.raises(DeclarationError, match=message):
            judge_probe(tmp_path / "other.npz", mlp(), few, GENEROUS, **kept)


@pytest.mark.full
@pytest.mark.parametrize("changed", ["model", "code", "rows", "more"])
def test_a_changed_probe_is_refused_by_its_digests(probe, tmp_path, changed) -> None:
    """S-08: nothing of it runs, and no result is written."""

    def change(name: str, data: bytes) -> bytes:
        wanted = {"model": name.endswith("model.onnx"), "code": name.endswith("measure.py"), "rows": name == "rows.npz"}
        return data + b"\n" if wanted.get(changed) else data

    other = repacked(probe, tmp_path / "other.pyz", change)
    if changed == "more":
        with zipfile.ZipFile(other, "a") as packed:
            packed.writestr("numpy.py", "raise SystemExit('planted')")
    done = run(sys.executable, other, tmp_path / "result.npz")
    assert done.returncode == 2
    assert "is not the file that was packed" in done.stderr
    assert not (tmp_path / "result.npz").exists()


def told(folder: Path, **changed) -> Path:
    """A result made by hand, of a machine on which the model itself did not run."""
    found = {"rows": [{"model": "fp32", "session": {}, "cause": "crash", "failure": "it ended (SIGILL)"}], **changed}
    found["host"] = dict.fromkeys(("cpu_model", "machine", "kernel", "engines"), "")
    found["host"] |= {"cpu_flags": [], "cores": 1, "memory_mib": 1}
    np.savez(folder / "r.npz", result=np.frombuffer(json.dumps(found).encode(), dtype=np.uint8))
    return folder / "r.npz"


@pytest.mark.full
def test_a_damaged_probe_is_refused(probe, tmp_path) -> None:
    """A file that was torn on its way is told by the name of what is damaged, not by a traceback."""
    whole = bytearray(probe.read_bytes())
    with zipfile.ZipFile(probe) as packed:
        rows = packed.getinfo("rows.npz")
    start = rows.header_offset + 64
    whole[start : start + 64] = bytes(64)
    (tmp_path / "probe.pyz").write_bytes(whole)
    done = run(sys.executable, tmp_path / "probe.pyz", tmp_path / "result.npz")
    assert done.returncode == 2
    assert "rows.npz is not the file that was packed" in done.stderr


@pytest.mark.full
def test_what_would_lose_a_measurement_is_refused_before_it(probe, tmp_path) -> None:
    """Without numpy, or without a folder for the result, the probe says so at once."""
    venv.create(tmp_path / "bare", symlinks=True)
    done = run(str(tmp_path / "bare" / "bin" / "python"), probe, tmp_path / "result.npz")
    assert done.returncode == 2
    assert "no numpy and no onnxruntime" in done.stderr
    done = subprocess.run(
        [sys.executable, str(probe), "--out", str(tmp_path / "gone" / "result.npz")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no folder" in done.stderr


def test_a_probe_goes_into_a_folder_that_is_there(mlp, few, tmp_path) -> None:
    """It is refused before the candidates are built, which takes minutes."""
    with pytest.raises(DeclarationError, match="a folder to write into"):
        pack_probe(mlp(), few, GENEROUS, folder=tmp_path / "kept", file=tmp_path / "gone" / "probe.pyz")


@pytest.mark.full
def test_models_and_digests_changed_together_are_refused_at_home(probe, mlp, few, tmp_path) -> None:
    """The key of the task covers the digests: a result under another key is none of ours."""
    kept = probe.parent / "kept"
    with pytest.raises(DeclarationError, match="one of another probe"):
        judge_probe(told(tmp_path, key="f" * 64), mlp(), few, GENEROUS, folder=kept)


@pytest.mark.full
def test_a_model_that_does_not_run_there_does_not_fit(probe, mlp, few, tmp_path) -> None:
    """An instruction that the target lacks ends the model's process there: that is the verdict, with its reason."""
    kept = probe.parent / "kept"
    key = json.loads((kept / "task.json").read_bytes())["key"]
    fit = judge_probe(told(tmp_path, key=key), mlp(), few, GENEROUS, folder=kept)
    assert fit.choice.verdict == Verdict.DOES_NOT_FIT
    assert "does not run there: it ended (SIGILL)" in fit.choice.why
    assert fit.advice is not None


def test_a_result_without_a_packed_probe_is_refused(mlp, few, tmp_path) -> None:
    """The message says how to pack one."""
    with pytest.raises(DeclarationError, match="--pack-probe"):
        judge_probe(tmp_path / "r.npz", mlp(), few, GENEROUS, folder=tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"nothing"], ids=["B-empty", "B-torn", "B-other"])
def test_a_result_that_is_none_is_refused(mlp, few, tmp_path, content) -> None:
    """Torn, empty and other files are one error."""
    from brownfield.fit.on import _brought_back

    (tmp_path / "r.npz").write_bytes(content)
    with pytest.raises(DeclarationError, match="a result of the packed probe"):
        _brought_back(tmp_path / "r.npz", "key")


def test_objects_in_a_result_are_refused(tmp_path) -> None:
    """S-08: an array of objects would have to be unpickled."""
    from brownfield.fit.on import _brought_back

    np.savez(tmp_path / "r.npz", result=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DeclarationError, match="ValueError"):
        _brought_back(tmp_path / "r.npz", "key")


def test_rows_of_any_shape_and_texts_travel() -> None:
    """Ragged rows one by one, texts as texts."""
    ragged = [{"x": np.zeros(length), "t": np.array(["a", "bc"], dtype=object)} for length in (1, 3)]
    back = unpack("a", pack("a", ragged))
    assert [row["x"].shape for row in back] == [(1,), (3,)]
    assert back[1]["t"].tolist() == ["a", "bc"]
    assert back[0]["t"].dtype == object
    assert len(Rows(tuple(back), batched=False)) == 2
