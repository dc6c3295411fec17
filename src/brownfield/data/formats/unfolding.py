"""Records that are not all alike, brought to one full layout and back.

A table of varying length (OCCURS DEPENDING ON) is moved so that it and what stands behind it lie where they would
with all entries; a rule says which reading of redefined bytes a record has. What does not fit is a fault of its record.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from brownfield.data.formats.choosing import Choice, Chooser, Fault
from brownfield.data.formats.code_page import CodePage
from brownfield.data.formats.counting import Counting
from brownfield.data.formats.framing import Frames
from brownfield.data.formats.layout import Item, Layout, Table
from brownfield.data.formats.numbers import Writing, explain
from brownfield.data.formats.presence import block_of, enter
from brownfield.errors import RejectionCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["Occurs", "Unfolded", "Unfolding"]

Occurs = Literal["max_size", "shift_record", "pad_record"]


def _nowhere(row: int) -> bytes:
    raise AssertionError(f"nobody said where the bytes of record {row} are")


def _as_it_came(row: int, offset: int) -> int:  # noqa: ARG001 (records that are all alike)
    return offset


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
        Entries of the tables with a counter, by its name, one for each place that the counter could have.
    depths
        Number of tables around each counter.
    chosen
        Whether a branch is read, by its name, for each place that it could have.
    faults
        Records that are refused for their structure.
    offset
        Gives the byte of a record as it came at which a byte of the full layout lies.
    """

    matrix: "Bytes"
    position: Callable[[int], str]
    raw: Callable[[int], bytes] = _nowhere
    counts: "Mapping[str, Whole]" = field(default_factory=dict)
    depths: Mapping[str, int] = field(default_factory=dict)
    chosen: "Mapping[str, Mask]" = field(default_factory=dict)
    faults: Mapping[int, Fault] = field(default_factory=dict)
    offset: Callable[[int, int], int] = _as_it_came


class _Moved(NamedTuple):
    """How records were brought to their full layout.

    Parameters
    ----------
    matrix
        Their bytes.
    offset
        Gives the byte of a record as it came at which a byte of the full layout lies.
    lengths
        Bytes that each record should have.
    """

    matrix: "Bytes"
    offset: Callable[[int, int], int]
    lengths: "Whole"


@dataclass(frozen=True)
class Unfolding:
    """How records of a layout differ from each other.

    Parameters
    ----------
    layout
        The record.
    characters
        Gives the character set of a field.
    writing
        The machine that wrote the numbers.
    occurs
        ``max_size``: a table always takes the room of all its entries; ``shift_record``: what stands behind it moves
        up, and the record is the shorter; ``pad_record``: it moves up, and the record is filled at its end.
    rules
        When a branch is read, by its name; without a rule its fields cannot be read.
    fill
        The byte of room that is not used.
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
    characters: Callable[[str], CodePage]
    writing: Writing
    occurs: Occurs = "max_size"
    rules: Mapping[str, Choice] = field(default_factory=dict)
    fill: int = 0x40
    is_exact: bool = True
    may_end_early: bool = False

    def __post_init__(self) -> None:
        self.chooser  # noqa: B018 (the rules are checked when it is made)

    @property
    def is_trivial(self) -> bool:
        """Whether all records are alike."""
        return not self.layout.tables and not self.rules

    @property
    def shifts(self) -> bool:
        """Whether what stands behind a table moves up."""
        return bool(self.layout.tables) and self.occurs != "max_size"

    @cached_property
    def chooser(self) -> Chooser:
        """What chooses the branches."""
        return Chooser(self.layout, self.characters, self.writing, self.rules)

    @cached_property
    def counting(self) -> Counting:
        """What reads the counters of single records."""
        return Counting(self.layout, self.writing)

    @cached_property
    def _items(self) -> dict[str, Item]:
        return {item.name: item for item in self.layout.items}

    @cached_property
    def depths(self) -> dict[str, int]:
        """Number of tables around each counter."""
        return {table.counter: len(self._items[table.counter].axes) for table in self.layout.tables}

    def unfold(self, frames: Frames) -> Unfolded:
        """Bring records to their full layout."""
        size = self.layout.record_bytes
        matrix = frames.matrix(size, self.fill)
        if self.is_trivial and not frames.is_cut and (frames.lengths == size).all():
            return Unfolded(matrix, frames.position, frames.raw)
        faults: dict[int, Fault] = {}
        if frames.is_cut:
            faults[len(matrix) - 1] = Fault(RejectionCode.DECODE_SHORT, "", int(frames.lengths[-1]))
        counts: dict[str, Whole] = {}
        if self.shifts and self.layout.is_nested:
            moved = self._walk_all(frames)
            for table in self.layout.tables:
                counts[table.counter] = self._count(moved, table, counts, faults, frames)
        else:
            moved = _Moved(matrix, _as_it_came, np.full(len(matrix), size))
            for table in self.layout.tables:
                counts[table.counter] = self._count(moved, table, counts, faults, frames)
                if self.shifts:
                    moved = _move_down(moved, table, counts[table.counter])
        chosen, choosing = self.chooser.choose(moved.matrix, counts, self.depths)
        for row, fault in choosing.items():
            faults.setdefault(row, fault._replace(offset=moved.offset(row, fault.offset)))
        self._check_lengths(frames, moved, chosen, faults)
        return Unfolded(moved.matrix, frames.position, frames.raw, counts, self.depths, chosen, faults, moved.offset)

    def _count(
        self, moved: _Moved, table: Table, counts: "Mapping[str, Whole]", faults: dict[int, Fault], frames: Frames
    ) -> "Whole":
        """Read the counter of a table; where it is none, the record is refused and the table taken as full."""
        item = self._items[table.counter]
        places = enter(item.gates, len(moved.matrix), counts, self.depths, {})
        there = places.flats[-1]
        block = block_of(moved.matrix, item)
        values, bad = self.counting.numbers(block[there], item)
        wrong = bad | (values < table.minimum) | (values > table.maximum)
        for place in np.flatnonzero(wrong):
            row = int(places.rows[place])
            if row in faults:
                continue
            at = moved.offset(row, item.offset + int(places.shifts[place]))
            if frames.lengths[row] < at + item.length:
                faults[row] = Fault(RejectionCode.DECODE_SHORT, "", int(frames.lengths[row]))
            elif bad[place]:
                code, byte = explain(block[there[place]].tobytes(), item, self.writing)
                faults[row] = Fault(code, item.name, at + byte)
            else:
                faults[row] = Fault(RejectionCode.DECODE_COUNT, item.name, at)
        entries = np.full(len(block), table.maximum, dtype=np.int64)
        entries[there] = np.where(wrong, table.maximum, values)
        return entries

    def _walk_all(self, frames: Frames) -> _Moved:
        """Bring records to their full layout one by one."""
        matrix = np.full((len(frames.lengths), self.layout.record_bytes), self.fill, dtype=np.uint8)
        lengths = np.zeros(len(matrix), dtype=np.int64)
        for row, full in enumerate(matrix):
            lengths[row] = self.counting.spread(frames.raw(row), full)

        def offset(row: int, place: int) -> int:
            return self.counting.origin(frames.raw(row), place)

        return _Moved(
            matrix, offset, lengths if self.occurs == "shift_record" else np.full_like(lengths, matrix.shape[1])
        )

    def _check_lengths(
        self, frames: Frames, moved: _Moved, chosen: "Mapping[str, Mask]", faults: dict[int, Fault]
    ) -> None:
        full = (
            moved.lengths if self.occurs == "shift_record" else np.full(len(frames.lengths), self.layout.record_bytes)
        )
        left_out = self.chooser.left_out(chosen, len(full)) if self.may_end_early else 0
        lowest = full - left_out if self.is_exact else np.zeros_like(full)
        for row in np.flatnonzero((frames.lengths < lowest) | (frames.lengths > full)):
            length = int(frames.lengths[row])
            is_short = length < lowest[row]
            code = RejectionCode.DECODE_SHORT if is_short else RejectionCode.DECODE_LONG
            faults.setdefault(int(row), Fault(code, "", length if is_short else int(full[row])))

    def fold(self, matrix: "Bytes", counts: "Mapping[str, Whole]") -> list[bytes]:
        """Write records of the full layout as they lie in a file; the inverse of :meth:`unfold`."""
        if not self.shifts:
            return [row.tobytes() for row in matrix]
        if self.layout.is_nested:
            folded = [self.counting.gather(row) for row in matrix]
        else:
            lengths = np.full(len(matrix), self.layout.record_bytes)
            for table in reversed(self.layout.tables):
                count = counts[table.counter]
                matrix = _move_up(matrix, table, count, self.fill)
                lengths -= _slack(table, count)
            folded = [row[:length].tobytes() for row, length in zip(matrix, lengths, strict=True)]
        if self.occurs == "pad_record":
            return [record.ljust(self.layout.record_bytes, bytes([self.fill])) for record in folded]
        return folded


def _slack(table: Table, count: "Whole") -> "Whole":
    """Bytes of the entries that a record does not have."""
    slack: Whole = (table.maximum - count) * table.stride
    return slack


def _move_down(moved: _Moved, table: Table, count: "Whole") -> _Moved:
    """Make room for the entries that a record does not have."""
    matrix = moved.matrix.copy()
    end, size = table.offset + table.maximum * table.stride, matrix.shape[1]
    for entries in np.unique(count[count < table.maximum]):
        rows = np.flatnonzero(count == entries)
        behind = table.offset + int(entries) * table.stride
        matrix[rows, end:] = matrix[rows, behind : behind + size - end]
    slack = _slack(table, count)

    def offset(row: int, place: int) -> int:
        return moved.offset(row, place - int(slack[row]) if place >= end else place)

    return _Moved(matrix, offset, moved.lengths - slack)


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
