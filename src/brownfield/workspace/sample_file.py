"""Sample records from a JSON file: a V2 request, one record, or a list of records.

In: the file and the graph's signature. Out: tensors by the name of the graph input.
Refused: names, types and shapes that are not the graph's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.errors import DeclarationError
from brownfield.model import Signature, TensorSpec

__all__ = ["read_sample"]

MAX_BYTES = 256 << 20


def read_sample(file: Path, signature: Signature, *, batched: bool) -> dict[str, npt.NDArray[Any]]:
    """Read sample records.

    Parameters
    ----------
    file
        ``{"inputs": [{"name", "shape", "datatype", "data"}, ...]}``, or a record ``{name: nested lists}``, or a list
        of records.
    signature
        Of the graph.
    batched
        Whether a record has tensors without the graph's first dimension.

    Raises
    ------
    DeclarationError
        When the file cannot be read, or does not fit the graph.
    """
    if file.stat().st_size > MAX_BYTES:
        raise _error(file, expected=f"at most {MAX_BYTES} bytes")
    try:
        data = msgspec.json.decode(file.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _error(file, expected="JSON", got=str(error)) from error
    given = _from_v2(file, data["inputs"]) if _is_v2(data) else _from_records(file, data, batched=batched)
    names = {spec.name for spec in signature.inputs}
    if given.keys() != names:
        raise _error(file, expected=f"the inputs {_names(names)}", got=_names(given))
    return {spec.name: _array(file, spec, *given[spec.name]) for spec in signature.inputs}


_Given = tuple[Any, tuple[int, ...] | None]
"""Nested or flat values, and the shape where one was declared."""


def _is_v2(data: Any) -> bool:
    return (
        isinstance(data, Mapping)
        and isinstance(data.get("inputs"), list)
        and all(isinstance(each, Mapping) and {"name", "shape", "data"} <= each.keys() for each in data["inputs"])
    )


def _from_v2(file: Path, inputs: Sequence[Mapping[str, Any]]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for each in inputs:
        shape = each["shape"]
        if each["name"] in given or not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise _error(file, path=ascii(each["name"]), expected="each input once, with a shape of integers")
        given[each["name"]] = (each["data"], tuple(shape))
    return given


def _from_records(file: Path, data: Any, *, batched: bool) -> dict[str, _Given]:
    records = data if isinstance(data, list) else [data]
    if not records or not all(isinstance(record, Mapping) for record in records):
        raise _error(file, expected="a record, a list of records, or a V2 request")
    if len({frozenset(record) for record in records}) > 1:
        raise _error(file, expected="records with the same fields")
    if not batched and len(records) > 1:
        raise _error(file, expected="one record: the records of this graph do not stand alone", got=str(len(records)))
    return {name: ([record[name] for record in records] if batched else records[0][name], None) for name in records[0]}


def _array(file: Path, spec: TensorSpec, values: Any, shape: tuple[int, ...] | None) -> npt.NDArray[Any]:
    dtype = object if spec.dtype == "str" else np.dtype(spec.dtype)
    try:
        array = np.array(values, dtype=dtype)
        if shape is not None:
            array = array.reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise _error(
            file, path=ascii(spec.name), expected=f"values of type {spec.dtype}, in the declared shape"
        ) from error
    if spec.dtype == "str" and not all(isinstance(text, str) for text in array.flat):
        raise _error(file, path=ascii(spec.name), expected="texts")
    wanted = spec.shape or ()
    if len(wanted) != array.ndim or any(w not in (None, n) for w, n in zip(wanted, array.shape, strict=True)):
        raise _error(file, path=ascii(spec.name), expected=f"shape {list(wanted)}", got=f"{list(array.shape)}")
    return array


def _error(
    file: Path, *, path: str | None = None, expected: str | None = None, got: str | None = None
) -> DeclarationError:
    return DeclarationError(where=str(file), path=path, expected=expected, got=got)


def _names(names: Sequence[str] | Mapping[str, Any] | set[str]) -> str:
    return ", ".join(ascii(name) for name in sorted(names))
