"""Rows for ``brownfield fit``: real requests from a file or a table of the pipeline, or stand-ins without either.

In: ``.npz`` (graph inputs or request fields), ``.parquet`` or a table (request fields, checked by the contract).
Out: :class:`~brownfield.fit.Rows`. Refused: columns that are neither the graph's nor the contract's.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zipfile import BadZipFile

import numpy as np

from brownfield.errors import DeclarationError, InputRefused
from brownfield.fit import Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from brownfield.contract import Schema
    from brownfield.model import Bundle, TensorSpec
    from brownfield.types import Columns

__all__ = ["read_rows", "read_table", "stand_in_rows"]

_STAND_INS = 64
_MOST_ROWS = 5500
_NUMBER = "brownfield_row_number"
_MOST_GROUPS = 64


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


def read_rows(file: Path, bundle: "Bundle", request: "Schema", labels: str | None, slices: Sequence[str] = ()) -> Rows:
    """Read real requests from a file.

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
    slices
        Columns in whose values accuracy is judged apart.

    Raises
    ------
    DeclarationError
        When the file cannot be read, or its columns are not those of the graph or of the request.
    """
    if not file.is_file():
        raise DeclarationError(where=str(file), expected="a file of rows", got="none")
    if file.suffix == ".npz":
        return _from_arrays(file, bundle, labels, slices)
    if file.suffix == ".parquet":
        return _from_parquet(file, bundle, request, labels, slices)
    raise DeclarationError(where=str(file), expected="rows in .npz or .parquet", got=ascii(file.suffix))


def read_table(  # noqa: PLR0913 (the parts of a reading; all but the first two are keywords)
    folder: Path,
    table: str,
    *,
    bundle: "Bundle",
    request: "Schema",
    labels: str | None,
    slices: Sequence[str] = (),
    seed: int = 0,
) -> Rows:
    """Read real requests from a table of the pipeline: accepted records, some 5,500 of them by chance.

    Parameters
    ----------
    folder
        Of the integration's tables, below ``var/data``.
    table
        Name of the table.
    bundle, request, labels, slices
        As :func:`read_rows` takes them.
    seed
        Of the choice.

    Raises
    ------
    DeclarationError
        When there is no such table, or it lacks a column.
    """
    from brownfield.data.pipeline import open_tables

    if not folder.is_dir() or table not in {each.name for each in folder.iterdir()}:
        raise DeclarationError(
            path="--table",
            expected="a table of the pipeline",
            got=ascii(table),
            next_step="Run brownfield score first.",
        )
    with open_tables(folder) as connection:
        quoted = '"' + table.replace('"', '""') + '"'
        count = connection.execute(f"SELECT count(*) FROM {quoted}").fetchall()[0][0]  # noqa: S608 (quoted)
        chosen = np.random.default_rng(seed).permutation(count)[:_MOST_ROWS]
        numbers = ", ".join(str(number + 1) for number in np.sort(chosen)) or "0"
        numbered = f"SELECT *, row_number() OVER () AS {_NUMBER} FROM {quoted}"  # noqa: S608 (quoted)
        picked = connection.sql(f"SELECT * FROM ({numbered}) WHERE {_NUMBER} IN ({numbers}) ORDER BY {_NUMBER}")  # noqa: S608
        rows = picked.to_arrow_table().drop_columns([_NUMBER])
    return _from_columns(rows, f"table {table}", bundle, request, labels, slices)


def _from_arrays(file: Path, bundle: "Bundle", labels: str | None, slices: Sequence[str]) -> Rows:
    columns = _arrays(file)
    inputs = {spec.name: spec for spec in bundle.inputs}
    batched = bundle.features.batched
    needed = inputs.keys() | ({feature.field for feature in bundle.features.inputs} if batched else set())
    truth, groups = _beside(columns, labels, slices, str(file))
    _check_lengths(str(file), {name: columns[name] for name in columns.keys() & {*needed, labels, *slices}})
    columns = {name: array for name, array in columns.items() if name in needed or name not in {labels, *slices}}
    if columns.keys() == inputs.keys():
        tensors = columns
    elif batched and columns.keys() >= {feature.field for feature in bundle.features.inputs}:
        tensors = _encoded(str(file), bundle, columns, len(next(iter(columns.values()))))
    else:
        raise _other_columns(str(file), bundle, columns)
    tensors = {name: _as_graph(str(file), inputs[name], array, batched) for name, array in tensors.items()}
    return replace(Rows.from_tensors(tensors, batched=batched, labels=truth), slices=groups)


def _arrays(file: Path) -> dict[str, Any]:
    expected = "named arrays without objects, as numpy.savez writes them"
    try:
        stored = np.load(file, allow_pickle=False)
        if not isinstance(stored, np.ndarray):
            with stored:
                return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DeclarationError(where=str(file), expected=expected, got=type(error).__name__) from error
    raise DeclarationError(where=str(file), expected=expected, got="an array without a name")


def _encoded(where: str, bundle: "Bundle", columns: "Columns", count: int) -> dict[str, Any]:
    try:
        return bundle.features.encode(columns, count)
    except InputRefused as error:
        got = f"others: {error}"
        raise DeclarationError(where=where, expected="rows that the features of the bundle take", got=got) from error


def _check_lengths(where: str, columns: dict[str, Any]) -> None:
    """Refuse arrays that do not have the same rows; the first dimension of each is the rows."""
    lengths = {name: len(array) if array.ndim else 0 for name, array in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise DeclarationError(
            where=where,
            expected="arrays of one length, at least one row each",
            got=", ".join(f"{name!a} of {lengths[name]:,}" for name in sorted(lengths)),
        )


def _as_graph(where: str, spec: "TensorSpec", array: Any, batched: bool) -> Any:  # noqa: FBT001 (as the features say)
    """Hold rows to the tensor that they are for: another shape, or a value that would change, is refused."""
    sizes = spec.shape if spec.shape is None or not batched else spec.shape[1:]
    got = array.shape[1:]
    if sizes is not None and (
        len(sizes) != len(got) or any(size not in {None, there} for size, there in zip(sizes, got, strict=True))
    ):
        raise DeclarationError(
            where=where, path=spec.name, expected=f"rows of the shape {_shape(sizes)}", got=_shape(got)
        )
    if spec.dtype == "str":
        kept, cast = array.dtype.kind in "SUO", array.astype(object)  # of objects where features gave them
    else:
        kept = array.dtype.kind in "biuf"
        cast = _cast(array, np.dtype(spec.dtype)) if kept else array
        kept = kept and (cast.dtype.kind == "f" or np.array_equal(cast, array))
    if not kept:
        raise DeclarationError(
            where=where,
            path=spec.name,
            expected=f"values that are {spec.dtype} exactly",
            got=f"{array.dtype} with others" if array.dtype.kind in "biuf" else str(array.dtype),
        )
    return cast


def _cast(array: Any, dtype: Any) -> Any:
    with np.errstate(invalid="ignore", over="ignore"):  # what does not fit is found by comparing
        return array.astype(dtype)


def _shape(sizes: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"


def _from_parquet(file: Path, bundle: "Bundle", request: "Schema", labels: str | None, slices: Sequence[str]) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DeclarationError(where=str(file), expected="a Parquet file", got=type(error).__name__) from error
    return _from_columns(table, str(file), bundle, request, labels, slices)


def _from_columns(
    table: "pa.Table", where: str, bundle: "Bundle", request: "Schema", labels: str | None, slices: Sequence[str]
) -> Rows:
    from brownfield.contract import BatchChecker

    if not bundle.features.batched or not set(table.column_names) >= {f.field for f in bundle.features.inputs}:
        raise _other_columns(where, bundle, dict.fromkeys(table.column_names))
    truth, groups = _beside({name: table[name] for name in table.column_names}, labels, slices, where)
    verdict = BatchChecker(request).check(table)
    if verdict.rejected:
        raise DeclarationError(
            where=where,
            expected="rows that the contract admits",
            got=f"{len(verdict.rejected):,} of {table.num_rows:,} that it refuses",
            next_step="Take accepted rows of the pipeline.",
        )
    accepted = verdict.accepted
    columns = {name: accepted[name].to_pylist() for name in accepted.column_names}
    tensors = _encoded(where, bundle, columns, accepted.num_rows)
    rows = Rows.from_tensors(tensors, batched=True, labels=None if truth is None else truth.to_pylist())
    return replace(rows, slices=groups)


def _beside(columns: dict[str, Any], labels: str | None, slices: Sequence[str], where: str) -> tuple[Any, Any]:
    """Truth and groups of the rows; a group's missing value is one of its values."""
    if labels is not None and labels not in columns:
        there = ", ".join(map(ascii, sorted(columns)))
        expected = f"a column of the rows ({there})"
        raise DeclarationError(where=where, path="--labels", expected=expected, got=ascii(labels))
    groups = {}
    for name in slices:
        if name not in columns:
            raise DeclarationError(
                where=where, path=f"constraints.accuracy.slices.{name}", expected="a column of the rows", got="none"
            )
        column = columns[name]
        values = column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
        texts = np.array(["(missing)" if value is None else str(value)[:64] for value in values])
        if len(np.unique(texts)) > _MOST_GROUPS:
            raise DeclarationError(
                where=where,
                path=f"constraints.accuracy.slices.{name}",
                expected=f"a field of at most {_MOST_GROUPS} values",
                got=f"{len(np.unique(texts)):,}",
            )
        groups[name] = texts
    return (None if labels is None else columns[labels]), groups


def _other_columns(where: str, bundle: "Bundle", columns: dict[str, Any]) -> DeclarationError:
    wanted = sorted({spec.name for spec in bundle.inputs})
    fields = sorted({feature.field for feature in bundle.features.inputs}) if bundle.features.batched else []
    either = f" or the request fields {', '.join(map(ascii, fields))}" if fields else ""
    return DeclarationError(
        where=where,
        expected=f"the graph's inputs {', '.join(map(ascii, wanted))}{either}",
        got=", ".join(ascii(name) for name in sorted(columns)) or "no columns",
    )
