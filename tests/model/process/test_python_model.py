"""A Python class in a model's process: what it answers is held to what it says, what it does wrong stays there."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from brownfield.errors import DeadlineExceeded, Overloaded, WorkerUnavailable
from brownfield.model.process import (
    Caller,
    Environments,
    ModelChannel,
    ModelProcess,
    Program,
    RunFailed,
    StartFailed,
    call,
    spawn,
)
from brownfield.model.process.frames import HELLO, REQUEST, RESPONSE, Decoder, encode_message, encode_tensors
from harness import harmful
from harness.processes import MODEL, descendants
from harness.wheels import downloaded, lock_of, make_wheel

pytestmark = pytest.mark.full

X = np.ones((1, 2), np.float32)
HARMFUL = Program("harmful.py", "Harmful")


def write_class(folder: Path, body: str) -> Path:
    """A folder with the class ``M`` of one input and one output, and the body given."""
    folder.mkdir(exist_ok=True)
    head = 'class M:\n    inputs = {"x": ("float32", (None, 2))}\n    outputs = {"y": ("float32", (None, 2))}\n'
    (folder / "m.py").write_text(head + body)
    return folder


@pytest.fixture
def start_class(tmp_path) -> Iterator[Callable[..., ModelProcess]]:
    """Start a process for a class with a body; it is ended after the test."""
    started = []

    def start(body: str, **limits) -> ModelProcess:
        folder = write_class(tmp_path / "m", body)
        program = Program("m.py", "M")
        started.append(ModelProcess.start(folder, runtime_folder=tmp_path / "run", program=program, **limits))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def harmful_process(tmp_path) -> Iterator[ModelProcess]:
    folder = tmp_path / "harmful"
    folder.mkdir()
    (folder / "harmful.py").write_text(Path(harmful.__file__).read_text())
    with ModelProcess.start(folder, runtime_folder=tmp_path / "run", program=HARMFUL, memory_mib=400) as process:
        yield process


def ask(process: ModelProcess, first: float, rows: int = 1) -> np.ndarray:
    x = np.ones((rows, 4), np.float32)
    x[0, 0] = first
    return call(process.socket_path, {"x": x})["y"]


def test_a_class_says_what_it_is_and_answers_a_batch(start_class):
    """The greeting names the tensors that the class declares; arrays of a batch go in and come out."""
    process = start_class(
        "    def load(self, folder): self.two = 2\n"
        "    def predict(self, inputs): return {'y': inputs['x'] * self.two}\n"
    )
    assert [(t.name, t.dtype, t.shape) for t in process.hello.inputs] == [("x", "float32", (None, 2))]
    assert (process.hello.engine, process.hello.batched, process.hello.threads) == ("python", True, 1)
    assert call(process.socket_path, {"x": np.ones((3, 2), "f4")})["y"].tolist() == [[2, 2]] * 3
    assert process.attempts == ()


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_of_libraries_are_read_back_from_them(start_class, threads):
    """Every BLAS that numpy brings would use as many as it was told, whatever the machine has."""
    process = start_class("    def load(self, folder): pass\n", threads=threads)
    assert process.hello.pools
    assert set(process.hello.pools.values()) == {threads}


def test_a_model_that_takes_more_threads_is_seen(start_class):
    """What a library would really use is told, not what its settings say."""
    process = start_class(
        "    def load(self, folder):\n"
        "        import ctypes, glob, numpy, os\n"
        "        for path in glob.glob(os.path.dirname(numpy.__file__) + '.libs/*openblas*'):\n"
        "            ctypes.CDLL(path).scipy_openblas_set_num_threads64_(2)\n",
        threads=1,
    )
    assert process.hello.pools == {"openblas": 2}


DEVICE = """
    def load(self, folder):
        import m_driver
        self.device = m_driver.probe()

    def predict(self, inputs):
        class OutOfMemoryError(RuntimeError):
            pass
        if self.device == "device" and len(inputs["x"]) > 4:
            raise OutOfMemoryError("tried to allocate")
        return {"y": inputs["x"]}
"""


@pytest.mark.parametrize("probe", ["device", "cpu", "lost"], ids=["F-23 memory", "F-23 cpu instead", "F-23 lost"])
def test_f23_a_device_that_is_small_or_lost(start_class, tmp_path, probe):
    """F-23: a batch too large for it is an error of its own kind; without it the class chooses, or does not start."""
    driver = "def probe():\n" + ("    raise RuntimeError('no device')" if probe == "lost" else f"    return {probe!r}")
    write_class(tmp_path / "m", DEVICE)
    (tmp_path / "m" / "m_driver.py").write_text(driver)
    if probe == "lost":
        with pytest.raises(StartFailed, match="no device"):
            start_class(DEVICE)
        return
    process = start_class(DEVICE)
    assert call(process.socket_path, {"x": np.ones((4, 2), "f4")})["y"].tolist() == [[1, 1]] * 4
    if probe == "cpu":
        assert len(call(process.socket_path, {"x": np.ones((8, 2), "f4")})["y"]) == 8
        return
    with pytest.raises(RunFailed) as error:
        call(process.socket_path, {"x": np.ones((8, 2), "f4")})
    assert error.value.cause == "memory"


def test_a_module_takes_no_other_modules_place(tmp_path):
    """A file called ``numpy.py`` is the model, and numpy stays what it was."""
    write_class(tmp_path / "m", "    def load(self, folder): import numpy; numpy.zeros(1)\n").joinpath("m.py").rename(
        tmp_path / "m" / "numpy.py"
    )
    with ModelProcess.start(
        tmp_path / "m", runtime_folder=tmp_path / "run", program=Program("numpy.py", "M")
    ) as process:
        assert process.hello.batched


def test_a_class_reads_the_files_and_imports_the_modules_beside_it(start_class, tmp_path):
    """``load`` gets the folder; a module of the bundle can be imported."""
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "beside.py").write_text("FACTOR = 3\n")
    (folder / "weights.txt").write_text("5")
    process = start_class(
        "    def load(self, folder):\n        import beside\n"
        "        self.f = beside.FACTOR * int((folder / 'weights.txt').read_text())\n"
        "    def predict(self, inputs): return {'y': inputs['x'] * self.f}\n"
    )
    assert call(process.socket_path, {"x": np.ones((1, 2), "f4")})["y"].tolist() == [[15, 15]]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("    def load(self, folder): raise ValueError('no weights')\n", "ValueError: no weights"),
        ("    def load(self, folder): raise SystemExit(0)\n", "SystemExit"),
        ("    def load(self, folder): import nothing_of_that_name\n", "nothing_of_that_name"),
        ("    inputs = {'x': ('complex64', (None,))}\n    def load(self, folder): pass\n", "inputs and outputs are"),
        ("    inputs = {'x': ('float32', (-1,))}\n    def load(self, folder): pass\n", "inputs and outputs are"),
        ("    outputs = {}\n    def load(self, folder): pass\n", "at least one"),
        ("    def load(self, folder): self.x = open('/etc/shadow')\n", "PermissionError"),
    ],
    ids=["raises", "exits", "imports", "dtype", "size", "nothing", "S-10"],
)
def test_f26_a_class_that_does_not_load_is_refused(start_class, body, told):
    """F-26: whatever goes wrong while it loads is the refusal's reason, and nothing is left running."""
    with pytest.raises(StartFailed, match=told) as refusal:
        start_class(body)
    assert refusal.value.cause == "load"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("{'z': inputs['x']}", "output"),
        ("{'y': inputs['x'], 'z': inputs['x']}", "output"),
        ("inputs['x']", "output"),
        ("{'y': inputs['x'].astype('f8')}", "output"),
        ("{'y': inputs['x'][:, :1]}", "output"),
        ("{'y': inputs['x'][1:]}", "output"),
        ("{'y': None}", "output"),
        ("{'y': inputs['x'].undefined}", "run"),
        ("inputs['x'].setflags(write=True)", "run"),
    ],
    ids=[
        "F-10-name",
        "F-10-more",
        "F-10-form",
        "F-10-type",
        "F-10-shape",
        "F-10-rows",
        "F-10-none",
        "raises",
        "writes",
    ],
)
def test_an_answer_is_held_to_what_the_class_says(start_class, answer, cause):
    """F-10: other names, types, shapes or numbers of rows are an error of that request; the process lives on."""
    process = start_class(
        f"    def load(self, folder): pass\n"
        f"    def predict(self, inputs):\n        if inputs['x'][0, 0] == 1: return {answer}\n"
        "        return {'y': inputs['x'].copy()}\n"
    )
    with pytest.raises(RunFailed) as refusal:
        call(process.socket_path, {"x": np.ones((3, 2), "f4")})
    assert refusal.value.cause == cause
    assert call(process.socket_path, {"x": np.zeros((1, 2), "f4")})["y"].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("harm", "cause"),
    [("text", "run"), ("leave", "run"), ("shape", "output"), ("rows", "output"), ("forks", "run")],
    ids=["F-10-text", "exit", "F-10-shape", "F-10-rows", "F-13"],
)
def test_harm_that_the_process_survives_is_one_requests_error(harmful_process, harm, cause):
    """F-10, F-13: an exception (its text, which may hold values, is left out), an exit, a wrong form, forks."""
    with pytest.raises(RunFailed) as refusal:
        ask(harmful_process, harmful.HARM[harm])
    assert refusal.value.cause == cause
    assert "4711" not in str(refusal.value)
    assert len(str(refusal.value)) < 200
    assert ask(harmful_process, 1).tolist() == [[4]]


def test_garbage_on_standard_output_reaches_nobody(harmful_process):
    """What a model prints goes to the end of its complaints, which are bounded; the answer is whole."""
    assert ask(harmful_process, harmful.HARM["garbage"]).tolist() == [[909]]
    assert ask(harmful_process, 1).tolist() == [[4]]
    assert len(harmful_process.complaints) <= 16 * 1024


@pytest.mark.parametrize(
    ("harm", "ended"),
    [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("exit", "exit 3")],
    ids=["F-14-SIGSEGV", "F-14-SIGABRT", "F-14-exit"],
)
def test_f14_a_native_crash_ends_the_process_alone(harmful_process, harm, ended):
    """F-14: a crash in native code is the end of that process; it says how."""
    with pytest.raises(WorkerUnavailable):
        ask(harmful_process, harmful.HARM[harm])
    assert harmful_process.wait(10) == ended


@pytest.mark.parametrize("harm", ["memory", "threads"], ids=["F-12", "F-13"])
def test_memory_and_threads_are_bounded(harmful_process, harm):
    """F-12, F-13: an eater of memory and a bomb of threads meet the limit: an error, or the end of that process."""
    with pytest.raises((RunFailed, WorkerUnavailable)):
        ask(harmful_process, harmful.HARM[harm])


def test_f08_garbage_between_frames_is_no_answer(harmful_process):
    """F-08: a model that writes into every open file gets its connection closed; the caller has an error, no answer."""
    with pytest.raises(WorkerUnavailable):
        ask(harmful_process, harmful.HARM["frames"])


def test_a_text_that_cannot_travel_is_one_requests_error(start_class):
    """F-10: half a character, as it comes from bytes of another encoding, does not end the process for all."""
    process = start_class(
        "    outputs = {'y': ('str', (None, 1))}\n"
        "    def load(self, folder): pass\n"
        "    def predict(self, inputs):\n        import numpy\n"
        "        text = b'caf\\xe9'.decode('utf-8' if inputs['x'][0, 0] == 2 else 'latin-1', 'surrogateescape')\n"
        "        return {'y': numpy.array([[text]] * len(inputs['x']), dtype=object)}\n"
    )
    with pytest.raises(RunFailed, match="not UTF-8") as refusal:
        call(process.socket_path, {"x": np.full((1, 2), 2, "f4")})
    assert refusal.value.cause == "output"
    assert call(process.socket_path, {"x": np.ones((1, 2), "f4")})["y"].tolist() == [["café"]]


FAILS_TOGETHER = """
    def load(self, folder): self.runs = 0
    def predict(self, inputs):
        import time
        time.sleep(0.1)
        self.runs += 1
        if (inputs['x'] < 0).any(): raise ValueError
        return {'y': inputs['x'] * 0 + self.runs}
"""


def test_f05_who_is_late_after_a_failed_call_is_not_computed(start_class):
    """F-05: batch-mates of a bad request are run one by one, those whose deadline passes meanwhile not at all."""
    process = start_class(FAILS_TOGETHER, max_batch_rows=64)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        first = channel.infer({"x": X})
        deadline_ns = time.monotonic_ns() + 400_000_000
        late = [channel.infer({"x": X}, deadline_ns) for _ in range(20)]
        bad = channel.infer({"x": -X}, deadline_ns)
        answers = await asyncio.gather(first, *late, bad, return_exceptions=True)
        assert any(isinstance(answer, DeadlineExceeded) for answer in answers)
        assert (await channel.infer({"x": X}))["y"][0, 0] < 10
        channel.close()

    asyncio.run(main())


def test_f05_others_are_heard_and_answered_between_the_batch_mates_of_a_bad_request(start_class):
    """F-05: who is run alone is told at once, and who asks meanwhile waits for no more than one turn of each kind."""
    process = start_class(FAILS_TOGETHER, max_batch_rows=64)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        first = channel.infer({"x": X})
        mates = [channel.infer({"x": X}) for _ in range(6)]
        bad = channel.infer({"x": -X})
        await asyncio.gather(first, mates[0])
        assert not any(mate.done() for mate in mates[3:])
        assert len({answer["y"][0, 0] for answer in await asyncio.gather(*mates)}) == 6
        with pytest.raises(RunFailed):
            await bad
        channel.close()

    asyncio.run(main())


def test_f12_requests_that_do_not_fit_into_one_call_are_run_alone(start_class):
    """F-12: where there is no memory to join the requests of a batch, each is answered all the same."""
    process = start_class(
        "    inputs = {'x': ('float32', (None, 262144))}\n    outputs = {'y': ('float32', (None, 1))}\n"
        "    def load(self, folder): pass\n"
        "    def predict(self, inputs):\n        import time\n        time.sleep(0.3 if len(inputs['x']) == 1 else 0)\n"
        "        return {'y': inputs['x'][:, :1].copy()}\n",
        memory_mib=300,
        max_batch_rows=512,
    )

    async def main() -> None:
        channels = [await ModelChannel.connect(process.socket_path) for _ in range(4)]
        first = channels[0].infer({"x": np.ones((1, 262144), "f4")})
        await asyncio.sleep(0.1)
        asked = [channel.infer({"x": np.full((40, 262144), n, "f4")}) for n, channel in enumerate(channels)]
        for n, answer in enumerate(await asyncio.gather(*asked)):
            assert answer["y"].tolist() == [[n]] * 40
        await first
        for channel in channels:
            channel.close()

    asyncio.run(main())
    assert process.alive


OF_ANY_WIDTH = """
    inputs = {'x': ('float32', (None, None))}
    outputs = {'y': ('float32', (None, 1))}
    def load(self, folder): pass
    def predict(self, inputs):
        import time
        time.sleep(PAUSE_S)
        return {'y': inputs['x'][:, :1].copy()}
"""


def test_f12_requests_that_wait_take_bounded_memory_and_their_gateways_are_told(start_class):
    """F-12: what waits in the process is bounded by bytes, not by number alone; who asks for more is refused."""
    process = start_class(OF_ANY_WIDTH.replace("PAUSE_S", "0.005"))
    before_mib = process.resident_mib

    async def main() -> None:
        channels = [await ModelChannel.connect(process.socket_path) for _ in range(4)]
        refused = 0
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            for number in range(400):  # each of a width of its own: they share no call
                try:
                    channels[number % 4].infer({"x": np.ones((1, 16_000 + number), "f4")})
                except Overloaded:
                    refused += 1
            await asyncio.sleep(0.01)
        assert refused
        assert process.resident_mib - before_mib < 128
        for channel in channels:
            channel.close()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert call(process.socket_path, {"x": X})["y"].tolist() == [[1]]


FILLS_ONE_ARRAY = """
    outputs = {'y': ('float32', (None, 1000000))}
    def load(self, folder):
        import numpy
        self.answer = numpy.zeros((1, 1000000), 'f4')
        self.kept = []
        try:
            while True: self.kept.append(bytearray(2**20))
        except MemoryError:
            del self.kept[-14:]
    def predict(self, inputs):
        self.answer[:] = inputs['x'][0, 0]
        return {'y': self.answer}
"""


def test_f12_without_memory_nobody_is_answered_what_another_asked(start_class):
    """F-12: a class that fills the same array for every answer never fills one that waits to be read (I6)."""
    process = start_class(FILLS_ONE_ARRAY, memory_mib=150, max_batch_rows=1)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(30)
        caller.connect(str(process.socket_path))
        for number in range(8):
            caller.sendall(b"".join(encode_tensors(REQUEST, number, 0, [np.full((1, 2), number, "f4")])))
        time.sleep(0.5)  # nothing is read meanwhile
        decoder, answers = Decoder(), []
        while len(answers) < 8:
            answers += [frame for frame in decoder.feed(caller.recv(2**20)) if frame.kind != HELLO]
    assert [frame.request_id for frame in answers] == list(range(8))
    for frame in answers:
        if frame.kind == RESPONSE:
            assert (frame.tensors()[0] == frame.request_id).all()
        else:
            assert frame.message()["code"] == "memory"
    assert answers[0].kind == RESPONSE


def test_f16_sigterm_finishes_more_than_may_wait(start_class):
    """F-16: what has been sent is answered to the last, also where not all of it may wait at once."""
    process = start_class(OF_ANY_WIDTH.replace("PAUSE_S", "0.3"))

    async def main() -> None:
        channels = [await ModelChannel.connect(process.socket_path) for _ in range(4)]
        asked = [channels[0].infer({"x": X})]
        await asyncio.sleep(0.1)
        for number, channel in enumerate(channels):
            asked.append(channel.infer({"x": np.ones((1, (6 + number) * 2**20), "f4")}))
        await asyncio.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        assert [answer["y"].tolist() for answer in await asyncio.gather(*asked)] == [[[1]]] * 5
        for channel in channels:
            channel.close()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert process.wait(60) == "exit 0"


def test_without_a_descriptor_left_the_process_is_quiet_and_hears_again(start_class):
    """A caller who cannot be accepted costs nothing; when descriptors are free again the next one is."""
    process = start_class(
        "    def load(self, folder): self.kept = []\n"
        "    def predict(self, inputs):\n        import os\n"
        "        for kept in self.kept: os.close(kept)\n"
        "        self.kept.clear()\n"
        "        try:\n"
        "            while inputs['x'][0, 0] == 1: self.kept.append(os.dup(0))\n"
        "        except OSError: pass\n"
        "        return {'y': inputs['x']}\n"
    )
    with Caller(process.socket_path) as caller:
        caller.ask({"x": X})
        before_s = _cpu_s(process)
        with pytest.raises(DeadlineExceeded):
            Caller(process.socket_path, timeout_s=0.5)
        assert _cpu_s(process) - before_s < 0.1
        caller.ask({"x": 0 * X})
        assert call(process.socket_path, {"x": 0 * X})["y"].tolist() == [[0, 0]]


def _cpu_s(process: ModelProcess) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_s10_what_a_model_tries_is_told(start_class):
    """S-10: sockets, signals, programs, foreign files and native calls are refused, and told by kind, once."""
    process = start_class(
        "    def load(self, folder): pass\n"
        "    def predict(self, inputs):\n"
        "        import ctypes, os, socket, subprocess\n"
        "        acts = [lambda: socket.socket(socket.AF_INET), lambda: os.kill(1, 9), lambda: open('/etc/passwd'),\n"
        "                lambda: open('/tmp/x', 'w'), lambda: subprocess.run(['/bin/true']),\n"
        "                lambda: ctypes.CDLL(None).ptrace]\n"
        "        for act in acts * 2:\n"
        "            try: act()\n"
        "            except OSError: pass\n"
        "        return {'y': inputs['x']}\n"
    )
    call(process.socket_path, {"x": np.ones((1, 2), "f4")})
    process.stop()
    kinds = ("network", "process", "read", "signal", "trace", "write")
    assert sorted(process.attempts) == [f"{kind} while answering" for kind in kinds]


UNWILLING = """
    def load(self, folder):
        import signal
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
"""

PARENT = """
import sys, time
from pathlib import Path
from brownfield.model.process import ModelProcess, Program
process = ModelProcess.start(Path(sys.argv[1]), runtime_folder=Path(sys.argv[2]), program=Program("m.py", "M"))
print(process.pid, flush=True)
time.sleep(60)
"""


def test_f15_a_class_that_ignores_every_signal_ends_with_its_parent(tmp_path):
    """F-15: the parent is killed; the process ends by the one signal that nobody can ignore, block or handle."""
    folder = write_class(tmp_path / "m", UNWILLING)
    command = [sys.executable, "-c", PARENT, str(folder), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    try:
        gone, _ = psutil.wait_procs([child], timeout=10)
        assert gone or child.status() == psutil.STATUS_ZOMBIE
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


@pytest.mark.parametrize(
    ("act", "cause", "told"),
    [
        ("[os.write(fd, bytes([255]) * 64) for fd in opened(3, 10)]", "crash", "something else"),
        ("[os.write(fd, encode_message(HELLO, 0, {'pid': 1})) for fd in opened(3, 10)]", "crash", "something else"),
        ("os.closerange(3, 64), time.sleep(60)", "crash", "closed its output"),
        ("bad(EngineError('whatever', 'x'))", "load", "^x$"),
    ],
    ids=["F-08 garbage", "F-08 half a greeting", "F-06 closes and lives on", "F-26 unknown cause"],
)
def test_what_is_no_greeting_is_a_refusal(start_class, monkeypatch, act, cause, told):
    """F-06, F-08, F-26: whatever a class does to its greeting is a start that failed, by a cause we know."""
    monkeypatch.setattr(spawn, "_LAST_BREATH_S", 0.5)
    with pytest.raises(StartFailed, match=told) as refusal:
        start_class(
            "    def load(self, folder):\n"
            "        import os, time\n"
            "        from brownfield_worker.child.engine import EngineError\n"
            "        from brownfield_worker.frames import HELLO, encode_message\n"
            "        def bad(error): raise error\n"
            "        def opened(first, last):\n"
            "            return [fd for fd in range(first, last) if writes(fd)]\n"
            "        def writes(fd):\n"
            "            try: return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE)\n"
            "            except OSError: return False\n"
            "        import fcntl\n"
            f"        {act}\n"
        )
    assert refusal.value.cause == cause
    assert descendants(os.getpid(), MODEL) == []


EAGER = """
import os, socket, sys
from pathlib import Path

got, tried = [], []
for name, act in (
    ("write", lambda: Path({outside!r}).touch()),
    ("socket", lambda: socket.socket(socket.AF_INET)),
    ("parent", Path(f"/proc/{{os.getppid()}}/environ").read_bytes),
):
    tried.append(name)
    try:
        act()
    except OSError:
        continue
    got.append(name)
"""


def test_s10_packages_of_a_lock_run_nothing_before_the_sandbox_closes(tmp_path):
    """S-10: what a wheel has an interpreter run at its start (.pth, sitecustomize) runs, and gets as little as a class.

    Nor does a ``pyvenv.cfg`` that it brings say with which standard library the process is started.
    """
    wheels, outside = tmp_path / "wheels", tmp_path / "outside"
    library = tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (library / "encodings").mkdir(parents=True)
    (library / "os.py").touch()
    (library / "encodings" / "__init__.py").write_text(f"import posix\nposix.mkdir({str(outside)!r})\n")
    files = {"eager.pth": "import eager\n", "sitecustomize.py": "import sys, eager\nsys.customized = True\n"}
    files |= {"eager-1.0.data/data/pyvenv.cfg": f"home = {tmp_path}/bin\n"}
    eager = make_wheel(wheels, "eager", "1.0", files=files, eager=EAGER.format(outside=str(outside)))
    lock = lock_of(eager, downloaded("numpy", "2.4.2", wheels))
    python = Environments(tmp_path / "environments").build(lock, wheels=wheels)
    before_it = Path(sysconfig.get_path("stdlib"), "sitecustomize.py").exists()  # Debian's Python has one of its own
    folder = write_class(
        tmp_path / "m",
        "    def load(self, folder): pass\n"
        "    def predict(self, inputs):\n"
        "        import eager, numpy, sys\n"
        f"        assert sys.prefix == {str(python.parent.parent)!r} and numpy.__file__.startswith(sys.prefix)\n"
        f"        assert eager.tried and hasattr(sys, 'customized') is not {before_it}\n"
        "        return {'y': inputs['x'] * len(eager.got)}\n",
    )
    program = Program("m.py", "M", python)
    with ModelProcess.start(folder, runtime_folder=tmp_path / "run", program=program) as process:
        assert call(process.socket_path, {"x": np.ones((1, 2), "f4")})["y"].tolist() == [[0, 0]]
    assert not outside.exists()


@pytest.mark.parametrize(
    "word", ["4711", ["read"], {"read": 1}, None, "x" * 10_000], ids=["value", "list", "mapping", "nothing", "long"]
)
def test_a_model_cannot_tell_anything_else(start_class, caplog, word):
    """What a model writes into the pipe that tells of attempts is one of the words, or dropped: no value is logged."""
    process = start_class("    def load(self, folder): pass\n")
    process._attempts._note(Decoder().feed(encode_message(HELLO, 0, {"attempt": word})), "m")
    assert process.attempts == ()
    assert caplog.records == []
