"""``csv``: delimited text in a declared dialect, never a guessed one.

Each record comes out exactly once. A quote may stand only around a whole field and is doubled inside it; where a line
breaks that, or its fields do not number as the header's, that one line is rejected and reading goes on behind it, so
a stray quote cannot swallow the rest of the file.
"""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.base import BATCH_ROWS
from brownfield.data.formats.code_page import code_page
from brownfield.data.formats.lines import LINE_END, Line, read_lines
from brownfield.data.formats.text import parse_text, write_text
from brownfield.errors import DeclarationError, FormatError, RejectionCode

__all__ = ["Csv"]


class _Record(NamedTuple):
    """One record: where it stands, its bytes without the line end, and why and where it is refused, if it is."""

    position: str
    raw: bytes
    code: RejectionCode | None = None
    offset: int = 0

    def refused(self, code: RejectionCode, offset: int = 0) -> "_Record":
        return self._replace(code=code, offset=offset)


@dataclass(frozen=True)
class Csv:
    r"""Delimited text.

    Parameters
    ----------
    delimiter, quote
        One ASCII character each.
    encoding
        ``utf-8``, or a character set of one byte a character that contains ASCII, such as ``cp1252``.
    header
        Whether the first record names the columns; columns that are not wanted are passed over. Without a header the
        columns are the wanted ones, in their order.
    decimal
        The decimal mark.
    max_record_bytes
        A longer record is rejected.

    Raises
    ------
    DeclarationError
        When the dialect contradicts itself or the character set does not fit.

    Examples
    --------
    >>> import io, pyarrow as pa
    >>> file = io.BytesIO(b'store;price\n367;"1,50"\n368;\n369\n')
    >>> wanted = pa.schema([("store", pa.int64()), ("price", pa.float64())])
    >>> (decoded,) = Csv(delimiter=";", decimal=",").decode(file, wanted)
    >>> decoded.batch.to_pylist()
    [{'store': 367, 'price': 1.5}, {'store': 368, 'price': None}]
    >>> [(each.position, str(each.code)) for each in decoded.rejects]
    [('line 4, byte 28', 'BF-DEC-003')]
    """

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: bool = True
    decimal: str = "."
    max_record_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        marks = (self.delimiter, self.quote, self.decimal)
        one_each = all(len(mark) == 1 and mark.isascii() and mark not in "\r\n\0" for mark in marks)
        if not one_each or self.quote in (self.delimiter, self.decimal):
            raise DeclarationError(
                path="delimiter", expected="one ASCII character each for delimiter, quote and decimal", got="others"
            )
        if not _holds_ascii(self.encoding):
            raise DeclarationError(
                path="encoding",
                expected="utf-8, or a character set of one byte a character with ASCII in it",
                got=repr(self.encoding),
                next_step="Convert the file first, for example with iconv.",
            )

    def decode(self, stream: BinaryIO, wanted: pa.Schema, batch_rows: int = BATCH_ROWS) -> Iterator[Decoded]:
        """Read a stream to its end (:class:`Format`); an unquoted empty field is missing."""
        records = _Splitter(self, stream).records()
        names, head = self._read_header(records, wanted) if self.header else (tuple(wanted.names), b"")
        batch: list[_Record] = []
        for record in records:
            batch.append(record)
            if len(batch) == batch_rows:
                yield replace(self._decode_batch(batch, names, wanted), head=head)
                batch = []
        if batch:
            yield replace(self._decode_batch(batch, names, wanted), head=head)

    def _read_header(self, records: Iterator[_Record], wanted: pa.Schema) -> tuple[tuple[str, ...], bytes]:
        first = next(records, None)
        if first is None or first.code is not None:
            raise FormatError(where="line 1", expected="a header", got="none" if first is None else "a malformed line")
        names = tuple(self._fields(first.raw))
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise FormatError(where="line 1", expected="each column once", got=f"{twice} twice")
        for name in wanted.names:
            if name not in names:
                near = get_close_matches(name, names, 1)
                raise FormatError(
                    where="line 1",
                    expected=f"a column {name} in the header",
                    got="none of that name",
                    next_step=f"The nearest is {near[0]}." if near else "Is the delimiter the declared one?",
                )
        return names, first.raw + LINE_END

    def _fields(self, raw: bytes) -> list[str]:
        text = io.StringIO(raw.decode(self.encoding), newline="")
        return next(csv.reader(text, delimiter=self.delimiter, quotechar=self.quote, strict=True), [""])

    def _decode_batch(self, batch: Sequence[_Record], names: Sequence[str], wanted: pa.Schema) -> Decoded:
        batch = _refuse_text(_refuse_ragged(batch, len(names), self), self.encoding)
        good = [record for record in batch if record.code is None]
        table = self._parse(good, names, wanted)
        arrays: list[pa.Array] = []
        faults: dict[int, tuple[str, RejectionCode]] = {}
        for field in wanted:
            text = table.column(field.name).combine_chunks()
            values, bad, code = parse_text(text, field.type, self.decimal)
            arrays.append(values)
            for row in np.flatnonzero(bad):
                faults.setdefault(int(row), (field.name, code))
        decoded = pa.RecordBatch.from_arrays(arrays, names=list(wanted.names))
        rejects = [_reject(record) for record in batch if record.code is not None]
        if faults:
            rejects += [self._field_reject(good[row], names, *fault) for row, fault in sorted(faults.items())]
            rows = np.setdiff1d(np.arange(len(good)), list(faults))
            decoded = decoded.take(pa.array(rows))
            good = [good[row] for row in rows]
        return Decoded(decoded, lambda row: good[row].position, lambda row: good[row].raw, tuple(rejects))

    def _parse(self, records: Sequence[_Record], names: Sequence[str], wanted: pa.Schema) -> pa.Table:
        """Parse well-formed records to columns of text."""
        body = LINE_END.join([record.raw for record in records])
        if codecs.lookup(self.encoding).name != "utf-8":
            body = body.decode(self.encoding).encode()
        if not records:
            return pa.table({name: pa.array([], pa.string()) for name in wanted.names})
        table = pa_csv.read_csv(
            pa.py_buffer(body + LINE_END),
            pa_csv.ReadOptions(use_threads=False, block_size=len(body) + 2, column_names=list(names)),
            pa_csv.ParseOptions(
                delimiter=self.delimiter, quote_char=self.quote, newlines_in_values=True, ignore_empty_lines=False
            ),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=list(wanted.names),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        if table.num_rows != len(records):
            raise AssertionError("the splitter and the parser disagree on the number of records")
        return table

    def _field_reject(self, record: _Record, names: Sequence[str], name: str, code: RejectionCode) -> Reject:
        field = re.compile(_field_pattern(self).encode())
        start = 0
        for _ in range(names.index(name)):
            match = field.match(record.raw, start)
            start = match.end() + 1 if match else start
        return Reject(record.position, code, name, record.raw, start)

    def encode(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Write records (:class:`Format`), every text in quotes, missing values as empty fields."""
        header_due = self.header
        for batch in batches:
            columns = [self._written_column(column) for column in batch.columns]
            lines = [self.delimiter.join(fields) for fields in zip(*columns, strict=True)]
            if header_due:
                lines.insert(0, self.delimiter.join(self._quoted(name) for name in batch.schema.names))
                header_due = False
            try:
                yield "".join(line + "\n" for line in lines).encode(self.encoding)
            except UnicodeEncodeError:
                raise FormatError(expected=f"characters of {self.encoding}", got="others") from None

    def _written_column(self, column: pa.Array) -> list[str]:
        written = write_text(column, self.decimal)
        if pa.types.is_floating(column.type) and self.decimal != self.delimiter:
            return [each or "" for each in written]
        if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
            return [each or "" for each in written]
        return ["" if each is None else self._quoted(each) for each in written]

    def _quoted(self, text: str) -> str:
        if "\0" in text:
            raise FormatError(expected="text without NUL", got="one with it")
        return self.quote + text.replace(self.quote, self.quote * 2) + self.quote


class _Splitter:
    """Cuts a stream into records, line by line, with a bounded amount of it in memory."""

    def __init__(self, dialect: Csv, stream: BinaryIO) -> None:
        self.lines = read_lines(stream, dialect.max_record_bytes)
        self.limit = dialect.max_record_bytes
        self.quote = dialect.quote.encode()
        self.mark = codecs.BOM_UTF8 if codecs.lookup(dialect.encoding).name == "utf-8" else b""
        self.back: deque[Line] = deque()
        quote, comma, field = re.escape(dialect.quote), re.escape(dialect.delimiter), _field_pattern(dialect)
        inside = f"(?:[^{quote}]|{quote}{quote})*+"
        self.whole = re.compile(f"{field}(?:{comma}{field})*".encode())
        self.opens = re.compile(f"(?:{field}{comma})*{quote}{inside}".encode())
        self.closes = re.compile(f"{inside}{quote}(?:{comma}{field})*".encode())
        self.stays = re.compile(f"{inside}(?:{quote}{comma}(?:{field}{comma})*{quote}{inside})?".encode())

    def records(self) -> Iterator[_Record]:
        """Give all records, the malformed ones with their code."""
        while (line := self._next_line()) is not None:
            if line.is_cut:
                yield _Record(line.position, line.raw).refused(RejectionCode.DECODE_LONG, self.limit)
            elif self.quote in line.raw and not self.whole.fullmatch(line.raw):
                yield self._across_lines(line)
            else:
                yield _Record(line.position, line.raw)

    def _next_line(self) -> Line | None:
        if self.back:
            return self.back.popleft()
        line = next(self.lines, None)
        if line is not None and line.byte == 0 and self.mark:
            return line._replace(raw=line.raw.removeprefix(self.mark))
        return line

    def _across_lines(self, first: Line) -> _Record:
        """Join the lines of a quoted field, or refuse the first line alone and put the others back."""
        taken: list[Line] = []
        if self.opens.fullmatch(first.raw):
            length = len(first.raw)
            while (line := self._next_line()) is not None:
                taken.append(line)
                length += len(line.raw) + len(line.end)
                if line.is_cut or length > self.limit:
                    break
                if self.quote not in line.raw:
                    continue
                if self.closes.fullmatch(line.raw):
                    raw = b"".join(each.raw + each.end for each in (first, *taken)).removesuffix(line.end)
                    return _Record(first.position, raw)
                if not self.stays.fullmatch(line.raw):
                    break
        self.back.extendleft(reversed(taken))
        return _Record(first.position, first.raw).refused(RejectionCode.DECODE_QUOTE, first.raw.index(self.quote))


def _field_pattern(dialect: Csv) -> str:
    quote, comma = re.escape(dialect.quote), re.escape(dialect.delimiter)
    return f"(?:{quote}(?:[^{quote}]|{quote}{quote})*+{quote}|[^{quote}{comma}\\r\\n]*+)"


def _refuse_ragged(batch: Sequence[_Record], columns: int, dialect: Csv) -> list[_Record]:
    """Refuse records whose number of fields is not the header's, and carriage returns that stand in the open."""
    quote, comma = dialect.quote.encode(), dialect.delimiter.encode()
    in_quotes = re.compile(re.escape(quote) + b"[^" + re.escape(quote) + b"]*" + re.escape(quote))

    def judged(record: _Record) -> _Record:
        in_the_open = in_quotes.sub(b"", record.raw) if quote in record.raw else record.raw
        if in_the_open.count(comma) != columns - 1:
            return record.refused(RejectionCode.DECODE_COLUMNS)
        if b"\r" in in_the_open:
            return record.refused(RejectionCode.DECODE_TEXT, record.raw.index(b"\r"))
        return record

    return [judged(record) if record.code is None else record for record in batch]


def _refuse_text(batch: Sequence[_Record], encoding: str) -> list[_Record]:
    """Refuse records with NUL or with bytes that are no characters of the declared set."""
    whole = LINE_END.join([record.raw for record in batch])
    if _fault(whole, encoding) is None:
        return list(batch)

    def judged(record: _Record) -> _Record:
        at = _fault(record.raw, encoding)
        return record if at is None else record.refused(RejectionCode.DECODE_TEXT, at)

    return [judged(record) if record.code is None else record for record in batch]


def _fault(raw: bytes, encoding: str) -> int | None:
    """First byte that cannot stand in a text."""
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        return error.start
    return raw.index(b"\0") if b"\0" in raw else None


def _reject(record: _Record) -> Reject:
    if record.code is None:
        raise AssertionError("a good record is no reject")
    return Reject(record.position, record.code, "", record.raw, record.offset)


def _holds_ascii(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name == "utf-8" or code_page(encoding).has_ascii
    except (LookupError, DeclarationError):
        return False
