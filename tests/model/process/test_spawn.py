import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from brownfield import confinement as sandbox_module
from brownfield.errors import WorkerUnavailable
from brownfield.model.process import ModelProcess, Program, SandboxPolicy, StartFailed, call
from brownfield.model.process import spawn as spawn_module
from brownfield.model.process.child import start as start_module
from brownfield.model.process.frames import ERROR, HELLO, Decoder, FrameError, encode_message
from brownfield.model.process.spawn import parse_hello
from harness.processes import MODEL, descendants


def test_a_started_model_says_what_it_is(start) -> None:
    """The greeting names tensors, engine, threads as read back, limits and what confines the process."""
    process = start("batched", threads=2, memory_mib=600, max_batch_rows=8)
    hello = process.hello
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in hello.inputs] == [("x", "float32", (None, 2))]
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in hello.outputs] == [("y", "float32", (None, 2))]
    assert (hello.batched, hello.threads, hello.max_batch_rows) == (True, 2, 8)
    assert (hello.engine, hello.pid) == ("onnxruntime", process.pid)
    assert process.alive
    assert process.ended == ""
    assert 10 < hello.resident_mib < 600
    assert "600 MiB" in hello.sandbox["layers"]["limits"]
    assert hello.sandbox["layers"]["seccomp"] == "no sockets, processes, programs, tracing"


def test_threads_are_as_many_as_declared(start) -> None:
    """One thread declared is one thread in the whole process: no pool of the engine or of BLAS stands beside it."""
    process = start("batched", threads=1)
    call(process.socket_path, {"x": np.zeros((1, 2), "f4")})
    assert psutil.Process(process.pid).num_threads() == 1


def test_s37_sockets_are_private(start) -> None:
    """S-37: the socket has mode 0600 and a random name, its folder 0700; a folder open to others is refused."""
    process = start("batched")
    assert stat.S_IMODE(process.socket_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(process.socket_path.parent.stat().st_mode) == 0o700
    process.socket_path.parent.chmod(0o755)
    with pytest.raises(StartFailed, match="not private") as refusal:
        start("batched")
    assert refusal.value.cause == "sandbox"


def test_nothing_of_the_parent_is_inherited(start, monkeypatch) -> None:
    """The process has none of the parent's environment and none of its files."""
    monkeypatch.setenv("POS_PASSWORD", "secret")
    with open(os.devnull, "rb") as held:  # noqa: PTH123 (a descriptor to be inherited or not)
        os.set_inheritable(held.fileno(), True)
        process = psutil.Process(start("batched").pid)
        environment = process.environ()
        assert "POS_PASSWORD" not in environment
        assert environment["OMP_NUM_THREADS"] == "1"
        opened = {str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()}
        assert os.devnull not in opened


def test_stop_is_graceful_and_kill_is_named(start) -> None:
    """Stop ends with exit 0, kill with SIGKILL; both leave neither process nor socket."""
    stopped, killed = start("batched"), start("batched")
    assert stopped.stop() == "exit 0"
    assert killed.kill() == "SIGKILL"
    for process in (stopped, killed):
        assert not process.alive
        assert not process.socket_path.exists()
        assert not psutil.pid_exists(process.pid)
        assert process.resident_mib == 0
        assert process.stop() == process.ended


def test_f06_a_stopped_process_is_killed_after_the_grace(start) -> None:
    """F-06: a process that does not run any more is killed when the grace is over."""
    process = start("batched")
    os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert process.stop(grace_s=0.2) == "SIGKILL"
    assert time.monotonic() - began < 30


def test_f26_a_model_that_does_not_load_is_refused(tmp_path, how) -> None:
    """F-26: a file that is no model gives a typed refusal with the engine's reason, and no process is left."""
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(StartFailed) as refusal:
        ModelProcess.start(tmp_path, runtime_folder=tmp_path / "run", **how)
    assert refusal.value.cause == "load"
    assert "INVALID_PROTOBUF" in str(refusal.value)
    assert isinstance(refusal.value, WorkerUnavailable)
    assert descendants(os.getpid(), MODEL) == []
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("memory_mib", [8, 25, 45])
def test_f12_too_little_memory_ends_only_the_child(memory_mib, tmp_path, model_folder, how) -> None:
    """F-12: a model that does not fit its memory gives a typed refusal; this process is not touched."""
    with pytest.raises(StartFailed) as refusal:
        ModelProcess.start(model_folder("batched"), runtime_folder=tmp_path / "run", memory_mib=memory_mib, **how)
    assert refusal.value.cause == "memory"
    assert descendants(os.getpid(), MODEL) == []


def test_a_model_that_takes_too_long_to_load_is_refused(tmp_path, model_folder) -> None:
    """The time to become ready is bounded, and the process is gone when it is over."""
    with pytest.raises(StartFailed) as refusal:
        ModelProcess.start(model_folder("batched"), runtime_folder=tmp_path / "run", ready_timeout_s=0.001)
    assert refusal.value.cause == "timeout"
    assert descendants(os.getpid(), MODEL) == []


def test_f14_a_crash_while_loading_names_the_signal(tmp_path, model_folder) -> None:
    """F-14: an interpreter that dies by a signal is refused with the signal's name and its last words."""
    interpreter = tmp_path / "python"
    interpreter.write_text(
        f"#!{sys.executable}\nimport os, sys\nsys.stderr.write('boom')\nsys.stderr.flush()\nos.abort()\n"
    )
    interpreter.chmod(0o700)
    with pytest.raises(StartFailed, match=r"SIGABRT.*boom") as refusal:
        ModelProcess.start(
            model_folder("batched"), runtime_folder=tmp_path / "run", program=Program(python=interpreter)
        )
    assert (refusal.value.cause, refusal.value.ended) == ("crash", "SIGABRT")


def test_f26_an_environment_without_its_python_is_refused(tmp_path, model_folder) -> None:
    """F-26: the Python that an environment was made from has moved: a start that failed, with what to do."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to("/nowhere/bin/python3")
    with pytest.raises(StartFailed, match=r"ENOENT.*Build the environment anew") as refusal:
        ModelProcess.start(model_folder("batched"), runtime_folder=tmp_path / "run", program=Program(python=python))
    assert refusal.value.cause == "load"


@pytest.mark.parametrize("lacking", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_what_the_host_lacks_just_now_is_no_fault_of_an_environment(tmp_path, model_folder, monkeypatch, lacking):
    """Processes, memory and descriptors come back: the error stays one that is tried again."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(lacking, "for now")

    monkeypatch.setattr(spawn_module.subprocess, "Popen", refuse)
    program = Program(python=tmp_path / "bin" / "python")
    with pytest.raises(OSError, match="for now"):
        ModelProcess.start(model_folder("batched"), runtime_folder=tmp_path / "run", program=program)


GREETING = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 2]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [None]}],
    "batched": True,
    "engine": "python",
    "engine_version": "3",
    "threads": 1,
    "max_batch_rows": 1,
    "pid": 1,
    "resident_mib": 1.0,
    "sandbox": {"layers": {"limits": "none"}, "warnings": []},
    "precision": "own",
    "pools": {"openblas": 1},
}


@pytest.mark.parametrize(
    "part",
    [
        {"pools": {"x": 1}},
        {"pools": {"openblas": "many"}},
        {"pools": {"openblas": 0}},
        {"pools": {"openblas": 2**31}},
        {"pools": ["openblas"]},
        {"threads": True},
        {"threads": 1.0},
        {"pid": "1"},
        {"max_batch_rows": 0},
        {"batched": 1},
        {"engine": None},
        {"precision": "fp8"},
        {"precision": []},
        {"resident_mib": float("nan")},
        {"resident_mib": "1"},
        {"sandbox": {"layers": {}}},
        {"sandbox": {"layers": {}, "warnings": [1]}},
        {"sandbox": []},
        {"inputs": None},
        {"inputs": [{"name": 1, "dtype": "float32", "shape": []}]},
        {"inputs": [{"name": "x", "dtype": ["float32"], "shape": []}]},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": ["n"]}]},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1]}]},
        {"more": 1},
    ],
    ids=str,
)
def test_f08_a_greeting_of_other_types_is_none(part) -> None:
    """F-08: a class may write the greeting, so each part is held to its type, its bounds and the names we know."""
    [whole] = Decoder().feed(encode_message(HELLO, 0, GREETING))
    assert parse_hello(whole).pools == {"openblas": 1}
    [frame] = Decoder().feed(encode_message(HELLO, 0, GREETING | part))
    with pytest.raises(FrameError):
        parse_hello(frame)


def test_a_strict_policy_is_kept_by_the_process(tmp_path, model_folder, how) -> None:
    """A strict policy starts where every layer holds, and the greeting carries no warning."""
    if sandbox_module.landlock_abi() == 0:
        pytest.skip("this kernel lacks Landlock, so that a strict policy refuses")
    folder = model_folder("batched")
    policy = SandboxPolicy(strict=True)
    with ModelProcess.start(folder, runtime_folder=tmp_path / "run", sandbox=policy, **how) as process:
        assert process.hello.sandbox["warnings"] == []
    assert not process.alive


def test_a_refusal_is_a_frame_though_no_package_is_needed_for_it() -> None:
    """Where the host cannot confine it, the process says so without importing what a lock brought."""
    reading, writing = os.pipe()
    with open(reading, "rb") as said:  # noqa: PTH123 (a descriptor)
        assert start_module._give_up(writing, "sandbox", "no Landlock") == 1
        os.close(writing)
        assert said.read() == encode_message(ERROR, 0, {"code": "sandbox", "message": "no Landlock"})


def test_paths_longer_than_an_address_work(tmp_path, model_folder) -> None:
    """A socket whose path is longer than the 107 bytes of an address is bound and reached all the same."""
    runtime = tmp_path / ("deep" * 30)
    with ModelProcess.start(model_folder("batched"), runtime_folder=runtime) as process:
        answer = call(process.socket_path, {"x": np.zeros((1, 2), "f4")})
    assert answer["y"].tolist() == [[1.0, 1.0]]


@pytest.mark.full
@pytest.mark.parametrize("name", ["batched", "slow"], ids=["idle", "in native code"])
def test_f15_no_orphan_outlives_its_parent(name, how, tmp_path, model_folder) -> None:
    """F-15: when the parent is killed, the process ends at once, even in the middle of a call."""
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(model_folder(name)), str(tmp_path / "run"), name, *how],
        stdout=subprocess.PIPE,
        text=True,
    )
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(timeout=60)


PARENT = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from brownfield.model.process import ModelProcess, Zygote
    from brownfield.model.process.caller import call
    zygote = Zygote() if "zygote" in sys.argv else None
    process = ModelProcess.start(Path(sys.argv[1]), runtime_folder=Path(sys.argv[2]), zygote=zygote)
    if sys.argv[3] == "slow":
        import threading
        endless = {"times": np.array([10**12])}
        threading.Thread(target=call, args=(process.socket_path, endless), daemon=True).start()
        time.sleep(0.3)
    print(process.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.full
def test_f11_memory_comes_back_with_the_process(start) -> None:
    """F-11: what a model holds is seen from outside, and is gone with its process."""
    process = start("hungry")
    small = process.resident_mib
    call(process.socket_path, {"size": np.array([50_000_000])})
    assert process.resident_mib > small
    process.stop()
    assert process.resident_mib == 0
