"""V2 requests with binary tensors whose JSON part came before, byte for byte: it need not be read again.

Comes in: the JSON part. Goes out: the request that it is, and the tensors as views of the body. What its bytes mean
cannot have changed; the values are another request's and are checked like any.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec import UNSET

from brownfield.serving.gateway.v2_messages import DTYPES

if TYPE_CHECKING:
    from brownfield.serving.gateway.v2_messages import InferRequest

__all__ = ["BinaryReader", "Known"]

_LONGEST_BYTES = 1024
_MOST = 256


class Known(NamedTuple):
    """What a JSON part means.

    Parameters
    ----------
    request
        As it was read; shared by all requests with this JSON part and not to be changed.
    rows
        Records.
    tensors
        Name, shape, type and place behind the JSON part.
    binary_bytes
        Of all tensors.
    """

    request: "InferRequest"
    rows: int
    tensors: tuple[tuple[str, tuple[int, ...], np.dtype[Any], int], ...]
    binary_bytes: int

    def columns(self, body: bytes, length: int) -> dict[str, Any]:
        """Give the tensors of a body whose JSON part has this length."""
        return {name: np.ndarray(shape, dtype, body, length + at) for name, shape, dtype, at in self.tensors}


class BinaryReader:
    """Known JSON parts of one schema; at most 256 short ones, begun anew when there are more."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}

    def find(self, text: bytes, binary_bytes: int) -> Known | None:
        """Give what a JSON part means, where so many bytes of tensors follow it."""
        known = self._known.get(text)
        return known if known is not None and known.binary_bytes == binary_bytes else None

    def learn(self, text: bytes, request: "InferRequest", rows: int) -> None:
        """Remember the JSON part of a request that was read, when all its inputs are binary numbers."""
        if len(text) > _LONGEST_BYTES or request.id is not UNSET:  # what is never the same need not be kept
            return
        tensors, at = [], 0
        for tensor in request.inputs:
            size = tensor.parameters.get("binary_data_size") if tensor.parameters else None
            if size is None or tensor.datatype in {"BYTES", "BOOL"}:  # whose values are looked at as they are read
                return
            tensors.append((tensor.name, tuple(tensor.shape), DTYPES[tensor.datatype], at))
            at += size
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[text] = Known(request, rows, tuple(tensors), at)
