"""What a delivery says of itself, and whether it is so: markers, trailers, counts, lengths, digests, control totals.

A marker is lines of ``name=value`` in a file of its own; a trailer is the last record of the file itself. Both are
compared before the first record is given to anyone.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from brownfield.errors import RejectionCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brownfield.data.decoded import Decoded

__all__ = ["Claims", "Part", "Refusal", "Sums", "Trailer", "parse_marker"]

_LONGEST_MARKER = 64 * 1024
_LONGEST_TRAILER = 64 * 1024
_COUNT = re.compile(r"[0-9]{1,18}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_TOTAL = "total."


class Refusal(Exception):
    """A file is refused as a whole."""

    def __init__(self, code: RejectionCode, what: str) -> None:
        self.code = code
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a delivery says of itself; None, and no total, where it does not say it.

    Parameters
    ----------
    count
        Records.
    size_bytes
        Length of the file.
    sha256
        Digest of the file, in hexadecimal digits.
    totals
        Column to the sum of its values.
    """

    count: int | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    totals: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def of_records(self) -> bool:
        """Whether the records must be read to compare."""
        return self.count is not None or bool(self.totals)

    def check_bytes(self, size_bytes: int, sha256: str) -> None:
        """Refuse a file of another length or content."""
        if self.size_bytes not in (None, size_bytes):
            raise Refusal(RejectionCode.FILE_LENGTH, f"{self.size_bytes} bytes announced, {size_bytes} there")
        if self.sha256 not in (None, sha256):
            raise Refusal(RejectionCode.FILE_DIGEST, "another content than announced")

    def check_records(self, sums: "Sums") -> None:
        """Refuse a file with another number of records, or other totals."""
        if self.count not in (None, sums.records):
            raise Refusal(RejectionCode.FILE_COUNT, f"{self.count} records announced, {sums.records} there")
        for column, total in self.totals.items():
            if not sums.agrees(column, total):
                raise Refusal(RejectionCode.FILE_TOTAL, f"the control total of {column} disagrees")


def parse_marker(content: bytes, needed: "Iterable[str]" = ()) -> Claims:
    r"""Read a marker; an empty one says nothing.

    Parameters
    ----------
    content
        The whole marker. Lines are ``count=``, ``bytes=``, ``sha256=`` and ``total.<column>=``; others are passed over.
    needed
        What it must say.

    Raises
    ------
    Refusal
        When it is cut short or malformed, or does not say what it must.

    Examples
    --------
    >>> parse_marker(b"count=2\ntotal.amount=3.50\n").totals
    {'amount': Decimal('3.50')}
    """
    said: dict[str, str] = {}
    try:
        text = content.decode("utf-8") if len(content) <= _LONGEST_MARKER else "\0"
    except UnicodeDecodeError:
        text = "\0"
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals or name in said:
            raise Refusal(RejectionCode.FILE_MARKER, "the marker is malformed")
        said[name] = value.strip()
    if text and not text.endswith("\n"):
        raise Refusal(RejectionCode.FILE_MARKER, "the marker ends within a line")
    for name in needed:
        if name not in said:
            raise Refusal(RejectionCode.FILE_MARKER, f"the marker does not say {name}")
    for name, shape in (("count", _COUNT), ("bytes", _COUNT), ("sha256", _DIGEST)):
        if name in said and not shape.fullmatch(said[name]):
            raise Refusal(RejectionCode.FILE_MARKER, f"the marker's {name} is malformed")
    return Claims(
        int(said["count"]) if "count" in said else None,
        int(said["bytes"]) if "bytes" in said else None,
        said["sha256"].lower() if "sha256" in said else None,
        {
            name.removeprefix(_TOTAL): _number(value, RejectionCode.FILE_MARKER)
            for name, value in said.items()
            if name.startswith(_TOTAL)
        },
    )


class Sums:
    """Counts records and sums columns exactly, batch after batch.

    Parameters
    ----------
    columns
        To sum. Values that are missing, and records that do not decode, add nothing.
    """

    def __init__(self, columns: "Iterable[str]") -> None:
        self.records = 0
        self._exact: dict[str, Decimal] = dict.fromkeys(columns, Decimal(0))
        self._floats: dict[str, list[float]] = {}

    def add(self, decoded: "Decoded") -> None:
        """Add what was read together.

        Raises
        ------
        Refusal
            When a column is not read, or is none of numbers.
        """
        self.records += decoded.records
        for column in self._exact:
            place = decoded.batch.schema.get_field_index(column)
            kind = None if place < 0 else decoded.batch.schema.field(place).type
            if kind is None or not (
                pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind)
            ):
                raise Refusal(RejectionCode.FILE_TOTAL, f"the contract has no column of numbers {column}")
            values = [value for value in decoded.batch.column(place).to_pylist() if value is not None]
            if pa.types.is_floating(kind):
                self._floats[column] = [math.fsum([*self._floats.get(column, ()), *values])]
            else:
                self._exact[column] += sum(values)

    def agrees(self, column: str, announced: Decimal) -> bool:
        """Compare a sum; floating point numbers to half a unit of the last decimal announced."""
        if column not in self._floats:
            return self._exact[column] == announced
        (total,) = self._floats[column]
        exponent = announced.as_tuple().exponent
        unit = 10.0 ** (exponent if isinstance(exponent, int) else 0)
        return math.isfinite(total) and abs(total - float(announced)) <= max(unit / 2, 1e-9 * abs(total))


@dataclass(frozen=True, slots=True)
class Part:
    """Where a number stands in a trailer.

    Parameters
    ----------
    field
        Number of the field, from 1, in a delimited trailer; 0 in one of fixed places.
    start, length
        First byte, from 1, and bytes of it, in a trailer of fixed places.
    scale
        Digits behind a decimal mark that is not written.
    """

    field: int = 0
    start: int = 0
    length: int = 0
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last record of a file, which is no data.

    Parameters
    ----------
    begins
        Text with which it begins.
    count
        Where the number of records stands, without the trailer and a header line.
    totals
        Column to where its sum stands.
    delimiter, encoding
        Of the file.
    record_bytes
        Length of a record in a file without line ends; 0 for a file of lines.
    """

    begins: str
    count: Part | None = None
    totals: Mapping[str, Part] = field(default_factory=dict)
    delimiter: str = ","
    encoding: str = "utf-8"
    record_bytes: int = 0

    def cut(self, stream: BinaryIO, size_bytes: int) -> tuple[BinaryIO, Claims]:
        """Give the file without its trailer, and what the trailer says.

        Raises
        ------
        Refusal
            When the last record is no trailer, as in a file that was cut short.
        """
        tail_bytes = min(size_bytes, self.record_bytes or _LONGEST_TRAILER)
        stream.seek(size_bytes - tail_bytes)
        tail = stream.read(tail_bytes)
        if not self.record_bytes:
            tail = tail.rstrip(b"\r\n\x1a")
            tail = tail[tail.rfind(b"\n") + 1 :]
            raw_tail_bytes = _tail_bytes(stream, size_bytes, tail)
        else:
            raw_tail_bytes = tail_bytes
        begins = self.begins.encode(self.encoding)
        if not tail.startswith(begins):
            raise Refusal(RejectionCode.FILE_TRAILER, "its last record is no trailer")
        claims = Claims(
            count=None if self.count is None else self._count(tail, self.count),
            totals={column: self._read(tail, part) for column, part in self.totals.items()},
        )
        stream.seek(0)
        return BufferedReader(_Head(stream, size_bytes - raw_tail_bytes)), claims

    def _count(self, tail: bytes, part: Part) -> int:
        number = self._read(tail, part)
        if number != number.to_integral_value() or number < 0:
            raise Refusal(RejectionCode.FILE_TRAILER, "its count is no whole number")
        return int(number)

    def _read(self, tail: bytes, part: Part) -> Decimal:
        if part.field:
            fields = tail.decode(self.encoding, "replace").split(self.delimiter)
            text = fields[part.field - 1].strip().strip('"') if part.field <= len(fields) else ""
        else:
            text = tail[part.start - 1 : part.start - 1 + part.length].decode(self.encoding, "replace").strip()
        return _number(text, RejectionCode.FILE_TRAILER).scaleb(-part.scale)


def _tail_bytes(stream: BinaryIO, size_bytes: int, tail: bytes) -> int:
    """Bytes from where the trailer begins to the end of the file."""
    longest = min(size_bytes, _LONGEST_TRAILER)
    stream.seek(size_bytes - longest)
    return longest - stream.read(longest).rfind(tail)


def _number(text: str, code: RejectionCode) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise Refusal(code, "a control total is no number")
    return number


class _Head(RawIOBase):
    """The first bytes of a stream."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._left = size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]  # a raw stream's own shape
        data = self._stream.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)
