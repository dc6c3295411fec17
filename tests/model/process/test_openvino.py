"""OpenVINO as the engine of a model's process: chosen by name, confined like the other, silent on the network."""

import re
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from brownfield.host import read_host
from brownfield.model.process import RunFailed, StartFailed, call
from brownfield.model.process.child import openvino_engine
from brownfield.model.process.child.engine import EngineError

pytestmark = pytest.mark.full
pytest.importorskip("openvino", reason="the extra `openvino` is not installed")


def test_it_answers_as_the_other_engine_does(start) -> None:
    """The same names, types, shapes and numbers; the greeting says which engine and precision it is."""
    first, second = start("batched"), start("batched", engine="openvino")
    x = np.arange(6, dtype="f4").reshape(3, 2)
    assert np.array_equal(call(first.socket_path, {"x": x})["y"], call(second.socket_path, {"x": x})["y"])
    assert (second.hello.engine, second.hello.precision, second.hello.threads) == ("openvino", "fp32", 1)
    for part in ("inputs", "outputs", "batched"):
        assert getattr(first.hello, part) == getattr(second.hello, part)
    assert set(second.hello.sandbox["layers"]) == set(first.hello.sandbox["layers"])


@pytest.mark.parametrize(("graph", "batched"), [("batched", True), ("rows", True), ("root", True), ("alone", False)])
def test_only_one_free_dimension_for_all_is_a_batch(start, graph: str, batched: bool) -> None:  # noqa: FBT001
    """Two inputs with rows of their own never share a call, whatever their dimensions are called."""
    assert start(graph, engine="openvino").hello.batched is batched


def test_bf16_is_what_was_asked_for_or_refused(start) -> None:
    """A processor without it is told so: OpenVINO would quietly compute in fp32."""
    if {"avx512_bf16", "amx_bf16"} & set(read_host().cpu_flags):
        assert start("batched", engine="openvino", precision="bf16").hello.precision == "bf16"
    else:
        with pytest.raises(StartFailed, match="this processor computes in fp32"):
            start("batched", engine="openvino", precision="bf16")


def test_what_it_cannot_do_is_a_refusal_in_words(start) -> None:
    """Text, an operator it lacks, another type: the process says so and lives on where it can."""
    with pytest.raises(StartFailed, match="StringNormalizer"):
        start("text", engine="openvino")
    process = start("batched", engine="openvino")
    with pytest.raises(RunFailed, match="expected float32 for 'x', got float64"):
        call(process.socket_path, {"x": np.zeros((1, 2))})
    with pytest.raises(RunFailed):
        call(process.socket_path, {"x": np.zeros((1, 7), "f4")})
    assert call(process.socket_path, {"x": np.zeros((1, 2), "f4")})["y"].tolist() == [[1.0, 1.0]]


def test_b56_its_memory_is_bounded(start) -> None:
    """B-56: a request that needs more memory is refused, never answered as an earlier one was; the process ends."""
    process = start("square", engine="openvino", memory_mib=600)
    assert call(process.socket_path, {"x": np.ones(3, "f4")})["y"].shape == (3, 3)
    with pytest.raises(RunFailed) as refusal:
        call(process.socket_path, {"x": np.ones(30_000, "f4")})
    assert refusal.value.cause == "memory"
    process.wait(30.0)  # it would give no answer any more: a new process takes its place
    with pytest.raises(StartFailed) as refusal:
        start("square", engine="openvino", memory_mib=40)
    assert refusal.value.cause == "memory"


@pytest.mark.parametrize(
    ("graph", "questions"),
    [
        ("log", [[[-1.0]], [[1.0], [-1.0]], [], [[2.0]]]),
        ("found", [[0.0, 3.0], [0.0, 0.0], [], [1.0]]),
        ("same", [np.frombuffer(b"\xa5" * 8, "f4"), np.frombuffer(b"\x5a" * 8, "f4"), np.full(2, np.nan, "f4")]),
    ],
    ids=["not a number", "nothing found", "a mark"],
)
def test_f09_whatever_is_computed_is_an_answer(start, graph: str, questions) -> None:
    """F-09: NaN, nothing at all and the bytes of a mark are answered as the other engine does; the process lives on."""
    first, second = start(graph), start(graph, engine="openvino")
    for question in questions:
        x = np.array(question, "f4").reshape(-1, *first.hello.inputs[0].shape[1:])
        expected, answer = (call(process.socket_path, {"x": x})["y"] for process in (first, second))
        assert np.array_equal(expected, answer, equal_nan=answer.dtype.kind == "f")
    assert second.alive


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_it_opens_no_connection_and_writes_nothing(model_folder, tmp_path) -> None:
    """Even without our sandbox, import, compilation and an answer make no socket and no file."""
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        import numpy as np
        from brownfield.model.process.child.openvino_engine import OpenVinoEngine
        engine = OpenVinoEngine(Path({str(model_folder("batched") / "model.onnx")!r}), 1)
        print(engine.run([np.ones((1, 2), "f4")])[0].tolist())
    """)
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=network,openat,mkdir,rename,unlink", "-o", str(trace)]
    done = subprocess.run(
        [*command, sys.executable, "-B", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path / "home")},
    )
    assert done.stdout.strip() == "[[11.0, 11.0]]", done.stderr
    calls = trace.read_text(encoding="utf-8")
    assert not re.findall(r"socket\(AF_INET|connect\(|sendto\(", calls)
    written = re.findall(r'openat\([^"]*"([^"]+)"[^)]*O_(?:WRONLY|RDWR|CREAT)[^)]*\) = \d', calls)
    assert [path for path in written if not path.startswith(("/dev/", "/proc/"))] == []
    assert not (tmp_path / "home").exists()


def test_without_the_extra_the_refusal_names_it(monkeypatch) -> None:
    """A host without OpenVINO says what to install."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "openvino.tools.ovc", None)
    with pytest.raises(EngineError, match=r"brownfield\[openvino\]") as refusal:
        openvino_engine._load()
    assert refusal.value.code == "load"
