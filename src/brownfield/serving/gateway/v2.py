"""The Open Inference Protocol (V2): tensors in, records inside, tensors out, in JSON and with the binary extension.

V2 inputs are the request fields of the contract and the first dimension is the rows. A scalar field is ``[rows]`` (also
``[rows, 1]``), a list field ``[rows, longest]`` padded at the end with its declared padding, text is ``BYTES``.
Tensor fields travel as they are. Refused: whatever the protocol or the contract does not admit, before any worker.
"""

import math
import struct
from array import array as packed
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from brownfield.contract import parse_json
from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.serving.gateway.named import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.contract import Checked, Field, Schema
    from brownfield.serving.gateway.dataplane import Answer
    from brownfield.serving.gateway.served import Served

__all__ = ["EXTENSIONS", "InferRequest", "decode", "encode", "model_metadata"]

EXTENSIONS = ("binary_tensor_data", "schedule_policy")
"""What the server metadata advertises: what is implemented."""

JSON_LENGTH_HEADER = b"inference-header-content-length"

_DTYPES: dict[str, np.dtype[Any]] = {
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
_DATATYPES = {dtype.name: name for name, dtype in _DTYPES.items()} | {"str": "BYTES", "object": "BYTES"}


class _Quick(NamedTuple):
    """How JSON data of one Python type alone becomes an array without a look at each value from Python."""

    kind: set[type]
    code: str
    dtype: np.dtype[Any]


_QUICK = {
    "FP32": _Quick({float}, "f", _DTYPES["FP32"]),
    "FP64": _Quick({float}, "d", _DTYPES["FP64"]),
    "INT64": _Quick({int}, "q", _DTYPES["INT64"]),
    "INT32": _Quick({int}, "i", _DTYPES["INT32"]),
}
_INTEGERS = frozenset(name for name, dtype in _DTYPES.items() if dtype.kind in "iu")
_ACCEPTED: dict[str, frozenset[str]] = {
    "boolean": frozenset({"BOOL"}),
    "integer": _INTEGERS,
    "number": _INTEGERS | {"FP16", "FP32", "FP64"},
    "string": frozenset({"BYTES"}),
    "date": frozenset({"BYTES"}),
    "timestamp": frozenset({"BYTES"}),
}
_LONGEST_RANK = 32
_EXACT = {"FP32": 2**24, "FP64": 2**53}


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
            _refuse("", "parameters.timeout", RejectionCode.REQUEST_PARAMETER)
        return timeout


def _refuse(field: str, rule: str, code: RejectionCode) -> NoReturn:
    raise InputRefused([Violation(field, rule, code)])


# --- request ----------------------------------------------------------------------------------------------------------


def decode(served: "Served", json_length: bytes | None, body: bytes) -> "tuple[InferRequest, Checked]":
    """Read an inference request and check it against the contract.

    Parameters
    ----------
    served
        The integration.
    json_length
        Value of ``Inference-Header-Content-Length``; None when the whole body is JSON.
    body
        The JSON part, then the binary tensors in the order of the inputs.

    Raises
    ------
    InputRefused
        With the codes ``JSON_*``, ``TENSOR_*`` or those of the contract.
    """
    text, binary = _parts(json_length, body)
    request = _read(text)
    if request.model_name and request.model_name != served.name:
        _refuse("", "v2.model_name", RejectionCode.REQUEST_PARAMETER)
    schema = served.request
    arrays = _arrays(request, binary, schema)
    rows = _rows(arrays, schema)
    columns: dict[str, Any] = {name: _column(schema.field(name), array) for name, array in arrays.items()}
    _check_outputs(request, served.response)
    return request, schema.rows.check_columns(columns, rows)


_decoder = msgspec.json.Decoder(InferRequest)


def _read(text: bytes) -> InferRequest:
    """Read the JSON part: quickly when no key can stand in it twice, strictly when in doubt."""
    try:
        request = _decoder.decode(text)
        if text.count(b":") == _keys(request) and b"\\u" not in text:
            return request
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return msgspec.convert(parse_json(text), InferRequest)
    except msgspec.ValidationError:
        _refuse("", "v2.request", RejectionCode.JSON_SHAPE)


def _keys(request: InferRequest) -> int:
    """Count the keys in the JSON of this request when none is double; each key brings one colon, texts may add some."""
    entries: list[InputTensor | RequestedOutput] = [*request.inputs, *(request.outputs or ())]
    keys = 1 + (request.id is not UNSET) + (request.model_name is not UNSET) + (request.outputs is not UNSET)
    keys += len(request.outputs or ())
    for tensor in request.inputs:
        keys += 3 if tensor.data is UNSET else 4
    for owner in (request, *entries):
        if owner.parameters is not UNSET:
            keys += 1 + len(owner.parameters or ())
    return keys


_NOTHING = memoryview(b"")


def _parts(json_length: bytes | None, body: bytes) -> tuple[bytes, memoryview]:
    if json_length is None:
        return body, _NOTHING
    if not json_length.isdigit() or not 0 < int(json_length) <= len(body):
        _refuse("", "inference_header_content_length", RejectionCode.REQUEST_PARAMETER)
    length = int(json_length)
    return body[:length], memoryview(body)[length:]


def _arrays(request: InferRequest, binary: memoryview, schema: "Schema") -> dict[str, np.ndarray[Any, Any]]:
    """Every input as an array of its own shape; binary data is cut off in order and must be used up."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    known = schema.names
    for tensor in request.inputs:
        name = tensor.name
        if name not in known:
            _refuse(name if name.isidentifier() else "", "v2.unknown_input", RejectionCode.TENSOR_UNKNOWN)
        if name in arrays:
            _refuse(name, "v2.repeated_input", RejectionCode.TENSOR_UNKNOWN)
        field = schema.field(name)
        _check_datatype(field, tensor.datatype)
        elements = _elements(field, tensor.shape)
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            arrays[name] = _from_json(tensor, elements)
            continue
        if (
            isinstance(size, bool)
            or not isinstance(size, int)
            or not 0 <= size <= len(binary)
            or tensor.data is not UNSET
        ):
            _refuse(name, "v2.binary_data_size", RejectionCode.TENSOR_DATA)
        arrays[name] = _from_binary(tensor, elements, binary[:size])
        binary = binary[size:]
    if len(binary):
        _refuse("", "v2.binary_data_left_over", RejectionCode.TENSOR_DATA)
    return arrays


def _check_datatype(field: "Field", datatype: str) -> None:
    if field.kind == "tensor":
        good = datatype == _DATATYPES[field.dtype]
    else:
        kind = field.item.kind if field.item is not None else field.kind
        good = datatype in _ACCEPTED[kind]
    if not good:
        _refuse(field.name, "v2.datatype", RejectionCode.TENSOR_DATATYPE)


def _elements(field: "Field", shape: "Sequence[int]") -> int:
    """Count the elements; a dimension below 1 is refused, but for the length of lists that are all empty."""
    if not shape and field.kind == "tensor" and not field.shape:
        return 1
    lists = field.kind == "list" and len(shape) == 2  # noqa: PLR2004 (rows and items)
    lowest = (1, 0) if lists else (1,) * len(shape)
    if not 0 < len(shape) <= _LONGEST_RANK or (
        min(shape) < 1 and any(size < least for size, least in zip(shape, lowest, strict=True))
    ):
        _refuse(field.name, "v2.shape", RejectionCode.TENSOR_SHAPE)
    return math.prod(shape)


def _from_json(tensor: InputTensor, elements: int) -> np.ndarray[Any, Any]:
    """Array of JSON data, flat or nested as the shape says; every element must be of the datatype exactly."""
    data = tensor.data
    if data is UNSET:
        _refuse(tensor.name, "v2.data_missing", RejectionCode.TENSOR_DATA)
    flat = _flat(tensor.name, data, tensor.shape) if data and isinstance(data[0], list) else data
    if len(flat) != elements:
        _refuse(tensor.name, "v2.data_length", RejectionCode.TENSOR_DATA)
    datatype = tensor.datatype
    quick = _QUICK.get(datatype)
    if quick is not None and set(map(type, flat)) == quick.kind:
        try:
            return np.frombuffer(packed(quick.code, flat), quick.dtype).reshape(tensor.shape)
        except OverflowError:
            pass
    if datatype == "FP16":
        _refuse(tensor.name, "v2.fp16_needs_binary", RejectionCode.TENSOR_DATATYPE)
    try:
        if datatype == "BYTES":
            return _text_array(msgspec.convert(flat, list[str])).reshape(tensor.shape)
        dtype = _DTYPES[datatype]
        kind = {"b": list[bool], "f": list[float]}.get(dtype.kind, list[int])
        if dtype.kind == "f" and _inexact(flat, _EXACT[datatype]):
            _refuse(tensor.name, "v2.exact", RejectionCode.FIELD_INEXACT)
        with np.errstate(over="ignore"):  # what is too large for FP32 becomes infinite, which the contract refuses
            return np.array(msgspec.convert(flat, kind), dtype=dtype).reshape(tensor.shape)
    except (msgspec.ValidationError, OverflowError):
        _refuse(tensor.name, "v2.data", RejectionCode.TENSOR_DATA)


def _inexact(flat: list[Any], limit: int) -> bool:
    """Tell whether a whole number among the data is larger than the floating-point type holds exactly."""
    return any(type(value) is int and not -limit <= value <= limit for value in flat)


def _flat(name: str, data: list[Any], shape: "Sequence[int]") -> list[Any]:
    """Nested lists as one list, when the nesting is exactly that of the shape."""
    level = data
    for depth, dimension in enumerate(shape):
        if depth == 0:
            good = len(level) == dimension
        else:
            good = all(isinstance(inner, list) and len(inner) == dimension for inner in level)
            level = [element for inner in level for element in inner] if good else level
        if not good:
            _refuse(name, "v2.data_nesting", RejectionCode.TENSOR_DATA)
    return level


def _from_binary(tensor: InputTensor, elements: int, data: memoryview) -> np.ndarray[Any, Any]:
    if tensor.datatype == "BYTES":
        return _text_array(_texts(tensor.name, data, elements)).reshape(tensor.shape)
    dtype = _DTYPES[tensor.datatype]
    if len(data) != elements * dtype.itemsize:
        _refuse(tensor.name, "v2.binary_data_size", RejectionCode.TENSOR_DATA)
    if tensor.datatype == "BOOL" and bytes(data).strip(b"\x00\x01"):
        _refuse(tensor.name, "v2.data", RejectionCode.TENSOR_DATA)
    return np.frombuffer(data, dtype=dtype).reshape(tensor.shape)


def _texts(name: str, data: memoryview, elements: int) -> list[str]:
    """Elements of a binary BYTES tensor: each a little-endian 32-bit length and that many bytes of UTF-8."""
    texts: list[str] = []
    at, end = 0, len(data)
    while at + 4 <= end and len(texts) < elements:
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > end:
            break
        try:
            texts.append(str(data[at : at + length], "utf-8"))
        except UnicodeDecodeError:
            _refuse(name, "v2.text_encoding", RejectionCode.JSON_ENCODING)
        at += length
    if at != end or len(texts) != elements:
        _refuse(name, "v2.data", RejectionCode.TENSOR_DATA)
    if any("\x00" in text for text in texts):
        _refuse(name, "v2.text_nul", RejectionCode.JSON_NUL)
    return texts


def _text_array(texts: "Sequence[str]") -> np.ndarray[Any, Any]:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _rows(arrays: dict[str, np.ndarray[Any, Any]], schema: "Schema") -> int:
    """Count the records by the first dimension, on which all inputs must agree; 1 when the schema is not batched."""
    if not arrays:
        _refuse("", "v2.no_inputs", RejectionCode.TENSOR_MISSING)
    if not schema.batched:
        return 1
    rows = -1
    for name, array in arrays.items():
        size = array.shape[0] if array.ndim else 0
        if not size or rows not in {-1, size}:
            _refuse(name, "v2.rows", RejectionCode.TENSOR_SHAPE)
        rows = size
    return rows


def _column(field: "Field", array: np.ndarray[Any, Any]) -> "list[Any] | np.ndarray[Any, Any]":
    """Give the array as the values of one field, one per record."""
    if field.kind == "tensor":
        return array
    if field.kind == "list":
        if array.ndim != 2:  # noqa: PLR2004 (rows and items)
            _refuse(field.name, "v2.shape", RejectionCode.TENSOR_SHAPE)
        lists: list[list[Any]] = array.tolist()
        if field.padding is not None:
            for values in lists:
                while values and values[-1] == field.padding:
                    values.pop()
        return lists
    if array.ndim == 1:
        return array.tolist()  # type: ignore[no-any-return]  # a list, as the array has one dimension
    if array.ndim == 2 and array.shape[1] == 1:  # noqa: PLR2004 (rows and one value)
        return array[:, 0].tolist()  # type: ignore[no-any-return]  # likewise
    _refuse(field.name, "v2.shape", RejectionCode.TENSOR_SHAPE)


def _check_outputs(request: InferRequest, schema: "Schema") -> None:
    """Refuse outputs that cannot be given before any work is done for them."""
    names = schema.names
    for output in request.outputs or ():
        if output.name not in names:
            _refuse("", "v2.unknown_output", RejectionCode.TENSOR_UNKNOWN)
    for name in names:
        if _datatype(schema.field(name)) == "FP16" and _wanted(request, name) and not _as_binary(request, name):
            _refuse("", "v2.fp16_needs_binary", RejectionCode.TENSOR_DATATYPE)


# --- answer -----------------------------------------------------------------------------------------------------------


def encode(served: "Served", request: InferRequest, answer: "Answer") -> tuple[bytes, int]:
    """Body of the answer, and the length of its JSON part (the whole body when nothing is binary).

    An output that has no value in any record is left out. A missing value inside one is the field's declared padding or
    first sentinel; without one it is empty text, 0 or false.
    """
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    columns = answer.checked.columns
    for field in served.response.fields:
        name = field.name
        column = columns.get(name)
        if not _wanted(request, name) or column is None:
            continue
        values = _tensor(field, column)
        if values is None:
            continue
        output: dict[str, Any] = {"name": name, "datatype": _datatype(field), "shape": list(values.shape)}
        if _as_binary(request, name):
            packed = _packed(values)
            binary.append(packed)
            output["parameters"] = {"binary_data_size": len(packed)}
        else:
            output["data"] = values.ravel().tolist()
        outputs.append(output)
    decision = answer.decision
    head = {
        "model_name": served.name,
        "model_version": decision.version,
        **({"id": request.id} if request.id else {}),
        "parameters": {
            "brownfield_decision": decision.id,
            "brownfield_source": decision.source,
            "brownfield_reason": decision.reason,
            "brownfield_degraded": decision.degraded,
            "brownfield_contract": decision.contract,
            "brownfield_cause": decision.cause,
        },
        "outputs": outputs,
    }
    text = _encoder.encode(head)
    return (b"".join([text, *binary]), len(text)) if binary else (text, len(text))


_encoder = msgspec.json.Encoder(enc_hook=plain)


def _wanted(request: InferRequest, name: str) -> bool:
    return not request.outputs or any(output.name == name for output in request.outputs)


def _as_binary(request: InferRequest, name: str) -> bool:
    """Whether an output is wanted in binary: its own ``binary_data``, else the request's ``binary_data_output``."""
    default = bool((request.parameters or {}).get("binary_data_output", False))
    for output in request.outputs or ():
        if output.name == name:
            return bool((output.parameters or {}).get("binary_data", default))
    return default


def _tensor(field: "Field", column: Any) -> np.ndarray[Any, Any] | None:
    """One response column as an array; None when no record has a value."""
    if field.kind == "tensor":
        return np.asarray(column)
    if all(value is None for value in column):
        return None
    item = field.item if field.item is not None else field
    if field.kind == "list":
        longest = max(len(values) for values in column if values is not None)
        filler = _filler(field, item)
        flat = [value for values in column for value in _padded(values or (), longest, filler)]
        return _typed(item, flat, filler).reshape(len(column), longest)
    return _typed(item, list(column), _filler(field, item))


def _padded(values: "Sequence[Any]", longest: int, filler: Any) -> "Sequence[Any]":
    return [*values, *[filler] * (longest - len(values))]


def _filler(field: "Field", item: "Field") -> Any:
    if field.padding is not None:
        return field.padding
    if item.sentinels:
        return item.sentinels[0]
    return {"integer": 0, "number": 0.0, "boolean": False}.get(item.kind, "")


def _typed(item: "Field", values: list[Any], filler: Any) -> np.ndarray[Any, Any]:
    filled = [filler if value is None else value for value in values]
    datatype = _datatype(item)
    if datatype == "BYTES":
        return _text_array([value if isinstance(value, str) else value.isoformat() for value in filled])
    return np.array(filled, dtype=_DTYPES[datatype])


def _packed(values: np.ndarray[Any, Any]) -> bytes:
    if values.dtype != object:
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [text.encode() for text in values.ravel()]
    return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))


# --- metadata ---------------------------------------------------------------------------------------------------------


def model_metadata(served: "Served") -> dict[str, Any]:
    """Name, versions, platform, inputs and outputs of one integration; -1 is an unknown dimension."""
    return {
        "name": served.name,
        "versions": served.versions,
        "platform": "onnx" if served.champion else "",
        "inputs": [_described(field, batched=served.request.batched) for field in served.request.fields],
        "outputs": [_described(field, batched=served.response.batched) for field in served.response.fields],
    }


def _described(field: "Field", *, batched: bool) -> dict[str, Any]:
    if field.kind == "tensor":
        own = [-1 if size is None else size for size in field.shape]
        shape = [-1, *own] if batched else own
    elif field.kind == "list":
        shape = [-1, -1]
    else:
        shape = [-1]
    return {"name": field.name, "datatype": _datatype(field), "shape": shape}


def _datatype(field: "Field") -> str:
    """Datatype under which a field is described and answered."""
    item = field.item if field.item is not None else field
    if item.kind in {"string", "date", "timestamp"}:
        return "BYTES"
    if item.kind == "boolean":
        return "BOOL"
    return _DATATYPES[item.dtype]
