"""Joins add to rows and never lose, double or reorder them."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.pipeline.joining import Matcher
from brownfield.errors import DeclarationError
from brownfield.integration import Join

KEY = st.integers(0, 3) | st.none()


@given(
    st.lists(st.tuples(KEY, st.sampled_from("xy"), st.integers(0, 9)), unique_by=lambda row: row[:2]),
    st.lists(st.tuples(KEY, st.sampled_from("xyz") | st.none())),
    st.integers(1, 3),
)
def test_a_join_is_a_look_up_row_by_row(lookup, rows, chunk):
    """For keys of two columns with nulls, each row gets what a dictionary of the lookup would give it."""
    known = {(key, kind): value for key, kind, value in lookup if key is not None}
    types = pa.schema([("id", pa.int32()), ("kind", pa.string()), ("value", pa.int64())])
    table = pa.Table.from_pylist([dict(zip(types.names, row, strict=True)) for row in lookup], types)
    matcher = Matcher(Join(source="s", on=("id", "kind"), take=("value",), exists="known"), table)
    left = pa.table(
        [pa.array([key for key, _ in rows], pa.int64()), pa.array([kind for _, kind in rows], pa.string())],
        names=["id", "kind"],
    )
    pieces = [matcher.apply(left.slice(start, chunk)) for start in range(0, left.num_rows, chunk)]
    found = [row for piece in pieces for row in piece.to_pylist()]
    assert found == [
        {"id": key, "kind": kind, "value": known.get((key, kind)), "known": (key, kind) in known} for key, kind in rows
    ]


def test_taking_fields_needs_one_row_a_key():
    """Two rows with one key would double rows, or hide that they disagree; asking for existence is fine."""
    twice = pa.table({"id": [1, 1], "value": [2, 2]})
    with pytest.raises(DeclarationError, match="1 rows too many"):
        Matcher(Join(source="s", on="id", take=("value",)), twice)
    assert Matcher(Join(source="s", on="id", exists="known"), twice).apply(pa.table({"id": [1]}))[
        "known"
    ].to_pylist() == [True]


@pytest.mark.parametrize(
    ("join", "left"),
    [
        (Join(source="s", on="no", exists="e"), {"id": [1]}),
        (Join(source="s", on="id", take=("no",)), {"id": [1]}),
        (Join(source="s", on="id", exists="e"), {"other": [1]}),
        (Join(source="s", on="id", exists="e"), {"id": ["1"]}),
        (Join(source="s", on="id", take=("value",)), {"id": [1], "value": [2]}),
    ],
    ids=["key-of-the-lookup", "taken-field", "key-of-the-rows", "B-45-types", "name-taken"],
)
def test_a_join_that_does_not_fit_is_an_error_of_the_declaration(join, left):
    """Missing fields, keys of different types and names that stand twice are refused."""
    with pytest.raises(DeclarationError, match="unified"):
        Matcher(join, pa.table({"id": [1], "value": [2]})).apply(pa.table(left))


def test_a_key_beyond_the_width_of_the_lookup_has_no_match():
    """Whole numbers of different widths are compared by value."""
    matcher = Matcher(Join(source="s", on="id", exists="known"), pa.table({"id": pa.array([1], pa.int8())}))
    assert matcher.apply(pa.table({"id": [1, 257, 2**40]}))["known"].to_pylist() == [True, False, False]
