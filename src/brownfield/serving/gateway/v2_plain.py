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
from brownfield.serving.gateway.v2_messages import DATATYPES, QUICK, UNREAD, decode_floats, decode_typed

if TYPE_CHECKING:
    from brownfield.contract import RowChecker, Schema
    from brownfield.serving.gateway.v2_messages import InferRequest

__all__ = ["PlainReader"]


class _Input(NamedTuple):
    """An input that is a tensor whose shape is known, in a datatype that JSON holds: what its data must be."""

    inner: list[int]
    size: int
    kind: set[type]
    code: str
    dtype: np.dtype[Any]
    one: struct.Struct
    below: float


_FINITE: Final = {"FP32": 2.0**127, "FP64": math.inf}
_EXACT: Final = {"FP32": 2.0**24, "FP64": 2.0**53}  # smaller whole numbers are themselves in the type


class PlainReader:
    """Reads plain requests of one schema.

    Parameters
    ----------
    schema
        The request side of a contract.
    """

    __slots__ = ("_colons", "_decode", "_floats", "_inputs", "_only_finite", "_rows")

    def __init__(self, schema: "Schema") -> None:
        self._rows: RowChecker = schema.rows
        self._only_finite = schema.rows.only_finite
        self._colons = 1 + 4 * len(schema.fields)
        self._inputs: dict[tuple[str, str], _Input] = {}
        self._floats = all(DATATYPES.get(field.dtype) in _EXACT for field in schema.fields)
        self._decode = decode_floats if self._floats else decode_typed
        below = _EXACT if self._floats else _FINITE
        for field in schema.fields:
            quick = QUICK.get(DATATYPES[field.dtype]) if field.kind == "tensor" else None
            if quick is not None and None not in field.shape and schema.batched:
                inner = [size for size in field.shape if size is not None]
                size, name = math.prod(inner), DATATYPES[field.dtype]
                one = struct.Struct(f"<{size}{quick.code}")
                self._inputs[field.name, name] = _Input(inner, size, *quick, one, below.get(name, 0.0))

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
            request = self._decode(body)
        except UNREAD:
            return None
        # One key brings one colon: with data in all inputs there are no further keys, and none stands twice.
        if body.count(b":") != self._colons + (request.id is not UNSET) or _BACKSLASH in body:
            return None
        columns: dict[str, Any] = {}
        rows = 0
        for tensor in request.inputs:
            wanted = self._inputs.get((tensor.name, tensor.datatype))
            shape, data = tensor.shape, tensor.data
            if wanted is None or data is UNSET or not shape or shape[1:] != wanted.inner:
                return None
            rows = rows or shape[0]
            if rows < 1 or shape[0] != rows or len(data) != rows * wanted.size or not self._are_plain(data, wanted):
                return None
            try:
                held = wanted.one.pack(*data) if rows == 1 else struct.pack(f"<{len(data)}{wanted.code}", *data)
            except struct.error:  # out of the type's range
                return None
            columns[tensor.name] = np.ndarray(shape, wanted.dtype, held)
        if len(columns) != len(self._inputs):
            return None
        if self._only_finite:
            return request, Checked(rows, columns)
        return request, self._rows.check_columns(columns, rows)

    def _are_plain(self, data: list[Any], wanted: _Input) -> bool:
        """Whether each value is of the type, finite, and the same in it.

        Where all are floats, whole numbers were read as such: there may be none beyond what the type holds exactly.
        """
        if not self._floats and set(map(type, data)) != wanted.kind:
            return False
        return not wanted.below or math.hypot(*data) < wanted.below


_BACKSLASH: Final = 0x5C
