"""What a V2 inference request is made of: its JSON as typed structures, and the datatypes of the protocol."""

import functools
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from brownfield.errors import InputRefused, RejectionCode, Violation

__all__ = [
    "DATATYPES",
    "DTYPES",
    "PLAIN",
    "QUICK",
    "UNREAD",
    "InferRequest",
    "InputTensor",
    "decode_plain",
    "decode_typed",
    "flag",
    "packed",
    "refuse",
]

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "UINT8": "<u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
        "UINT64": "<u8",
        "INT8": "<i1",
        "INT16": "<i2",
        "INT32": "<i4",
        "INT64": "<i8",
        "FP16": "<f2",
        "FP32": "<f4",
        "FP64": "<f8",
    }.items()
}
DATATYPES = {dtype.name: name for name, dtype in DTYPES.items()} | {"str": "BYTES", "object": "BYTES"}


class Quick(NamedTuple):
    """How JSON data of one Python type alone becomes an array without a look at each value from Python."""

    kind: set[type]
    code: str
    dtype: np.dtype[Any]


QUICK = {
    "FP32": Quick({float}, "f", DTYPES["FP32"]),
    "FP64": Quick({float}, "d", DTYPES["FP64"]),
    "INT64": Quick({int}, "q", DTYPES["INT64"]),
    "INT32": Quick({int}, "i", DTYPES["INT32"]),
}


class InputTensor(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of ``inputs``."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | UnsetType | None = UNSET
    data: list[Any] | UnsetType = UNSET


class RequestedOutput(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of ``outputs`` in a request."""

    name: str
    parameters: dict[str, Any] | UnsetType | None = UNSET


class InferRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON part of an inference request; ``model_name`` is what kserve's client adds to the protocol."""

    inputs: list[InputTensor]
    model_name: str | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType | None = UNSET
    outputs: list[RequestedOutput] | UnsetType | None = UNSET

    @property
    def timeout_us(self) -> int:
        """The caller's own deadline in microseconds from now; 0 when there is none."""
        timeout = (self.parameters or {}).get("timeout", 0)
        if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
            refuse("", "parameters.timeout", RejectionCode.REQUEST_PARAMETER)
        return timeout

    @property
    def priority(self) -> int:
        """As Triton counts: 1 is the highest; 0 for the caller's own."""
        priority = (self.parameters or {}).get("priority", 0)
        if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
            refuse("", "parameters.priority", RejectionCode.REQUEST_PARAMETER)
        return priority


_EXPECTED = {
    "inference_header_content_length": "the length in bytes of the JSON at the head of the body",
    "parameters.priority": "a whole number of 0 or more",
    "parameters.timeout": "a whole number of microseconds, 0 or more",
    "v2.binary_data_left_over": "as many bytes after the JSON as the inputs say in binary_data_size",
    "v2.binary_data_size": "the number of bytes that the shape and the datatype make, and no data beside it",
    "v2.data": "values of the datatype",
    "v2.data_length": "as many values as the shape makes",
    "v2.data_missing": "data, or binary_data_size among the parameters",
    "v2.data_nesting": "one flat list, or lists nested as the shape is",
    "v2.exact": "numbers that the datatype holds without loss",
    "v2.fp16_needs_binary": "binary data, for JSON has no form for FP16",
    "v2.model_name": "the name that stands in the path",
    "v2.no_inputs": "at least one input",
    "v2.repeated_input": "each input once",
    "v2.request": "an inference request: inputs with name, shape, datatype and data",
    "v2.rows": "the same first dimension in every input, at least 1",
    "v2.shape": "a shape as the metadata of the model gives it",
    "v2.text_encoding": "UTF-8",
    "v2.text_nul": "text without NUL",
}


def refuse(field: str, rule: str, code: RejectionCode, expected: str = "") -> NoReturn:
    """Refuse a request for what the protocol does not admit in it."""
    raise InputRefused([Violation(field, rule, code, 0, expected or _EXPECTED.get(rule, ""))])


def flag(parameters: dict[str, Any] | UnsetType | None, name: str, *, default: bool) -> bool:
    """Give a parameter that is true or false; the default where it is absent or null.

    Raises
    ------
    InputRefused
        It is anything else.
    """
    given = (parameters or {}).get(name)
    if given is None:
        return default
    if not isinstance(given, bool):
        refuse("", f"parameters.{name}", RejectionCode.REQUEST_PARAMETER, "true or false, without quotes")
    return given


class _PlainTensor(msgspec.Struct, forbid_unknown_fields=True, tag_field="datatype"):
    name: str
    shape: list[int]


class _FP32(_PlainTensor, tag="FP32"):
    data: tuple[float, ...]


class _FP64(_PlainTensor, tag="FP64"):
    data: tuple[float, ...]


class _INT32(_PlainTensor, tag="INT32"):
    data: tuple[int, ...]


class _INT64(_PlainTensor, tag="INT64"):
    data: tuple[int, ...]


PLAIN: dict[str, type[_PlainTensor]] = {"FP32": _FP32, "FP64": _FP64, "INT32": _INT32, "INT64": _INT64}
"""What tensors of plain requests are decoded to, by their datatype."""


class _PlainRequest(InferRequest):
    inputs: list[_FP32 | _FP64 | _INT32 | _INT64]  # type: ignore[assignment]  # requests are read, and not changed


decode_typed = msgspec.json.Decoder(InferRequest).decode
decode_plain = msgspec.json.Decoder(_PlainRequest).decode
"""As ``decode_typed``, where all inputs have flat data of the datatypes of :data:`QUICK`: of those of floating-point
numbers whole ones become such as well, in the others nothing but whole ones may stand."""
UNREAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for what is not such a request."""


def packed(code: str, data: Sequence[float]) -> bytes:
    """Give numbers as bytes of the type of a :class:`Quick` code; what is too large for a floating type is infinite.

    Raises
    ------
    struct.error
        When a whole number is out of the type's range.
    """
    return _struct(code, len(data)).pack(*data)  # not compiled: that would copy the numbers twice


@functools.lru_cache(maxsize=1024)
def _struct(code: str, count: int) -> struct.Struct:
    return struct.Struct(f"{count}{code}")
