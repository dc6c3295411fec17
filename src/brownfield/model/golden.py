"""Golden records: inputs of the graph and the answers it gave when the bundle was made.

Kept as JSON: every tensor with name, dtype, shape and its little-endian bytes in base64 (texts as a list of texts).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.errors import BundleRefused
from brownfield.model.files import read_plain
from brownfield.model.rules import refused

if TYPE_CHECKING:
    from brownfield.model.bundle import Bundle

__all__ = ["GOLDEN", "Golden", "Tensors", "golden_record"]

GOLDEN = "golden.json"
_DTYPES = frozenset(
    {
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    }
)
_MOST_BYTES = 4 << 20  # of golden records that a gateway reads for the sake of one

Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Tensors by name: ``inputs`` as the graph takes them, ``outputs`` as it gave them."""

    inputs: Tensors
    outputs: Tensors

    def to_json(self) -> bytes:
        """Return the text that :meth:`from_json` reads."""
        stored = _Golden(
            tuple(_Tensor.of(name, array) for name, array in self.inputs.items()),
            tuple(_Tensor.of(name, array) for name, array in self.outputs.items()),
        )
        return msgspec.json.encode(stored) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Golden":
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        BundleRefused
            ``golden-form``.
        """
        try:
            stored = msgspec.json.decode(text, type=_Golden)
            return cls(
                {tensor.name: tensor.array() for tensor in stored.inputs},
                {tensor.name: tensor.array() for tensor in stored.outputs},
            )
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise refused("golden-form", got=str(error)) from error


def golden_record(bundle: "Bundle") -> Golden | None:
    """Give the first golden record of a bundle; None where it has none, where they are no rows, or are not as sealed.

    Parameters
    ----------
    bundle
        As it was opened, or opened again.
    """
    golden = bundle.golden
    if golden is None:
        sealed = next((entry for entry in bundle.manifest.files if entry.path == GOLDEN), None)
        try:
            text = read_plain(bundle.folder / GOLDEN, limit_bytes=_MOST_BYTES) if sealed is not None else b""
            if sealed is None or hashlib.sha256(text).hexdigest() != sealed.sha256:
                return None
            golden = Golden.from_json(text)
        except BundleRefused:
            return None
    sides = golden.inputs, golden.outputs
    lengths = {len(array) if array.ndim else 0 for side in sides for array in side.values()}
    if not bundle.features.batched or len(lengths) != 1 or 0 in lengths:
        return None
    first_in, first_out = ({name: array[:1].copy() for name, array in side.items()} for side in sides)
    return Golden(first_in, first_out)


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes = b""
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, array: npt.NDArray[Any]) -> "_Tensor":
        if array.dtype.kind in "OUS":
            return cls(name, "str", array.shape, texts=tuple(str(text) for text in array.flat))
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return cls(name, array.dtype.name, array.shape, data=little.tobytes())

    def array(self) -> npt.NDArray[Any]:
        if any(size < 0 for size in self.shape):
            raise ValueError("a negative size")
        if self.dtype == "str":
            if len(self.texts) != prod(self.shape):
                raise ValueError("texts and shape differ")
            texts = np.empty(len(self.texts), dtype=object)
            texts[:] = self.texts
            return texts.reshape(self.shape)
        if self.dtype not in _DTYPES:
            raise ValueError("a dtype that is no plain name of a number")
        dtype = np.dtype(self.dtype)
        return np.frombuffer(self.data, dtype=dtype.newbyteorder("<")).reshape(self.shape).astype(dtype)


class _Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
