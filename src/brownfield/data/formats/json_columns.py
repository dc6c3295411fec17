"""The fast half of ``json``: many records to columns at once, by a type that msgspec compiles.

It is sound, not complete: what it accepts is what the strict reader would give, and it gives nothing where it cannot
vouch for every record. Then the records are halved, until those that it cannot vouch for are few.
"""

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.formats.text import plain_type

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ColumnReader", "arrow_type", "is_list"]

_SUSPECT = re.compile(rb"\\u(?:0000|003[aA]|[dD][89a-fA-F])")
_EXACT_IN_FLOAT = 2**53


class ColumnReader:
    """Reads records that are flat objects with no other keys than the wanted columns.

    Parameters
    ----------
    wanted
        The columns.

    Examples
    --------
    >>> reader = ColumnReader(pa.schema({"n": pa.int64(), "t": pa.string()}))
    >>> [column.to_pylist() for column in reader.read([b'{"n": 1, "t": "a"}', b'{"t": null}'])]
    [[1, None], ['a', None]]
    >>> reader.read([b'{"n": 1, "n": 2}']) is None
    True
    """

    def __init__(self, wanted: pa.Schema) -> None:
        self._types = [arrow_type(field.type) for field in wanted]
        self._getters: list[Callable[[Any], Any]] = [attrgetter(f"f{index}") for index in range(len(wanted))]
        self._keys = sum(1 + name.count(":") for name in wanted.names)
        self._weights = [1 + name.count(":") for name in wanted.names]
        record = msgspec.defstruct(
            "Record",
            [(f"f{index}", _python(field.type) | None | msgspec.UnsetType, msgspec.UNSET)
             for index, field in enumerate(wanted)],
            rename={f"f{index}": field.name for index, field in enumerate(wanted)},
            forbid_unknown_fields=True,
            gc=False,
        )  # fmt: skip
        self._decode = msgspec.json.Decoder(record).decode_lines

    def read(self, raws: Sequence[bytes]) -> list[pa.Array] | None:
        """Read records, one text each; None where one of them is not vouched for."""
        body = b"\n".join(raws)
        # No wanted column holds an object, so that a brace outside a text opens or closes a record. With as many
        # lines that begin and end with one as there are records, each text is exactly one record.
        whole = body[:1] == b"{" and body[-1:] == b"}" and body.count(b"}\n{") == len(raws) - 1
        if not whole or (b"\\u" in body and _SUSPECT.search(body)):
            return None
        try:
            records = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if len(records) != len(raws):
            return None
        return self._columns(records, int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord(":"))))

    def _columns(self, records: list[Any], colons: int) -> list[pa.Array] | None:
        columns, expected = [], self._keys * len(records)
        for getter, kind, weight in zip(self._getters, self._types, self._weights, strict=True):
            values = list(map(getter, records))
            try:
                column = pa.array(values, kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):
                absent = values.count(msgspec.UNSET)
                if not absent:
                    return None
                expected -= weight * absent
                try:
                    column = pa.array([None if value is msgspec.UNSET else value for value in values], kind)
                except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):
                    return None
            if not _is_exact(column):
                return None
            columns.append(column)
        # Each key brings one colon: as many as the keys that are there and the texts account for, and none is twice.
        if colons != expected and colons != expected + sum(_colons(column) for column in columns):
            return None
        return columns


def arrow_type(kind: pa.DataType) -> pa.DataType:
    """Type in which a column of JSON comes out."""
    return pa.list_(arrow_type(kind.value_type)) if is_list(kind) else plain_type(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column is one of lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _python(kind: pa.DataType) -> Any:
    if is_list(kind):
        return list[_python(kind.value_type) | None]  # type: ignore[misc]  # made at run time
    plain = plain_type(kind)
    if pa.types.is_floating(plain):
        return float
    if pa.types.is_integer(plain):
        return int
    return bool if pa.types.is_boolean(plain) else str


def _is_exact(column: pa.Array) -> bool:
    """Whether no whole number may have been rounded to the floating-point one that stands there."""
    while is_list(column.type):
        column = column.flatten()
    if not pa.types.is_floating(column.type) or len(column) == column.null_count:
        return True
    bounds = pc.min_max(column)
    return bool(bounds["min"].as_py() > -_EXACT_IN_FLOAT and bounds["max"].as_py() < _EXACT_IN_FLOAT)


def _colons(column: pa.Array) -> int:
    while is_list(column.type):
        column = column.flatten()
    return int(pc.sum(pc.count_substring(column, ":")).as_py() or 0) if pa.types.is_string(column.type) else 0
