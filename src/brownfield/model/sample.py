"""Invent records that a contract admits, or tensors that a graph takes: the same for the same seed.

In: a request schema, or the inputs of a graph. Out: columns as the contract's checkers give them, or tensors.
Values come from declared ranges, lists of values and vocabularies; without these, integers are 0 or 1 and numbers lie
in [0, 1). Patterns and record rules are not solved for: check the records before they are relied on.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from brownfield.data.features import TEXT_DTYPE, Features
from brownfield.model.signature import TensorSpec

if TYPE_CHECKING:
    from brownfield.contract import Field, Schema

__all__ = ["sample_columns", "sample_tensors"]

_DAY = date(2026, 1, 1)
_INSTANT = datetime(2026, 1, 1, tzinfo=UTC)
_ITEMS = 5


def sample_columns(
    request: "Schema", rows: int, seed: int = 0, *, features: Features | None = None, size: int = 1
) -> dict[str, list[Any] | npt.NDArray[Any]]:
    """Invent request columns.

    Parameters
    ----------
    request
        What the records must look like.
    rows
        Number of records; a schema that is not batched has exactly one.
    seed
        Same seed, same records.
    features
        Values are drawn from their vocabularies where they have some.
    size
        Stands for every dimension of a tensor that the contract leaves open.

    Returns
    -------
    dict
        Column by field name: arrays for tensors, lists for everything else.
    """
    random = np.random.default_rng(seed)
    known = _vocabularies(features)
    columns: dict[str, list[Any] | npt.NDArray[Any]] = {}
    for field in request.fields:
        if field.kind == "tensor":
            shape = tuple(size if each is None else each for each in field.shape)
            whole = (rows, *shape) if request.batched else shape
            columns[field.name] = _array(field.dtype, whole, _bounds(field), random)
        else:
            labels = known.get(field.name, ())
            columns[field.name] = [_value(field, labels, random) for _ in range(rows)]
    return columns


def sample_tensors(
    inputs: Sequence[TensorSpec], rows: int, seed: int = 0, *, size: int = 1
) -> dict[str, npt.NDArray[Any]]:
    """Invent tensors for a graph.

    Parameters
    ----------
    inputs
        The graph's inputs.
    rows
        Stands for every first dimension that varies, and for those of the same name.
    seed
        Same seed, same tensors.
    size
        Stands for every other dimension that varies.

    Examples
    --------
    >>> sample_tensors([TensorSpec("x", "float32", (None, 2), ("n", ""))], 3)["x"].shape
    (3, 2)
    """
    random = np.random.default_rng(seed)
    first = {spec.axes[0] for spec in inputs if spec.shape and spec.shape[0] is None} - {""}
    tensors = {}
    for spec in inputs:
        shape = tuple(
            each if each is not None else rows if axis == 0 or name in first else size
            for axis, (each, name) in enumerate(zip(spec.shape or (), spec.axes, strict=True))
        )
        tensors[spec.name] = _array(spec.dtype, shape, (0.0, 1.0), random)
    return tensors


def _vocabularies(features: Features | None) -> Mapping[str, Sequence[Any]]:
    found = {one.field: getattr(one, "vocabulary", None) for one in (features.inputs if features else ())}
    return {name: vocabulary.labels for name, vocabulary in found.items() if vocabulary is not None}


def _array(
    dtype: str, shape: tuple[int, ...], bounds: tuple[float, float], random: np.random.Generator
) -> npt.NDArray[Any]:
    low, high = bounds
    if dtype == TEXT_DTYPE:
        texts = np.empty(shape, dtype=object)
        texts[...] = "text"
        return texts
    if np.dtype(dtype).kind == "f":
        return np.asarray(low + random.random(shape) * (high - low)).astype(dtype)
    return np.asarray(random.integers(ceil(low), floor(high), shape, endpoint=True)).astype(dtype)


def _value(field: "Field", labels: Sequence[Any], random: np.random.Generator) -> Any:
    if field.kind == "list":
        return _list(field, labels, random)
    choices = field.enum or labels or field.examples
    if choices:
        return choices[int(random.integers(len(choices)))]
    if field.kind in ("date", "timestamp"):
        return field.minimum or field.maximum or (_DAY if field.kind == "date" else _INSTANT)
    if field.kind == "string":
        return "text".ljust(field.min_length or 0, "x")[: field.max_length]
    dtype = "bool" if field.kind == "boolean" else field.dtype
    return _array(dtype, (), _bounds(field), random).item()


def _list(field: "Field", labels: Sequence[Any], random: np.random.Generator) -> list[Any]:
    item = field.item
    if item is None:
        return []
    fewest = field.min_items or 0
    most = max(fewest, _ITEMS if field.max_items is None else min(_ITEMS, field.max_items))
    length = int(random.integers(max(fewest, min(1, most)), most, endpoint=True))
    choices = item.enum or labels
    if choices:  # each once
        picked = random.permutation(len(choices))[:length]
        return [choices[int(position)] for position in picked]
    return [_value(item, (), random) for _ in range(length)]


def _bounds(field: "Field") -> tuple[float, float]:
    """Return closed bounds of an invented number: the declared ones, else those nearest to 0 and 1."""
    step = 1 if field.kind == "integer" or (field.dtype and np.dtype(field.dtype).kind in "iu") else 1e-6
    low, high = field.minimum, field.maximum
    if low is None:
        low = 0 if high is None or high > 0 else high - 1
    else:
        low += step * field.exclusive_minimum
    if high is None:
        high = max(low, 0) + 1
    else:
        high -= step * field.exclusive_maximum
    return low, high
