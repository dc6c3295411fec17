"""Compile a COBOL copybook to a :class:`~brownfield.data.formats.layout.Layout`.

Read: levels, PIC X, A, 9, S, V and P, USAGE DISPLAY, COMP/BINARY/COMP-4, COMP-5, COMP-3/PACKED-DECIMAL, COMP-6, COMP-1
and COMP-2, SIGN LEADING or TRAILING [SEPARATE], BLANK WHEN ZERO, SYNCHRONIZED, OCCURS, OCCURS DEPENDING ON, REDEFINES,
all of them inside each other as COBOL has it, FILLER and conditions (level 88); VALUE is passed over.
Refused with the line: edited pictures, national and double-byte text, tables of varying length in redefined bytes,
COPY and REPLACE, level 66 and the rest, for a guess would silently shift every field behind it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from brownfield.data.formats.copybook_entries import Entry, read_condition, read_entry
from brownfield.data.formats.copybook_words import refuse, sentences
from brownfield.data.formats.layout import MAX_RECORD_BYTES, Axis, Branch, Gate, Item, Layout, Repeat, Table
from brownfield.data.formats.pictures import BinarySize, read_picture
from brownfield.errors import FormatError

__all__ = ["compile_copybook"]

_WORD_BYTES = 4


@dataclass(slots=True)
class _Node:
    entry: Entry
    children: "list[_Node]" = field(default_factory=list)

    @property
    def is_field(self) -> bool:
        """Whether it is a field and no group: it has a picture, or is a floating-point number."""
        floats = self.entry.usage is not None and self.entry.usage[0] == "float"
        return bool(self.entry.picture) or (floats and not self.children)


def compile_copybook(text: str, file: str = "copybook", binary_size: BinarySize = "2-4-8") -> Layout:
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
    binary_size
        Bytes that binary numbers may take.

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
    placer = _Placer(file, binary_size)
    root = _tree(text, file)
    length = placer.size(root, 0)
    if length > MAX_RECORD_BYTES:
        raise FormatError(where=file, expected=f"records of up to {MAX_RECORD_BYTES} bytes", got=str(length))
    repeats = placer.place(root, 0, _Around())
    return placer.layout(length, repeats)


def _tree(text: str, file: str) -> _Node:
    root = _Node(Entry(0, "", 0))
    path = [root]
    for sentence in sentences(text, file):
        condition = read_condition(sentence, file)
        if condition is not None:
            last = path[-1]
            last.entry = replace(last.entry, conditions=(*last.entry.conditions, condition))
            continue
        entry = read_entry(sentence, file)
        while path[-1].entry.level >= entry.level:
            path.pop()
        parent = path[-1]
        if parent.entry.picture:
            raise FormatError("a field with a picture has fields below it", where=f"{file}:{entry.line}")
        if parent is root and root.children and entry.level == 1:
            raise refuse("a second record", entry.line, file)
        inherited = parent.entry
        node = _Node(
            replace(
                entry,
                usage=entry.usage or inherited.usage,
                sign=entry.sign or inherited.sign,
                synchronized=entry.synchronized or inherited.synchronized,
            )
        )
        parent.children.append(node)
        path.append(node)
    if not root.children:
        raise FormatError(where=file, expected="at least one field", got="none")
    return root


@dataclass(frozen=True, slots=True)
class _Around:
    """What stands around a node: groups, and the tables and branches that decide where it is."""

    groups: tuple[str, ...] = ()
    gates: tuple["_Axis | str", ...] = ()


@dataclass(frozen=True, slots=True)
class _Axis:
    """An OCCURS whose counter has no final name yet."""

    entry: Entry
    stride: int


_Placed = tuple[tuple[str, ...], Item, tuple["_Axis | str", ...]]


class _Placer:
    """Gives each node its bytes and collects the fields, tables and branches."""

    def __init__(self, file: str, binary_size: BinarySize) -> None:
        self.file = file
        self.binary_size: BinarySize = binary_size
        self.placed: list[_Placed] = []
        self.tables: list[tuple[_Axis, int, tuple[_Axis | str, ...]]] = []
        self.branches: list[tuple[Branch, tuple[_Axis | str, ...]]] = []

    def size(self, node: _Node, offset: int) -> int:
        """Give the bytes that a node takes at an offset, all its occurrences together."""
        return self._once(node, offset) * (node.entry.occurs or 1)

    def _once(self, node: _Node, offset: int) -> int:
        entry = node.entry
        if node.is_field:
            item = read_picture(entry, self.binary_size, self.file)
            return item.length
        if not node.children:
            raise FormatError("a field needs a picture or fields below it", where=f"{self.file}:{entry.line}")
        length = 0
        for area in _areas(node, self.file):
            slack = self._slack(area[0], offset + length)
            length += slack + max(self.size(child, offset + length + slack) for child in area)
        return length

    def _slack(self, node: _Node, offset: int) -> int:
        """Give the bytes that are left free before a field that is SYNCHRONIZED."""
        if not (node.entry.synchronized and node.is_field):
            return 0
        item = read_picture(node.entry, self.binary_size, self.file)
        if item.usage not in ("binary", "float"):
            return 0
        slack = -offset % item.length
        if item.length > _WORD_BYTES and item.usage == "binary" and slack != -offset % _WORD_BYTES:
            raise refuse("SYNCHRONIZED eight bytes at this place, where compilers differ,", node.entry.line, self.file)
        return slack

    def place(self, node: _Node, offset: int, around: _Around) -> tuple[Repeat, ...]:
        """Place a node and all below it; give the tables of varying length in it."""
        entry = node.entry
        table = None
        if entry.occurs is not None:
            stride = self._once(node, offset)
            axis = _Axis(entry, stride)
            if entry.depends is not None:
                table = self._table(axis, offset, around)
            around = replace(around, gates=(*around.gates, axis))
        inner: tuple[Repeat, ...] = ()
        if node.is_field:
            self._place_field(node, offset, around)
        else:
            named = entry.level != 0 and entry.column != "filler"
            below = replace(around, groups=(*around.groups, entry.column)) if named else around
            inner = self._place_below(node, offset, below)
        if entry.occurs is None or (table is None and not inner):
            return inner
        return (Repeat(offset, entry.occurs, self._once(node, offset), table, inner),)

    def _table(self, axis: _Axis, offset: int, around: _Around) -> Table:
        """Note a table of varying length; its names are given later."""
        if any(isinstance(gate, str) for gate in around.gates):
            raise refuse("OCCURS DEPENDING ON inside REDEFINES", axis.entry.line, self.file)
        self.tables.append((axis, offset, around.gates))
        lowest = (axis.entry.depends or (0, ""))[0]
        return Table("", lowest, axis.entry.occurs or 1, offset, axis.stride)

    def _place_field(self, node: _Node, offset: int, around: _Around) -> None:
        entry = node.entry
        if entry.column == "filler":
            return
        item = read_picture(entry, self.binary_size, self.file)
        strides = [gate.stride for gate in around.gates if isinstance(gate, _Axis)]
        aligned = entry.synchronized and item.usage in ("binary", "float")
        if aligned and (self.tables or any(stride % item.length for stride in strides)):
            raise refuse("SYNCHRONIZED in or behind such a table", entry.line, self.file)
        item = replace(item, name=entry.column, offset=offset, conditions=entry.conditions)
        self.placed.append(((*around.groups, item.name), item, around.gates))

    def _place_below(self, node: _Node, offset: int, around: _Around) -> tuple[Repeat, ...]:
        length = 0
        repeats: list[Repeat] = []
        for area in _areas(node, self.file):
            start = offset + length + self._slack(area[0], offset + length)
            taken = max(self.size(child, start) for child in area)
            length = start + taken - offset
            if len(area) == 1:
                repeats += self.place(area[0], start, around)
                continue
            name = _branch_name(area[0])
            for each in area:
                own = _branch_name(each)
                self.branches.append((Branch(own, name, start, self.size(each, start)), around.gates))
                self.place(each, start, replace(around, gates=(*around.gates, own)))
        return tuple(repeats)

    def layout(self, record_bytes: int, repeats: Sequence[Repeat]) -> Layout:
        """Give what was placed, with its final names."""
        names = _names([path for path, _, _ in self.placed])
        if len({branch.name for branch, _ in self.branches}) < len(self.branches):
            raise FormatError("two branches of REDEFINES have one name", where=self.file)
        counters = {id(axis): self._counter_name(axis, offset, gates, names) for axis, offset, gates in self.tables}

        def final(gates: Sequence[_Axis | str]) -> tuple[Gate, ...]:
            return tuple(
                gate if isinstance(gate, str) else Axis(gate.entry.occurs or 1, gate.stride, counters.get(id(gate), ""))
                for gate in gates
            )

        tables = tuple(
            Table(counters[id(axis)], (axis.entry.depends or (0, ""))[0], axis.entry.occurs or 1, offset, axis.stride,
                  final(gates))
            for axis, offset, gates in self.tables
        )  # fmt: skip
        return Layout(
            record_bytes,
            tuple(replace(item, name=names[path], gates=final(gates)) for path, item, gates in self.placed),
            tables,
            tuple(replace(branch, gates=final(gates)) for branch, gates in self.branches),
            _with_tables(repeats, iter(tables)),
        )

    def _counter_name(
        self, axis: _Axis, offset: int, gates: Sequence[_Axis | str], names: Mapping[tuple[str, ...], str]
    ) -> str:
        """Name of the field that counts a table: of those of its name, the one that is nearest around it."""
        entry = axis.entry
        declared = (entry.depends or (0, ""))[1].lower().replace("-", "_")
        found = [(path, item, own) for path, item, own in self.placed if path[-1] == declared]
        fitting = [
            (len(own), names[path])
            for path, item, own in found
            if item.usage in ("zoned", "packed", "binary") and item.scale == 0
            if [id(gate) for gate in own] == [id(gate) for gate in gates[: len(own)]]
            if all(isinstance(gate, _Axis) for gate in own) and item.offset + item.length <= offset
        ]
        if len(fitting) == 1 or (fitting and len({depth for depth, _ in fitting}) == len(fitting)):
            return max(fitting)[1]
        raise FormatError(
            where=f"{self.file}:{entry.line}",
            expected="DEPENDING ON one whole number that stands before the table, in each record or entry around it",
            got="another field" if found else "a field that is not in the copybook",
        )


def _with_tables(repeats: Sequence[Repeat], tables: Iterator[Table]) -> tuple[Repeat, ...]:
    """Put the tables with their final names into the repeats, both in the order of the record, outer ones first."""
    found = []
    for each in repeats:
        table = None if each.table is None else next(tables)
        found.append(replace(each, table=table, inner=_with_tables(each.inner, tables)))
    return tuple(found)


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


def _names(paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Give each field the shortest name, its own or that with all its groups, that no other field has."""
    names = {path: path[-1] for path in paths}
    by_name = sorted(names, key=lambda path: names[path])
    for _, same in groupby(by_name, key=lambda path: names[path]):
        alike = list(same)
        if len(alike) > 1:
            names.update({path: "_".join(path) for path in alike})
    return names
