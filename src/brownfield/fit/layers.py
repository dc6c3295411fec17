"""Which layers to leave in fp32: the way back from an int8 file that is fast and wrong.

In: rows of the table, and layers by how much each of them harms the answers. Out: the recipe to start from, and how
many layers to leave out next. Pure: files are made and measured by the search.
"""

from collections.abc import Iterator, Sequence

from brownfield.fit.choose import Row, Wanted, right_so_far

__all__ = ["counts", "promising"]

_LEAST_GAIN = 0.1
_LARGEST_SHARE = 0.5


def promising(rows: Sequence[Row], wanted: Wanted) -> Row | None:
    """Find the static int8 that is a tenth faster than all that look right, and wrong: of several the least wrong.

    Parameters
    ----------
    rows
        Of the table.
    wanted
        The limits.
    """
    right = [row.timing.ratio.value for row in rows if row.timing and right_so_far(row, wanted)]
    fast_enough = min(right, default=1.0) * (1 - _LEAST_GAIN)
    found = [
        (row.accuracy.drop.value, row.timing.ratio.value, row)
        for row in rows
        if row.candidate.recipe.kind == "static"
        and row.candidate.session.plain
        and row.timing is not None
        and row.accuracy is not None
        and row.accuracy.finite
        and row.timing.ratio.value < fast_enough
        and not right_so_far(row, wanted)
    ]
    return min(found, key=lambda each: each[:2])[2] if found else None


def counts(layers: int) -> Iterator[int]:
    """How many of the worst layers to leave out, one try after the other, up to half of them.

    Examples
    --------
    >>> list(counts(40))
    [1, 2, 4, 8, 16]
    >>> list(counts(1))
    [1]
    """
    count = 1
    while count <= max(1, int(layers * _LARGEST_SHARE)):
        yield count
        count *= 2
