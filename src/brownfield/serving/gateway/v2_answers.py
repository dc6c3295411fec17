"""Answers of the Open Inference Protocol (V2): response columns as tensors, and what models say of themselves."""

import functools
import struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from brownfield.serving.gateway.named import plain
from brownfield.serving.gateway.v2 import datatype_of, is_binary, is_wanted, text_array
from brownfield.serving.gateway.v2_messages import DATATYPES, DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.contract import Field
    from brownfield.serving.gateway.answer import Answer
    from brownfield.serving.gateway.served import Served
    from brownfield.serving.gateway.v2 import InferRequest

__all__ = ["encode", "model_metadata"]


def encode(served: "Served", request: "InferRequest", answer: "Answer") -> tuple[bytes, int]:
    """Body of the answer, and the length of its JSON part (the whole body when nothing is binary).

    An output that has no value in any record is left out. A missing value inside one is the field's declared padding or
    first sentinel; without one it is empty text, 0 or false.
    """
    decision = answer.decision
    model, before, after = _head(
        served.name, decision.version, decision.source, decision.reason, decision.contract, decision.cause
    )
    asked = b',"id":' + _encoder.encode(request.id) if request.id else b""
    only, identifier = served.only_tensor, decision.id.encode()
    if only is not None and not (request.outputs or request.parameters):  # as most are; the same text as below
        array = np.asarray(answer.checked.columns[only.name])
        data = _encoder.encode(array.ravel().tolist())
        known = _before_data(only.name, only.dtype, array.shape)
        text = b"".join((model, asked, before, identifier, after, known, data, b"}]}"))
        return text, len(text)
    outputs, binary = _outputs(served, request, answer.checked.columns)
    text = b"".join((model, asked, before, identifier, after, outputs, b"}"))
    return (b"".join([text, *binary]), len(text)) if binary else (text, len(text))


def _outputs(served: "Served", request: "InferRequest", columns: dict[str, Any]) -> tuple[bytes, list[bytes]]:
    """Text of ``outputs``, and what is binary."""
    chosen = bool(request.outputs or request.parameters)
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for field in served.response.fields:
        name = field.name
        column = columns.get(name)
        if column is None or (chosen and not is_wanted(request, name)):
            continue
        values = _tensor(field, column)
        if values is None:
            continue
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(field), "shape": values.shape}
        if chosen and is_binary(request, name):
            packed = _packed(values)
            binary.append(packed)
            output["parameters"] = {"binary_data_size": len(packed)}
        else:
            output["data"] = values.ravel().tolist()
        outputs.append(output)
    return _encoder.encode(outputs), binary


@functools.lru_cache(maxsize=1024)
def _before_data(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Give the text of an output up to its data."""
    return _encoder.encode([{"name": name, "datatype": DATATYPES[dtype], "shape": shape}])[:-2] + b',"data":'


_encoder = msgspec.json.Encoder(enc_hook=plain)


@functools.lru_cache(maxsize=1024)
def _head(name: str, version: str, source: str, reason: str, contract: str, cause: str) -> tuple[bytes, bytes, bytes]:
    """Give the text of an answer around its request's id and its own; equal for all answers of one kind."""
    model = _encoder.encode({"model_name": name, "model_version": version})[:-1]
    parameters = {
        "brownfield_decision": "",
        "brownfield_source": source,
        "brownfield_reason": reason,
        "brownfield_degraded": source != "model",
        "brownfield_contract": contract,
        "brownfield_cause": cause,
    }
    before, _, after = _encoder.encode(parameters).partition(b'""')
    return model, b',"parameters":' + before + b'"', b'"' + after + b',"outputs":'


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
    datatype = datatype_of(item)
    if datatype == "BYTES":
        return text_array([value if isinstance(value, str) else value.isoformat() for value in filled])
    return np.array(filled, dtype=DTYPES[datatype])


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
        "platform": served.champion.platform if served.champion else "",
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
    return {"name": field.name, "datatype": datatype_of(field), "shape": shape}
