"""A zygote: has the engine imported and nothing open, and becomes a model's process by forking, once for each request.

A request is a packet with the options and four descriptors: stdin, stdout and stderr of the model's process, and a pipe
on which is told how it ended. The answer is a packet with its identifier and its pidfd. It ends when nobody asks it
any more; what it forked ends with its own stdin.
"""

import base64
import contextlib
import ctypes
import gc
import importlib
import importlib.machinery
import json
import os
import select
import signal
import socket
import sys
import types
from pathlib import Path

_PACKAGE = "brownfield_worker"
_MODULES = ("frames", "child.engine", "child.server", "child.threads", "child.watch", "child.start")
_LONGEST = 64 * 1024
_IDENTITY = base64.b64decode(  # the smallest graph: one float is its own answer
    "CAg6QQoQCgF4EgF5IghJZGVudGl0eRIBZ1oUCgF4Eg8KDQgBEgkKAxIBbgoCCARiFAoBeRIPCg0IARIJCgMSAW4KAggEQgQKABAR"
)


def main(control: socket.socket) -> int:
    """Fork until nobody asks any more; in what was forked, serve a model. The exit status."""
    start = _warm()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended: dict[int, int] = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(reader, select.POLLIN)
    while True:
        ready = dict(poller.poll())
        if reader in ready:
            os.read(reader, 4096)
            _tell(ended)
        if control.fileno() not in ready:
            continue
        options, descriptors, _, _ = socket.recv_fds(control, _LONGEST, 4)
        if not options:
            return 0
        pid = os.fork()
        if not pid:
            _become(descriptors, [control.detach(), reader, writer, *ended.values()])
            _rename(json.loads(options)["model"])
            return int(start.main(options.decode()))
        *streams, ended[pid] = descriptors
        pidfd = os.pidfd_open(pid)
        socket.send_fds(control, [b"%d" % pid], [pidfd])
        for each in (*streams, pidfd):
            os.close(each)


def _warm() -> types.ModuleType:
    """Import and set up what a model's process needs before its model; what lives by then is collected no more."""
    process = Path(__file__).resolve().parent.parent
    package = types.ModuleType(_PACKAGE)
    package.__path__ = [str(process), str(process.parents[1])]  # this and the next as in __main__.py
    source = (importlib.machinery.SourceFileLoader, importlib.machinery.SOURCE_SUFFIXES)
    sys.path_importer_cache[str(process)] = importlib.machinery.FileFinder(str(process), source)
    sys.modules[_PACKAGE] = package
    for name in _MODULES:
        start = importlib.import_module(f"{_PACKAGE}.{name}")
    _warm_engine()
    importlib.import_module(f"{_PACKAGE}.memory").give_back_libraries()
    gc.collect()
    gc.freeze()
    return start


def _warm_engine() -> None:
    """Load a graph once: what the engine sets up for its first model is then shared (measured: 1.6 MiB a model)."""
    engine = importlib.import_module("onnxruntime")
    options = engine.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a thread would not survive the fork
    engine.InferenceSession(_IDENTITY, options, providers=["CPUExecutionProvider"])


def _tell(ended: dict[int, int]) -> None:
    """Say of each child that has ended how it did."""
    for pid in tuple(ended):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            pipe = ended.pop(pid)
            with contextlib.suppress(OSError):  # nobody wants to know
                os.write(pipe, b"%d" % os.waitstatus_to_exitcode(status))
            os.close(pipe)


def _become(descriptors: list[int], foreign: list[int]) -> None:
    """Leave behind what is the zygote's: its session, streams, descriptors and signals."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for stream, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, stream)
    for each in (*descriptors, *foreign):
        os.close(each)


def _rename(model: str) -> None:
    """Stand in the list of processes as the program that this is now, with its model, or the end of so long a path."""
    command = Path("/proc/self/cmdline").read_bytes()
    at, end = command.find(b"/__warm__.py\0"), len(command) - 1
    room = command.rfind(b"\0", 0, end) + 1  # the last argument, of blanks
    begin = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[45])  # arg_start
    if at >= 0 and begin:
        ctypes.memmove(begin + at, b"/__main__.py", len(b"/__main__.py"))
        ctypes.memmove(begin + room, os.fsencode(model)[room - end :].ljust(end - room), end - room)


if __name__ == "__main__":
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))
