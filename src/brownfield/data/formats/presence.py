"""Which places of a field a record has: entries of tables that its counters count, branches that its rules choose.

A field of a layout has one place per record and entry of the tables around it. Going through its gates from the
outside to the inside gives the places that are there; going back puts their values into lists, missing where another
branch is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.formats.layout import Axis, Gate, Item
from brownfield.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Whole = NDArray[np.int64]
    Mask = NDArray[np.bool_]

__all__ = ["Places", "block_of", "enter", "place_count", "unlist"]


@dataclass(frozen=True)
class Places:
    """Places of a field that are there.

    Parameters
    ----------
    rows
        The record of each place, shape ``(places,)``, in the order of the record.
    shifts
        Bytes from the field's first place to each.
    flats
        Number of the entry at each depth: ``flats[d]`` counts through ``d`` tables, ``flats[0]`` is the record.
    steps
        For each gate, the number of entries of each place before it, or which of these have the branch.
    """

    rows: "Whole"
    shifts: "Whole"
    flats: tuple["Whole", ...]
    steps: tuple["Whole | Mask", ...] = ()

    def keep(self, mask: "Mask") -> "Places":
        """Give the places of a branch."""
        return Places(self.rows[mask], self.shifts[mask], tuple(flat[mask] for flat in self.flats), (*self.steps, mask))

    def repeat(self, axis: Axis, entries: "Whole") -> "Places":
        """Give the places of all entries of a table."""
        parent = np.repeat(np.arange(len(self.rows)), entries)
        index = np.arange(len(parent)) - np.repeat(np.cumsum(entries) - entries, entries)
        flats = tuple(flat[parent] for flat in self.flats)
        return Places(
            self.rows[parent],
            self.shifts[parent] + index * axis.stride,
            (*flats, flats[-1] * axis.count + index),
            (*self.steps, entries),
        )

    def lists(self, values: pa.Array, gates: Sequence[Gate]) -> pa.Array:
        """Put one value per place into one value or list per record."""
        for gate, step in zip(reversed(gates), reversed(self.steps), strict=True):
            if isinstance(gate, str):
                values = values.take(pa.array(np.maximum(np.cumsum(step) - 1, 0), mask=~step))
            else:
                offsets = np.concatenate([[0], np.cumsum(step)]).astype(np.int32)
                values = pa.ListArray.from_arrays(pa.array(offsets), values)
        return values


def enter(
    gates: Sequence[Gate], rows: int, counts: "Mapping[str, Whole]", depths: Mapping[str, int],
    chosen: "Mapping[str, Mask]",
) -> Places:  # fmt: skip
    """Go through gates from the outside to the inside.

    Parameters
    ----------
    gates
        Around a field.
    rows
        Number of records.
    counts
        Entries of each table by its counter, one for each place that the counter could have.
    depths
        Number of tables around each counter.
    chosen
        Whether a branch is read, by its name, for each place that it could have.
    """
    places = _all(rows)
    for gate in gates:
        if isinstance(gate, str):
            places = places.keep(chosen[gate][places.flats[-1]])
        else:
            places = places.repeat(gate, _entries(gate, places, counts, depths))
    return places


def unlist(
    array: pa.Array, item: Item, counts: "Mapping[str, Whole]", depths: Mapping[str, int], chosen: "Mapping[str, Mask]"
) -> tuple[pa.Array, Places]:
    """Take the values of a field out of their lists; the inverse of :meth:`Places.lists`.

    Raises
    ------
    FormatError
        When a list is not as long as its OCCURS or counter, or a value stands where another branch is read.
    """
    places = _all(len(array))
    for gate in item.gates:
        if isinstance(gate, str):
            there = chosen[gate][places.flats[-1]]
            if array.filter(pa.array(~there)).null_count < int((~there).sum()):
                raise FormatError(path=item.name, expected="no value where another branch is read", got="one")
            array, places = array.filter(pa.array(there)), places.keep(there)
            continue
        if array.null_count:
            raise FormatError(path=item.name, expected="a list in each record", got="a missing one")
        entries = _entries(gate, places, counts, depths)
        if (pc.list_value_length(array).to_numpy(zero_copy_only=False) != entries).any():
            words = "lists as long as their counter says" if gate.counter else f"lists of {gate.count} items"
            raise FormatError(path=item.name, expected=words, got="another length")
        array, places = array.flatten(), places.repeat(gate, entries)
    return array, places


def place_count(gates: Sequence[Gate]) -> int:
    """Give the most places that a record can have behind these gates."""
    return int(np.prod([gate.count for gate in gates if isinstance(gate, Axis)], dtype=np.int64))


def block_of(matrix: "Bytes", item: Item) -> "Bytes":
    """Bytes of a field in all records and places, there or not, shape ``(records * places, length)``."""
    axes = item.axes
    if not axes:
        return matrix[:, item.offset : item.offset + item.length]
    view = np.lib.stride_tricks.as_strided(
        matrix[:, item.offset :],
        shape=(len(matrix), *(axis.count for axis in axes), item.length),
        strides=(matrix.strides[0], *(axis.stride for axis in axes), 1),
        writeable=False,
    )
    return view.reshape(-1, item.length)


def _all(rows: int) -> Places:
    records = np.arange(rows)
    return Places(records, np.zeros(rows, dtype=np.int64), (records,))


def _entries(axis: Axis, places: Places, counts: "Mapping[str, Whole]", depths: Mapping[str, int]) -> "Whole":
    if not axis.counter:
        return np.full(len(places.rows), axis.count)
    entries: Whole = counts[axis.counter][places.flats[depths[axis.counter]]]
    return entries
