"""What really runs on this host: each library and int8 arithmetic tried in a child, so that none can end the tool.

In: nothing. Out: one :class:`Capability` for each thing tried. A child that an illegal instruction, a crash or a hang
ends is a finding like any other; an extra that is not installed is none.
"""

import json
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec

from brownfield.host import HostFacts

__all__ = ["EXTRAS", "Capability", "probe_capabilities", "wheel_tag"]

_CORE = ("numpy", "pyarrow", "duckdb", "onnx", "onnxruntime", "msgspec", "cryptography", "uvloop", "httptools")
EXTRAS = {
    "torch": ("torch", "onnxscript", "safetensors"),
    "openvino": ("openvino",),
    "postgres": ("psycopg",),
    "mysql": ("pymysql",),
    "oracle": ("oracledb",),
    "odbc": ("pyodbc",),
    "sftp": ("paramiko",),
    "queues": ("pika", "paho.mqtt", "redis", "nats"),
}
"""Modules of each extra."""

_TIMEOUT_S = 60.0
_IMPORT = """
import importlib, json, sys
sys.path[:0] = sys.argv[2:]
module = importlib.import_module(sys.argv[1])
print(json.dumps(str(getattr(module, "__version__", ""))))
"""
_INT8 = """
import json
import numpy as np, onnxruntime
from onnx import TensorProto as T, helper as h
a, b = np.full((1, 64), 255, "u1"), np.full((64, 16), 127, "i1")
nodes = [h.make_node("MatMulInteger", ["a", "b"], ["c"])]
tensor = h.make_tensor_value_info
ends = [tensor("a", T.UINT8, [1, 64]), tensor("b", T.INT8, [64, 16])], [tensor("c", T.INT32, [1, 16])]
model = h.make_model(h.make_graph(nodes, "g", *ends), opset_imports=[h.make_opsetid("", 13)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
exact = bool((session.run(None, {"a": a, "b": b})[0] == 255 * 127 * 64).all())
print(json.dumps("products are exact" if exact else "products overflow: int8 weights get seven bits"))
"""
_WAKE = """
import json, os, socket, statistics, time
near, far = socket.socketpair()
cpus = sorted(os.sched_getaffinity(0))
pid = os.fork()
os.sched_setaffinity(0, cpus[:1] if pid else cpus[-1:])
if not pid:
    near.close()
    while far.recv(1):
        far.send(b"0")
    os._exit(0)
far.close()
ways_us = []
for _ in range(100):
    time.sleep(0.001)
    began_ns = time.perf_counter_ns()
    near.send(b"0")
    near.recv(1)
    ways_us.append((time.perf_counter_ns() - began_ns) / 2000)
near.close()
os.waitpid(pid, 0)
writable = os.access("/dev/cpu_dma_latency", os.W_OK)
bound = "serving.cpu_wake_us can bound it" if writable else "this user cannot bound it"
print(json.dumps(f"{statistics.median(ways_us):.0f} us from one process to another; {bound}"))
"""
_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that was tried.

    Parameters
    ----------
    name
        A module, or ``int8``.
    state
        ``works``, ``missing`` (not installed), ``fails`` (it says why), ``dies`` (by a signal), ``hangs``.
    detail
        Its version, or what happened.
    extra
        To which extra it belongs; empty for what every installation needs.
    """

    name: str
    state: str
    detail: str = ""
    extra: str = ""

    @property
    def finding(self) -> bool:
        """Whether something is wrong: what is needed lacks, or what is installed does not run."""
        return self.state != "works" and not (self.state == "missing" and self.extra)

    def __str__(self) -> str:
        of = f" (extra {self.extra})" if self.extra else ""
        return f"{self.name}{of}: {self.state}" + (f", {self.detail}" if self.detail else "")


def probe_capabilities() -> tuple[Capability, ...]:
    """Try every library of ours and int8 arithmetic, two at a time, then how quick a CPU wakes; takes a few seconds."""
    wanted = [(name, "") for name in _CORE]
    wanted += [(name, extra) for extra, names in EXTRAS.items() for name in names]
    with ThreadPoolExecutor(2) as pool:
        modules = pool.map(lambda each: try_import(*each), wanted)
        int8 = pool.submit(try_program, "int8", _INT8)
    return (*modules, int8.result(), try_program("cpu wake", _WAKE))  # alone: others would keep the CPUs awake


def try_import(module: str, extra: str = "", *, paths: Iterable[str] = ()) -> Capability:
    """Import a module in a child.

    Parameters
    ----------
    module
        Its name.
    extra
        To which it belongs.
    paths
        Folders to look in first; an installation needs none.
    """
    if not paths and _absent(module):
        return Capability(module, "missing", extra=extra)
    return try_program(module, _IMPORT, module, *paths, extra=extra)


def try_program(name: str, program: str, *arguments: str, extra: str = "") -> Capability:
    """Run a few lines of ours in a child that prints one JSON text."""
    command = [sys.executable, "-I", "-c", program, *arguments]
    try:
        tried = subprocess.run(  # noqa: S603 (our own text)
            command, capture_output=True, check=False, timeout=_TIMEOUT_S, env=_ENVIRONMENT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Capability(name, "hangs", f"no end within {_TIMEOUT_S:g} s", extra)
    if tried.returncode < 0:
        return Capability(name, "dies", _signal(-tried.returncode), extra)
    if tried.returncode:
        last = tried.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return Capability(name, "fails", "".join(last)[:200], extra)
    return Capability(name, "works", str(json.loads(tried.stdout.splitlines()[-1])), extra)


def wheel_tag(host: HostFacts) -> str:
    """Newest kind of wheel that installs here.

    Examples
    --------
    >>> from brownfield.host import read_host
    >>> wheel_tag(read_host()).startswith(f"cp{sys.version_info.major}{sys.version_info.minor}-")
    True
    """
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    library = f"manylinux_{host.glibc.replace('.', '_')}" if host.glibc else "musllinux"
    return f"{python}-{library}_{platform.machine()}"


def _absent(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:  # of the package above it
        return True


def _signal(number: int) -> str:
    name = signal.Signals(number).name
    return f"{name}: it uses an instruction that this processor lacks" if number == signal.SIGILL else name
