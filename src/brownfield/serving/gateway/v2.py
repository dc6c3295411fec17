"""The Open Inference Protocol (V2): tensors in, records inside, tensors out, in JSON and with the binary extension.

V2 inputs are the request fields of the contract and the first dimension is the rows. A scalar field is ``[rows]`` (also
``[rows, 1]``), a list field ``[rows, longest]`` padded at the end with its declared padding, text is ``BYTES``.
Tensor fields travel as they are. Refused: whatever the protocol or the contract does not admit, before any worker.
"""

import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from brownfield.contract import parse_json, without_padding
from brownfield.errors import RejectionCode
from brownfield.serving.gateway.openings import too_many_rows
from brownfield.serving.gateway.v2_binary import BinaryReader
from brownfield.serving.gateway.v2_messages import (
    DATATYPES,
    DTYPES,
    QUICK,
    UNREAD,
    InferRequest,
    InputTensor,
    decode_typed,
    flag,
    refuse,
)
from brownfield.serving.gateway.v2_plain import PlainReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.contract import Checked, Field
    from brownfield.serving.gateway.served import Served

__all__ = ["EXTENSIONS", "InferRequest", "Plan", "datatype_of", "decode", "is_binary", "is_wanted", "text_array"]

EXTENSIONS = ("binary_tensor_data", "model_repository", "schedule_policy", "statistics")
"""What the server metadata advertises: what is implemented."""

_NOT_GIVEN = ("classification", "shared_memory_region")
"""What other extensions let outputs be asked for as: a caller would take scores for classes, or read old memory."""

_INTEGERS = frozenset(name for name, dtype in DTYPES.items() if dtype.kind in "iu")
_ACCEPTED: dict[str, frozenset[str]] = {
    "boolean": frozenset({"BOOL"}),
    "integer": _INTEGERS,
    "number": _INTEGERS | {"FP16", "FP32", "FP64"},
    "string": frozenset({"BYTES"}),
    "date": frozenset({"BYTES"}),
    "timestamp": frozenset({"BYTES"}),
}
_LONGEST_RANK = 32
_DIGITS = 18  # of a length; thousands of digits are no number to Python
_EXACT = {"FP32": 2**24, "FP64": 2**53}


# --- request ----------------------------------------------------------------------------------------------------------


def decode(served: "Served", json_length: bytes | None, body: bytes, most_rows: int) -> "tuple[InferRequest, Checked]":
    """Read an inference request and check it against the contract.

    Parameters
    ----------
    served
        The integration.
    json_length
        Value of ``Inference-Header-Content-Length``; None when the whole body is JSON.
    body
        The JSON part, then the binary tensors in the order of the inputs.
    most_rows
        Most records; more are refused by the shape alone.

    Raises
    ------
    InputRefused
        With the codes ``JSON_*``, ``TENSOR_*``, ``REQUEST_TOO_MANY_ROWS`` or those of the contract.
    """
    schema = served.request
    plan = served.v2 or _plan(served)
    if json_length is None and plan.plain is not None:
        plain = plan.plain.read(body, most_rows)
        if plain is not None:
            return plain
    text, binary = (body, _NOTHING) if json_length is None else _parts(json_length, body)
    reader = plan.binary if binary else None
    known = reader.find(text, len(binary)) if reader is not None else None
    if known is not None:
        return known.request, schema.rows.check_columns(known.columns(body, len(text)), known.rows)
    request = _read(text)
    if request.model_name and request.model_name != served.name:
        refuse("", "v2.model_name", RejectionCode.REQUEST_PARAMETER)
    columns = _columns(request, binary, plan.inputs, most_rows)
    rows = _rows(columns, batched=schema.batched)
    if plan.half or request.outputs or request.parameters:
        _check_outputs(request, plan)
    for name, field in plan.no_tensors:
        if name in columns:
            columns[name] = _column(field, columns[name])
    if reader is not None:
        reader.learn(text, request, rows)
    return request, schema.rows.check_columns(columns, rows)


class _Input(NamedTuple):
    """What is known of a request field before any request.

    Parameters
    ----------
    field
        The field.
    datatypes
        Those in which it may come.
    rows_first
        Whether its shape begins with rows.
    batched
        Whether these may be more than one.
    """

    field: "Field"
    datatypes: frozenset[str]
    rows_first: bool
    batched: bool


class Plan(NamedTuple):
    """What the protocol knows of an integration before any request.

    Parameters
    ----------
    inputs
        Request fields by name.
    no_tensors
        Those that are not tensors, whose arrays become values.
    outputs
        Names of the response fields.
    half
        Those whose datatype is FP16, which has no form in JSON.
    plain
        Reads requests of the most usual form; None where the schema admits none.
    binary
        Knows requests with binary tensors that came before; None where there are fields that are no tensors.
    """

    inputs: dict[str, _Input]
    no_tensors: tuple[tuple[str, "Field"], ...]
    outputs: frozenset[str]
    half: frozenset[str]
    plain: PlainReader | None
    binary: BinaryReader | None


def _plan(served: "Served") -> Plan:
    fields, batched = served.request.fields, served.request.batched
    half = frozenset(field.name for field in served.response.fields if datatype_of(field) == "FP16")
    plain = PlainReader(served.request)
    served.v2 = Plan(
        {field.name: _Input(field, _datatypes(field), batched or field.kind != "tensor", batched) for field in fields},
        tuple((field.name, field) for field in fields if field.kind != "tensor"),
        frozenset(served.response.names),
        half,
        plain if plain.reads_any and not half else None,
        BinaryReader() if all(field.kind == "tensor" for field in fields) else None,
    )
    return served.v2


def _datatypes(field: "Field") -> frozenset[str]:
    if field.kind == "tensor":
        return frozenset({DATATYPES[field.dtype]})
    return _ACCEPTED[field.item.kind if field.item is not None else field.kind]


def _read(text: bytes) -> InferRequest:
    """Read the JSON part: quickly when no key can stand in it twice, strictly when in doubt."""
    try:
        request = decode_typed(text)
        if text.count(b":") == _keys(request) and b"\\u" not in text:
            return request
    except UNREAD:
        pass
    try:
        return msgspec.convert(parse_json(text), InferRequest)
    except msgspec.ValidationError:
        refuse("", "v2.request", RejectionCode.JSON_SHAPE)


def _keys(request: InferRequest) -> int:
    """Count the keys in the JSON of this request when none is double; each key brings one colon, texts may add some."""
    keys = 1 + 4 * len(request.inputs) + (request.id is not UNSET) + (request.model_name is not UNSET)
    if request.parameters is not UNSET:
        keys += 1 + len(request.parameters or ())
    for tensor in request.inputs:
        if tensor.data is UNSET:
            keys -= 1
        if tensor.parameters is not UNSET:
            keys += 1 + len(tensor.parameters or ())
    if request.outputs is not UNSET:
        keys += 1
        for output in request.outputs or ():
            keys += 1 if output.parameters is UNSET else 2 + len(output.parameters or ())
    return keys


_NOTHING = memoryview(b"")


def _parts(json_length: bytes | None, body: bytes) -> tuple[bytes, memoryview]:
    if json_length is None:
        return body, _NOTHING
    if not json_length.isdigit() or len(json_length) > _DIGITS or not 0 < int(json_length) <= len(body):
        refuse("", "inference_header_content_length", RejectionCode.REQUEST_PARAMETER)
    length = int(json_length)
    return body[:length], memoryview(body)[length:]


def _columns(request: InferRequest, binary: memoryview, inputs: dict[str, _Input], most_rows: int) -> dict[str, Any]:
    """Every input as an array of its own shape; binary data is cut off in order and must be used up."""
    arrays: dict[str, Any] = {}
    for tensor in request.inputs:
        name = tensor.name
        planned = inputs.get(name)
        if planned is None:
            shown = name if name.isidentifier() else ""
            refuse(shown, "v2.unknown_input", RejectionCode.TENSOR_UNKNOWN, f"one of {', '.join(inputs)}")
        if name in arrays:
            refuse(name, "v2.repeated_input", RejectionCode.TENSOR_UNKNOWN)
        if tensor.datatype not in planned.datatypes:
            refuse(name, "v2.datatype", RejectionCode.TENSOR_DATATYPE, " or ".join(sorted(planned.datatypes)))
        elements = _elements(planned, tensor.shape, most_rows)
        size = tensor.parameters.get("binary_data_size") if tensor.parameters else None
        if size is None:
            arrays[name] = _from_json(tensor, elements)
            continue
        if (
            isinstance(size, bool)
            or not isinstance(size, int)
            or not 0 <= size <= len(binary)
            or tensor.data is not UNSET
        ):
            refuse(name, "v2.binary_data_size", RejectionCode.TENSOR_DATA)
        arrays[name] = _from_binary(tensor, elements, binary[:size])
        binary = binary[size:]
    if binary:
        refuse("", "v2.binary_data_left_over", RejectionCode.TENSOR_DATA)
    return arrays


def _elements(planned: _Input, shape: "Sequence[int]", most_rows: int) -> int:
    """Count the elements; a dimension below 1 is refused, but for the length of lists that are all empty.

    So are more rows than are taken, whatever the data are: of empty lists a few bytes can name any number. They are too
    many (413) where fewer of that shape would be taken, and else no shape of the field (400).
    """
    field = planned.field
    if not shape and field.kind == "tensor" and not field.shape:
        return 1
    lists = field.kind == "list" and len(shape) == 2  # noqa: PLR2004 (rows and items)
    if not 0 < len(shape) <= _LONGEST_RANK or (min(shape) < 1 and not (lists and shape[0] > 0 and shape[1] == 0)):
        refuse(field.name, "v2.shape", RejectionCode.TENSOR_SHAPE)
    if planned.rows_first and shape[0] > (most_rows if planned.batched else 1):
        if planned.batched and _is_one_of(field, shape[1:]):
            raise too_many_rows(most_rows)
        refuse(field.name, "v2.shape", RejectionCode.TENSOR_SHAPE)
    return math.prod(shape)


def _is_one_of(field: "Field", shape: "Sequence[int]") -> bool:
    """Whether one record of a field may have this shape."""
    if field.kind == "tensor":
        return len(shape) == len(field.shape) and all(
            size in {None, given} for size, given in zip(field.shape, shape, strict=True)
        )
    return len(shape) == 1 if field.kind == "list" else len(shape) == 0 or tuple(shape) == (1,)


def _from_json(tensor: InputTensor, elements: int) -> np.ndarray[Any, Any]:
    """Array of JSON data, flat or nested as the shape says; every element must be of the datatype exactly."""
    data = tensor.data
    if data is UNSET:
        refuse(tensor.name, "v2.data_missing", RejectionCode.TENSOR_DATA)
    flat = _flat(tensor.name, data, tensor.shape) if data and isinstance(data[0], list) else data
    if len(flat) != elements:
        refuse(tensor.name, "v2.data_length", RejectionCode.TENSOR_DATA)
    datatype = tensor.datatype
    quick = QUICK.get(datatype)
    if quick is not None and set(map(type, flat)) == quick.kind:
        try:
            return np.frombuffer(struct.pack(f"{len(flat)}{quick.code}", *flat), quick.dtype).reshape(tensor.shape)
        except struct.error:  # out of the type's range
            pass
    if datatype == "FP16":
        refuse(tensor.name, "v2.fp16_needs_binary", RejectionCode.TENSOR_DATATYPE)
    try:
        if datatype == "BYTES":
            return text_array(msgspec.convert(flat, list[str])).reshape(tensor.shape)
        dtype = DTYPES[datatype]
        kind = {"b": list[bool], "f": list[float]}.get(dtype.kind, list[int])
        if dtype.kind == "f" and _inexact(flat, _EXACT[datatype]):
            refuse(tensor.name, "v2.exact", RejectionCode.FIELD_INEXACT)
        with np.errstate(over="ignore"):  # what is too large for FP32 becomes infinite, which the contract refuses
            return np.array(msgspec.convert(flat, kind), dtype=dtype).reshape(tensor.shape)
    except (msgspec.ValidationError, OverflowError):
        refuse(tensor.name, "v2.data", RejectionCode.TENSOR_DATA)


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
            refuse(name, "v2.data_nesting", RejectionCode.TENSOR_DATA)
    return level


def _from_binary(tensor: InputTensor, elements: int, data: memoryview) -> np.ndarray[Any, Any]:
    if tensor.datatype == "BYTES":
        return text_array(_texts(tensor.name, data, elements)).reshape(tensor.shape)
    dtype = DTYPES[tensor.datatype]
    if len(data) != elements * dtype.itemsize:
        refuse(tensor.name, "v2.binary_data_size", RejectionCode.TENSOR_DATA)
    if tensor.datatype == "BOOL" and bytes(data).strip(b"\x00\x01"):
        refuse(tensor.name, "v2.data", RejectionCode.TENSOR_DATA)
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
            refuse(name, "v2.text_encoding", RejectionCode.JSON_ENCODING)
        at += length
    if at != end or len(texts) != elements:
        refuse(name, "v2.data", RejectionCode.TENSOR_DATA)
    if any("\x00" in text for text in texts):
        refuse(name, "v2.text_nul", RejectionCode.JSON_NUL)
    return texts


def text_array(texts: "Sequence[str]") -> np.ndarray[Any, Any]:
    """Give texts as an array of objects, one dimension."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _rows(arrays: dict[str, Any], *, batched: bool) -> int:
    """Count the records by the first dimension, on which all inputs must agree; 1 when the schema is not batched."""
    if not arrays:
        refuse("", "v2.no_inputs", RejectionCode.TENSOR_MISSING)
    if not batched:
        return 1
    rows = -1
    for name, array in arrays.items():
        size = array.shape[0] if array.ndim else 0
        if not size or rows not in {-1, size}:
            refuse(name, "v2.rows", RejectionCode.TENSOR_SHAPE)
        rows = size
    return rows


def _column(field: "Field", array: np.ndarray[Any, Any]) -> list[Any]:
    """Give the array as the values of one field that is no tensor, one per record."""
    if field.kind == "list":
        if array.ndim != 2:  # noqa: PLR2004 (rows and items)
            refuse(field.name, "v2.shape", RejectionCode.TENSOR_SHAPE)
        return without_padding(array, field)
    if array.ndim == 1:
        return array.tolist()  # type: ignore[no-any-return]  # a list, as the array has one dimension
    if array.ndim == 2 and array.shape[1] == 1:  # noqa: PLR2004 (rows and one value)
        return array[:, 0].tolist()  # type: ignore[no-any-return]  # likewise
    return refuse(field.name, "v2.shape", RejectionCode.TENSOR_SHAPE)


def _check_outputs(request: InferRequest, plan: Plan) -> None:
    """Refuse outputs that cannot be given before any work is done for them."""
    for output in request.outputs or ():
        if output.name not in plan.outputs:
            refuse("", "v2.unknown_output", RejectionCode.TENSOR_UNKNOWN, f"one of {', '.join(plan.outputs)}")
        for extension in _NOT_GIVEN:
            if output.parameters and output.parameters.get(extension):
                refuse("", f"v2.{extension}", RejectionCode.REQUEST_PARAMETER, f"no {extension}: it is not given")
        flag(output.parameters, "binary_data", default=False)
    flag(request.parameters, "binary_data_output", default=False)
    for name in plan.half:
        if is_wanted(request, name) and not is_binary(request, name):
            refuse("", "v2.fp16_needs_binary", RejectionCode.TENSOR_DATATYPE)


def is_wanted(request: InferRequest, name: str) -> bool:
    """Whether an output was asked for: all are when none is named."""
    return not request.outputs or any(output.name == name for output in request.outputs)


def is_binary(request: InferRequest, name: str) -> bool:
    """Whether an output is wanted in binary: its own ``binary_data``, else the request's ``binary_data_output``."""
    default = flag(request.parameters, "binary_data_output", default=False)
    for output in request.outputs or ():
        if output.name == name:
            return flag(output.parameters, "binary_data", default=default)
    return default


def datatype_of(field: "Field") -> str:
    """Datatype under which a field is described and answered."""
    item = field.item if field.item is not None else field
    if item.kind in {"string", "date", "timestamp"}:
        return "BYTES"
    if item.kind == "boolean":
        return "BOOL"
    return DATATYPES[item.dtype]
