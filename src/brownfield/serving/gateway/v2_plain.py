"""V2 requests as nearly all are, flat JSON in all inputs and nothing asked for besides: one look at each value.

Comes in: a body. Goes out: what :func:`brownfield.serving.gateway.v2.decode` would give, or None for whatever is not,
or may not be, such a request. Refused here: only what the contract refuses.
"""

import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec import UNSET

from brownfield.contract import Checked
from brownfield.serving.gateway.v2_messages import DATATYPES, QUICK, UNREAD, decode_numbers, decode_typed

if TYPE_CHECKING:
    from brownfield.contract import RowChecker, Schema
    from brownfield.serving.gateway.v2_messages import InferRequest

__all__ = ["PlainReader"]

_FLOATS = frozenset(name for name, quick in QUICK.items() if quick.kind == {float})
_POINT = ord(".")
_MANY_BYTES = 2048  # from about here on bytes are counted quicker by NumPy than types are looked at one by one


class _Input(NamedTuple):
    """An input that is a tensor whose shape is known, in a datatype that JSON holds: what its data must be."""

    inner: list[int]
    size: int
    kind: set[type]
    code: str
    dtype: np.dtype[Any]


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
                self._inputs[field.name, DATATYPES[field.dtype]] = _Input(inner, math.prod(inner), *quick)

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
        many = len(body) > _MANY_BYTES
        try:
            request: InferRequest = decode_numbers(body) if many else decode_typed(body)
        except UNREAD:
            return None
        # One key brings one colon: with data in all inputs there are no further keys, and none stands twice.
        if body.count(b":") != self._colons + (request.id is not UNSET) or (b"\\" in body and b"\\u" in body):
            return None
        known = many and _has_points(request, body)
        columns: dict[str, Any] = {}
        finite = 0.0
        rows = 0
        for tensor in request.inputs:
            wanted = self._inputs.get((tensor.name, tensor.datatype))
            shape, data = tensor.shape, tensor.data
            if wanted is None or data is UNSET or not shape or shape[1:] != wanted.inner:
                return None
            _, size, kind, code, dtype = wanted
            rows = rows or shape[0]
            if rows < 1 or shape[0] != rows or len(data) != rows * size or not (known or set(map(type, data)) == kind):
                return None
            try:
                flat = np.frombuffer(struct.pack(f"{len(data)}{code}", *data), dtype)
            except struct.error:  # out of the type's range, or no whole number
                return None
            if self._only_finite:
                finite += np.vdot(flat, flat)  # unlike dot(), it does not warn where the sum overflows
            columns[tensor.name] = flat.reshape(shape)
        if len(columns) != len(self._inputs):
            return None
        if self._only_finite and math.isfinite(finite):
            return request, Checked(rows, columns)
        return request, self._rows.check_columns(columns, rows)


def _has_points(request: "InferRequest", body: bytes) -> bool:
    """Whether there are as many decimal points as floating-point numbers are to come.

    A number has one at most and a whole number none: what is packed as whole numbers has none either, so all the others
    are written as floating-point numbers.
    """
    points = request.id.count(".") if request.id else 0
    for tensor in request.inputs:
        points += tensor.name.count(".") + tensor.datatype.count(".")
        if tensor.datatype in _FLOATS:
            points += len(tensor.data or ())
    return bool(np.count_nonzero(np.frombuffer(body, np.uint8) == _POINT) == points)
