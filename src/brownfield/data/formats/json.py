"""``json``: one object a line, or one array of objects, as strict as the requests of the prediction door.

Records are read together where nothing is in doubt; the others :func:`brownfield.contract.parse_json` reads one by one,
so that duplicate keys, NaN, numbers beyond 64 bits, deep nesting and NUL reject that record alone. An array is cut into
its records in bounded memory; one whose brackets do not close stops the file.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import msgspec
import pyarrow as pa

from brownfield.contract import parse_json
from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.base import BATCH_ROWS
from brownfield.data.formats.json_columns import ColumnReader, arrow_type, is_list
from brownfield.data.formats.lines import LineBatch, read_line_batches
from brownfield.data.formats.text import plain_type
from brownfield.errors import FormatError, InputRefused, RejectionCode

__all__ = ["Json"]

_CHUNK_BYTES = 1 << 18
_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = rb'"(?:[^"\\]|\\.)*+"'
_FLAT_OBJECT = re.compile(rb'\{[^{}"]*+(?:' + _STRING + rb'[^{}"]*+)*+\}', re.DOTALL)
_ELEMENT = re.compile(rb"(" + _FLAT_OBJECT.pattern + rb")[ \t\r\n]*+,[ \t\r\n]*+", re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|[][{},]|"', re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_EXACT_IN_FLOAT = 2**53


_TOGETHER = 1024
"""Records that are read together, few enough to stay in the processor's cache."""
_FEW = 16
"""Records that are read one by one when they cannot be read together."""


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
        if self.records == "lines":
            source = read_line_batches(stream, self.max_record_bytes, batch_rows)
        else:
            source = _Elements(stream, self.max_record_bytes).batches(batch_rows)
        reader = _Reader(wanted)
        for taken in source:
            yield reader.read(taken)

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


class _Reader:
    """Reads batches of records into the wanted columns."""

    def __init__(self, wanted: pa.Schema) -> None:
        self.wanted = wanted
        self.columns = [(field.name, _reader(field.type)) for field in wanted]
        self.types = [arrow_type(field.type) for field in wanted]
        self.fast = ColumnReader(wanted)

    def read(self, taken: LineBatch) -> Decoded:
        """Read a batch: its rows and rejects."""
        rejects: list[Reject] = []
        pieces: list[list[pa.Array]] = []
        good: list[int] = []
        for start in range(0, len(taken.raws), _TOGETHER):
            self._read_part(taken, start, min(start + _TOGETHER, len(taken.raws)), pieces, good, rejects)
        arrays = [
            pa.concat_arrays([piece[index] for piece in pieces]) if pieces else pa.array([], kind)
            for index, kind in enumerate(self.types)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, names=self.wanted.names)
        return Decoded(batch, lambda row: taken.position(good[row]), lambda row: taken.raws[good[row]], tuple(rejects))

    def _read_part(
        self, taken: LineBatch, start: int, end: int, pieces: list[list[pa.Array]], good: list[int],
        rejects: list[Reject],
    ) -> None:  # fmt: skip
        """Read records together, or in halves, or one by one."""
        columns = self.fast.read(taken.raws[start:end])
        if columns is not None:
            pieces.append(columns)
            good.extend(range(start, end))
        elif end - start > _FEW:
            middle = (start + end) // 2
            self._read_part(taken, start, middle, pieces, good, rejects)
            self._read_part(taken, middle, end, pieces, good, rejects)
        else:
            self._read_slowly(taken, range(start, end), pieces, good, rejects)

    def _read_slowly(
        self, taken: LineBatch, rows: range, pieces: list[list[pa.Array]], good: list[int], rejects: list[Reject]
    ) -> None:
        values: list[list[Any]] = [[] for _ in self.columns]
        for row in rows:
            raw = taken.raws[row]
            fault = (RejectionCode.DECODE_LONG, "", len(raw)) if row in taken.cut else self._read_record(raw, values)
            if fault is None:
                good.append(row)
            else:
                rejects.append(Reject(taken.position(row), fault[0], fault[1], raw, fault[2]))
        pieces.append([pa.array(column, kind) for column, kind in zip(values, self.types, strict=True)])

    def _read_record(self, raw: bytes, values: list[list[Any]]) -> tuple[RejectionCode, str, int] | None:
        """Append one record to the columns, or say why not: code, field, byte."""
        try:
            parsed = parse_json(raw)
        except InputRefused as error:
            violation = error.violations[0]
            return violation.code, violation.field, 0
        if not isinstance(parsed, dict):
            return RejectionCode.JSON_SHAPE, "", 0
        row = []
        for name, read in self.columns:
            value = parsed.get(name)
            try:
                row.append(None if value is None else read(value))
            except _Refused as error:
                return error.code, name, max(raw.find(b'"' + name.encode() + b'"'), 0)
        for column, value in zip(values, row, strict=True):
            column.append(value)
        return None


def _reader(kind: pa.DataType) -> _Read:
    if is_list(kind):
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

    def batches(self, rows: int) -> Iterator[LineBatch]:
        """Give all elements of the array, so many together."""
        taken = LineBatch("record", 0)
        for place, raw in self._elements():
            taken.raws.append(raw)
            taken.places.append(place)
            if len(taken.raws) == rows:
                yield taken
                taken = LineBatch("record", taken.first + rows)
        if taken.raws:
            yield taken

    def _elements(self) -> Iterator[tuple[int, bytes]]:
        """Give the place and bytes of each element."""
        self._take(b"[", "an array")
        if self._next() == b"]":
            self._take(b"]", "]")
        else:
            closing = b","
            while closing == b",":
                while match := _ELEMENT.match(self.data, self.at):
                    yield self.place + self.at, match[1]
                    self.at = match.end()
                self._next()
                begin = self.place + self.at
                yield begin, self._element()
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
