"""Compile a COBOL copybook to a :class:`~brownfield.data.formats.layout.Layout`.

Read: levels, PIC X, A, 9, S and V, USAGE DISPLAY, COMP/BINARY/COMP-4, COMP-5 and COMP-3/PACKED-DECIMAL, SIGN LEADING
or TRAILING [SEPARATE], fixed OCCURS, FILLER; VALUE and 88-levels are passed over.
Refused with the line: REDEFINES, OCCURS DEPENDING ON, edited pictures, COMP-1 and COMP-2, SYNCHRONIZED and the rest,
for a guess would silently shift every field behind it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from brownfield.data.formats.layout import MAX_RECORD_BYTES, Item, Layout, Usage
from brownfield.errors import FormatError

__all__ = ["compile_copybook"]

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[^\s,;.'"]+(?:[.,][^\s,;.'"]+)*|\.""")
_USAGES: dict[str, tuple[Usage, bool]] = {
    "DISPLAY": ("zoned", False),
    **dict.fromkeys(("COMP", "COMPUTATIONAL", "BINARY", "COMP-4", "COMPUTATIONAL-4"), ("binary", False)),
    **dict.fromkeys(("COMP-5", "COMPUTATIONAL-5"), ("binary", True)),
    **dict.fromkeys(("COMP-3", "COMPUTATIONAL-3", "PACKED-DECIMAL"), ("packed", False)),
}
_MAX_DIGITS = 18
_LAST_LEVEL, _CONDITION = 49, 88
_FIXED_FORM = re.compile(r"(?:[0-9 ]{6})(?:[ */Dd-].*)?")


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class _Clauses:
    """What one entry says, with what it inherits from the groups around it."""

    level: int
    name: str
    line: int
    picture: str = ""
    usage: tuple[Usage, bool] | None = None
    sign: tuple[bool, bool] | None = None
    occurs: int | None = None


@dataclass(slots=True)
class _Node:
    entry: _Clauses
    children: "list[_Node]" = field(default_factory=list)


def compile_copybook(text: str, file: str = "copybook") -> Layout:
    """Compile a copybook.

    A column is named like its field, in lower case with underscores for dashes; where that name stands twice, the
    names of the groups around it stand before it. A field under OCCURS becomes a list.

    Parameters
    ----------
    text
        The copybook, in fixed form (columns 8 to 72) or free form.
    file
        Its name, for messages.

    Raises
    ------
    FormatError
        For what is malformed or not read; names the line.

    Examples
    --------
    >>> layout = compile_copybook('''
    ... 01  PRICE-RECORD.
    ...     05  STORE-ID   PIC 9(5) COMP-3.
    ...     05  PRICE      PIC S9(5)V99.
    ...     05  LABEL      PIC X(10) OCCURS 2 TIMES.
    ... ''')
    >>> [(item.name, item.offset, item.length) for item in layout.items], layout.record_bytes
    ([('store_id', 0, 3), ('price', 3, 7), ('label', 10, 10)], 30)
    """
    root = _tree([_read_entry(sentence, file) for sentence in _sentences(text)], file)
    placed: list[tuple[tuple[str, ...], Item]] = []
    length = _place(root, 0, (), (), placed, file)
    if length > MAX_RECORD_BYTES:
        raise FormatError(where=file, expected=f"records of up to {MAX_RECORD_BYTES} bytes", got=str(length))
    return Layout(length, _named(placed))


def _code_lines(text: str) -> Iterator[tuple[int, str]]:
    lines = text.expandtabs(8).splitlines()
    fixed = all(_FIXED_FORM.fullmatch(line) or not line.strip() for line in lines)
    for number, line in enumerate(lines, 1):
        code = line[6:72] if fixed else line.lstrip()
        if code[:1] in ("*", "/"):
            continue
        yield number, code.split("*>")[0]


def _sentences(text: str) -> Iterator[list[_Token]]:
    sentence: list[_Token] = []
    for number, code in _code_lines(text):
        for word in _TOKEN.findall(code):
            if word != ".":
                sentence.append(_Token(word if word[0] in "'\"" else word.upper(), number))
            elif sentence:
                yield sentence
                sentence = []
    if sentence:
        yield sentence


def _refuse(what: str, line: int, file: str) -> FormatError:
    return FormatError(
        f"{what} is not read yet",
        where=f"{file}:{line}",
        next_step="Describe these bytes as PIC X(n), or leave the field out by FILLER.",
    )


def _read_entry(sentence: Sequence[_Token], file: str) -> _Clauses | None:
    """Read one sentence; None for an 88-level."""
    first = sentence[0]
    if not first.text.isdecimal() or not (
        1 <= int(first.text) <= _LAST_LEVEL or int(first.text) in (66, 77, _CONDITION)
    ):
        raise FormatError(where=f"{file}:{first.line}", expected="a level number", got="another word")
    level = int(first.text)
    if level == _CONDITION:
        return None
    if level in (66, 77):
        raise _refuse(f"level {level}", first.line, file)
    words = list(sentence[1:])
    name = "FILLER"
    if words and words[0].text not in _CLAUSES:
        name = words.pop(0).text
    return _read_clauses(_Clauses(level, name, first.line), words, file)


_CLAUSES = {
    "PIC",
    "PICTURE",
    "USAGE",
    "SIGN",
    "LEADING",
    "TRAILING",
    "OCCURS",
    "VALUE",
    "VALUES",
    "REDEFINES",
    *_USAGES,
}
_NOISE = {"IS", "ARE", "TIMES", "CHARACTER"}


def _read_clauses(entry: _Clauses, words: list[_Token], file: str) -> _Clauses:
    while words:
        word = words.pop(0)
        if word.text in ("PIC", "PICTURE"):
            entry = replace(entry, picture=_operand(words, word, file))
        elif word.text == "USAGE":
            entry = replace(entry, usage=_usage(_operand(words, word, file), word.line, file))
        elif word.text in _USAGES:
            entry = replace(entry, usage=_USAGES[word.text])
        elif word.text in ("SIGN", "LEADING", "TRAILING"):
            side = _operand(words, word, file) if word.text == "SIGN" else word.text
            if side not in ("LEADING", "TRAILING"):
                raise FormatError(where=f"{file}:{word.line}", expected="LEADING or TRAILING", got="another word")
            separate = bool(words) and words[0].text == "SEPARATE"
            del words[: 1 if separate else 0]
            entry = replace(entry, sign=(side == "LEADING", separate))
        elif word.text == "OCCURS":
            entry = replace(entry, occurs=_occurs(words, word, file))
        elif word.text in ("VALUE", "VALUES"):
            _operand(words, word, file)
        elif word.text not in _NOISE:
            raise _refuse(word.text, word.line, file)
    return entry


def _operand(words: list[_Token], clause: _Token, file: str) -> str:
    while words and words[0].text in _NOISE:
        words.pop(0)
    if not words:
        raise FormatError(where=f"{file}:{clause.line}", expected=f"a word behind {clause.text}", got="the end")
    return words.pop(0).text


def _usage(word: str, line: int, file: str) -> tuple[Usage, bool]:
    if word not in _USAGES:
        raise _refuse(f"USAGE {word}", line, file)
    return _USAGES[word]


def _occurs(words: list[_Token], clause: _Token, file: str) -> int:
    count = _operand(words, clause, file)
    following = {word.text for word in words}
    if following & {"TO", "DEPENDING"}:
        raise _refuse("OCCURS DEPENDING ON", clause.line, file)
    if not count.isdecimal() or not 1 <= int(count) <= MAX_RECORD_BYTES:
        raise FormatError(where=f"{file}:{clause.line}", expected="a number behind OCCURS", got="another word")
    if "INDEXED" in following:  # INDEXED BY names stand last
        del words[[word.text for word in words].index("INDEXED") :]
    return int(count)


def _tree(entries: Sequence[_Clauses | None], file: str) -> _Node:
    read = [entry for entry in entries if entry is not None]
    if not read:
        raise FormatError(where=file, expected="at least one field", got="none")
    root = _Node(_Clauses(0, "", 0))
    path = [root]
    for entry in read:
        while path[-1].entry.level >= entry.level:
            path.pop()
        parent = path[-1]
        if parent.entry.picture:
            raise FormatError("a field with a picture has fields below it", where=f"{file}:{entry.line}")
        if parent is root and root.children and entry.level == 1:
            raise _refuse("a second record", entry.line, file)
        node = _Node(replace(entry, usage=entry.usage or parent.entry.usage, sign=entry.sign or parent.entry.sign))
        parent.children.append(node)
        path.append(node)
    return root


def _place(
    node: _Node,
    offset: int,
    groups: tuple[str, ...],
    axes: tuple[tuple[int, int], ...],
    placed: list[tuple[tuple[str, ...], Item]],
    file: str,
) -> int:
    """Place a node and all below it; give the bytes that it takes, all its occurrences together."""
    entry = node.entry
    name = entry.name.lower().replace("-", "_")
    if entry.occurs is not None:
        axes = (*axes, (entry.occurs, _bytes(node, file) // entry.occurs))
    if entry.picture:
        item = replace(_picture(entry, file), name=name, offset=offset, axes=axes)
        if name != "filler":
            placed.append(((*groups, name), item))
        length = item.length
    elif node.children:
        length = 0
        below = groups if entry.level == 0 or name == "filler" else (*groups, name)
        for child in node.children:
            length += _place(child, offset + length, below, axes, placed, file)
    else:
        raise FormatError("a field needs a picture or fields below it", where=f"{file}:{entry.line}")
    return length * (entry.occurs or 1)


def _bytes(node: _Node, file: str) -> int:
    entry = node.entry
    once = _picture(entry, file).length if entry.picture else sum(_bytes(child, file) for child in node.children)
    return once * (entry.occurs or 1)


def _picture(entry: _Clauses, file: str) -> Item:
    symbols = _expand(entry, file)
    usage, native = entry.usage or ("zoned", False)
    if re.fullmatch("[XA9]*[XA][XA9]*", symbols):
        if usage != "zoned":
            raise FormatError(where=f"{file}:{entry.line}", expected="USAGE DISPLAY for text", got=usage)
        return Item(name="", offset=0, length=len(symbols))
    number = re.fullmatch("(S?)(9*)(?:V(9*))?", symbols)
    if number is None or not (number[2] or number[3]):
        raise _refuse(f"the picture {entry.picture}", entry.line, file)
    digits, scale, signed = len(number[2] + (number[3] or "")), len(number[3] or ""), bool(number[1])
    if digits > _MAX_DIGITS:
        raise _refuse(f"a number of more than {_MAX_DIGITS} digits", entry.line, file)
    leading, separate = entry.sign or (False, False)
    own_byte = signed and separate and usage == "zoned"
    length = {"zoned": digits + own_byte, "packed": digits // 2 + 1, "binary": _binary_bytes(digits)}[usage]
    return Item(
        name="", offset=0, length=length, usage=usage, digits=digits, scale=scale, signed=signed, native=native,
        separate=own_byte, leading=signed and leading and usage == "zoned",
    )  # fmt: skip


def _expand(entry: _Clauses, file: str) -> str:
    """Write out repetitions: ``9(3)`` is ``999``."""
    total = 0
    parts: list[str] = []
    for symbol, count in re.findall(r"([^()])(?:\(([0-9]{1,9})\))?", entry.picture):
        total += int(count or 1)
        if total > MAX_RECORD_BYTES:
            raise FormatError("the picture is too long", where=f"{file}:{entry.line}")
        parts.append(symbol * int(count or 1))
    return "".join(parts)


def _binary_bytes(digits: int) -> Literal[2, 4, 8]:
    return 2 if digits <= 4 else 4 if digits <= 9 else 8  # noqa: PLR2004 (COBOL's half, full and double words)


def _named(placed: Sequence[tuple[tuple[str, ...], Item]]) -> tuple[Item, ...]:
    """Give each item the shortest name, from its own name outwards, that no other item has."""
    names = {path: path[-1] for path, _ in placed}
    by_name = sorted(names, key=lambda path: names[path])
    for _, same in groupby(by_name, key=lambda path: names[path]):
        paths = list(same)
        if len(paths) > 1:
            names.update({path: "_".join(path) for path in paths})
    return tuple(replace(item, name=names[path]) for path, item in placed)
