"""Rows for ``brownfield fit``: from a file of real requests, or stand-ins when there is none.

In: ``.npz`` (graph inputs or request fields) or ``.parquet`` (request fields, checked by the contract).
Out: :class:`~brownfield.fit.Rows`. Refused: columns that are neither the graph's nor the contract's.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zipfile import BadZipFile

import numpy as np

from brownfield.errors import DeclarationError
from brownfield.fit import Rows

if TYPE_CHECKING:
    from brownfield.contract import Schema
    from brownfield.model import Bundle
    from brownfield.types import Columns

__all__ = ["read_rows", "stand_in_rows"]

_STAND_INS = 64


def stand_in_rows(bundle: "Bundle", request: "Schema") -> Rows:
    """Golden inputs, or rows made up from the contract: for timing alone."""
    from brownfield.model import sample_columns

    batched = bundle.features.batched
    if bundle.golden is not None:
        inputs = bundle.golden.inputs
        return Rows.from_tensors(inputs, batched=True, invented=True) if batched else Rows((inputs,), False, None, True)
    if batched:
        columns = sample_columns(request, _STAND_INS, features=bundle.features)
        return Rows.from_tensors(
            bundle.features.encode(cast("Columns", columns), _STAND_INS), batched=True, invented=True
        )
    samples = [
        bundle.features.encode(cast("Columns", sample_columns(request, 1, seed, features=bundle.features)), 1)
        for seed in range(_STAND_INS)
    ]
    return Rows(tuple(samples), batched=False, invented=True)


def read_rows(file: Path, bundle: "Bundle", request: "Schema", labels: str | None) -> Rows:
    """Read real requests.

    Parameters
    ----------
    file
        ``.npz`` or ``.parquet``.
    bundle
        Whose features turn fields into tensors.
    request
        The contract's request schema.
    labels
        Column of the truth, None without one.

    Raises
    ------
    DeclarationError
        When the file cannot be read, or its columns are not those of the graph or of the request.
    """
    if not file.is_file():
        raise DeclarationError(where=str(file), expected="a file of rows", got="none")
    if file.suffix == ".npz":
        return _from_arrays(file, bundle, labels)
    if file.suffix == ".parquet":
        return _from_parquet(file, bundle, request, labels)
    raise DeclarationError(where=str(file), expected="rows in .npz or .parquet", got=ascii(file.suffix))


def _from_arrays(file: Path, bundle: "Bundle", labels: str | None) -> Rows:
    try:
        with np.load(file, allow_pickle=False) as stored:
            columns: dict[str, Any] = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, BadZipFile) as error:
        raise DeclarationError(where=str(file), expected="arrays without objects", got=type(error).__name__) from error
    truth = _taken(columns, labels, file)
    inputs = {spec.name: spec for spec in bundle.inputs}
    batched = bundle.features.batched
    if columns.keys() == inputs.keys():
        tensors = {name: array.astype(_dtype(inputs[name].dtype)) for name, array in columns.items()}
    elif batched and columns.keys() >= {feature.field for feature in bundle.features.inputs}:
        tensors = bundle.features.encode(columns, len(next(iter(columns.values()))))
    else:
        raise _other_columns(file, bundle, columns)
    return Rows.from_tensors(tensors, batched=batched, labels=truth)


def _from_parquet(file: Path, bundle: "Bundle", request: "Schema", labels: str | None) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from brownfield.contract import BatchChecker

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DeclarationError(where=str(file), expected="a Parquet file", got=type(error).__name__) from error
    if not bundle.features.batched or not set(table.column_names) >= {f.field for f in bundle.features.inputs}:
        raise _other_columns(file, bundle, dict.fromkeys(table.column_names))
    truth = _taken({name: table[name] for name in table.column_names}, labels, file)
    verdict = BatchChecker(request).check(table)
    if verdict.rejected:
        raise DeclarationError(
            where=str(file),
            expected="rows that the contract admits",
            got=f"{len(verdict.rejected):,} of {table.num_rows:,} that it refuses",
            next_step="Take accepted rows of the pipeline.",
        )
    accepted = verdict.accepted
    columns = {name: accepted[name].to_pylist() for name in accepted.column_names}
    tensors = bundle.features.encode(columns, accepted.num_rows)
    return Rows.from_tensors(tensors, batched=True, labels=None if truth is None else truth.to_pylist())


def _taken(columns: dict[str, Any], labels: str | None, file: Path) -> Any:
    if labels is None:
        return None
    if labels not in columns:
        raise DeclarationError(where=str(file), path="--labels", expected="a column of the file", got=ascii(labels))
    return columns.pop(labels)


def _dtype(name: str) -> Any:
    return object if name == "str" else np.dtype(name)


def _other_columns(file: Path, bundle: "Bundle", columns: dict[str, Any]) -> DeclarationError:
    wanted = sorted({spec.name for spec in bundle.inputs})
    fields = sorted({feature.field for feature in bundle.features.inputs}) if bundle.features.batched else []
    either = f" or the request fields {', '.join(map(ascii, fields))}" if fields else ""
    return DeclarationError(
        where=str(file),
        expected=f"the graph's inputs {', '.join(map(ascii, wanted))}{either}",
        got=", ".join(ascii(name) for name in sorted(columns)) or "no columns",
    )
