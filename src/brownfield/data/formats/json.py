"""``json``: one object a line, or one array of objects, as strict as the requests of the prediction door.

Each record is parsed by :func:`brownfield.contract.parse_json` on its own, so that duplicate keys, NaN, numbers beyond
64 bits, deep nesting and NUL reject that record alone. An array is cut into its records in bounded memory; one whose
brackets do not close stops the file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Literal, NamedTuple

import msgspec
import pyarrow as pa

from brownfield.contract import parse_json
from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.base import BATCH_ROWS
from brownfield.data.formats.lines import read_lines
from brownfield.data.formats.text import plain_type
from brownfield.errors import FormatError, InputRefused, RejectionCode

__all__ = ["Json"]

_CHUNK_BYTES = 1 << 18
_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = rb'"(?:[^"\\]|\\.)*+"'
_FLAT_OBJECT = re.compile(rb'\{[^{}"]*+(?:' + _STRING + rb'[^{}"]*+)*+\}', re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|[][{},]|"', re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_EXACT_IN_FLOAT = 2**53


class _Record(NamedTuple):
    position: str
    raw: bytes
    is_cut: bool = False


@dataclass(frozen=True)
class Json:
    r"""Objects in JSON, UTF-8.

    Parameters
    ----------
    records
        ``lines``: each line is one object; ``array``: the file is one array of objects.
    max_record_bytes
        A longer line is rejected; a longer object of an array stops the file.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO(b'{"store": 367, "price": 1.5}\n{"store": 367, "store": 9}\n{"price": null, "x": 0}\n')
    >>> (decoded,) = Json().decode(file, pa.schema([("store", pa.int64()), ("price", pa.float64())]))
    >>> decoded.batch.to_pylist()
    [{'store': 367, 'price': 1.5}, {'store': None, 'price': None}]
    >>> [(each.position, each.field, str(each.code)) for each in decoded.rejects]
    [('line 2, byte 29', 'store', 'BF-JSON-006')]
    """

    records: Literal["lines", "array"] = "lines"
    max_record_bytes: int = 1 << 20

    def decode(self, stream: BinaryIO, wanted: pa.Schema, batch_rows: int = BATCH_ROWS) -> Iterator[Decoded]:
        """Read a stream to its end (:class:`Format`); keys that are not wanted are passed over.

        Raises
        ------
        FormatError
            When an array does not open or close, or holds an object that is too long.
        """
        source = self._lines(stream) if self.records == "lines" else _Elements(stream, self.max_record_bytes).records()
        columns = [(field.name, field.type, _reader(field.type)) for field in wanted]
        while taken := list(islice(source, batch_rows)):
            yield _decode(taken, columns)

    def _lines(self, stream: BinaryIO) -> Iterator[_Record]:
        for line in read_lines(stream, self.max_record_bytes):
            yield _Record(line.position, line.raw, line.is_cut)

    def encode(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Write records (:class:`Format`), missing values as null."""
        joint = b"[" if self.records == "array" else b""
        for batch in batches:
            for row in batch.to_pylist():
                _check_finite(row)
                body = msgspec.json.encode(row)
                if _NUL.search(body):
                    raise FormatError(expected="text without NUL", got="one with it")
                yield joint + body + (b"\n" if self.records == "lines" else b"")
                joint = b",\n" if self.records == "array" else b""
        if self.records == "array":
            yield b"[]\n" if joint == b"[" else b"]\n"


class _Refused(Exception):
    """A value is not of its column's type."""

    def __init__(self, code: RejectionCode) -> None:
        super().__init__()
        self.code = code


_Read = Callable[[Any], Any]


def _decode(records: Sequence[_Record], columns: Sequence[tuple[str, pa.DataType, _Read]]) -> Decoded:
    values: list[list[Any]] = [[] for _ in columns]
    good: list[_Record] = []
    rejects: list[Reject] = []
    for record in records:
        fault = _read_record(record, columns, values)
        if fault is None:
            good.append(record)
        else:
            rejects.append(Reject(record.position, fault[0], fault[1], record.raw, fault[2]))
    arrays = [pa.array(column, _arrow(kind)) for column, (_, kind, _) in zip(values, columns, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, names=[name for name, _, _ in columns])
    return Decoded(batch, lambda row: good[row].position, lambda row: good[row].raw, tuple(rejects))


def _read_record(
    record: _Record, columns: Sequence[tuple[str, pa.DataType, _Read]], values: list[list[Any]]
) -> tuple[RejectionCode, str, int] | None:
    """Append one record to the columns, or say why not: code, field, byte."""
    if record.is_cut:
        return RejectionCode.DECODE_LONG, "", len(record.raw)
    try:
        parsed = parse_json(record.raw)
    except InputRefused as error:
        violation = error.violations[0]
        return violation.code, violation.field, 0
    if not isinstance(parsed, dict):
        return RejectionCode.JSON_SHAPE, "", 0
    row = []
    for name, _, read in columns:
        value = parsed.get(name)
        try:
            row.append(None if value is None else read(value))
        except _Refused as error:
            return error.code, name, max(record.raw.find(b'"' + name.encode() + b'"'), 0)
    for column, value in zip(values, row, strict=True):
        column.append(value)
    return None


def _arrow(kind: pa.DataType) -> pa.DataType:
    return pa.list_(_arrow(kind.value_type)) if _is_list(kind) else plain_type(kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _reader(kind: pa.DataType) -> _Read:
    if _is_list(kind):
        read = _reader(kind.value_type)
        return lambda value: _list(value, read)
    plain = plain_type(kind)
    if pa.types.is_floating(plain):
        return _number
    if pa.types.is_integer(plain):
        low, high = (0, 2**64 - 1) if pa.types.is_uint64(plain) else (-(2**63), 2**63 - 1)
        return lambda value: _integer(value, low, high)
    expected: type = bool if pa.types.is_boolean(plain) else str
    return lambda value: _of(value, expected)


def _of(value: Any, expected: type) -> Any:
    if type(value) is not expected:
        raise _Refused(RejectionCode.FIELD_TYPE)
    return value


def _list(value: Any, read: _Read) -> list[Any]:
    return [None if item is None else read(item) for item in _of(value, list)]


def _integer(value: Any, low: int, high: int) -> int:
    if not low <= (whole := int(_of(value, int))) <= high:
        raise _Refused(RejectionCode.FIELD_INEXACT)
    return whole


def _number(value: Any) -> float:
    if type(value) is int and abs(value) <= _EXACT_IN_FLOAT:
        return float(value)
    if type(value) is int:
        raise _Refused(RejectionCode.FIELD_INEXACT)
    return float(_of(value, float))


def _check_finite(value: Any) -> None:
    """Refuse NaN and infinities, which JSON cannot say."""
    if isinstance(value, float) and value - value != 0:
        raise FormatError(expected="finite numbers", got="NaN or infinity")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_finite(item)


class _Elements:
    """Cuts one array into its elements, without parsing them, holding no more than one of them and a chunk."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self.stream = stream
        self.limit = limit
        self.data = b""
        self.at = 0
        self.place = 0

    def records(self) -> Iterator[_Record]:
        """Give all elements of the array."""
        self._take(b"[", "an array")
        number = 0
        if self._next() == b"]":
            self._take(b"]", "]")
        else:
            closing = b","
            while closing == b",":
                self._next()
                begin = self.place + self.at
                number += 1
                yield _Record(f"record {number}, byte {begin}", self._element())
                closing = self._next()
                self._take(closing if closing in (b",", b"]") else b"]", "a comma or the end of the array")
        if self._next():
            raise FormatError(where=f"byte {self.place + self.at}", expected="the end of the file", got="more")

    def _more(self) -> bool:
        chunk = self.stream.read(_CHUNK_BYTES)
        self.place += self.at
        self.data = self.data[self.at :] + chunk
        self.at = 0
        return bool(chunk)

    def _next(self) -> bytes:
        """Pass over blanks and give the byte that follows, if there is one."""
        while True:
            match = _SPACE.match(self.data, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.data) or not self._more():
                return self.data[self.at : self.at + 1]

    def _take(self, byte: bytes, words: str) -> None:
        if self._next() != byte:
            raise FormatError(where=f"byte {self.place + self.at}", expected=words, got="something else")
        self.at += 1

    def _element(self) -> bytes:
        """Take the bytes of one element, up to the comma or bracket behind it."""
        match = _FLAT_OBJECT.match(self.data, self.at)
        end = match.end() if match else self._end()
        while end is None:
            if len(self.data) - self.at > self.limit or not self._more():
                raise FormatError(
                    where=f"byte {self.place + self.at}",
                    expected=f"a record of at most {self.limit} bytes that ends before the file does",
                    got="another",
                )
            end = self._end()
        raw = self.data[self.at : end]
        self.at = end
        return raw.rstrip(b" \t\r\n")

    def _end(self) -> int | None:
        """Where the element that begins here ends; None when more data is needed."""
        depth = 0
        for match in _TOKEN.finditer(self.data, self.at):
            token = match[0]
            if token == b'"':  # a string that is still open
                return None
            if token in (b"[", b"{"):
                depth += 1
            elif depth == 0 and token in (b",", b"]"):
                return match.start()
            elif token in (b"]", b"}"):
                depth -= 1
                if depth <= 0:
                    return match.end()
        return None
