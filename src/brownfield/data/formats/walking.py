"""Records with tables of varying length inside tables, piece by piece between their file and their full layout.

Each entry of such a table has a length of its own, so that one record is walked after the other.
"""

from collections.abc import Callable, Sequence

from brownfield.data.formats.layout import Layout, Repeat, Table

__all__ = ["Count", "Piece", "walk"]

Piece = tuple[int, int]
"""First byte in the full layout, and number of bytes that follow each other in both."""
Count = Callable[[Table, Sequence[int]], int]
"""Gives the entries of a table whose outer entries lie at these bytes behind their first."""


def walk(layout: Layout, count: Count, take: Callable[[int, int], None]) -> None:
    """Go through one record in the order of its bytes.

    Parameters
    ----------
    layout
        The record.
    count
        Asked for the entries of each table when all bytes before it have been taken.
    take
        Given each piece: first byte in the full layout, and number of bytes.

    Examples
    --------
    >>> from brownfield.data.formats.copybook_source import compile_copybook
    >>> layout = compile_copybook('''01 R. 05 G OCCURS 2. 10 N PIC 9. 10 T PIC XX OCCURS 0 TO 3 DEPENDING ON N.
    ... 05 Z PIC X.''')
    >>> pieces = []
    >>> walk(layout, lambda table, shifts: 1 if shifts[-1] else 3, lambda start, length: pieces.append((start, length)))
    >>> pieces
    [(0, 1), (1, 2), (3, 2), (5, 2), (7, 1), (8, 2), (14, 1)]
    """
    _Walk(count, take).go(layout.repeats, 0, layout.record_bytes, [0])


class _Walk:
    def __init__(self, count: Count, take: Callable[[int, int], None]) -> None:
        self.count = count
        self.take = take

    def go(self, repeats: Sequence[Repeat], start: int, end: int, shifts: list[int]) -> None:
        """Take all bytes from one place of the first entry to another; ``shifts`` has one sum for each depth."""
        shift = shifts[-1]
        for each in repeats:
            self._piece(start + shift, each.offset + shift)
            entries = each.count if each.table is None else self.count(each.table, shifts)
            for index in range(entries):
                self.go(each.inner, each.offset, each.offset + each.stride, [*shifts, shift + index * each.stride])
            start = each.offset + each.count * each.stride
        self._piece(start + shift, end + shift)

    def _piece(self, start: int, end: int) -> None:
        if end > start:
            self.take(start, end - start)
