"""The prober's eye for text: JSON, XML, delimited text and columns of fixed width, and their character set."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.parsers import expat

from brownfield.contract import parse_json
from brownfield.data.formats.fixed_width import FixedWidth
from brownfield.data.formats.layout import read_layout
from brownfield.data.formats.probe_pages import PC_PAGES, rank_pages
from brownfield.data.formats.proposal import Proposal
from brownfield.errors import FormatError, InputRefused

__all__ = ["propose_text"]

_DELIMITERS = ",;\t|^~"
_MAX_LINES = 500
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?")
_COMMA, _POINT = re.compile(r"[+-]?[0-9]+,[0-9]+"), re.compile(r"[+-]?[0-9]+\.[0-9]+")
_LEAST_TEXT = 0.75
_FEW = 2


def propose_text(sample: bytes, layout: str | None, *, whole: bool) -> list[Proposal]:
    """Propose formats of text; none when the sample reads as no text.

    Parameters
    ----------
    sample
        The first bytes of a file.
    layout
        Content of a layout of fixed-width columns, if there is one.
    whole
        Whether the sample is the whole file, so that its last line is not cut.
    """
    encoding, text, evidence = _encoding(sample, whole=whole)
    if not encoding:
        return []
    lines = text.splitlines()
    if not whole and len(lines) > 1:
        lines = lines[:-1]
    if layout is not None:
        return [_fixed_width(lines, encoding, evidence, layout)]
    begin = text.lstrip()[:1]
    if begin == "<":
        return [_xml(sample)]
    if begin in ("{", "["):
        return [_json(text.lstrip(), lines)]
    kept = [line for line in lines[:_MAX_LINES] if line]
    delimited = [found for each in _DELIMITERS if (found := _csv(kept, each, encoding, evidence)) is not None]
    best = max((each.score for each in delimited), default=0.0)
    return sorted([*delimited, *_even(kept, encoding, evidence, best)], key=lambda each: -each.score)


def _encoding(sample: bytes, *, whole: bool) -> tuple[str, str, str]:
    """Find the character set: its name (empty for no text), the text, and the evidence."""
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in sample:
        return "", "", ""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(sample, final=whole).removeprefix("\ufeff")
    except UnicodeDecodeError:
        best = rank_pages(sample, PC_PAGES)[0]
        lines = sample.count(b"\n") + sample.count(b"\r")
        if best.score < _LEAST_TEXT or (len(sample) > 1 << 10 and not lines):
            return "", "", ""
        same = f", like {', '.join(best.alike)}" if best.alike else ""
        words = f"not UTF-8; {best.score:.0%} of the characters read as {best.name}{same}"
        return best.name, sample.decode(best.name, "replace"), words
    controls = sum(character < " " and character not in "\t\r\n" for character in text)
    if controls * 50 > len(text):
        return "", "", ""
    return "utf-8", text, "every byte is UTF-8" if not text.isascii() else "every byte is ASCII"


def _json(text: str, lines: Sequence[str]) -> Proposal:
    if text.startswith("["):
        is_object = text[1:].lstrip().startswith(("{", "]"))
        words = "begins as an array of objects" if is_object else "begins as an array of something else"
        return Proposal("json", {"records": "array"}, 0.95 if is_object else 0.2, (words,))
    seen = [line for line in lines[:_MAX_LINES] if line.strip()]
    good = sum(_is_object(line) for line in seen)
    return Proposal("json", {"records": "lines"}, good / len(seen), (f"{good} of {len(seen)} lines are objects",))


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line.encode()), dict)
    except InputRefused:
        return False


def _xml(sample: bytes) -> Proposal:
    """Find the element that repeats: of those below the root that hold others or attributes, the most frequent."""
    paths: list[str] = [""]
    seen: Counter[str] = Counter()
    rich: set[str] = set()
    doctype: list[bool] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        rich.add(paths[-1])
        paths.append(f"{paths[-1]}/{name}")
        seen[paths[-1]] += 1
        if attributes:
            rich.add(paths[-1])

    def end(_: str) -> None:
        paths.pop()

    def refuse(*_: Any) -> None:
        doctype.append(True)
        raise expat.ExpatError

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    try:
        parser.Parse(sample, False)
        broken = False
    except expat.ExpatError:
        broken = True
    if doctype:
        return Proposal("xml", {}, 0.0, ("has a DOCTYPE, which is refused",))
    candidates = [path for path in seen if path in rich and path.count("/") > 1]
    repeated = [path for path in candidates if seen[path] >= _FEW] or candidates
    if not repeated:
        return Proposal("xml", {}, 0.2, ("begins with <, but no element below the root holds others",))
    record = min(repeated, key=lambda path: (path.count("/"), -seen[path]))
    score = 0.3 if broken else 0.95 if seen[record] >= _FEW else 0.7
    words = "is not well-formed" if broken else "is well-formed so far"
    return Proposal("xml", {"record": record}, score, (f"{record} stands there {seen[record]} times", words))


def _csv(lines: Sequence[str], delimiter: str, encoding: str, evidence: str) -> Proposal | None:
    quote = _quote(lines, delimiter)
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, quotechar=quote, strict=True))
    except csv.Error:
        rows = [line.split(delimiter) for line in lines]
    if not rows:
        return None
    width, alike = Counter(len(row) for row in rows).most_common(1)[0]
    if width < _FEW:
        return None
    even = [row for row in rows if len(row) == width]
    header = _has_header(even)
    cells = [cell for row in (even[1:] if header else even) for cell in row]
    clean = sum(not any(mark in cell for mark in _DELIMITERS if mark not in (delimiter, ",")) for cell in cells)
    score = alike / len(rows) * (0.5 + 0.5 * clean / max(1, len(cells))) * (1 if len(rows) >= _FEW else 0.6)
    options: dict[str, Any] = {"delimiter": delimiter, "encoding": encoding}
    if quote != '"':
        options["quote"] = quote
    if not header:
        options["header"] = False
    commas = sum(_COMMA.fullmatch(cell) is not None for cell in cells)
    if delimiter != "," and commas > sum(_POINT.fullmatch(cell) is not None for cell in cells):
        options["decimal"] = ","
    name = "the tabulator" if delimiter == "\t" else f"the delimiter {delimiter}"
    words = f"{alike} of {len(rows)} records have {width} fields by {name}"
    first = "the first record reads as names" if header else "the first record reads as data"
    return Proposal("csv", options, round(score, 4), (words, first, evidence))


def _quote(lines: Sequence[str], delimiter: str) -> str:
    """Of the two marks, the one that opens and closes more fields."""
    fields = [field for line in lines for field in line.split(delimiter) if len(field) >= _FEW]
    single = sum(field[0] == field[-1] == "'" for field in fields)
    return "'" if single > sum(field[0] == field[-1] == '"' for field in fields) else '"'


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row reads as names: different, none empty or a number, and not like what stands below."""
    first, *below = rows
    if len(set(first)) < len(first) or not all(cell.strip() for cell in first):
        return False
    if any(_NUMBER.fullmatch(cell) for cell in first):
        return False
    numeric = [index for index in range(len(first)) if _mostly_numbers([row[index] for row in below])]
    named = all(re.fullmatch(r"[^\W\d][\w .#/()%-]{0,63}", cell) for cell in first)
    return bool(numeric) or (named and not any(cell in row for row in below for cell in first))


def _mostly_numbers(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and sum(_NUMBER.fullmatch(cell) is not None for cell in filled) * 10 >= len(filled) * 9


def _even(lines: Sequence[str], encoding: str, evidence: str, best: float) -> list[Proposal]:
    """Propose columns of fixed width when the lines have one length, the less the better a delimiter explains them."""
    if len(lines) < _FEW:
        return []
    width, alike = Counter(len(line) for line in lines).most_common(1)[0]
    score = alike / len(lines) * (0.8 if best < _LEAST_TEXT else 0.3)
    words = f"{alike} of {len(lines)} lines have {width} characters"
    return [Proposal("fixed_width", {"encoding": encoding}, round(score, 4), (words, "needs a layout", evidence))]


def _fixed_width(lines: Sequence[str], encoding: str, evidence: str, layout: str) -> Proposal:
    import pyarrow as pa

    compiled = read_layout(layout)
    data = "".join(f"{line}\n" for line in lines).encode(encoding)
    wanted = pa.schema([(name, pa.string()) for name in compiled.names])
    rows = rejects = 0
    try:
        for decoded in FixedWidth(compiled, encoding).decode(io.BytesIO(data), wanted):
            rows, rejects = rows + decoded.batch.num_rows, rejects + len(decoded.rejects)
    except FormatError:
        rejects += 1
    share = rows / max(1, rows + rejects)
    words = f"{rows} of {rows + rejects} lines fit the layout"
    return Proposal("fixed_width", {"encoding": encoding}, round(share, 4), (words, evidence))
