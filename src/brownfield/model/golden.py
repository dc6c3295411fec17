"""Golden records: inputs of the graph and the answers it gave when the bundle was made.

Kept as JSON: every tensor with name, dtype, shape and its little-endian bytes in base64 (texts as a list of texts).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.model.rules import refused

__all__ = ["GOLDEN", "Golden", "Tensors"]

GOLDEN = "golden.json"

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
        dtype = np.dtype(self.dtype)
        if dtype.kind not in "biuf":
            raise ValueError("a dtype that is no number")
        return np.frombuffer(self.data, dtype=dtype.newbyteorder("<")).reshape(self.shape).astype(dtype)


class _Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
