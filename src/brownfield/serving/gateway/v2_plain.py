"""V2 requests as nearly all are, flat JSON in all inputs and nothing asked for besides: one look at each value.

Comes in: a body. Goes out: what :func:`brownfield.serving.gateway.v2.decode` would give, or None for whatever is not,
or may not be, such a request. Refused here: only what the contract refuses.
"""

import math
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from msgspec import UNSET

from brownfield.contract import Checked
from brownfield.serving.gateway.v2_messages import (
    DATATYPES,
    PLAIN,
    QUICK,
    UNREAD,
    InferRequest,
    decode_plain,
    packed,
)
from brownfield.serving.gateway.v2_numbers import UNREAD_NUMBERS, NumbersTensor, count_of, decode_numbers

if TYPE_CHECKING:
    from brownfield.contract import RowChecker, Schema

__all__ = ["PlainReader"]


class _Input:
    """An input that is a tensor whose shape is known, in a datatype that JSON holds: what it must be for so many rows.

    Attributes
    ----------
    datatype, kind
        Its own, and the class of what it is decoded to where its numbers are few.
    shape, count
        Of all its rows.
    pack
        Makes bytes of its numbers; None where these are many.
    code, dtype
        Of its array.
    below
        Bound on what is surely exact; 0 for whole numbers.
    """

    __slots__ = ("below", "code", "count", "datatype", "dtype", "kind", "pack", "shape")

    def __init__(self, datatype: str, inner: list[int], rows: int) -> None:
        quick = QUICK[datatype]
        self.datatype = datatype
        self.kind: Any = PLAIN[datatype]
        self.shape = [rows, *inner]
        self.count = math.prod(self.shape)
        self.pack = struct.Struct(f"{self.count}{quick.code}").pack if self.count <= _FEW else None
        self.code, self.dtype = quick.code, quick.dtype
        self.below = _EXACT.get(datatype, 0.0)

    def array(self, tensor: Any) -> np.ndarray[Any, Any] | None:
        """Give a tensor of this shape as an array, or None when it is not in the one form."""
        if type(tensor) is NumbersTensor:
            return self._of_numbers(tensor)
        if type(tensor) is not self.kind or len(tensor.data) != self.count:
            return None
        data, pack = tensor.data, self.pack
        try:
            raw = packed(self.code, data) if pack is None else pack(*data)
        except struct.error:  # out of the type's range
            return None
        array = np.ndarray(self.shape, self.dtype, raw)
        return array if not self.below or _are_exact(data, array, self.below) else None

    def _of_numbers(self, tensor: NumbersTensor) -> np.ndarray[Any, Any] | None:
        numbers = tensor.numbers
        if tensor.datatype != self.datatype or numbers.size != self.count:
            return None
        if self.below and not _are_below(numbers, self.below):
            return None
        array = numbers.astype(self.dtype, copy=False)
        if not self.below and array is not numbers and not np.array_equal(array, numbers):  # out of the type's range
            return None
        return array.reshape(self.shape)


_UNREAD: Final = (*UNREAD, *UNREAD_NUMBERS)
_NOTHING_BESIDES: Final = InferRequest(inputs=[])
_EXACT: Final = {"FP32": 2.0**24, "FP64": 2.0**53}
"""Whole numbers below are themselves in the type; all were read as floating-point ones."""


class PlainReader:
    """Reads plain requests of one schema.

    Parameters
    ----------
    schema
        The request side of a contract.
    """

    __slots__ = ("_by_rows", "_colons", "_inputs", "_only_finite", "_rows")

    def __init__(self, schema: "Schema") -> None:
        self._rows: RowChecker = schema.rows
        self._only_finite = schema.rows.only_finite
        self._colons = 1 + 4 * len(schema.fields)
        self._inputs: dict[str, tuple[str, list[int]]] = {}
        self._by_rows: dict[int, dict[str, _Input]] = {}
        for field in schema.fields:
            datatype = DATATYPES[field.dtype] if field.kind == "tensor" else ""
            if datatype in QUICK and None not in field.shape and schema.batched:
                self._inputs[field.name] = (datatype, [size for size in field.shape if size is not None])

    @property
    def reads_any(self) -> bool:
        """Whether the schema has only fields that can be plain."""
        return self._colons == 1 + 4 * len(self._inputs)

    def read(self, body: bytes, most_rows: int) -> "tuple[InferRequest, Checked] | None":
        """Read a body of at most so many rows, or give None when it is to be read with every look that there is.

        Raises
        ------
        InputRefused
            With the codes of the contract.
        """
        try:
            request = decode_numbers(body) if _FEW_BYTES < len(body) <= _MOST_BYTES else decode_plain(body)
        except _UNREAD:
            return None
        # One key brings one colon: with data in all inputs there are no further keys, and none stands twice.
        if count_of(body, _COLON) != self._colons + (request.id is not UNSET) or _BACKSLASH in body:
            return None
        shape = request.inputs[0].shape if request.inputs else []
        rows = shape[0] if shape else 0
        if not 1 <= rows <= most_rows:
            return None
        known = self._by_rows.get(rows)
        inputs = known or {name: _Input(datatype, inner, rows) for name, (datatype, inner) in self._inputs.items()}
        columns = self._columns(request.inputs, inputs)
        if columns is None:
            return None
        if known is None:
            self._keep(rows, inputs)
        checked = Checked(rows, columns) if self._only_finite else self._rows.check_columns(columns, rows)
        # The tensors are arrays by now: what waits for its answer holds no thousands of numbers besides.
        if request.id is UNSET:
            return _NOTHING_BESIDES, checked
        request.inputs = []
        return request, checked

    def _columns(self, tensors: "list[Any]", inputs: dict[str, _Input]) -> dict[str, Any] | None:
        """Give the tensors as arrays by name, or None when they are not all of the inputs in the one form."""
        columns: dict[str, Any] = {}
        for tensor in tensors:
            wanted = inputs.get(tensor.name)
            if wanted is None or tensor.shape != wanted.shape:
                return None
            array = wanted.array(tensor)
            if array is None:
                return None
            columns[tensor.name] = array
        return columns if len(columns) == len(inputs) else None

    def _keep(self, rows: int, inputs: dict[str, _Input]) -> None:
        """Keep what inputs of so many rows must be for the next request of as many."""
        if len(self._by_rows) >= _MOST_KNOWN:
            self._by_rows.clear()
        self._by_rows[rows] = inputs


def _are_exact(data: tuple[float, ...], array: np.ndarray[Any, Any], below: float) -> bool:
    """Whether all values are finite and smaller than ``below``: mostly their norm says so, which is no smaller."""
    return (len(data) <= _FEW and math.hypot(*data) < below) or _are_below(array, below)


def _are_below(array: np.ndarray[Any, Any], below: float) -> bool:
    return bool(np.vdot(array, array) < below * below or np.abs(array).max() < below)


_FEW: Final = 64  # up to which NumPy costs more than a look at each
_MOST_KNOWN: Final = 1024
_FEW_BYTES: Final = 2560  # up to which simdjson is no quicker (benchmarks/many_numbers.py)
_MOST_BYTES: Final = 2**20  # of a body: what simdjson keeps for longer ones would be too much
_COLON: Final = b":"
_BACKSLASH: Final = 0x5C
