"""What computes: a model in a folder, loaded once, then arrays in and arrays out."""

import re
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Engine", "EngineError", "OnnxEngine", "no_memory"]

Tensor: TypeAlias = NDArray[Any]


class EngineError(Exception):
    """The model cannot be loaded or cannot answer; the text never holds a value of a request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Engine(Protocol):
    """A loaded model.

    Attributes
    ----------
    inputs, outputs
        ``{"name": ..., "dtype": ..., "shape": [...]}`` in the order in which tensors travel; None for a dimension
        that varies.
    batched
        True when the first dimension of every input and output is the same free number of rows.
    name, version
        Of the software that computes.
    threads, precision
        What it computes with, as read back from it: ``precision`` is ``fp32`` or ``bf16``.
    """

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    batched: bool
    name: str
    version: str
    threads: int
    precision: str

    def run(self, tensors: list[Tensor]) -> list[Tensor]:
        """Compute the outputs; raises :class:`EngineError`."""
        ...


class OnnxEngine:
    """ONNX Runtime on the CPU, with the number of threads it is told and none that spins.

    Parameters
    ----------
    model
        The file ``model.onnx``.
    threads
        Threads within one operator, ``>= 1``.
    arena
        Whether memory is kept for the next call instead of being given back.
    """

    name = "onnxruntime"
    precision = "fp32"

    def __init__(self, model: Path, threads: int, *, arena: bool = True) -> None:
        import onnxruntime  # after the sandbox has closed, and only where a model runs

        self.version: str = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = arena
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # its messages may hold values of requests
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _as_engine_error("load", error) from error
        self.threads: int = self._session.get_session_options().intra_op_num_threads
        self.inputs = [_describe(node) for node in self._session.get_inputs()]
        self.outputs = [_describe(node) for node in self._session.get_outputs()]
        self._options = onnxruntime.RunOptions()  # else each call makes its own: a tenth of what a small model takes
        self._input_names = [node["name"] for node in self.inputs]
        self._output_names = [node["name"] for node in self.outputs]
        firsts = {node.shape[0] if node.shape else None for node in self._nodes()}
        self.batched = len(firsts) == 1 and isinstance(next(iter(firsts)), str)

    def run(self, tensors: list[Tensor]) -> list[Tensor]:
        """Compute the outputs of one call."""
        if len(tensors) != len(self._input_names):
            raise EngineError("run", f"expected {len(self._input_names)} tensors, got {len(tensors)}")
        feed = dict(zip(self._input_names, tensors, strict=True))
        try:
            results = self._session.run(self._output_names, feed, self._options)
        except Exception as error:  # noqa: BLE001 (whatever a model raises is one request's error)
            raise _as_engine_error("run", error) from None
        return list(map(np.asarray, results))

    def _nodes(self) -> list[Any]:
        return [*self._session.get_inputs(), *self._session.get_outputs()]


_TAIL = 300
_DTYPES = {"float": "float32", "double": "float64", "string": "str"}


def _describe(node: Any) -> dict[str, Any]:
    """Name, numpy type and shape of one input or output."""
    kind = re.fullmatch(r"tensor\((\w+)\)", node.type)
    if kind is None:
        raise EngineError("load", f"expected tensors only, got {node.type} for {node.name!r}")
    shape = [dimension if isinstance(dimension, int) else None for dimension in node.shape]
    return {"name": node.name, "dtype": _DTYPES.get(kind[1], kind[1]), "shape": shape}


def no_memory(error: Exception) -> EngineError | None:
    """Error of a model that ran into the process's limit, None when it is another one."""
    text = str(error)
    if isinstance(error, MemoryError) or "bad_alloc" in text or "allocate memory" in text:
        return EngineError("memory", "no memory left within the process's limit")
    return None


def _shortened(text: str) -> str:
    """Leave out the middle of a long text: before it stands what was tried, behind it what is wrong."""
    head, tail = text[:100], text[100:].strip()
    return head + (tail if len(tail) <= _TAIL else f" ... {tail[-_TAIL:]}")


def _as_engine_error(code: str, error: Exception) -> EngineError:
    starved = no_memory(error)
    if starved is not None:
        return starved
    text = str(error)
    found = re.search(r"\[ONNXRuntimeError\] : \d+ : (\w+)", text)
    cause = found[1] if found else type(error).__name__
    if code == "load":
        return EngineError(code, f"{cause}: {_shortened(text)}")
    operator = re.search(r"while running (\w+) node", text)
    return EngineError(code, f"{cause} in operator {operator[1]}" if operator else cause)
