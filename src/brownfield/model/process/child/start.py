"""From options to a serving model: bind, confine, load, say hello, serve.

The socket is bound before the sandbox closes, so that the process needs no right to write anywhere; packages are
imported and the model read after it has closed.
"""

import dataclasses
import fcntl
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__.startswith("brownfield."):
    from brownfield.confinement import SandboxPolicy, apply, readable_by_default
else:  # under its own name, where no brownfield is installed: the same file, beside the folder of the model room
    from brownfield_worker.confinement import SandboxPolicy, apply, readable_by_default

__all__ = ["Options", "main"]

_ERROR = 4  # the kind of frame


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the parent asks for; travels as JSON in one argument.

    Parameters
    ----------
    model
        Folder with the model's files.
    runtime
        Folder of the socket.
    socket
        File name of the socket in that folder.
    module, class_name
        Of a model that is a Python class; empty for a graph, which an engine runs.
    environment
        Folder of the environment whose packages it uses; empty for those of the interpreter that runs this.
    threads
        Threads of the engine.
    arena
        Whether the engine keeps memory for the next request; of onnxruntime alone.
    engine, precision
        ``onnxruntime`` in ``fp32``, or ``openvino`` in ``fp32`` or ``bf16``.
    memory_mib
        Bound on private memory, or None.
    max_batch_rows
        Most rows that requests share in one call.
    sandbox
        The fields of :class:`~brownfield.confinement.SandboxPolicy`.
    """

    model: str
    runtime: str
    socket: str
    module: str
    class_name: str
    environment: str
    threads: int
    arena: bool
    engine: str
    precision: str
    memory_mib: int | None
    max_batch_rows: int
    sandbox: dict[str, Any]


def main(argument: str) -> int:
    """Serve until told to stop; the exit status."""
    options = Options(**json.loads(argument))
    _end_with_the_parent()
    ready = os.dup(1)
    os.dup2(2, 1)  # what a model prints must not reach the parent's ear
    os.set_inheritable(ready, False)
    listener = _listen(options)
    package = Path(__file__).resolve().parent.parent
    statm, maps = (os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("statm", "maps"))
    readable = [*readable_by_default(), str(package), options.model]
    readable += [options.environment] if options.environment else []
    policy = SandboxPolicy(**{**options.sandbox, "readable": tuple(options.sandbox["readable"])})
    try:
        mapped_bytes = sum(file.stat().st_size for file in Path(options.model).rglob("*") if file.is_file())
        facts = apply(policy, readable, options.memory_mib, mapped_bytes=mapped_bytes)
    except PermissionError as error:
        return _give_up(ready, "sandbox", str(error))
    if options.environment:
        _enter(options.environment)
    frames = importlib.import_module("..frames", __package__)  # numpy comes in only now: inside the sandbox
    watch = importlib.import_module(".watch", __package__)
    if options.module:
        watch.install([*readable, *policy.readable])
    engines = importlib.import_module(".engine", __package__)
    server = importlib.import_module(".server", __package__)
    try:
        engine = _engine(options)
    except engines.EngineError as error:
        return _give_up(ready, error.code, str(error))
    except MemoryError:
        return _give_up(ready, "memory", "no memory left within the process's limit")
    hello = frames.encode_message(frames.HELLO, 0, _hello(engine, options, facts, statm, maps))
    serving = server.Server(listener, engine, hello, options.max_batch_rows)
    os.write(ready, hello)
    watch.tell_through(ready)
    serving.run()
    return 0


def _enter(environment: str) -> None:
    """Become the environment's interpreter, as if its own had been started: its packages are found, its hooks run."""
    sys.executable = f"{environment}/bin/python"
    sys.prefix = sys.exec_prefix = environment
    importlib.import_module("site").main()


def _engine(options: Options) -> Any:
    """Load the model with the engine that it asks for; no other one is imported."""
    folder = Path(options.model)
    if options.module:
        module = importlib.import_module(".python_model", __package__)
        return module.PythonModel(folder, options.module, options.class_name, options.threads)
    if options.engine == "openvino":
        module = importlib.import_module(".openvino_engine", __package__)
        return module.OpenVinoEngine(folder / "model.onnx", options.threads, precision=options.precision)
    module = importlib.import_module(".engine", __package__)
    return module.OnnxEngine(folder / "model.onnx", options.threads, arena=options.arena)


def _end_with_the_parent() -> None:
    """Let the kernel end this process when the parent's end of stdin closes, even while native code runs.

    By the one signal that a model cannot ignore, block or handle.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()
    poller.register(0, select.POLLIN)
    if poller.poll(0):  # it was closed before the line above could see it
        sys.exit(1)


def _listen(options: Options) -> socket.socket:
    os.chdir(options.runtime)  # a path relative to it stays within the 107 bytes of an address
    os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(options.socket)
    listener.listen(128)
    listener.setblocking(False)
    os.chdir("/")
    return listener


def _hello(engine: Any, options: Options, facts: dict[str, Any], statm: int, maps: int) -> dict[str, Any]:
    resident_pages = int(os.pread(statm, 128, 0).split()[1])
    threads = importlib.import_module(".threads", __package__)
    return {
        "inputs": engine.inputs,
        "outputs": engine.outputs,
        "batched": engine.batched,
        "engine": engine.name,
        "engine_version": engine.version,
        "threads": engine.threads,
        "max_batch_rows": options.max_batch_rows if engine.batched else 1,
        "pid": os.getpid(),
        "resident_mib": round(resident_pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "sandbox": facts,
        "precision": engine.precision,
        "pools": threads.thread_pools(maps),
    }


def _give_up(ready: int, code: str, message: str) -> int:
    """Say why; without the module of frames: it needs a package, and where this is said there may be no sandbox."""
    body = json.dumps({"code": code, "message": message}).encode()
    body += b" " * (-len(body) % 8)
    os.write(ready, struct.pack("<IIQQBxHI", 32 + len(body), 0, 0, 0, _ERROR, 0, 0) + body)
    return 1
