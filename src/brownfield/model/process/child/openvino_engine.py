"""OpenVINO on the CPU: the second engine, for bundles whose manifest asks for it.

In: ``model.onnx``, threads, a precision. Out: an engine as :mod:`.engine` describes it. Refused: a precision that the
processor does not have (OpenVINO itself would quietly take another), text tensors, and a host without OpenVINO.
"""

import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .engine import EngineError, Tensor, no_memory

__all__ = ["OpenVinoEngine"]

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_MARKS = (0xA5, 0x5A)
_WORDS = {hint: word for word, hint in _HINTS.items()}


class OpenVinoEngine:
    """OpenVINO's CPU plug-in with the number of threads it is told, one stream, nothing pinned and nothing cached.

    When memory runs out it neither raises nor answers, and leaves in its outputs what an earlier request was answered
    (measured, 2026.4): so every request is given outputs that hold a mark. A model may answer with the very bytes of a
    mark, but not with those of two: where a mark is still there it is asked again with another, and when that one stays
    too, memory is out. It never recovers, so the process then ends as if it had been told to, and a new one takes its
    place.

    Parameters
    ----------
    model
        The file ``model.onnx``.
    threads
        Threads of one call, ``>= 1``.
    precision
        ``fp32`` or ``bf16``: in what the operators compute; inputs and outputs keep their types.
    """

    name = "openvino"

    def __init__(self, model: Path, threads: int, *, precision: str = "fp32") -> None:
        self._openvino = _load()
        self.version: str = self._openvino.get_version().split("-")[0]
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = self._openvino.Core()
            graph = core.read_model(str(model))
            compiled = core.compile_model(graph, "CPU", options)
        except Exception as error:  # noqa: BLE001 (whatever it raises is one refusal)
            raise _load_error(error) from None
        self.precision = _WORDS.get(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(), "another")
        if self.precision != precision:
            raise EngineError("load", f"this processor computes in {self.precision}, the bundle asks for {precision}")
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self.inputs = [_describe(port) for port in graph.inputs]
        self.outputs = [_describe(port) for port in graph.outputs]
        self.batched = self._is_batched(graph)
        self._request = compiled.create_infer_request()
        self._marked = [[_marked(port, mark) for port in self.outputs] for mark in _MARKS]

    def run(self, tensors: list[Tensor]) -> list[Tensor]:
        """Compute the outputs of one call."""
        if len(tensors) != len(self.inputs):
            raise EngineError("run", f"expected {len(self.inputs)} tensors, got {len(tensors)}")
        request = self._request
        try:
            for index, tensor in enumerate(tensors):
                self._check(index, tensor)
                request.set_input_tensor(index, self._openvino.Tensor(np.ascontiguousarray(tensor)))  # a copy
            for mark, marked in zip(_MARKS, self._marked, strict=True):
                answers = self._computed(marked)
                if not any(_is_marked(answer, mark) for answer in answers):
                    return answers
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever a model raises is one request's error)
            raise no_memory(error) or EngineError("run", f"OpenVINO: {type(error).__name__}") from None
        signal.raise_signal(signal.SIGTERM)  # no later request is answered either: end once these are told
        raise EngineError("memory", "OpenVINO gave no answer: no memory left within the process's limit")

    def _computed(self, marked: list[Tensor]) -> list[Tensor]:
        """Compute outputs that hold a mark until they are written."""
        given = [self._openvino.Tensor(array) for array in marked]  # copies
        for index, tensor in enumerate(given):
            self._request.set_output_tensor(index, tensor)
        self._request.infer()
        return [np.array(tensor.data) for tensor in given]

    def _check(self, index: int, tensor: Tensor) -> None:
        """Refuse a tensor of another type: OpenVINO would read its bytes as if they were of the right one."""
        wanted = self.inputs[index]
        if tensor.dtype.name != wanted["dtype"]:
            raise EngineError("run", f"expected {wanted['dtype']} for {wanted['name']!r}, got {tensor.dtype.name}")

    def _is_batched(self, graph: Any) -> bool:
        """Whether all first dimensions are the same free number: the graph's own shape rules say so."""
        if not all(port["shape"] and port["shape"][0] is None for port in (*self.inputs, *self.outputs)):
            return False
        count = len(self.inputs)
        if any(shape is None or shape[0] != 3 for shape in self._outputs_for(graph, [3] * count)):  # noqa: PLR2004
            return False
        apart = self._outputs_for(graph, [3] * (count - 1) + [5])
        return count == 1 or any(shape is None for shape in apart)

    def _outputs_for(self, graph: Any, rows: list[int]) -> list[list[int | None] | None]:
        """Shapes of the outputs when inputs have so many rows; None for each where the graph does not admit that."""
        tried = graph.clone()
        shapes = {
            port: self._openvino.PartialShape([count, *list(port.get_partial_shape())[1:]])
            for port, count in zip(tried.inputs, rows, strict=True)
        }
        try:
            tried.reshape(shapes)
        except RuntimeError:
            return [None] * len(self.outputs)
        return [_shape(port) for port in tried.outputs]


def _load() -> Any:
    """Import OpenVINO without its converter, which reports each import to its maker."""
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError:
        raise EngineError("load", "OpenVINO is not installed here: pip install 'brownfield[openvino]'") from None
    except OSError as error:  # a library that the sandbox or this host does not have
        raise EngineError("load", f"OpenVINO does not load here: {str(error)[:200]}") from None
    return openvino


def _load_error(error: Exception) -> EngineError:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(("Exception", "Check"))]
    return no_memory(error) or EngineError("load", "OpenVINO refuses it: " + " ".join(lines)[:400])


def _describe(port: Any) -> dict[str, Any]:
    """Name as the ONNX file has it, numpy type and shape of one input or output."""
    name = port.get_node().get_friendly_name().removesuffix("/sink_port_0")
    dtype = "str" if port.get_element_type().get_type_name() == "string" else port.get_element_type().to_dtype().name
    if dtype == "str":
        raise EngineError("load", f"text in {port.get_any_name()!r} is served by onnxruntime alone")
    return {"name": name if name in port.get_names() else port.get_any_name(), "dtype": dtype, "shape": _shape(port)}


def _marked(port: dict[str, Any], mark: int) -> Tensor:
    """Output that shows whether it was written: each byte is the mark, and a size that varies is 1."""
    shape = [1 if size is None else size for size in port["shape"]]
    marked: Tensor = np.empty(shape, port["dtype"])
    marked.reshape(-1).view(np.uint8)[:] = mark
    return marked


def _is_marked(answer: Tensor, mark: int) -> bool:
    """Whether nothing was written; an answer without elements was, where sizes vary."""
    data = answer.reshape(-1).view(np.uint8)
    return data.size > 0 and data[0] == mark and bool((data == mark).all())


def _shape(port: Any) -> list[int | None]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        raise EngineError("load", f"a tensor without a known number of dimensions: {port.get_any_name()!r}")
    return [None if dimension.is_dynamic else dimension.get_length() for dimension in shape]
