"""Rows and answers as plain arrays, for a file that leaves the machine: nothing in it is ever unpickled.

In: one mapping of arrays for each row. Out: arrays by name, and back. Rows of one shape travel as one array.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["pack", "unpack"]

Arrays = Mapping[str, npt.NDArray[Any]]


def pack(prefix: str, rows: Sequence[Arrays]) -> dict[str, npt.NDArray[Any]]:
    """Give the arrays of rows under names that begin with a prefix.

    Examples
    --------
    >>> rows = [{"x": np.zeros(2)}, {"x": np.ones(2)}]
    >>> packed = pack("a", rows)
    >>> list(packed), unpack("a", packed)[1]["x"].tolist()
    (['a.x'], [1.0, 1.0])
    """
    packed: dict[str, npt.NDArray[Any]] = {}
    for name in rows[0] if rows else ():
        column = [_plain(row[name]) for row in rows]
        if len({(array.shape, array.dtype) for array in column}) == 1:
            packed[f"{prefix}.{name}"] = np.stack(column)
        else:
            packed |= {f"{prefix}/{index}.{name}": array for index, array in enumerate(column)}
    return packed


def unpack(prefix: str, packed: Arrays) -> list[dict[str, npt.NDArray[Any]]]:
    """Give the rows that were packed under a prefix."""
    rows: dict[int, dict[str, npt.NDArray[Any]]] = {}
    for key, array in packed.items():
        head, _, name = key.partition(".")
        if head == prefix:
            for index, one in enumerate(array):
                rows.setdefault(index, {})[name] = _own(np.asarray(one))
        elif head.startswith(f"{prefix}/"):
            rows.setdefault(int(head.rpartition("/")[2]), {})[name] = _own(array)
    return [rows[index] for index in sorted(rows)]


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Texts of any length as texts of one; their objects do not travel."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _own(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(object) if array.dtype.kind == "U" else np.ascontiguousarray(array)
