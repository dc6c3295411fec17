"""``xml``: a record element by its path, its attributes and children as fields; read in bounded memory.

A DOCTYPE is refused as soon as it stands there, so that no entity, external file or default attribute of its making is
ever looked at. Depth, attributes and the size of a record and of everything between records are capped.
The standard library's reader is used because it alone tells the byte at which an element begins: a rejected record
keeps its bytes as they came.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.base import BATCH_ROWS
from brownfield.data.formats.text import parse_text, write_text
from brownfield.errors import DeclarationError, FormatError, RejectionCode

__all__ = ["Xml"]

_CHUNK_BYTES = 1 << 16
_MAX_DEPTH = 64
_MAX_ATTRIBUTES = 256
_NAME = r"(?:[A-Za-z_][\w.-]*:)?[A-Za-z_][\w.-]*"
_RECORD_PATH = re.compile(rf"(?:/{_NAME})+")
_FIELD_PATH = re.compile(rf"\.|(?:{_NAME}/)*(?:@?{_NAME})")
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_IN_TEXT = {"\r": "&#13;"}
_IN_ATTRIBUTE = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}

_Path = tuple[str, ...]


class _Record(NamedTuple):
    position: str
    raw: bytes
    values: dict[str, list[str]]
    mixed: frozenset[str]
    """Columns whose element holds other elements instead of a text alone."""


@dataclass(frozen=True)
class Xml:
    """Records in an XML document.

    Parameters
    ----------
    record
        Path of the element that is a record, from the root, such as ``/orders/order``.
    fields
        Where a column stands in the record: ``name`` or ``a/b`` an element, ``@name`` or ``a/@name`` an attribute,
        ``.`` the record's own text. A column that is not named stands in the child element of its name.
    namespaces
        Prefixes of the paths and the namespaces that they mean; a name without a prefix is in none.
    max_record_bytes
        A longer record, or more between two records, stops the file.

    Raises
    ------
    DeclarationError
        When a path is malformed or has an unknown prefix.

    Examples
    --------
    >>> import io
    >>> file = b'<orders><order id="1"><qty>2</qty></order><order id="x"><qty/></order></orders>'
    >>> wanted = pa.schema([("id", pa.int64()), ("qty", pa.int64())])
    >>> (decoded,) = Xml("/orders/order", {"id": "@id"}).decode(io.BytesIO(file), wanted)
    >>> decoded.batch.to_pylist()
    [{'id': 1, 'qty': 2}]
    >>> [(each.position, each.field, each.raw) for each in decoded.rejects]
    [('record 2, byte 42', 'id', b'<order id="x"><qty/></order>')]
    """

    record: str
    fields: Mapping[str, str] = field(default_factory=dict)
    namespaces: Mapping[str, str] = field(default_factory=dict)
    max_record_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if not _RECORD_PATH.fullmatch(self.record):
            raise DeclarationError(path="record", expected="a path such as /orders/order", got=repr(self.record))
        for name, path in self.fields.items():
            if not _FIELD_PATH.fullmatch(path):
                raise DeclarationError(path=f"fields.{name}", expected="a path such as a/b or @id", got=repr(path))
        for prefix in re.findall(r"([\w.-]+):", " ".join((self.record, *self.fields.values()))):
            if prefix not in self.namespaces:
                raise DeclarationError(path="namespaces", expected=f"the prefix {prefix}", got="none of that name")

    def decode(self, stream: BinaryIO, wanted: pa.Schema, batch_rows: int = BATCH_ROWS) -> Iterator[Decoded]:
        """Read a stream to its end (:class:`Format`); what is not wanted is passed over.

        Raises
        ------
        FormatError
            When the document is not well-formed, has a DOCTYPE, or passes a cap.
        """
        reader = _Reader(self.max_record_bytes, self._record_path, self._places(wanted.names))
        batch: list[_Record] = []
        for record in reader.records(stream):
            batch.append(record)
            if len(batch) == batch_rows:
                yield _decode(batch, wanted, self.fields)
                batch = []
        if batch:
            yield _decode(batch, wanted, self.fields)

    @cached_property
    def _record_path(self) -> _Path:
        return tuple(self._name(step) for step in self.record.strip("/").split("/"))

    def _places(self, names: Sequence[str]) -> dict[_Path, str]:
        """Column that stands at each place of a record."""
        places: dict[_Path, str] = {}
        for name in names:
            path = self.fields.get(name, name)
            steps = () if path == "." else tuple(self._name(step) for step in path.split("/"))
            if steps in places:
                raise FormatError(path=name, expected="a place of its own for each column", got="one that another has")
            places[steps] = name
        return places

    def _name(self, step: str) -> str:
        """Name of an element or attribute, with its namespace before it as the reader puts it."""
        mark, bare = ("@", step[1:]) if step.startswith("@") else ("", step)
        prefix, _, local = bare.rpartition(":")
        return f"{mark}{self.namespaces[prefix]} {local}" if prefix else step

    def encode(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Write records (:class:`Format`) in UTF-8; missing values are left out, and lists are repeated elements."""
        *outer, record = self.record.strip("/").split("/")
        if not outer:
            raise FormatError(path="record", expected="an element around the records, to write them", got="none")
        declared = "".join(f" xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in self.namespaces.items())
        opening = f"<{outer[0]}{declared}>" + "".join(f"<{step}>" for step in outer[1:])
        yield f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}\n'.encode()
        for batch in batches:
            self._places(batch.schema.names)
            columns = [_written(column, name) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
            lines = []
            for row in range(batch.num_rows):
                element = _Element()
                for name, column in zip(batch.schema.names, columns, strict=True):
                    element.put(self.fields.get(name, name), column[row])
                lines.append(element.text(record) + "\n")
            yield "".join(lines).encode()
        yield ("".join(f"</{step}>" for step in reversed(outer)) + "\n").encode()


class _Reader:
    """Reads one document, event by event."""

    def __init__(self, limit: int, record_path: _Path, places: Mapping[_Path, str]) -> None:
        self.limit = limit
        self.record_path = record_path
        self.places = places
        self.attributes = {path: column for path, column in places.items() if path and path[-1].startswith("@")}
        self.path: list[str] = []
        self.found: list[_Record] = []
        self.data = b""
        self.place = 0  # of data in the file
        self.begin: int | None = None  # of the record that is open
        self.last = 0  # place of the last event
        self.number = 0
        self.values: dict[str, list[str]] = {}
        self.texts: list[tuple[str, list[str]]] = []
        self.mixed: set[str] = set()
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def records(self, stream: BinaryIO) -> Iterator[_Record]:
        """Give the records of the document."""
        while chunk := stream.read(_CHUNK_BYTES):
            if not self.place and not self.data:
                _check_beginning(chunk)
            self.data += chunk
            self._parse(chunk, is_last=False)
            if self.place + len(self.data) - (self.last if self.begin is None else self.begin) > self.limit:
                raise self._refuse(f"at most {self.limit} bytes in a record, and between two elements")
            yield from self._taken()
        self._parse(b"", is_last=True)
        yield from self._taken()

    def _parse(self, chunk: bytes, *, is_last: bool) -> None:
        try:
            self.parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise FormatError(
                where=f"line {error.lineno}, byte {self.parser.ErrorByteIndex}",
                expected="a well-formed document", got=expat.ErrorString(error.code),
            ) from None  # fmt: skip

    def _taken(self) -> list[_Record]:
        found, self.found = self.found, []
        keep = self.last if self.begin is None else self.begin
        self.data = self.data[keep - self.place :]
        self.place = keep
        return found

    def _refuse(self, expected: str) -> FormatError:
        return FormatError(where=f"byte {self.parser.CurrentByteIndex}", expected=expected, got="more")

    def _doctype(self, *_: Any) -> None:
        raise FormatError(
            where=f"byte {self.parser.CurrentByteIndex}", expected="a document without a DOCTYPE", got="one with it",
            next_step="A DOCTYPE can name other files and blow up texts; remove it at the sender.",
        )  # fmt: skip

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.last = self.parser.CurrentByteIndex
        if len(self.path) == _MAX_DEPTH:
            raise self._refuse(f"at most {_MAX_DEPTH} elements inside each other")
        if len(attributes) > _MAX_ATTRIBUTES:
            raise self._refuse(f"at most {_MAX_ATTRIBUTES} attributes of an element")
        if self.texts:
            self.mixed.add(self.texts[-1][0])
        self.path.append(name)
        depth = len(self.record_path)
        if self.begin is None:
            if len(self.path) != depth or tuple(self.path) != self.record_path:
                return
            self.begin = self.last
        inside = tuple(self.path[depth:])
        column = self.places.get(inside)
        if column is not None and inside:
            self.texts.append((column, []))
        elif column is not None:
            self.values[column] = [""]
        for path, attribute in self.attributes.items():
            value = attributes.get(path[-1][1:]) if path[:-1] == inside else None
            if value is not None:
                self.values.setdefault(attribute, []).append(value)

    def _text(self, text: str) -> None:
        self.last = self.parser.CurrentByteIndex
        if self.begin is None:
            return
        if self.texts and self.places.get(tuple(self.path[len(self.record_path) :])) == self.texts[-1][0]:
            self.texts[-1][1].append(text)
        elif len(self.path) == len(self.record_path) and () in self.places:
            self.values[self.places[()]][0] += text

    def _end(self, _name: str) -> None:
        self.last = self.parser.CurrentByteIndex
        if self.begin is not None:
            inside = tuple(self.path[len(self.record_path) :])
            if self.texts and self.places.get(inside) == self.texts[-1][0]:
                column, parts = self.texts.pop()
                self.values.setdefault(column, []).append("".join(parts))
            if not inside:
                self._close_record()
        self.path.pop()

    def _close_record(self) -> None:
        begin = self.begin or 0
        end = self.last - self.place
        if self.data.startswith(b"</", end):
            end = self.data.index(b">", end) + 1
        self.number += 1
        raw = self.data[begin - self.place : end]
        position = f"record {self.number}, byte {begin}"
        self.found.append(_Record(position, raw, self.values, frozenset(self.mixed)))
        self.begin, self.values, self.mixed = None, {}, set()


def _check_beginning(data: bytes) -> None:
    """Refuse what is no XML in a character set that contains ASCII."""
    if not data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").startswith(b"<") or b"\0" in data[:4]:
        raise FormatError(where="byte 0", expected="XML in UTF-8 or a character set like it", got="other bytes")


def _decode(records: Sequence[_Record], wanted: pa.Schema, paths: Mapping[str, str]) -> Decoded:
    faults: dict[int, tuple[str, RejectionCode]] = {}
    arrays = []
    for column in wanted:
        array, bad = _column(records, column.name, column.type)
        arrays.append(array)
        for row, code in bad.items():
            faults.setdefault(row, (column.name, code))
    batch = pa.RecordBatch.from_arrays(arrays, names=list(wanted.names))
    rejects = []
    for row, (name, code) in sorted(faults.items()):
        raw = records[row].raw
        local = re.split("[/@:.]", paths.get(name, name))[-1].encode()
        rejects.append(Reject(records[row].position, code, name, raw, max(raw.find(local), 0)))
    good = [row for row in range(len(records)) if row not in faults]
    if faults:
        batch = batch.take(pa.array(good, pa.int64()))
    return Decoded(batch, lambda row: records[good[row]].position, lambda row: records[good[row]].raw, tuple(rejects))


def _column(records: Sequence[_Record], name: str, kind: pa.DataType) -> tuple[pa.Array, dict[int, RejectionCode]]:
    """Decode one column, and say in which records it is bad."""
    is_list = bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
    found = [record.values.get(name, []) for record in records]
    bad = {row: RejectionCode.FIELD_TYPE for row, record in enumerate(records) if name in record.mixed}
    if not is_list:
        bad |= {row: RejectionCode.DECODE_COLUMNS for row, values in enumerate(found) if len(values) > 1}
        texts = pa.array([values[0] if len(values) == 1 else None for values in found], pa.string())
        values, unparsed, code = _parse(texts, kind)
        return values, {int(row): code for row in np.flatnonzero(unparsed)} | bad
    flat = pa.array([value for values in found for value in values], pa.string())
    lengths = np.array([len(values) for values in found], dtype=np.int64)
    values, unparsed, code = _parse(flat, kind.value_type)
    owners = np.repeat(np.arange(len(records)), lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values), {int(row): code for row in owners[unparsed]} | bad


def _parse(texts: pa.StringArray, kind: pa.DataType) -> Any:
    """Parse texts; of what is no text an empty one is missing."""
    if not pa.types.is_string(kind):
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    return parse_text(texts, kind)


class _Element:
    """An element to be written."""

    def __init__(self) -> None:
        self.attributes: dict[str, str] = {}
        self.children: dict[str, list[_Element]] = {}
        self.own = ""

    def put(self, path: str, values: Sequence[str]) -> None:
        """Put values where a path says."""
        *steps, last = path.split("/")
        element = self
        for step in steps if values else ():
            element = element.children.setdefault(step, [_Element()])[0]
        for value in values:
            if last.startswith("@"):
                element.attributes[last[1:]] = value
            elif last == ".":
                element.own = value
            else:
                child = _Element()
                child.own = value
                element.children.setdefault(last, []).append(child)

    def text(self, name: str) -> str:
        """Write the element under a name."""
        attributes = "".join(f" {key}={quoteattr(value, _IN_ATTRIBUTE)}" for key, value in self.attributes.items())
        inside = "".join(child.text(step) for step, children in self.children.items() for child in children)
        return f"<{name}{attributes}>{escape(self.own, _IN_TEXT)}{inside}</{name}>"


def _written(column: pa.Array, name: str) -> list[list[str]]:
    """Texts of a column, none for a missing value."""
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if is_list and (column.null_count or column.flatten().null_count):
        raise FormatError(path=name, expected="lists without missing values", got="a missing one")
    texts = write_text(column.flatten()) if is_list else write_text(column)
    if any(text is not None and _UNWRITABLE.search(text) for text in texts):
        raise FormatError(path=name, expected="characters that XML admits", got="others")
    if not is_list:
        return [[] if text is None else [text] for text in texts]
    known: list[str] = [text or "" for text in texts]
    ends: list[int] = np.cumsum([0, *pc.list_value_length(column).to_pylist()]).tolist()
    return [known[start:end] for start, end in pairwise(ends)]
