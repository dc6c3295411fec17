"""Compile a COBOL copybook to a :class:`~brownfield.data.formats.layout.Layout`.

Read: levels, PIC X, A, 9, S and V, USAGE DISPLAY, COMP/BINARY/COMP-4, COMP-5 and COMP-3/PACKED-DECIMAL, SIGN LEADING
or TRAILING [SEPARATE], OCCURS, OCCURS DEPENDING ON, REDEFINES, FILLER; VALUE and 88-levels are passed over.
Refused with the line: tables of varying length inside tables or redefined bytes, REDEFINES inside either, edited
pictures, COMP-1 and COMP-2, SYNCHRONIZED and the rest, for a guess would silently shift every field behind it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from brownfield.data.formats.layout import MAX_RECORD_BYTES, Branch, Item, Layout, Table, Usage
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
_FIXED_FORM = re.compile(r"(?:[0-9]{6}| {6})(?:[ */Dd-].*)?")


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
    depends: tuple[int, str] | None = None
    """Fewest entries, and the name of the counter, of a table of varying length."""
    redefines: str = ""

    @property
    def column(self) -> str:
        """The name, spelt like a column."""
        return _column(self.name)


def _column(name: str) -> str:
    return name.lower().replace("-", "_")


@dataclass(slots=True)
class _Node:
    entry: _Clauses
    children: "list[_Node]" = field(default_factory=list)


def compile_copybook(text: str, file: str = "copybook") -> Layout:
    """Compile a copybook.

    A column is named like its field, in lower case with underscores for dashes; where that name stands twice, the
    names of the groups around it stand before it. A field under OCCURS becomes a list. Bytes that are redefined have
    branches, named like the fields or groups that describe them.

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
    placer = _Placer(file)
    length = placer.place(root, 0, _Around())
    if length > MAX_RECORD_BYTES:
        raise FormatError(where=file, expected=f"records of up to {MAX_RECORD_BYTES} bytes", got=str(length))
    return placer.layout(length)


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
            entry = replace(entry, sign=_sign(words, word, file))
        elif word.text == "OCCURS":
            entry = _occurs(entry, words, word, file)
        elif word.text == "REDEFINES":
            entry = replace(entry, redefines=_operand(words, word, file))
        elif word.text in ("VALUE", "VALUES"):
            _operand(words, word, file)
        elif word.text not in _NOISE:
            raise _refuse(word.text, word.line, file)
    return entry


def _sign(words: list[_Token], clause: _Token, file: str) -> tuple[bool, bool]:
    """Whether the sign leads, and whether it has a byte of its own."""
    side = _operand(words, clause, file) if clause.text == "SIGN" else clause.text
    if side not in ("LEADING", "TRAILING"):
        raise FormatError(where=f"{file}:{clause.line}", expected="LEADING or TRAILING", got="another word")
    separate = bool(words) and words[0].text == "SEPARATE"
    del words[: 1 if separate else 0]
    return side == "LEADING", separate


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


def _occurs(entry: _Clauses, words: list[_Token], clause: _Token, file: str) -> _Clauses:
    lowest = highest = _operand(words, clause, file)
    if words and words[0].text == "TO":
        highest = _operand(words, words.pop(0), file)
    following = [word.text for word in words]
    if "INDEXED" in following:  # INDEXED BY names stand last
        del words[following.index("INDEXED") :]
    counter = _counter(words, clause, file)
    if (lowest != highest) and not counter:
        raise FormatError(where=f"{file}:{clause.line}", expected="DEPENDING ON behind OCCURS n TO m", got="none")
    if not (lowest.isdecimal() and highest.isdecimal()) or not max(1, int(lowest)) <= int(highest) <= MAX_RECORD_BYTES:
        raise FormatError(where=f"{file}:{clause.line}", expected="a number behind OCCURS", got="another word")
    return replace(entry, occurs=int(highest), depends=(int(lowest), counter) if counter else None)


def _counter(words: list[_Token], clause: _Token, file: str) -> str:
    """Take DEPENDING ON from the words, and give the name behind it; empty when there is none."""
    following = [word.text for word in words]
    if "DEPENDING" not in following:
        return ""
    at = following.index("DEPENDING")
    taken = words[at + 1 : at + 3]
    names = [word.text for word in taken if word.text != "ON"][:1]
    if not names:
        raise FormatError(where=f"{file}:{clause.line}", expected="a field behind DEPENDING ON", got="the end")
    del words[at : at + 2 + (taken[0].text == "ON")]
    return names[0]


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


@dataclass(frozen=True, slots=True)
class _Around:
    """What stands around a node: groups, tables, and the branch and counter that decide whether it is there."""

    groups: tuple[str, ...] = ()
    axes: tuple[tuple[int, int], ...] = ()
    branch: str = ""
    depends: _Clauses | None = None


class _Placer:
    """Gives each node its bytes and collects the fields, tables and branches."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.placed: list[tuple[tuple[str, ...], Item, _Clauses | None]] = []
        self.tables: list[tuple[_Clauses, int, int]] = []
        self.branches: list[Branch] = []

    def place(self, node: _Node, offset: int, around: _Around) -> int:
        """Place a node and all below it; give the bytes that it takes, all its occurrences together."""
        entry = node.entry
        if entry.occurs is not None:
            around = self._inside_table(node, offset, around)
        if entry.picture:
            item = replace(_picture(entry, self.file), name=entry.column, offset=offset)
            if item.name != "filler":
                item = replace(item, axes=around.axes, branch=around.branch)
                self.placed.append(((*around.groups, item.name), item, around.depends))
            length = item.length
        elif node.children:
            named = entry.level != 0 and entry.column != "filler"
            length = self._place_below(
                node, offset, replace(around, groups=(*around.groups, entry.column)) if named else around
            )
        else:
            raise FormatError("a field needs a picture or fields below it", where=f"{self.file}:{entry.line}")
        return length * (entry.occurs or 1)

    def _inside_table(self, node: _Node, offset: int, around: _Around) -> _Around:
        entry = node.entry
        stride = _bytes(node, self.file) // (entry.occurs or 1)
        if entry.depends is not None:
            if around.axes or around.branch:
                raise _refuse("OCCURS DEPENDING ON inside OCCURS or REDEFINES", entry.line, self.file)
            self.tables.append((entry, offset, stride))
            around = replace(around, depends=entry)
        return replace(around, axes=(*around.axes, (entry.occurs or 1, stride)))

    def _place_below(self, node: _Node, offset: int, around: _Around) -> int:
        length = 0
        for first, *others in _areas(node, self.file):
            start = offset + length
            if not others:
                length += self.place(first, start, around)
                continue
            if around.axes or around.branch:
                raise _refuse("REDEFINES inside OCCURS or REDEFINES", others[0].entry.line, self.file)
            area = _branch_name(first)
            taken = 0
            for branch in (first, *others):
                name = _branch_name(branch)
                inside = self.place(branch, start, replace(around, branch=name))
                self.branches.append(Branch(name, area, start, inside))
                taken = max(taken, inside)
            length += taken
        return length

    def layout(self, record_bytes: int) -> Layout:
        """Give what was placed, with its final names."""
        names = _names([path for path, _, _ in self.placed])
        if len({branch.name for branch in self.branches}) < len(self.branches):
            raise FormatError("two branches of REDEFINES have one name", where=self.file)
        counters = {entry: self._counter_name(entry, offset, names) for entry, offset, _ in self.tables}
        return Layout(
            record_bytes,
            tuple(
                replace(item, name=names[path], counter=counters[depends] if depends else "")
                for path, item, depends in self.placed
            ),
            tuple(
                Table(counters[entry], (entry.depends or (0, ""))[0], entry.occurs or 1, offset, stride)
                for entry, offset, stride in self.tables
            ),
            tuple(self.branches),
        )

    def _counter_name(self, entry: _Clauses, offset: int, names: Mapping[tuple[str, ...], str]) -> str:
        declared = _column((entry.depends or (0, ""))[1])
        found = [(path, item) for path, item, _ in self.placed if path[-1] == declared]
        if len(found) == 1:
            path, item = found[0]
            whole = item.usage != "text" and item.scale == 0
            if whole and not item.axes and not item.branch and item.offset + item.length <= offset:
                return names[path]
        raise FormatError(
            where=f"{self.file}:{entry.line}",
            expected="DEPENDING ON one whole number that stands before the table, in every record",
            got="another field" if found else "a field that is not in the copybook",
        )


def _areas(node: _Node, file: str) -> Iterator[list[_Node]]:
    """Give the children, those together that describe the same bytes."""
    area: list[_Node] = []
    for child in node.children:
        if not child.entry.redefines:
            if area:
                yield area
            area = [child]
        elif area and child.entry.redefines in [each.entry.name for each in area]:
            area.append(child)
        else:
            raise FormatError(
                where=f"{file}:{child.entry.line}",
                expected="REDEFINES of the field before it, on its own level",
                got="of another",
            )
    if area:
        yield area


def _branch_name(node: _Node) -> str:
    """Name of a branch: its own, or that of the first field with a name below it."""
    while node.entry.column == "filler" and node.children:
        node = node.children[0]
    return node.entry.column


def _bytes(node: _Node, file: str) -> int:
    entry = node.entry
    if entry.picture:
        once = _picture(entry, file).length
    else:
        once = sum(max(_bytes(child, file) for child in area) for area in _areas(node, file))
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


def _names(paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Give each field the shortest name, its own or that with all its groups, that no other field has."""
    names = {path: path[-1] for path in paths}
    by_name = sorted(names, key=lambda path: names[path])
    for _, same in groupby(by_name, key=lambda path: names[path]):
        alike = list(same)
        if len(alike) > 1:
            names.update({path: "_".join(path) for path in alike})
    return names
