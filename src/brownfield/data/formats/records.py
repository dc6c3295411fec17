"""Records of a layout to Arrow columns and back: the engine under ``copybook`` and ``fixed_width``.

A batch of records is one matrix of bytes; each wanted column is decoded as a whole. A record with a bad field becomes
a reject that names the field and the byte; the others become rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.characters import Characters
from brownfield.data.formats.fields import Column, bind_column, counted
from brownfield.data.formats.layout import Axis, Item, Layout
from brownfield.data.formats.numbers import Writing
from brownfield.data.formats.presence import Places, block_of, enter, place_count, unlist
from brownfield.data.formats.unfolding import Unfolded, Unfolding
from brownfield.errors import FormatError, there_are

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Counts = Mapping[str, NDArray[np.int64]]
    _T = TypeVar("_T", np.int64, np.bool_)

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """A layout bound to the columns that are wanted.

    Parameters
    ----------
    layout
        The record.
    columns
        The wanted columns, in the order in which they come out.
    blank
        The byte of a blank.
    writing
        The machine that wrote the numbers.
    unfolding
        How records differ from each other; None where they are all alike.
    """

    layout: Layout
    columns: tuple[Column, ...]
    blank: int
    writing: Writing
    unfolding: Unfolding | None = None

    @classmethod
    def bind(
        cls,
        layout: Layout,
        wanted: pa.Schema,
        characters: Callable[[str], Characters],
        writing: Writing,
        where: str,
        unfolding: Unfolding | None = None,
    ) -> "Plan":
        """Find each wanted column in the layout; ``characters`` gives the character set of a field.

        Raises
        ------
        FormatError
            When the layout lacks a column, or writes it in a way that cannot become the wanted type.
        """
        items = {item.name: item for item in layout.items}
        columns = []
        for field in wanted:
            item = items.get(field.name)
            if item is None:
                near = get_close_matches(field.name, items, 1)
                raise FormatError(
                    where=where, expected=f"a field {field.name}", got="none of that name",
                    next_step=there_are(near, "The nearest") if near else there_are(items),
                )  # fmt: skip
            unruled = [name for name in item.branches if unfolding is None or name not in unfolding.rules]
            if unruled:
                raise FormatError(
                    where=where, path=field.name,
                    expected=f"redefine_rule to say when {unruled[0]} is read, for its bytes have several readings",
                    got="no rule",
                )  # fmt: skip
            columns.append(bind_column(field, item, characters(item.name), writing, where))
        return cls(layout, tuple(columns), characters("").space, writing, unfolding)

    @property
    def schema(self) -> pa.Schema:
        """Columns and types that come out."""
        return pa.schema([(column.item.name, column.type) for column in self.columns])

    def decode(self, records: Unfolded) -> Decoded:
        """Decode a batch of records at their full length."""
        rows = len(records.matrix)
        arrays, first_bad = [], np.full(rows, len(self.columns), dtype=np.int32)
        for index, column in enumerate(self.columns):
            values, bad = self._read(records, column)
            if bad is not None:
                first_bad[bad] = np.minimum(first_bad[bad], index)
            arrays.append(values)
        first_bad[list(records.faults)] = -1
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        good = np.flatnonzero(first_bad == len(self.columns))
        if len(good) == rows:
            return Decoded(batch, records.position, records.raw)
        rejects = tuple(
            self._reject(records, int(row), int(first_bad[row]))
            for row in np.flatnonzero(first_bad < len(self.columns))
        )
        return Decoded(
            batch.take(pa.array(good)),
            lambda row: records.position(int(good[row])),
            lambda row: records.raw(int(good[row])),
            rejects,
        )

    def _read(self, records: Unfolded, column: Column) -> "tuple[pa.Array, NDArray[np.bool_] | None]":
        """Decode one column: a value or list per record, and the records in which it is bad, if there are any."""
        item, rows = column.item, len(records.matrix)
        if not item.gates:
            values, bad = column.decode(block_of(records.matrix, item))
            return values, bad if bad.any() else None
        places = _places(item, records, rows)
        block = block_of(records.matrix, item)
        values, bad = column.decode(block[places.flats[-1]] if item.varies else block)
        lists = places.lists(values, item.gates)
        if not bad.any():
            return lists, None
        in_record = np.zeros(rows, dtype=bool)
        in_record[places.rows[bad]] = True
        return lists, in_record

    def _reject(self, records: Unfolded, row: int, bad_column: int) -> Reject:
        """Find, one value at a time, where in a record the first fault of a column lies."""
        position, raw = records.position(row), records.raw(row)
        if bad_column < 0:
            code, field, at = records.faults[row]
            return Reject(position, code, field, raw, at)
        column = self.columns[bad_column]
        item = column.item
        matrix = records.matrix[row : row + 1]
        places = _places(item, _only(records, row), 1)
        for shift in places.shifts:
            start = item.offset + int(shift)
            block = matrix[:, start : start + item.length]
            if column.decode(block)[1][0]:
                code, at = column.explain(block)
                return Reject(position, code, item.name, raw, records.offset(row, start + at))
        raise AssertionError("the record has no fault in this column")

    def encode(self, batch: pa.RecordBatch) -> "tuple[NDArray[np.uint8], Counts]":
        """Encode records at their full length; bytes of fields that are not among the columns are blanks.

        Returns
        -------
        tuple
            The bytes, shape ``(records, record_bytes)``, and the entries of tables with a counter, by its name.

        Raises
        ------
        FormatError
            When a value is null or does not fit its field, or a counter or branch does not fit its values.
        """
        matrix = np.full((batch.num_rows, self.layout.record_bytes), self.blank, dtype=np.uint8)
        counts = self._write_counters(matrix, batch)
        deepest = max((len(column.item.branches) for column in self.columns), default=0)
        for depth in range(deepest + 1):
            chosen = self._chosen(matrix, counts) if depth else {}
            for column in self.columns:
                if len(column.item.branches) == depth:
                    array = batch.column(column.item.name)
                    values, places = unlist(array, column.item, counts, self._depths, chosen)
                    _place(matrix, column.encode(values), column.item, places)
        if deepest:
            self._check_chosen(matrix, counts)
        return matrix, counts

    @cached_property
    def _depths(self) -> "Mapping[str, int]":
        return {} if self.unfolding is None else self.unfolding.depths

    def _chosen(self, matrix: "NDArray[np.uint8]", counts: "Counts") -> "Mapping[str, NDArray[np.bool_]]":
        """Find the branches of records to be written, in which the earlier fields stand already."""
        if self.unfolding is None:
            raise AssertionError("a plan with branches knows when they are read")
        return self.unfolding.chooser.choose(matrix, counts, self._depths)[0]

    def _check_chosen(self, matrix: "NDArray[np.uint8]", counts: "Counts") -> None:
        faults = {} if self.unfolding is None else self.unfolding.chooser.choose(matrix, counts, self._depths)[1]
        if faults:
            name = next(iter(faults.values())).field
            raise FormatError(path=name, expected="a value that chooses a branch of REDEFINES", got="another")

    def _write_counters(self, matrix: "NDArray[np.uint8]", batch: pa.RecordBatch) -> "Counts":
        """Write the entries of each table, as the lengths of its lists or its counter say, outer tables first."""
        items = {item.name: item for item in self.layout.items}
        counts: dict[str, NDArray[np.int64]] = {}
        for table in self.layout.tables:
            item = items[table.counter]
            entries = self._entries(batch, item, counts)
            counts[item.name] = np.zeros(len(matrix) * place_count(item.gates), dtype=np.int64)
            places = enter(item.gates, len(matrix), counts, self._depths, {})
            counts[item.name][places.flats[-1]] = entries
            if len(entries) and not table.minimum <= entries.min() <= entries.max() <= table.maximum:
                raise FormatError(
                    path=table.counter, expected=f"{table.minimum} to {table.maximum} entries", got="another number"
                )
            _place(matrix, counted(entries, item, self.writing), item, places)
        return counts

    def _entries(self, batch: pa.RecordBatch, counter: Item, counts: "Counts") -> "NDArray[np.int64]":
        """Entries of the tables of one counter, one for each place of it."""
        declared = None
        if counter.name in batch.schema.names:
            declared = unlist(batch.column(counter.name), counter, counts, self._depths, {})[0]
            declared = declared.to_numpy(zero_copy_only=False).astype(np.int64)
        lists = next((each.item for each in self.columns if _depth_of(each.item, counter) is not None), None)
        if lists is None and declared is None:
            raise FormatError(path=counter.name, expected="a list in each record, or its counter", got="none")
        if lists is None:
            return np.asarray(declared)
        depth = _depth_of(lists, counter) or 0
        array = batch.column(lists.name)
        outer = Item(name=lists.name, offset=0, length=0, gates=lists.gates[:depth])
        array, _ = unlist(array, outer, counts, self._depths, {})
        if array.null_count:
            raise FormatError(path=lists.name, expected="a list in each record, or its counter", got="none")
        lengths: NDArray[np.int64] = pc.list_value_length(array).to_numpy(zero_copy_only=False).astype(np.int64)
        if depth > len(counter.gates):  # several tables share one counter that stands outside of them
            places = enter(lists.gates[:depth], batch.num_rows, counts, self._depths, {})
            lengths = _shared(lengths, lists, counter, places)
        if declared is not None and not np.array_equal(lengths, declared):
            raise FormatError(path=counter.name, expected="the length of its lists", got="another number")
        return lengths


def _places(item: Item, records: Unfolded, rows: int) -> Places:
    return enter(item.gates, rows, records.counts, records.depths, records.chosen)


def _only(records: Unfolded, row: int) -> Unfolded:
    """One record, with what its counters and rules say."""
    rows = len(records.matrix)

    def part(all_of_them: "NDArray[_T]") -> "NDArray[_T]":
        per_row = len(all_of_them) // rows
        return all_of_them[row * per_row : (row + 1) * per_row]

    return Unfolded(
        records.matrix[row : row + 1],
        records.position,
        records.raw,
        {name: part(entries) for name, entries in records.counts.items()},
        records.depths,
        {name: part(mask) for name, mask in records.chosen.items()},
    )


def _depth_of(item: Item, counter: Item) -> int | None:
    """How many gates stand around the table of a counter in which a field lies; None where it lies in none."""
    found = [depth for depth, gate in enumerate(item.gates) if isinstance(gate, Axis) and gate.counter == counter.name]
    return found[0] if found else None


def _shared(lengths: "NDArray[np.int64]", item: Item, counter: Item, places: Places) -> "NDArray[np.int64]":
    """Bring the lengths of many lists that one counter counts down to one for each place of the counter."""
    owners, first, inverse = np.unique(places.flats[len(counter.gates)], return_index=True, return_inverse=True)
    entries: NDArray[np.int64] = lengths[first]
    if (entries[inverse] != lengths).any() or len(owners) == 0:
        raise FormatError(path=item.name, expected="lists as long as their counter says", got="another length")
    return entries


def _place(matrix: "NDArray[np.uint8]", block: "NDArray[np.uint8]", item: Item, places: Places) -> None:
    """Write the values of a field into its places."""
    if not item.gates:
        matrix[:, item.offset : item.offset + item.length] = block
        return
    starts = item.offset + places.shifts
    for byte in range(item.length):
        matrix[places.rows, starts + byte] = block[:, byte]
