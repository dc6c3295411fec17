"""Records that are not all alike, brought to one full layout and back.

A table of varying length (OCCURS DEPENDING ON) is moved so that it and what stands behind it lie where they would
with all entries; a rule says which reading of redefined bytes a record has. What does not fit is a fault of its record.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from brownfield.data.formats.code_page import CodePage
from brownfield.data.formats.framing import Frames
from brownfield.data.formats.layout import Branch, Item, Layout, Table
from brownfield.data.formats.numbers import Writing, decode_number, explain
from brownfield.errors import DeclarationError, FormatError, RejectionCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["Choice", "Fault", "Occurs", "Unfolded", "Unfolding"]

Occurs = Literal["max_size", "shift_record", "pad_record"]


class Fault(NamedTuple):
    """Why a record is refused for its structure: the code, the field, and the byte of the record."""

    code: RejectionCode
    field: str
    offset: int


class Choice(NamedTuple):
    """When a branch of a REDEFINES is read.

    Parameters
    ----------
    field
        An earlier field; empty where the branch is read in every record.
    values
        Its values, all texts or all whole numbers.
    """

    field: str = ""
    values: tuple[str | int, ...] = ()


def _nowhere(row: int) -> bytes:
    raise AssertionError(f"nobody said where the bytes of record {row} are")


@dataclass(frozen=True)
class Unfolded:
    """Records at their full length.

    Parameters
    ----------
    matrix
        Bytes, shape ``(records, record_bytes)``.
    position, raw
        Give the position, and the bytes as they came, of a record.
    counts
        Entries of the tables with a counter, by its name, shape ``(records,)``.
    chosen
        Records in which a branch is read, by its name, shape ``(records,)``.
    faults
        Records that are refused for their structure.
    moved
        Byte of the full layout from which on records were moved, and by how many bytes, shape ``(records,)``.
    """

    matrix: "Bytes"
    position: Callable[[int], str]
    raw: Callable[[int], bytes] = _nowhere
    counts: "Mapping[str, Whole]" = field(default_factory=dict)
    chosen: "Mapping[str, Mask]" = field(default_factory=dict)
    faults: Mapping[int, Fault] = field(default_factory=dict)
    moved: "Sequence[tuple[int, Whole]]" = ()

    def offset(self, row: int, offset: int) -> int:
        """Byte of a record as it came at which a byte of the full layout lies."""
        return offset - sum(int(by[row]) for start, by in self.moved if start <= offset)


@dataclass(frozen=True)
class Unfolding:
    """How records of a layout differ from each other.

    Parameters
    ----------
    layout
        The record.
    characters, writing
        The machine that wrote it.
    occurs
        ``max_size``: a table always takes the room of all its entries; ``shift_record``: what stands behind it moves
        up, and the record is the shorter; ``pad_record``: it moves up, and the record is filled at its end.
    rules
        When a branch is read, by its name; without a rule its fields cannot be read.
    is_exact
        Whether a record must have all its bytes; otherwise its end may be missing (text lines lose their blanks).
    may_end_early
        Whether a record may end behind the branch that is read, where redefined bytes stand last.

    Raises
    ------
    DeclarationError
        When a rule does not fit the layout.
    """

    layout: Layout
    characters: CodePage
    writing: Writing
    occurs: Occurs = "max_size"
    rules: Mapping[str, Choice] = field(default_factory=dict)
    is_exact: bool = True
    may_end_early: bool = False

    def __post_init__(self) -> None:
        for name in self.rules:
            self._check_rule(name)
        for areas in self._areas.values():
            self._check_area(areas)

    @property
    def is_trivial(self) -> bool:
        """Whether all records are alike."""
        return not self.layout.tables and not self._areas

    @property
    def shifts(self) -> bool:
        """Whether what stands behind a table moves up."""
        return bool(self.layout.tables) and self.occurs != "max_size"

    @cached_property
    def _items(self) -> dict[str, Item]:
        return {item.name: item for item in self.layout.items}

    @cached_property
    def _areas(self) -> dict[str, list[Branch]]:
        """Branches with a rule, by the bytes that they describe."""
        areas: dict[str, list[Branch]] = {}
        for branch in self.layout.branches:
            if branch.name in self.rules:
                areas.setdefault(branch.area, []).append(branch)
        return areas

    def _check_rule(self, name: str) -> None:
        branch = next((each for each in self.layout.branches if each.name == name), None)
        path = f"redefine_rule.{name}"
        if branch is None:
            known = ", ".join(each.name for each in self.layout.branches) or "none"
            raise DeclarationError(path=path, expected=f"a branch of REDEFINES (there are {known})", got="another name")
        rule = self.rules[name]
        if not rule.field:
            return
        item = self._items.get(rule.field)
        if item is None or item.axes or item.branch or item.scale or item.offset + item.length > branch.offset:
            raise DeclarationError(
                path=f"{path}.field",
                expected="a text or whole number that stands before the redefined bytes, once, in every record",
                got=rule.field,
            )
        kind = str if item.usage == "text" else int
        if not all(isinstance(value, kind) and not isinstance(value, bool) for value in rule.values):
            words = "texts" if kind is str else "whole numbers"
            raise DeclarationError(path=f"{path}.values", expected=f"{words}, like the field", got="others")

    def _check_area(self, branches: Sequence[Branch]) -> None:
        rules = [self.rules[branch.name] for branch in branches]
        values = [value for rule in rules for value in rule.values]
        unclear = len(rules) > 1 and (len({rule.field for rule in rules}) > 1 or not rules[0].field)
        if unclear or len(set(values)) < len(values):
            raise DeclarationError(
                path=f"redefine_rule.{branches[-1].name}",
                expected="branches of the same bytes that are told apart by different values of one field",
                got="rules that may hold together",
            )

    def unfold(self, frames: Frames) -> Unfolded:
        """Bring records to their full layout."""
        size = self.layout.record_bytes
        matrix = frames.matrix(size, self.characters.space)
        if self.is_trivial and not frames.is_cut and (frames.lengths == size).all():
            return Unfolded(matrix, frames.position, frames.raw)
        faults: dict[int, Fault] = {}
        if frames.is_cut:
            faults[len(matrix) - 1] = Fault(RejectionCode.DECODE_SHORT, "", int(frames.lengths[-1]))
        counts: dict[str, Whole] = {}
        moved: list[tuple[int, Whole]] = []
        for table in self.layout.tables:
            count = self._count(matrix, table, faults, frames, moved)
            counts[table.counter] = count
            if self.shifts:
                matrix = _move_down(matrix, table, count)
                moved.append((table.offset + table.maximum * table.stride, _slack(table, count)))
        chosen, ends = self._choose(matrix, faults, moved)
        self._check_lengths(frames, moved, ends, faults)
        return Unfolded(matrix, frames.position, frames.raw, counts, chosen, faults, moved)

    def _count(
        self,
        matrix: "Bytes",
        table: Table,
        faults: dict[int, Fault],
        frames: Frames,
        moved: "Sequence[tuple[int, Whole]]",
    ) -> "Whole":
        """Read the counter of a table; where it is none, the record is refused and the table taken as full."""
        item = self._items[table.counter]
        block = matrix[:, item.offset : item.offset + item.length]
        values, bad = decode_number(block, item, self.writing)
        outside = (values < table.minimum) | (values > table.maximum)
        at = np.full(len(matrix), item.offset) - _by(moved, item.offset, len(matrix))
        for row in np.flatnonzero(bad | outside):
            if frames.lengths[row] < at[row] + item.length:
                fault = Fault(RejectionCode.DECODE_SHORT, "", int(frames.lengths[row]))
            elif bad[row]:
                code, byte = explain(block[row].tobytes(), item, self.writing)
                fault = Fault(code, item.name, int(at[row]) + byte)
            else:
                fault = Fault(RejectionCode.DECODE_COUNT, item.name, int(at[row]))
            faults.setdefault(int(row), fault)
        return np.where(bad | outside, table.maximum, values)

    def _choose(
        self, matrix: "Bytes", faults: dict[int, Fault], moved: "Sequence[tuple[int, Whole]]"
    ) -> "tuple[dict[str, Mask], Whole]":
        """Find the branch of each record, and how many bytes of the full layout it leaves out at its end."""
        chosen: dict[str, Mask] = {}
        left_out = np.zeros(len(matrix), dtype=np.int64)
        for branches in self._areas.values():
            found = np.zeros(len(matrix), dtype=bool)
            for branch in branches:
                mask = self._holds(matrix, self.rules[branch.name])
                chosen[branch.name] = mask
                found |= mask
                at_end = self._end_of(branch) == self.layout.record_bytes
                if at_end and self.may_end_early:
                    left_out[mask] = self.layout.record_bytes - branch.offset - branch.length
            selector = self._items.get(self.rules[branches[0].name].field)
            if selector is not None:
                for row in np.flatnonzero(~found):
                    offset = selector.offset - int(_by(moved, selector.offset, len(matrix))[row])
                    faults.setdefault(int(row), Fault(RejectionCode.DECODE_BRANCH, selector.name, offset))
        return chosen, left_out

    def _end_of(self, branch: Branch) -> int:
        return max(each.offset + each.length for each in self.layout.branches if each.area == branch.area)

    def _holds(self, matrix: "Bytes", rule: Choice) -> "Mask":
        if not rule.field:
            return np.ones(len(matrix), dtype=bool)
        item = self._items[rule.field]
        block = matrix[:, item.offset : item.offset + item.length]
        if item.usage != "text":
            values, bad = decode_number(block, item, self.writing)
            return np.isin(values, rule.values) & ~bad
        mask = np.zeros(len(matrix), dtype=bool)
        for value in rule.values:
            text = self.characters.encode(str(value)).ljust(item.length, bytes([self.characters.space]))
            if len(text) == item.length:
                mask |= (block == np.frombuffer(text, dtype=np.uint8)).all(axis=1)
        return mask

    def _check_lengths(
        self, frames: Frames, moved: "Sequence[tuple[int, Whole]]", left_out: "Whole", faults: dict[int, Fault]
    ) -> None:
        size = self.layout.record_bytes
        full = np.full(len(frames.lengths), size)
        if self.occurs == "shift_record":
            full -= _by(moved, size, len(full))
        lowest = full - left_out if self.is_exact else np.zeros_like(full)
        for row in np.flatnonzero((frames.lengths < lowest) | (frames.lengths > full)):
            length = int(frames.lengths[row])
            is_short = length < lowest[row]
            code = RejectionCode.DECODE_SHORT if is_short else RejectionCode.DECODE_LONG
            faults.setdefault(int(row), Fault(code, "", length if is_short else int(full[row])))

    def measure(self, data: bytes, at: int) -> int | None:
        """Give the length of the record that begins at a byte, from its counters; None when it needs more data.

        Raises
        ------
        FormatError
            When a counter is none, for nothing says then where the next record begins.
        """
        slack = 0
        ends: list[tuple[int, int]] = []
        for table in self.layout.tables:
            item = self._items[table.counter]
            start = at + item.offset - sum(by for end, by in ends if end <= item.offset)
            if len(data) < start + item.length:
                return None
            count = self._count_of(table, data[start : start + item.length])
            if count is None:
                raise FormatError(
                    path=item.name,
                    expected=f"a count from {table.minimum} to {table.maximum} in each record",
                    got="another, so that the next record cannot be found",
                )
            by = (table.maximum - count) * table.stride
            ends.append((table.offset + table.maximum * table.stride, by))
            slack += by
        return self.layout.record_bytes - slack

    @cached_property
    def _count_of(self) -> Callable[[Table, bytes], int | None]:
        @lru_cache(maxsize=65_536)
        def count_of(table: Table, raw: bytes) -> int | None:
            values, bad = decode_number(
                np.frombuffer(raw, dtype=np.uint8).reshape(1, -1), self._items[table.counter], self.writing
            )
            return None if bad[0] or not table.minimum <= values[0] <= table.maximum else int(values[0])

        return count_of

    def choose_written(self, matrix: "Bytes") -> "dict[str, Mask]":
        """Find the branches of records to be written, in which the earlier fields stand already.

        Raises
        ------
        FormatError
            When a record has none.
        """
        faults: dict[int, Fault] = {}
        chosen, _ = self._choose(matrix, faults, ())
        if faults:
            name = next(iter(faults.values())).field
            raise FormatError(path=name, expected="a value that chooses a branch of REDEFINES", got="another")
        return chosen

    def fold(self, matrix: "Bytes", counts: "Mapping[str, Whole]") -> list[bytes]:
        """Write records of the full layout as they lie in a file; the inverse of :meth:`unfold`."""
        if not self.shifts:
            return [row.tobytes() for row in matrix]
        lengths = np.full(len(matrix), self.layout.record_bytes)
        for table in reversed(self.layout.tables):
            count = counts[table.counter]
            matrix = _move_up(matrix, table, count, self.characters.space)
            lengths -= _slack(table, count)
        if self.occurs == "pad_record":
            return [row.tobytes() for row in matrix]
        return [row[:length].tobytes() for row, length in zip(matrix, lengths, strict=True)]


def _slack(table: Table, count: "Whole") -> "Whole":
    """Bytes of the entries that a record does not have."""
    slack: Whole = (table.maximum - count) * table.stride
    return slack


def _by(moved: "Sequence[tuple[int, Whole]]", offset: int, rows: int) -> "Whole":
    """Bytes by which a place of the full layout was moved in each record."""
    total = np.zeros(rows, dtype=np.int64)
    for start, by in moved:
        if start <= offset:
            total += by
    return total


def _move_down(matrix: "Bytes", table: Table, count: "Whole") -> "Bytes":
    """Make room for the entries that a record does not have."""
    matrix = matrix.copy()
    end, size = table.offset + table.maximum * table.stride, matrix.shape[1]
    for entries in np.unique(count[count < table.maximum]):
        rows = np.flatnonzero(count == entries)
        behind = table.offset + int(entries) * table.stride
        matrix[rows, end:] = matrix[rows, behind : behind + size - end]
    return matrix


def _move_up(matrix: "Bytes", table: Table, count: "Whole", fill: int) -> "Bytes":
    """Take out the room of the entries that a record does not have."""
    matrix = matrix.copy()
    end, size = table.offset + table.maximum * table.stride, matrix.shape[1]
    for entries in np.unique(count[count < table.maximum]):
        rows = np.flatnonzero(count == entries)
        behind = table.offset + int(entries) * table.stride
        matrix[rows, behind : behind + size - end] = matrix[rows, end:]
        matrix[rows, behind + size - end :] = fill
    return matrix
