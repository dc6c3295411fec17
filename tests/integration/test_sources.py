"""``sources`` and ``unified``: lookups, feeds, chains, joins, and what contradicts itself."""

import pytest

from brownfield.integration import CopybookFormat, CsvFormat


def test_a_flat_place_is_a_chain_of_one(declared) -> None:
    """A source with one place may write it flat; readers always find a chain."""
    flat = declared("sources: {a: {lookup: k, connection: d, path: a.csv, format: csv, delimiter: ';'}}\n").sources["a"]
    chain = declared(
        "sources: {a: {lookup: [k], chain: [{connection: d, path: a.csv, format: csv, delimiter: ';'}]}}\n"
    )
    assert flat.chain == chain.sources["a"].chain
    assert flat.keys == chain.sources["a"].keys == ("k",)
    assert flat.chain[0].options == CsvFormat(delimiter=";")


def test_the_lookup_of_the_design(declared) -> None:
    """A lookup falls from a file to a table to the last good snapshot."""
    source = declared(
        """\
sources:
  products:
    lookup: product_id
    chain:
      - {connection: mainframe_drop, path: PRODUCT.DAT, format: copybook, layout: product.cpy}
      - {connection: warehouse, table: products}
      - {snapshot: last_good, max_age_h: 24}
"""
    ).sources["products"]
    first, second, third = source.chain
    assert first.options == CopybookFormat(layout="product.cpy", record_format="F", code_page="cp037")
    assert (second.table, second.format, second.options) == ("products", None, None)
    assert (third.snapshot, third.max_age_h) == ("last_good", 24.0)
    assert source.keys == ("product_id",)
    assert not source.feed


def test_a_feed_and_its_cursor(declared) -> None:
    """A feed says by which column it advances and which columns name a record."""
    source = declared(
        "sources: {t: {feed: true, connection: pos, table: tx, cursor: {column: id, key: [day, id], lag_s: 300}}}\n"
    ).sources["t"]
    assert (source.feed, source.cursor.column, source.cursor.key, source.cursor.lag_s) == (
        True,
        "id",
        ("day", "id"),
        300,
    )
    assert source.keys == ()


@pytest.mark.parametrize(
    ("source", "part"),
    [
        pytest.param("{connection: p, table: t}", "either lookup or feed: true, got neither", id="B-67-neither"),
        pytest.param("{lookup: k, feed: true, connection: p, table: t}", "got both", id="B-67-both"),
        pytest.param(
            "{feed: true, chain: [{connection: p, table: t}, {connection: q, table: t}]}",
            "one place for a feed",
            id="B-67-feed-chain",
        ),
        pytest.param(
            "{feed: true, snapshot: last_good, max_age_h: 1}", "no snapshot for a feed", id="B-67-feed-snapshot"
        ),
        pytest.param(
            "{lookup: k, connection: p, table: t, cursor: {column: a, key: b}}", "on a feed only", id="B-67-cursor"
        ),
        pytest.param("{lookup: k, connection: p}", "either table or path or queue, got none", id="B-67-no-place"),
        pytest.param("{lookup: k, connection: p, table: t, path: x, format: csv}", "got several", id="B-67-two-places"),
        pytest.param("{lookup: k, connection: p, path: x}", "format beside path", id="B-67-no-format"),
        pytest.param(
            "{lookup: k, connection: p, table: t, format: csv}", "format beside path or queue only", id="B-67-format"
        ),
        pytest.param("{lookup: k, table: t}", "a connection, or a snapshot", id="B-67-no-connection"),
        pytest.param("{lookup: k, connection: p, table: t, max_age_h: 1}", "beside snapshot only", id="B-67-age"),
        pytest.param(
            "{lookup: k, chain: [{connection: p, table: t}, {snapshot: last_good}]}",
            "max_age_h beside snapshot",
            id="B-67-no-age",
        ),
        pytest.param(
            "{lookup: k, chain: [{snapshot: last_good, max_age_h: 1}]}",
            "a connection before the snapshot",
            id="B-67-only-snapshot",
        ),
        pytest.param(
            "{lookup: k, chain: [{connection: p, table: t}, {snapshot: last_good, max_age_h: 1}, "
            "{connection: q, table: u}]}",
            "the snapshot as the last place",
            id="B-67-after-snapshot",
        ),
        pytest.param("{lookup: k, chain: []}", "at least 1", id="empty-chain"),
        pytest.param("{lookup: [], connection: p, table: t}", "got a list", id="empty-key"),
        pytest.param("{lookup: k, connection: p, path: x, format: copybook}", "the key layout", id="layout-missing"),
        pytest.param(
            "{lookup: k, connection: p, path: x, format: copybook, layout: ../x.cpy}",
            "inside the folder",
            id="B-73-layout",
        ),
        pytest.param(
            "{lookup: k, connection: p, path: x, format: copybook, layout: x.cpy, code_page: ascii}",
            "cp037",
            id="code-page",
        ),
        pytest.param(
            "{lookup: k, connection: p, path: x, format: copybook, layout: x.cpy, record_format: X}",
            "one of D, F",
            id="record-format",
        ),
        pytest.param("{lookup: k, connection: p, path: x, format: avro}", "(arrow, copybook, csv,", id="not-installed"),
        pytest.param(
            "{lookup: k, connection: p, path: x, format: csv, delimiter: ab}", "one character", id="delimiter"
        ),
        pytest.param(
            "{lookup: k, connection: p, path: x, format: csv, delimiter: '\"'}", "another character", id="B-67-quote"
        ),
        pytest.param("{lookup: k, connection: p, path: ../x, format: csv}", "inside the folder", id="B-73-path"),
        pytest.param("[a]", "got a list", id="list"),
    ],
)
def test_sources_that_contradict_themselves(mistakes, source: str, part: str) -> None:
    """Each contradiction is one refusal at the source's line."""
    told = mistakes(f"sources:\n  a: {source}\n")
    assert [part in each for each in told] == [True]
    assert told[0].startswith("i.yaml:4: sources.a")


@pytest.mark.parametrize(
    ("unified", "part"),
    [
        pytest.param("{from: nix}", "one of the sources (s, p)", id="unknown-source"),
        pytest.param("{from: s, join: [{source: nix, on: k, take: [a]}]}", "join[0].source", id="unknown-join"),
        pytest.param(
            "{from: p, join: [{source: s, on: k, take: [a]}]}", "a lookup, got the feed s", id="B-67-join-feed"
        ),
        pytest.param("{from: s, join: [{source: p, on: k}]}", "take or exists, got neither", id="B-67-empty-join"),
        pytest.param("{from: s, jion: []}", "Did you mean join?", id="B-66"),
    ],
)
def test_unified_tables_that_cannot_be(mistakes, unified: str, part: str) -> None:
    """A unified table joins declared lookups onto a declared source."""
    told = mistakes(
        "sources: {s: {feed: true, connection: c, table: t}, p: {lookup: k, connection: c, table: t}}\n"
        f"unified:\n  u: {unified}\n"
    )
    assert [part in each for each in told] == [True]


@pytest.mark.parametrize("part", ["sources", "unified"])
def test_reserved_names(mistakes, part: str) -> None:
    """The contract's own schemas, request and response, give no name to a source or table."""
    table = "{feed: true, connection: c, table: t}" if part == "sources" else "{from: s}"
    told = mistakes(
        f"{part}: {{request: {table}}}\n"
        + ("sources: {s: {feed: true, connection: c, table: t}}\n" if part == "unified" else "")
    )
    assert len(told) == 1
    assert "another name, got request" in told[0]


def test_a_unified_table_is_no_source(mistakes) -> None:
    """One name means one thing."""
    told = mistakes("sources: {s: {feed: true, connection: c, table: t}}\nunified: {s: {from: s}}\n")
    assert ["a name that no source has" in each for each in told] == [True]
