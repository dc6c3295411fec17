"""Start a model in a process of its own, know whether it lives, and end it.

Comes in: a folder with the model's files, the program that runs them, and the limits. Goes out: a process that has
loaded the model and listens on a private socket, with its greeting. Refused with :class:`StartFailed`: a model that
cannot be loaded within the limits.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import math
import os
import secrets
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from brownfield.confinement import SandboxPolicy
from brownfield.endings import how_it_ended
from brownfield.errors import WorkerUnavailable
from brownfield.host import readable_within
from brownfield.model.process.frames import ERROR, HELLO, Decoder, Frame, FrameError
from brownfield.model.process.hearing import Attempts, Complaints
from brownfield.model.process.zygote import Forked, Zygote, process_environment

__all__ = ["Hello", "ModelProcess", "ModelTensor", "Program", "StartFailed", "parse_hello"]

_log = logging.getLogger(__name__)

_CHILD = Path(__file__).parent / "child" / "__main__.py"
_MAX_HELLO_BYTES = 2**20
_LAST_BREATH_S = 5.0  # for a process that closed its output to be gone
_MOST = 2**31
_CAUSES = frozenset({"load", "memory", "timeout", "crash", "sandbox"})
_PRECISIONS = frozenset({"fp32", "bf16", "own"})
_POOLS = frozenset({"openblas", "openmp", "mkl", "blis"})
_LACKING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class StartFailed(WorkerUnavailable):
    """The model's process did not become ready.

    Parameters
    ----------
    what
        In words.
    cause
        ``load`` the engine refused the model, ``memory`` the limit was reached, ``timeout`` it took too long,
        ``crash`` the process ended, ``sandbox`` the host cannot confine it as strictly as declared.
    ended
        How the process ended, such as ``SIGSEGV`` or ``exit 1``; empty when it was ended by us.
    """

    def __init__(self, what: str, *, cause: str, ended: str = "", **details: str | None) -> None:
        self.cause = cause
        self.ended = ended
        super().__init__(what, **details)


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What runs a model: an engine for a graph, or the class that it is, and whose Python.

    Parameters
    ----------
    module, class_name
        Of a model that is a Python class; empty for ``model.onnx``.
    python
        Interpreter of an environment with numpy and what the model needs, which was built for a bundle; by default the
        one that runs this, with its packages. Of an environment nothing runs before the sandbox has closed.
    """

    module: str = ""
    class_name: str = ""
    python: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ModelTensor:
    """One input or output of the graph: numpy type name (``str`` for strings), shape with None where it varies."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Hello:
    """What a model's process says of itself when it is ready.

    Parameters
    ----------
    inputs, outputs
        In the order in which tensors travel.
    batched
        True when every first dimension is the same free number of rows.
    engine, engine_version
        The software that computes.
    threads
        Threads of the engine, as read back from it.
    max_batch_rows
        Most rows that requests share in one call.
    pid
        Process identifier.
    resident_mib
        Memory in use after loading.
    sandbox
        ``layers``: what the kernel enforces, by name; ``warnings``: what the host lacks.
    precision
        In what the engine computes: ``fp32`` or ``bf16``; ``own`` for a Python class.
    pools
        Threads of the BLAS and OpenMP libraries that it loaded, as read back from them: by ``openblas``, ``openmp``,
        ``mkl`` or ``blis``.
    """

    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    batched: bool
    engine: str
    engine_version: str
    threads: int
    max_batch_rows: int
    pid: int
    resident_mib: float
    sandbox: dict[str, Any]
    precision: str = "fp32"
    pools: dict[str, int] = dataclasses.field(default_factory=dict)


def parse_hello(frame: Frame) -> Hello:
    """Hello of a frame; :class:`FrameError` when it is none, or a part of it is not what it should be."""
    if frame.kind != HELLO:
        raise FrameError("no greeting")
    document = frame.message()
    try:
        for side in ("inputs", "outputs"):
            document[side] = tuple(ModelTensor(t["name"], t["dtype"], tuple(t["shape"])) for t in document[side])
        hello = Hello(**document)
        sound = all(_checks(hello))
    except (KeyError, TypeError, AttributeError) as error:
        raise FrameError("a greeting that lacks its parts") from error
    if not sound:
        raise FrameError("a greeting whose parts are of other types or out of bounds")
    return hello


def _checks(hello: Hello) -> Iterator[bool]:
    """Hold each part to its type, as a class may have written it; exactly: ``True`` is no number of threads."""
    texts = [hello.engine, hello.engine_version, *hello.sandbox["warnings"], *hello.sandbox["layers"].values()]
    for tensor in (*hello.inputs, *hello.outputs):
        texts += [tensor.name, tensor.dtype]
        yield all(size is None or (type(size) is int and size >= 0) for size in tensor.shape)
    yield all(type(text) is str for text in texts)
    counts = (hello.threads, hello.max_batch_rows, hello.pid, *hello.pools.values())
    yield all(type(count) is int and 1 <= count < _MOST for count in counts)
    yield hello.pools.keys() <= _POOLS
    yield type(hello.batched) is bool
    yield type(hello.resident_mib) is float and math.isfinite(hello.resident_mib) and hello.resident_mib >= 0
    yield type(hello.precision) is str and hello.precision in _PRECISIONS


class ModelProcess:
    """A loaded model in a process of its own; made by :meth:`start`.

    It ends by itself when the process that started it ends in whatever way: the kernel then closes its stdin.

    Attributes
    ----------
    socket_path
        Where it listens; mode 0600 in a folder of mode 0700.
    hello
        What it said when it was ready.
    """

    def __init__(self, process: subprocess.Popen[bytes] | Forked, socket_path: Path) -> None:
        self._process = process
        self._complaints = Complaints(process)
        self._attempts = Attempts(process)
        self.socket_path = socket_path
        self.hello: Hello

    @classmethod
    def start(  # noqa: PLR0913 (the limits of one process; all but the first are keywords)
        cls,
        bundle_folder: Path,
        *,
        runtime_folder: Path,
        program: Program = Program(),
        threads: int = 1,
        arena: bool = True,
        engine: str = "onnxruntime",
        precision: str = "fp32",
        memory_mib: int | None = None,
        max_batch_rows: int = 32,
        sandbox: SandboxPolicy = SandboxPolicy(),  # noqa: B008 (frozen)
        ready_timeout_s: float = 120.0,
        zygote: Zygote | None = None,
    ) -> Self:
        """Start the process and wait until the model is loaded.

        Parameters
        ----------
        bundle_folder
            Holds the model's files; the process may read this folder and no other of ours.
        runtime_folder
            Made with mode 0700 when it is not there; holds the socket.
        program
            What runs the model; an engine beside this very Python by default.
        threads
            Threads of the engine, ``>= 1``; never spinning.
        arena
            Whether the engine keeps memory for the next request instead of giving it back; of onnxruntime alone.
        engine, precision
            ``onnxruntime`` in ``fp32``, or ``openvino`` in ``fp32`` or ``bf16``.
        memory_mib
            Bound on the private memory of the process; None for no bound.
        max_batch_rows
            Most rows that several requests share in one call; 1 for no batching.
        sandbox
            How it is confined.
        ready_timeout_s
            How long loading may take: by default twice what a probe allows, for others may be loading as well.
        zygote
            What it is forked from where onnxruntime beside this very Python runs it; by default it is started by
            itself.

        Raises
        ------
        StartFailed
            When the model is not ready in time; nothing is left running.
        """
        _make_private(runtime_folder)
        options = {
            "model": str(bundle_folder.resolve()),
            "runtime": str(runtime_folder.resolve()),
            "socket": f"{secrets.token_hex(8)}.sock",
            "module": program.module,
            "class_name": program.class_name,
            "environment": str(program.python.parent.parent.absolute()) if program.python else "",
            "threads": threads,
            "arena": arena,
            "engine": engine,
            "precision": precision,
            "memory_mib": memory_mib,
            "max_batch_rows": max_batch_rows,
            "sandbox": dataclasses.asdict(sandbox),
        }
        text = json.dumps(options)
        forks = zygote is not None and program == Program() and engine == "onnxruntime"
        process = (_forked(zygote, text) if forks else None) or _started(program, text, threads)
        model = cls(process, runtime_folder / str(options["socket"]))
        try:
            model.hello = model._greet(ready_timeout_s, bundle_folder.name if program.module else "")
        except BaseException:
            model.kill()
            raise
        return model

    @property
    def pid(self) -> int:
        """Process identifier."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def ended(self) -> str:
        """How it ended: the signal's name or ``exit N``; empty while it lives."""
        code = self._process.poll()
        if code is None:
            return ""
        return how_it_ended(code)

    @property
    def resident_mib(self) -> float:
        """Memory in use now, 0 when the process has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def complaints(self) -> str:
        """End of its stderr (at most 16 KiB), for the diagnosis of a start; a model may print values: never log it."""
        return self._complaints.text

    @property
    def attempts(self) -> tuple[str, ...]:
        """What a Python model tried in vain, such as ``network while answering``; each is logged when it is tried.

        The words are those of :data:`~brownfield.model.process.hearing.ATTEMPTS`. Loading a framework tries a few
        things as well.
        """
        return self._attempts.seen

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait for the end and say how it ended; :class:`TimeoutError` when it lives on."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError("the model process is still running") from error
        self._clean_up()
        return self.ended

    def stop(self, grace_s: float = 5.0) -> str:
        """Let it finish what it holds, then end it; kill it when the grace runs out. How it ended."""
        if self.alive:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                return self.wait(grace_s)
        return self.kill()

    def kill(self) -> str:
        """End it at once. How it ended."""
        self._process.kill()
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _clean_up(self) -> None:
        self._complaints.finish()
        self._attempts.finish()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self.socket_path.unlink(missing_ok=True)

    def _greet(self, timeout_s: float, model: str) -> Hello:
        """Wait for the greeting on the child's stdout; from then on that tells what a Python ``model`` tries."""
        stdout = self._process.stdout
        if stdout is None:  # pragma: no cover (it is a pipe)
            raise AssertionError
        decoder = Decoder(_MAX_HELLO_BYTES)
        until = time.monotonic() + timeout_s
        try:
            frames = self._first_frames(stdout.fileno(), decoder, until, timeout_s)
            if frames[0].kind == ERROR:
                raise _refusal(frames[0].message())
            hello = parse_hello(frames[0])
        except (FrameError, RecursionError) as error:  # it wrote into what is not its own
            raise StartFailed("the model's process sent something else than its greeting", cause="crash") from error
        if model:
            self._attempts.listen(model, decoder, frames[1:])
        return hello

    def _first_frames(self, stdout: int, decoder: Decoder, until: float, timeout_s: float) -> list[Frame]:
        frames: list[Frame] = []
        while not frames:
            if not readable_within(stdout, max(0.0, until - time.monotonic())):
                raise StartFailed(f"the model was not ready within {timeout_s:g} s", cause="timeout")
            data = os.read(stdout, 65536)
            if not data:
                raise self._crash()
            frames = decoder.feed(data)
        return frames

    def _crash(self) -> StartFailed:
        try:
            ended = self.wait(_LAST_BREATH_S)
        except TimeoutError:
            self.kill()
            return StartFailed("the model's process closed its output before it was ready", cause="crash")
        last = self.complaints.strip().splitlines()[-1:]
        memory = any(word in line for line in last for word in ("emory", "failed to map segment"))
        return StartFailed(
            f"the model's process ended before it was ready ({ended})" + "".join(f": {line}" for line in last),
            cause="memory" if memory else "crash",
            ended=ended,
        )


def _refusal(told: dict[str, Any]) -> StartFailed:
    """Error of a process that says why it gives up; a cause that is none of ours is the model's."""
    cause = str(told.get("code"))
    return StartFailed(str(told.get("message")), cause=cause if cause in _CAUSES else "load")


def _forked(zygote: Zygote | None, options: str) -> Forked | None:
    """Fork a process; None where that cannot be done."""
    try:
        return zygote.fork(options) if zygote is not None else None
    except OSError as error:
        _log.warning(
            "a model's process is started by itself",
            extra={"event": "BF-MDL-NO-ZYGOTE", "reason": type(error).__name__},
        )
        return None


def _started(program: Program, options: str, threads: int) -> subprocess.Popen[bytes]:
    """Start an interpreter; for an environment the Python that it was made from, without ``site``.

    A package may have code run at the start (``.pth``, ``sitecustomize``), or name another standard library by a
    ``pyvenv.cfg``: the child makes itself the environment's after it has confined itself.
    """
    python = [os.path.realpath(program.python), "-S"] if program.python else [sys.executable]
    try:
        return subprocess.Popen(  # noqa: S603 (our own program, no shell)
            [*python, "-I", "-X", "faulthandler", str(_CHILD), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=process_environment(threads),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        if program.python is None or error.errno in _LACKING:
            raise  # what the host has too little of just now is no fault of the environment
        raise StartFailed(
            f"the Python of the model's environment cannot be started ({errno.errorcode.get(error.errno or 0, '?')})",
            cause="load",
            where=str(program.python),
            expected="the Python that the environment was made from",
            next_step="Build the environment anew.",
        ) from error


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise StartFailed(
            "the folder of the sockets is not private",
            cause="sandbox",
            where=str(folder),
            expected="a folder of this user with mode 0700",
            got=f"mode {stat.S_IMODE(status.st_mode):04o}",
            next_step="Remove it, or name another folder.",
        )
