"""What lookups know about the rows of a unified table: fields taken by key, and whether there is a match.

Rows are neither lost, doubled nor reordered: each finds at most one match, or stays with missing values.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.pipeline.timeline import Timeline
from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from brownfield.integration import Join

__all__ = ["Matcher"]


class Matcher:
    """One join, prepared once and applied to batch after batch.

    Parameters
    ----------
    join
        As declared.
    lookup
        The accepted rows of the joined source.
    where
        Place of the declaration, for messages.
    resort
        What every row gets while the lookup is gone; a field that it does not name is missing. None: there are rows.

    Raises
    ------
    DeclarationError
        When a field is missing on a side, or when fields are taken and two rows of the lookup have one key.

    Examples
    --------
    >>> from brownfield.integration import Join
    >>> products = pa.table({"id": [1, 2], "kind": ["milk", "bread"]})
    >>> matcher = Matcher(Join(source="products", on="id", take=("kind",), exists="known"), products)
    >>> matcher.apply(pa.table({"id": [2, 3, None]})).to_pydict()
    {'id': [2, 3, None], 'kind': ['bread', None, None], 'known': [True, False, False]}
    """

    def __init__(
        self, join: "Join", lookup: pa.Table, where: str = "unified", *, resort: Mapping[str, Any] | None = None
    ) -> None:
        self.join = join
        self.where = where
        self.resort = resort
        for name in join.needed:
            if name not in lookup.column_names:
                raise self._refused(f"a field of the source {join.source}", repr(name), "join")
        needed = join.keys if join.as_of is None else (*join.keys, join.as_of.right)
        present = pc.is_valid(lookup[needed[0]])
        for name in needed[1:]:
            present = pc.and_(present, pc.is_valid(lookup[name]))
        self.lookup = lookup.filter(present).combine_chunks()
        self._levels: list[tuple[pa.Array, pa.Array]] = []
        keys = self._codes([self.lookup[name] for name in join.keys], learn=True)
        self._keys = keys if join.as_of is None else pc.unique(keys)
        self._timeline = None
        if join.as_of is not None:
            groups = pc.index_in(keys, value_set=self._keys)
            self._timeline = Timeline(join.as_of, groups, self.lookup, self._refused)
            return
        distinct = pc.count_distinct(keys).as_py()
        if join.take and distinct < len(keys):
            raise self._refused(
                f"rows of {join.source} that differ in {', '.join(join.keys)}, for fields are taken from them",
                f"{len(keys) - distinct:,} rows too many",
                "take",
                "Join on the whole key, or ask only whether there is a match (exists).",
            )

    def apply(self, rows: pa.Table) -> pa.Table:
        """Add the declared fields to each row."""
        for name in self.join.keys:
            if name not in rows.column_names:
                raise self._refused("a field of the rows that are joined", repr(name), "on")
        codes = self._codes([rows[name] for name in self.join.keys], learn=False)
        match = pc.index_in(codes, value_set=self._keys, skip_nulls=True)
        if self._timeline is not None:
            if self._timeline.as_of.left not in rows.column_names:
                raise self._refused("a field of the rows that are joined", repr(self._timeline.as_of.left), "as_of")
            match = self._timeline.match(match, rows[self._timeline.as_of.left])
        added = [(name, self.lookup[name].take(match)) for name in self.join.take]
        if self.join.exists is not None:
            added.append((self.join.exists, pc.is_valid(match)))
        if self.resort is not None:
            added = [(name, self._constant(name, column.type, rows.num_rows)) for name, column in added]
        for name, column in added:
            if name in rows.column_names:
                raise self._refused("a name that the rows do not have yet", repr(name), "take")
            rows = rows.append_column(name, column)
        return rows

    def _constant(self, name: str, kind: pa.DataType, rows: int) -> pa.Array:
        try:
            return pa.repeat(pa.scalar((self.resort or {}).get(name), kind), rows)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
            raise self._refused(f"a constant of the type {kind}", "another", name) from None

    def _codes(self, columns: Sequence[pa.ChunkedArray], *, learn: bool) -> pa.Array:
        """Give one value for the key of each row: the key itself, or a number that stands for several columns."""
        codes = _one(columns[0])
        if learn:
            self._levels = [(codes, codes)]
        elif codes.type != self._levels[0][0].type:
            codes = self._cast(codes, self._levels[0][0].type)
        for depth, column in enumerate(columns[1:], 1):
            values = _one(column)
            if learn:
                self._levels.append((pc.unique(codes), pc.unique(values)))
            left, right = self._levels[depth]
            values = values if values.type == right.type else self._cast(values, right.type)
            high = pc.index_in(codes, value_set=left, skip_nulls=True).cast(pa.int64())
            low = pc.index_in(values, value_set=right, skip_nulls=True).cast(pa.int64())
            codes = pc.add(pc.multiply(high, len(right)), low)
        return codes

    def _cast(self, values: pa.Array, wanted: pa.DataType) -> pa.Array:
        if pa.types.is_integer(values.type) and pa.types.is_integer(wanted):
            try:
                return values.cast(wanted)
            except pa.ArrowInvalid:  # some lie outside the lookup's width: they have no match
                return pa.array([each if _fits(each, wanted) else None for each in values.to_pylist()], wanted)
        raise self._refused(f"keys of one type, here {wanted}", str(values.type), "on")

    def _refused(self, expected: str, got: str, path: str, next_step: str | None = None) -> DeclarationError:
        return DeclarationError(
            where=self.where, path=f"{self.join.source}.{path}", expected=expected, got=got, next_step=next_step
        )


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _fits(value: int | None, wanted: pa.DataType) -> bool:
    if value is None:
        return False
    signed, bits = pa.types.is_signed_integer(wanted), wanted.bit_width
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return bool(low <= value <= high)
