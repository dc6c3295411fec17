"""Counters of tables of varying length, read in single records: how long a record is, and where its bytes belong."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from brownfield.data.formats.layout import Item, Layout, Table
from brownfield.data.formats.numbers import Writing, decode_number
from brownfield.data.formats.walking import walk
from brownfield.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Counting"]

_REMEMBERED = 65_536
_Measure = Callable[[bytes, int], int | None]


class _NeedsMore(Exception):
    """The data ends before the record does."""


class Counting:
    """Reads the counters of records of a layout.

    Parameters
    ----------
    layout
        The record.
    writing
        The machine that wrote the numbers.
    """

    def __init__(self, layout: Layout, writing: Writing) -> None:
        self.layout = layout
        self.writing = writing
        self._items = {item.name: item for item in layout.items}
        self._known: dict[tuple[int, bytes], int | None] = {}

    def numbers(self, block: "NDArray[np.uint8]", item: Item) -> "tuple[NDArray[np.int64], NDArray[np.bool_]]":
        """Decode a counter: its values, and where it is none."""
        return decode_number(block, item, self.writing)

    def _entries(self, table: Table, raw: bytes) -> int | None:
        """Entries that a counter says; None where it is none or out of its bounds."""
        key = (id(table), raw)
        if key not in self._known:
            values, bad = self.numbers(np.frombuffer(raw, dtype=np.uint8).reshape(1, -1), self._items[table.counter])
            fits = not bad[0] and table.minimum <= values[0] <= table.maximum
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = int(values[0]) if fits else None
        return self._known[key]

    @cached_property
    def measure(self) -> _Measure:
        """Give the length of the record that begins at a byte, from its counters; None when it needs more data.

        Raises
        ------
        FormatError
            When a counter is none, for nothing says then where the next record begins.
        """
        first = min((table.offset for table in self.layout.tables), default=0)
        if not self.layout.is_nested and all(self._end(table) <= first for table in self.layout.tables):
            return self._measure_front()
        return self._measure_walking

    def _end(self, table: Table) -> int:
        item = self._items[table.counter]
        return item.offset + item.length

    def _measure_front(self) -> _Measure:
        """Measure by counters that all stand before the first table."""
        tables = [(table, self._items[table.counter].offset, self._end(table)) for table in self.layout.tables]
        begin, end = min(start for _, start, _ in tables), max(end for _, _, end in tables)
        known: dict[bytes, int] = {}

        def length_of(raw: bytes) -> int:
            slack = 0
            for table, start, stop in tables:
                slack += (table.maximum - self._counted(table, raw[start - begin : stop - begin])) * table.stride
            if len(known) < _REMEMBERED:
                known[raw] = self.layout.record_bytes - slack
            return self.layout.record_bytes - slack

        def measure(data: bytes, at: int) -> int | None:
            raw = data[at + begin : at + end]
            found = known.get(raw)
            if found is not None:
                return found
            return length_of(raw) if len(data) >= at + end else None

        return measure

    def _measure_walking(self, data: bytes, at: int) -> int | None:
        scratch = bytearray(self.layout.record_bytes)
        reached = at

        def take(start: int, length: int) -> None:
            nonlocal reached
            if len(data) < reached + length:
                raise _NeedsMore
            scratch[start : start + length] = data[reached : reached + length]
            reached += length

        try:
            walk(self.layout, lambda table, shifts: self._counted(table, self._raw(table, shifts, scratch)), take)
        except _NeedsMore:
            return None
        return reached - at

    def _counted(self, table: Table, raw: bytes) -> int:
        entries = self._entries(table, raw)
        if entries is None:
            raise FormatError(
                path=table.counter,
                expected=f"a count from {table.minimum} to {table.maximum} in each record",
                got="another, so that the next record cannot be found",
            )
        return entries

    def _raw(self, table: Table, shifts: Sequence[int], full: "bytearray | NDArray[np.uint8]") -> bytes:
        """Bytes of the counter of a table in a record of the full layout."""
        item = self._items[table.counter]
        start = item.offset + shifts[len(item.axes)]
        return bytes(full[start : start + item.length])

    def spread(self, raw: bytes, full: "NDArray[np.uint8]") -> int:
        """Write a record into its full layout; give the bytes that it should have."""
        source = np.frombuffer(raw, dtype=np.uint8)
        reached = 0

        def take(start: int, length: int) -> None:
            nonlocal reached
            piece = source[reached : reached + length]
            full[start : start + len(piece)] = piece
            reached += length

        walk(self.layout, lambda table, shifts: self._lenient(table, shifts, full), take)
        return reached

    def origin(self, raw: bytes, place: int) -> int:
        """Byte of a record as it came at which a byte of the full layout lies."""
        full = np.zeros(self.layout.record_bytes, dtype=np.uint8)
        source = np.frombuffer(raw, dtype=np.uint8)
        reached, found = 0, len(raw)

        def take(start: int, length: int) -> None:
            nonlocal reached, found
            piece = source[reached : reached + length]
            full[start : start + len(piece)] = piece
            if start <= place < start + length:
                found = min(reached + place - start, len(raw))
            reached += length

        walk(self.layout, lambda table, shifts: self._lenient(table, shifts, full), take)
        return found

    def gather(self, full: "NDArray[np.uint8]") -> bytes:
        """Take a record out of its full layout; the inverse of :meth:`spread`."""
        pieces: list[bytes] = []
        walk(
            self.layout,
            lambda table, shifts: self._lenient(table, shifts, full),
            lambda start, length: pieces.append(full[start : start + length].tobytes()),
        )
        return b"".join(pieces)

    def _lenient(self, table: Table, shifts: Sequence[int], full: "NDArray[np.uint8]") -> int:
        """Entries of a table; all of them where the counter is none, for the record is refused anyway."""
        entries = self._entries(table, self._raw(table, shifts, full))
        return table.maximum if entries is None else entries
