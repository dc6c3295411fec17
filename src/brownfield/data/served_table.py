"""A lookup as the gateway holds it: one file of plain arrays, mapped into memory and searched by key.

It is written by the process that reads the lookup, and read with NumPy alone. Keys are found by a 64-bit hash of their
text in order, and each hit is compared with the key itself.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from brownfield.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ServedTable", "write_served_table"]

_MAGIC = b"BFSERVED1\n"
_ALIGN = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_0 = date(1970, 1, 1)
_LARGE = 2**63
_MICROSECOND = timedelta(microseconds=1)


class _Column(msgspec.Struct, frozen=True):
    """One column: what it holds, and the arrays of the file that hold it."""

    kind: str
    values: int
    valid: int
    ends: int = -1


class _Head(msgspec.Struct, frozen=True):
    """What the file begins with: the key fields, the columns and each array's type, offset and length."""

    rows: int
    keys: tuple[str, ...]
    columns: dict[str, _Column]
    arrays: list[tuple[str, int, int]]


def _hash(key: Sequence[Any]) -> tuple[int, bytes]:
    text = msgspec.json.encode([each if isinstance(each, str | int | float | bool) else str(each) for each in key])
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"), text


def write_served_table(rows: "pa.Table", keys: tuple[str, ...], take: Sequence[str]) -> bytes:
    """Write a lookup as one file; rows whose key has a missing part cannot be found and are left out.

    Parameters
    ----------
    rows
        The accepted rows.
    keys
        Fields by which a row is found.
    take
        Fields that are kept beside them.

    Raises
    ------
    FormatError
        When two rows have one key.

    Examples
    --------
    >>> import pyarrow as pa
    >>> products = pa.table({"id": [7, 3], "kind": ["milk", None]})
    >>> table = ServedTable(write_served_table(products, ("id",), ["kind"]))
    >>> found = table.find({"id": [3, 4, 7]}, 3)
    >>> found.tolist(), table.take("kind", found)
    ([0, -1, 1], [None, None, 'milk'])
    """
    parts = list(zip(*(rows[name].to_pylist() for name in keys), strict=True))
    hashed = [(*_hash(key), row) for row, key in enumerate(parts) if None not in key]
    hashed.sort()
    if any(one[:2] == other[:2] for one, other in pairwise(hashed)):
        raise FormatError(
            expected="rows that differ in their key",
            got="two with one",
            next_step="Declare the key unique in the contract.",
        )
    arrays: list[np.ndarray[Any, Any]] = [
        np.array([each[0] for each in hashed], dtype=np.uint64),
        *_texts([each[1] for each in hashed]),
    ]
    kept = rows.take([each[2] for each in hashed]) if hashed else rows.slice(0, 0)
    columns = {}
    for name in take:
        kind, values = _plain(kept[name].to_pylist())
        valid = np.array([each is not None for each in values], dtype=np.bool_)
        if kind == "text":
            content, ends = _texts([(each or "").encode() for each in values])
            columns[name] = _Column(kind, len(arrays), len(arrays) + 2, len(arrays) + 1)
            arrays += [content, ends, valid]
            continue
        dtype = {
            "number": np.float64,
            "whole": np.int64,
            "large": np.uint64,
            "truth": np.bool_,
            "date": np.int64,
            "time": np.int64,
        }[kind]
        columns[name] = _Column(kind, len(arrays), len(arrays) + 1)
        arrays += [np.array([0 if each is None else each for each in values], dtype=dtype), valid]
    return _joined(len(hashed), keys, columns, arrays)


def _joined(
    rows: int, keys: tuple[str, ...], columns: dict[str, _Column], arrays: "list[np.ndarray[Any, Any]]"
) -> bytes:
    at, places = 0, []
    for array in arrays:
        at = -(-at // _ALIGN) * _ALIGN
        places.append((array.dtype.str, at, len(array)))
        at += array.nbytes
    head = msgspec.json.encode(_Head(rows, keys, columns, places))
    begin = -(-(len(_MAGIC) + 8 + len(head)) // _ALIGN) * _ALIGN
    content = bytearray(begin + at)
    content[: len(_MAGIC)] = _MAGIC
    content[len(_MAGIC) : len(_MAGIC) + 8] = len(head).to_bytes(8, "little")
    content[len(_MAGIC) + 8 : len(_MAGIC) + 8 + len(head)] = head
    for array, (_, offset, _) in zip(arrays, places, strict=True):
        content[begin + offset : begin + offset + array.nbytes] = array.tobytes()
    return bytes(content)


def _texts(texts: Sequence[bytes]) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    ends = np.cumsum([len(each) for each in texts], dtype=np.int64) if texts else np.zeros(0, np.int64)
    return np.frombuffer(b"".join(texts), dtype=np.uint8), ends


def _plain(values: list[Any]) -> tuple[str, list[Any]]:
    """Say what a column holds, and give it as numbers or texts."""
    first = next((each for each in values if each is not None), None)
    if isinstance(first, bool):
        return "truth", values
    if isinstance(first, int):
        return ("large" if max(each or 0 for each in values) >= _LARGE else "whole"), values
    if isinstance(first, datetime):
        return "time", [None if each is None else (_aware(each) - _EPOCH) // _MICROSECOND for each in values]
    if isinstance(first, date):
        return "date", [None if each is None else (each - _DAY_0).days for each in values]
    if isinstance(first, str):
        return "text", values
    return "number", [None if each is None else float(each) for each in values]


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class ServedTable:
    """A file of :func:`write_served_table`, ready to be asked.

    Parameters
    ----------
    content
        Its bytes: mapped from a file, or in memory.

    Raises
    ------
    FormatError
        When they are no such file, or not whole.
    """

    def __init__(self, content: Any) -> None:
        view = memoryview(content)
        start = len(_MAGIC) + 8
        try:
            length = int.from_bytes(view[len(_MAGIC) : start], "little") if view[: len(_MAGIC)] == _MAGIC else -1
            self._head = msgspec.json.decode(view[start : max(start + length, start)], type=_Head)
            begin = -(-(start + length) // _ALIGN) * _ALIGN
            self._arrays = [
                np.frombuffer(view, dtype=kind, count=count, offset=begin + offset) if count else np.zeros(0, kind)
                for kind, offset, count in self._head.arrays
            ]
        except (ValueError, msgspec.MsgspecError) as error:
            raise FormatError(expected="a table of a lookup, whole", got="other bytes") from error
        self._hashes, self._keys, self._ends = self._arrays[:3]

    @property
    def rows(self) -> int:
        """How many rows can be found."""
        return self._head.rows

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that can be taken."""
        return tuple(self._head.columns)

    def find(self, columns: Mapping[str, Sequence[Any]], rows: int) -> "np.ndarray[Any, Any]":
        """Find the row of each key, shape ``(rows,)``; -1 where there is none."""
        parts = [columns[name] for name in self._head.keys]
        found = np.full(rows, -1, dtype=np.int64)
        for row in range(rows):
            key = [each[row] for each in parts]
            if None in key:
                continue
            number, text = _hash([each.item() if isinstance(each, np.generic) else each for each in key])
            at = int(np.searchsorted(self._hashes, np.uint64(number)))
            while at < len(self._hashes) and int(self._hashes[at]) == number:
                if self._text(self._keys, self._ends, at) == text:
                    found[row] = at
                    break
                at += 1
        return found

    def take(self, name: str, found: "np.ndarray[Any, Any]") -> list[Any]:
        """Give a field of the rows that were found; None where there was none, and where it is missing."""
        column = self._head.columns[name]
        values, valid = self._arrays[column.values], self._arrays[column.valid]
        return [self._value(column, values, at) if at >= 0 and valid[at] else None for at in found.tolist()]

    def _value(self, column: _Column, values: "np.ndarray[Any, Any]", at: int) -> Any:
        if column.kind == "text":
            return self._text(values, self._arrays[column.ends], at).decode()
        value = values[at].item()
        if column.kind == "time":
            return _EPOCH + value * _MICROSECOND
        return _DAY_0 + timedelta(days=value) if column.kind == "date" else value

    @staticmethod
    def _text(content: "np.ndarray[Any, Any]", ends: "np.ndarray[Any, Any]", at: int) -> bytes:
        return content[int(ends[at - 1]) if at else 0 : int(ends[at])].tobytes()
