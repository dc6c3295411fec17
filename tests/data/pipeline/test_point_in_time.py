"""Joins in time: each row gets what was known at its own time, equal to truths computed without Brownfield's code."""

from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.data.pipeline.joining import Matcher
from brownfield.errors import DeclarationError
from brownfield.integration import AsOf, Join

FIRST = date(2026, 1, 1)
KEYS = st.sampled_from(["a", "b", "c"])
DAYS = st.integers(0, 12)
RIGHT = st.lists(st.tuples(KEYS, DAYS, st.one_of(st.none(), DAYS)), max_size=12, unique_by=lambda row: (row[0], row[1]))
LEFT = st.lists(st.tuples(st.one_of(st.none(), KEYS, st.just("z")), st.one_of(st.none(), DAYS)), max_size=12)


def of(days: int | None, kind: str) -> date | datetime | None:
    """Give a time that lies so many days after the first."""
    if days is None:
        return None
    at = FIRST + timedelta(days=days)
    return at if kind == "date" else datetime(at.year, at.month, at.day, tzinfo=UTC)


def tables(left: list, right: list, kind: str) -> tuple[pa.Table, pa.Table]:
    """Give both sides as Arrow tables."""
    time = pa.date32() if kind == "date" else pa.timestamp("us", "UTC")
    rows = pa.table(
        {
            "line": pa.array(range(len(left)), pa.int64()),
            "key": pa.array([key for key, _ in left], pa.string()),
            "at": pa.array([of(day, kind) for _, day in left], time),
        }
    )
    lookup = pa.table(
        {
            "key": pa.array([key for key, _, _ in right], pa.string()),
            "since": pa.array([of(day, kind) for _, day, _ in right], time),
            "until": pa.array([of(day, kind) for _, _, day in right], time),
            "price": pa.array(range(len(right)), pa.int64()),
        }
    )
    return rows, lookup


def naive(left: list, right: list, *, strict: bool, until: bool, max_age_d: float | None) -> list[int | None]:
    """Look at every pair."""
    prices = []
    for key, at in left:
        best = None
        for price, (other, since, _) in enumerate(right):
            begun = at is not None and key == other and (since < at if strict else since <= at)
            if begun and (best is None or since > right[best][1]):
                best = price
        if best is not None:
            _, since, end = right[best]
            ended = until and end is not None and at >= end
            if ended or (max_age_d is not None and at - since > max_age_d):
                best = None
        prices.append(best)
    return prices


@pytest.mark.full
@settings(max_examples=200)
@given(
    left=LEFT, right=RIGHT, kind=st.sampled_from(["date", "timestamp"]), strict=st.booleans(), until=st.booleans(),
    max_age_d=st.one_of(st.none(), st.integers(1, 6)),
)  # fmt: skip
def test_a_join_in_time_equals_the_look_at_every_pair(left, right, kind, strict, until, max_age_d):
    """Whatever the rows, kinds and options, each row gets the price that a loop over all pairs finds."""
    rows, lookup = tables(left, right, kind)
    as_of = AsOf(left="at", right="since", until="until" if until else None, strict=strict, max_age_d=max_age_d)
    joined = Matcher(Join(source="prices", on="key", take=("price",), exists="priced", as_of=as_of), lookup).apply(rows)
    truth = naive(left, right, strict=strict, until=until, max_age_d=max_age_d)
    assert joined["price"].to_pylist() == truth
    assert joined["priced"].to_pylist() == [price is not None for price in truth]
    assert joined.select(rows.column_names).equals(rows)


@pytest.mark.full
@settings(max_examples=100)
@given(left=LEFT, right=RIGHT, strict=st.booleans())
def test_no_row_uses_what_was_not_known_at_its_time(left, right, strict):
    """No leakage: what is known later changes no row before it, and what a row takes never began after it."""
    rows, lookup = tables(left, right, "timestamp")
    join = Join(source="prices", on="key", take=("price", "since"), as_of=AsOf(left="at", right="since", strict=strict))
    joined = Matcher(join, lookup).apply(rows).to_pylist()
    assert all(row["since"] is None or row["since"] < row["at"] + timedelta(days=not strict) for row in joined)
    for horizon in range(13):
        known = lookup.filter(pa.array([day <= horizon for _, day, _ in right], pa.bool_()))
        before = [index for index, (_, day) in enumerate(left) if day is not None and day <= horizon]
        then = Matcher(join, known).apply(rows).to_pylist()
        assert [then[index] for index in before] == [joined[index] for index in before]


def test_a_join_in_time_equals_duckdb():
    """On 20,000 rows it equals the ASOF join of DuckDB, which shares no code with ours."""
    left = [("abcdz"[index * 7919 % 5], index * 104_729 % 1_000) for index in range(20_000)]
    right = sorted({("abcd"[index * 31 % 4], index * 6_151 % 1_000) for index in range(1_500)})
    rows, lookup = tables(left, [(key, day, None) for key, day in right], "timestamp")
    join = Join(source="prices", on="key", take=("price",), as_of=AsOf(left="at", right="since"))
    joined = Matcher(join, lookup).apply(rows)
    with duckdb.connect() as engine:
        engine.register("l", rows)
        engine.register("r", lookup)
        truth = engine.execute(
            "SELECT l.line, r.price FROM l ASOF LEFT JOIN r ON l.key = r.key AND l.at >= r.since ORDER BY l.line"
        ).fetchall()
    assert list(zip(joined["line"].to_pylist(), joined["price"].to_pylist(), strict=True)) == truth
    assert sum(price is not None for _, price in truth) > 10_000


def test_two_rows_that_begin_at_one_time_are_refused():
    """Which of the two held cannot be told."""
    _, lookup = tables([], [("a", 1, None), ("a", 1, 2)], "date")
    with pytest.raises(DeclarationError, match="1 that begin when another does"):
        Matcher(Join(source="prices", on="key", take=("price",), as_of=AsOf(left="at", right="since")), lookup)
