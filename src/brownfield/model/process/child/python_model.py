"""A model that is a Python class of the bundle: any framework, as long as arrays go in and come out.

The class says which tensors it takes and gives, loads its files, and answers a batch:

    class Doubler:
        inputs = {"x": ("float32", (None, 2))}     # name: type, shape; None is any size, and as the first size the rows
        outputs = {"y": ("float32", (None, 2))}

        def load(self, folder):                    # once; the files of the bundle lie in this folder
            self.factor = numpy.load(folder / "factor.npy")

        def predict(self, inputs):                 # arrays by name in, arrays by name out
            return {"y": inputs["x"] * self.factor}

What it answers is held against what it says: another name, type or shape is that request's error, never an answer.
"""

import contextlib
import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .engine import EngineError, Tensor

__all__ = ["PythonModel"]

_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "str"),
)
_TEXT_KINDS = "OSUT"  # T: numpy's own text type since 2.0


class PythonModel:
    """A loaded Python class.

    Parameters
    ----------
    folder
        With the module and the model's files; modules beside it can be imported.
    module
        File name of the module.
    class_name
        The class in it.
    threads
        Threads that frameworks are told to use, beyond what their environment variables say.
    """

    name = "python"
    precision = "own"

    def __init__(self, folder: Path, module: str, class_name: str, threads: int) -> None:
        self.version = platform.python_version()
        sys.path.append(str(folder))
        try:
            self._model = _instance(folder / module, class_name)
            self._model.load(folder)
            self.inputs = _described(self._model.inputs)
            self.outputs = _described(self._model.outputs)
        except BaseException as error:  # noqa: BLE001 (also one that wants to exit)
            raise _as_engine_error("load", error) from None
        self.threads = _threads(threads)
        nodes = (*self.inputs, *self.outputs)
        self.batched = all(node["shape"] and node["shape"][0] is None for node in nodes)

    def run(self, tensors: list[Tensor]) -> list[Tensor]:
        """Compute the outputs of one call."""
        if len(tensors) != len(self.inputs):
            raise EngineError("run", f"expected {len(self.inputs)} tensors, got {len(tensors)}")
        named = {node["name"]: tensor for node, tensor in zip(self.inputs, tensors, strict=True)}
        try:
            outputs = self._model.predict(named)
        except BaseException as error:  # noqa: BLE001 (whatever a model raises is one request's error)
            raise _as_engine_error("run", error) from None
        rows = tensors[0].shape[0] if self.batched and tensors and tensors[0].ndim else None
        return self._checked(outputs, rows)

    def _checked(self, outputs: Any, rows: int | None) -> list[Tensor]:
        if not isinstance(outputs, dict) or outputs.keys() != {node["name"] for node in self.outputs}:
            raise EngineError("output", "predict gave other outputs than the class names")
        try:
            return [_fitting(np.asarray(outputs[node["name"]]), node, rows) for node in self.outputs]
        except EngineError:
            raise
        except BaseException as error:  # noqa: BLE001 (an object may raise from any method)
            raise _as_engine_error("output", error) from None


def _instance(path: Path, class_name: str) -> Any:
    name = f"_bundle_{path.stem}"  # whatever the file is called, it takes no other module's place
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise EngineError("load", "the module cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return getattr(module, class_name)()


def _described(declared: Any) -> list[dict[str, Any]]:
    """Tensors of a declaration by the class; refused when it is none."""
    nodes = []
    for name, (dtype, shape) in declared.items():
        sizes = list(shape)
        plain = all(size is None or (isinstance(size, int) and size >= 0) for size in sizes)
        if not isinstance(name, str) or not name or dtype not in _DTYPES or not plain:
            raise EngineError("load", "inputs and outputs are {name: (type, shape)} with types and sizes of tensors")
        nodes.append({"name": name, "dtype": dtype, "shape": sizes})
    if not nodes:
        raise EngineError("load", "a class names at least one input and one output")
    return nodes


def _fitting(output: Tensor, node: dict[str, Any], rows: int | None) -> Tensor:
    wanted = node["shape"] if rows is None else [rows, *node["shape"][1:]]
    text = output.dtype.kind in _TEXT_KINDS
    same_type = text if node["dtype"] == "str" else output.dtype == np.dtype(node["dtype"])
    same_shape = output.ndim == len(wanted) and all(
        limit is None or size == limit for size, limit in zip(output.shape, wanted, strict=True)
    )
    if not same_type or not same_shape:
        raise EngineError("output", "predict gave an output of another type or shape than the class names")
    return output.astype(object) if text else output.copy()  # a class may fill the same array for the next answer


def _threads(threads: int) -> int:
    """Tell frameworks that were imported, and read back."""
    torch = sys.modules.get("torch")
    if torch is None:
        return threads
    with contextlib.suppress(RuntimeError):  # too late once it has computed in parallel
        torch.set_num_interop_threads(1)
    torch.set_num_threads(threads)
    return int(torch.get_num_threads())


def _as_engine_error(code: str, error: BaseException) -> EngineError:
    """Name what was raised; while it answers its text may hold values of a request and is left out."""
    if isinstance(error, EngineError):
        return error
    kind = type(error).__name__[:80]
    if isinstance(error, MemoryError) or kind.startswith("OutOfMemory"):  # as frameworks call it on their devices
        return EngineError("memory", "no memory left within the process's limit")
    try:
        text = str(error)[:400] if code == "load" else ""
        text = text.encode(errors="backslashreplace").decode()  # a file's name may be in another encoding
    except Exception:  # noqa: BLE001 (an exception whose text cannot be made)
        text = ""
    return EngineError(code, f"{kind}: {text}" if text else kind)
