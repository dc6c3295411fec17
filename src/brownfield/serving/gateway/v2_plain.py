"""V2 requests as nearly all are, flat JSON in all inputs and nothing asked for besides: one look at each value.

Comes in: a body. Goes out: what :func:`brownfield.serving.gateway.v2.decode` would give, or None for whatever is not,
or may not be, such a request. Refused here: only what the contract refuses.
"""

import math
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from msgspec import UNSET

from brownfield.contract import Checked
from brownfield.serving.gateway.v2_messages import DATATYPES, QUICK, UNREAD, decode_plain, packed

if TYPE_CHECKING:
    from brownfield.contract import RowChecker, Schema
    from brownfield.serving.gateway.v2_messages import InferRequest

__all__ = ["PlainReader"]


class _Input(NamedTuple):
    """An input that is a tensor whose shape is known, in a datatype that JSON holds: what its data must be."""

    inner: list[int]
    size: int
    code: str
    dtype: np.dtype[Any]
    below: float


_EXACT: Final = {"FP32": 2.0**24, "FP64": 2.0**53}
"""Whole numbers below are themselves in the type; all were read as floating-point ones."""


class PlainReader:
    """Reads plain requests of one schema.

    Parameters
    ----------
    schema
        The request side of a contract.
    """

    __slots__ = ("_colons", "_inputs", "_only_finite", "_rows")

    def __init__(self, schema: "Schema") -> None:
        self._rows: RowChecker = schema.rows
        self._only_finite = schema.rows.only_finite
        self._colons = 1 + 4 * len(schema.fields)
        self._inputs: dict[tuple[str, str], _Input] = {}
        for field in schema.fields:
            quick = QUICK.get(DATATYPES[field.dtype]) if field.kind == "tensor" else None
            if quick is not None and None not in field.shape and schema.batched:
                inner = [size for size in field.shape if size is not None]
                name = DATATYPES[field.dtype]
                self._inputs[field.name, name] = _Input(
                    inner, math.prod(inner), quick.code, quick.dtype, _EXACT.get(name, 0.0)
                )

    @property
    def reads_any(self) -> bool:
        """Whether the schema has only fields that can be plain."""
        return self._colons == 1 + 4 * len(self._inputs)

    def read(  # noqa: PLR0911 (one for each way of not being plain)
        self, body: bytes
    ) -> "tuple[InferRequest, Checked] | None":
        """Read a body, or give None when it is to be read with every look that the protocol takes.

        Raises
        ------
        InputRefused
            With the codes of the contract.
        """
        try:
            request = decode_plain(body)
        except UNREAD:
            return None
        # One key brings one colon: with data in all inputs there are no further keys, and none stands twice.
        if _colons(body) != self._colons + (request.id is not UNSET) or _BACKSLASH in body:
            return None
        columns: dict[str, Any] = {}
        rows = 0
        for tensor in request.inputs:
            wanted = self._inputs.get((tensor.name, tensor.datatype))
            shape, data = tensor.shape, tensor.data
            if wanted is None or not shape or shape[1:] != wanted.inner:
                return None
            rows = rows or shape[0]
            if rows < 1 or shape[0] != rows or len(data) != rows * wanted.size:
                return None
            try:
                array = np.ndarray(shape, wanted.dtype, packed(wanted.code, data))
            except struct.error:  # out of the type's range
                return None
            if wanted.below and not _are_exact(data, array, wanted.below):
                return None
            columns[tensor.name] = array
        if len(columns) != len(self._inputs):
            return None
        request.inputs = []  # they are arrays by now: what waits for its answer holds no thousands of numbers besides
        if self._only_finite:
            return request, Checked(rows, columns)
        return request, self._rows.check_columns(columns, rows)


def _colons(body: bytes) -> int:
    if len(body) <= _SHORT_BYTES:
        return body.count(b":")
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == _COLON))


def _are_exact(data: tuple[float, ...], array: np.ndarray[Any, Any], below: float) -> bool:
    """Whether all values are finite and smaller than ``below``: mostly their norm says so, which is no smaller."""
    if math.hypot(*data) < below if len(data) <= _FEW else np.vdot(array, array) < below * below:
        return True
    return bool(np.abs(array).max() < below)


_FEW: Final = 64  # below which NumPy costs more than a look at each
_SHORT_BYTES: Final = 8192  # likewise
_COLON: Final = 0x3A
_BACKSLASH: Final = 0x5C
