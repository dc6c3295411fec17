"""The weights of an ONNX model: their data are as long as they say, lie where they may, and fill no more than they may.

In: tensors of the graph. Refused: lengths that disagree with shape and type, places outside the model's folder,
links of either sort, ranges beyond the file, constants that are small in the file and huge in memory.
"""

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brownfield.errors import BundleRefused
from brownfield.model.files import checked_name, size_of
from brownfield.model.rules import refused, text

if TYPE_CHECKING:
    import onnx

__all__ = ["V2_DTYPES", "Weights"]

MAX_CONSTANT_BYTES = 4 << 30
MAX_DIMENSIONS = 64
EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})
STRING = 8

V2_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", STRING: "str", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""Element types of ONNX that the open inference protocol has a word for, as NumPy names."""

ITEM_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
"""Bits of one element by element type of ONNX (texts have none)."""


class Weights:
    """Checks weights one by one and adds up what they take.

    Parameters
    ----------
    folder
        Where files with external data may lie; ``None`` when there may be none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.external_files: set[str] = set()
        self._folder = folder
        self._constant_bytes = 0

    def check(self, tensor: "onnx.TensorProto") -> None:
        """Check one weight or constant."""
        if len(tensor.dims) > MAX_DIMENSIONS or any(size < 0 for size in tensor.dims) or tensor.HasField("segment"):
            raise refused("onnx-initializer", path=ascii(tensor.name), got=f"shape {list(tensor.dims)[:8]}")
        if tensor.data_type not in ITEM_BITS and tensor.data_type != STRING:
            raise refused("onnx-initializer", path=ascii(tensor.name), got=f"type {tensor.data_type}")
        elements = prod(tensor.dims)
        size_bytes = (elements * ITEM_BITS.get(tensor.data_type, 0) + 7) // 8
        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            self._check_external(tensor, size_bytes)
            return
        if tensor.HasField("raw_data") and tensor.data_type != STRING:
            held, wanted = len(tensor.raw_data), size_bytes
        else:
            held, wanted = _typed_items(tensor), _typed_wanted(tensor, elements, size_bytes)
        if held != wanted:
            raise refused("onnx-initializer", path=ascii(tensor.name), expected=f"{wanted}", got=f"{held}")

    def check_filled(self, node: "onnx.NodeProto", shape: "onnx.TensorProto") -> None:
        """Count the memory of a constant that is written as its shape alone (``ConstantOfShape``)."""
        if shape.data_location == shape.EXTERNAL or shape.data_type != 7:  # noqa: PLR2004 (shapes are int64)
            return
        sizes = np.frombuffer(shape.raw_data, "<i8").tolist() if shape.raw_data else list(shape.int64_data)
        bits = next((ITEM_BITS.get(each.t.data_type, 32) for each in node.attribute if each.name == "value"), 32)
        self._constant_bytes += prod(max(size, 0) for size in sizes[:MAX_DIMENSIONS]) * bits // 8
        if self._constant_bytes > MAX_CONSTANT_BYTES:
            raise refused("onnx-constant", path=ascii(node.name), expected=f"up to {MAX_CONSTANT_BYTES} bytes in all")

    def _check_external(self, tensor: "onnx.TensorProto", wanted_bytes: int) -> None:
        name = ascii(tensor.name)
        entries = {text(entry.key): text(entry.value) for entry in tensor.external_data}
        if len(entries) != len(tensor.external_data) or not entries.keys() <= EXTERNAL_KEYS:
            raise refused("onnx-external-data", path=name, expected=f"keys of {sorted(EXTERNAL_KEYS)}, each once")
        if self._folder is None or tensor.data_type == STRING:
            raise refused("onnx-external-data", path=name, expected="weights inside the model file")
        location = entries.get("location", "")
        try:
            held = size_of(self._folder / checked_name(location))
        except BundleRefused as error:
            raise refused(
                "onnx-external-data",
                path=name,
                expected="a plain file in the model's own folder, linked once",
                got=ascii(location[:80]),
            ) from error
        offset = _digits(entries.get("offset", "0"), name)
        length = _digits(entries.get("length", str(wanted_bytes)), name)
        if length != wanted_bytes or offset + length > held:
            raise refused(
                "onnx-external-data",
                path=name,
                expected=f"{wanted_bytes} bytes inside a file of {held}",
                got=f"{length} bytes from {offset}",
            )
        self.external_files.add(location)


def _digits(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 (fits int64)
        raise refused("onnx-external-data", path=name, got="a range that is no number")
    return int(text)


def _typed_items(tensor: "onnx.TensorProto") -> int:
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    return sum(len(getattr(tensor, field)) for field in fields)


def _typed_wanted(tensor: "onnx.TensorProto", elements: int, size_bytes: int) -> int:
    if tensor.data_type in (tensor.COMPLEX64, tensor.COMPLEX128):
        return 2 * elements
    if ITEM_BITS.get(tensor.data_type, 8) < 8:  # noqa: PLR2004 (several elements share a byte)
        return size_bytes
    return elements
