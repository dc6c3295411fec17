"""The csv format: every record comes out once, as a row or as a reject."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import Csv
from brownfield.errors import DeclarationError, FormatError, RejectionCode

NUMBERS = pa.schema([("id", pa.int64()), ("price", pa.float64()), ("label", pa.string())])


def read(text: bytes, dialect=None, wanted=NUMBERS, batch_rows=100):
    """Decode a whole file: rows, and rejects as (position, code, field, raw, offset)."""
    rows, rejects, records = [], [], 0
    for decoded in (dialect or Csv()).decode(io.BytesIO(text), wanted, batch_rows):
        assert decoded.batch.num_rows + len(decoded.rejects) == decoded.records
        records += decoded.records
        rows += decoded.batch.to_pylist()
        rejects += [(each.position, each.code, each.field, each.raw, each.offset) for each in decoded.rejects]
    return rows, rejects, records


BAD_LINES = [
    pytest.param(b"2,1.5", RejectionCode.DECODE_COLUMNS, "", 0, id="B-40-short"),
    pytest.param(b"2,1.5,x,y", RejectionCode.DECODE_COLUMNS, "", 0, id="B-40-long"),
    pytest.param(b"2,1.5,x,", RejectionCode.DECODE_COLUMNS, "", 0, id="B-40-trailing-empty-column"),
    pytest.param(b"", RejectionCode.DECODE_COLUMNS, "", 0, id="B-40-empty-line"),
    pytest.param(b"2;1.5;x", RejectionCode.DECODE_COLUMNS, "", 0, id="B-40-other-delimiter"),
    pytest.param(b'2,1.5,12" pipe', RejectionCode.DECODE_QUOTE, "", 8, id="B-40-stray-quote"),
    pytest.param(b'2,1.5,"open', RejectionCode.DECODE_QUOTE, "", 6, id="B-40-unbalanced-quote"),
    pytest.param(b'2,1.5,"x"y', RejectionCode.DECODE_QUOTE, "", 6, id="B-40-text-behind-quote"),
    pytest.param(b"2,1.5,a\0b", RejectionCode.DECODE_TEXT, "", 7, id="B-40-NUL"),
    pytest.param(b"2,1.5,a\rb", RejectionCode.DECODE_TEXT, "", 7, id="B-37-mixed-line-ends"),
    pytest.param(b"2,1.5,a\xffb", RejectionCode.DECODE_TEXT, "", 7, id="B-37-undecodable"),
    pytest.param(b"2,1.5,\xef\xbb\xbf\xc3", RejectionCode.DECODE_TEXT, "", 9, id="B-39-cut-character"),
    pytest.param(b"2.0,1.5,x", RejectionCode.DECODE_NUMBER, "id", 0, id="B-36-fraction"),
    pytest.param(b" 2,1.5,x", RejectionCode.DECODE_NUMBER, "id", 0, id="B-19-blank"),
    pytest.param("٣,1.5,x".encode(), RejectionCode.DECODE_NUMBER, "id", 0, id="B-19-other-digits"),
    pytest.param(b'2,"1,5",x', RejectionCode.DECODE_NUMBER, "price", 2, id="B-36-decimal-comma"),
    pytest.param(b"2,1e3,x", RejectionCode.DECODE_NUMBER, "price", 2, id="B-36-scientific"),
    pytest.param(b"2,1.5-,x", RejectionCode.DECODE_NUMBER, "price", 2, id="B-36-trailing-minus"),
    pytest.param(b"2,$1.5,x", RejectionCode.DECODE_NUMBER, "price", 2, id="B-36-currency"),
    pytest.param(b"2,15%,x", RejectionCode.DECODE_NUMBER, "price", 2, id="B-36-percent"),
    pytest.param(b"2,nan,x", RejectionCode.DECODE_NUMBER, "price", 2, id="B-36-nan"),
    pytest.param(b"99999999999999999999,1.5,x", RejectionCode.DECODE_NUMBER, "id", 0, id="B-36-overflow"),
    pytest.param(b"2," + b"9" * 400 + b",x", RejectionCode.DECODE_NUMBER, "price", 2, id="B-36-infinite"),
]


@pytest.mark.parametrize(("line", "code", "field", "offset"), BAD_LINES)
def test_a_bad_line_costs_exactly_itself(line, code, field, offset):
    """A bad record is rejected with its place, code, field, byte and raw bytes; the lines around it are read."""
    text = b"id,price,label\n1,0.5,first\n" + line + b"\n3,2.5,last\n"
    rows, rejects, records = read(text)
    assert [row["id"] for row in rows] == [1, 3]
    assert rejects == [("line 3, byte 27", code, field, line, offset)]
    assert records == 3


def test_b_40_a_quote_left_open_swallows_nothing():
    """When a quoted field never closes, only its first line is refused, also across the end of the file."""
    rows, rejects, records = read(b'id,price,label\n1,1,"a\n2,2,b\n3,3,c\n')
    assert [row["id"] for row in rows] == [2, 3]
    assert [each[0] for each in rejects] == ["line 2, byte 15"]
    assert records == 3


def test_b_40_a_quoted_field_may_hold_lines_quotes_and_delimiters():
    """What stands in quotes is content, byte for byte."""
    rows, rejects, _ = read(b'id,price,label\r\n1,1,"a\r\n""b"", c"\r\n2,2,""\r\n3,3,\r\n')
    assert [row["label"] for row in rows] == ['a\r\n"b", c', "", None]
    assert rejects == []


def test_b_40_a_line_beyond_the_cap_is_rejected_in_bounded_memory():
    """A line longer than the cap is one reject whose bytes are cut at the cap."""
    rows, rejects, _ = read(b"id,price,label\n1,1," + b"x" * 5000 + b"\n2,2,b\n", Csv(max_record_bytes=64))
    assert [row["id"] for row in rows] == [2]
    assert [(each[1], len(each[3])) for each in rejects] == [(RejectionCode.DECODE_LONG, 64)]


def test_b_40_a_byte_order_mark_is_no_part_of_the_header():
    """A UTF-8 file may begin with a byte order mark."""
    assert read(b"\xef\xbb\xbfid,price,label\n1,1,a\n")[0] == [{"id": 1, "price": 1.0, "label": "a"}]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"id,price\n", id="B-40-missing"),
        pytest.param(b"id,price,label,id\n", id="B-40-duplicated"),
        pytest.param(b"id;price;label\n", id="B-40-other-delimiter"),
        pytest.param(b'id,"price,label\n', id="B-40-malformed"),
        pytest.param(b"", id="B-47-empty-file"),
    ],
)
def test_a_wrong_header_stops_the_file(header):
    """A file whose header lacks a wanted column or names one twice is refused as a whole."""
    with pytest.raises(FormatError, match="line 1"):
        read(header + b"1,1,a\n" if header else b"")


def test_b_40_columns_are_found_by_name_in_any_order():
    """A reordered header and further columns change nothing."""
    rows, rejects, _ = read(b"more,label,id,price\nx,a,1,0.5\n")
    assert (rows, rejects) == ([{"id": 1, "price": 0.5, "label": "a"}], [])


def test_b_47_a_table_without_rows_is_no_error():
    """A header alone is a table of no records."""
    assert read(b"id,price,label\n") == ([], [], 0)


def test_without_a_header_the_columns_are_the_wanted_ones():
    """The first line is a record when no header is declared."""
    assert read(b"1,2,a\n", Csv(header=False))[0] == [{"id": 1, "price": 2.0, "label": "a"}]


def test_b_37_a_one_byte_character_set_is_read_as_declared():
    """Bytes are read in the declared set; a byte without a character there is rejected."""
    rows, rejects, _ = read("id,price,label\n1,1,Käse\n".encode("cp1252") + b"2,2,\x81\n", Csv(encoding="cp1252"))
    assert [row["label"] for row in rows] == ["Käse"]
    assert [each[1] for each in rejects] == [RejectionCode.DECODE_TEXT]


@pytest.mark.parametrize(
    "dialect",
    [
        {"delimiter": ""},
        {"delimiter": "\n"},
        {"quote": ","},
        {"encoding": "utf-16"},
        {"encoding": "cp037"},
        {"encoding": "no"},
    ],
)
def test_a_dialect_that_cannot_be_is_refused(dialect):
    """Contradicting marks and character sets without ASCII are errors of the declaration."""
    with pytest.raises(DeclarationError):
        Csv(**dialect)


TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=8)
ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1) | st.none(),
        st.floats(allow_nan=False, allow_infinity=False) | st.none(),
        TEXT | st.none(),
    ),
    max_size=6,
)


@pytest.mark.full
@given(ROWS, st.sampled_from([";", ",", "|", "\t"]), st.booleans(), st.integers(1, 4))
def test_decoding_undoes_encoding(rows, delimiter, header, batch_rows):
    """decode(encode(x)) = x for every text, number and missing value, in every dialect."""
    dialect = Csv(delimiter=delimiter, header=header, decimal="," if delimiter != "," else ".")
    batch = pa.RecordBatch.from_pylist([dict(zip(NUMBERS.names, row, strict=True)) for row in rows], NUMBERS)
    decoded, rejects, _ = read(b"".join(dialect.encode([batch])), dialect, batch_rows=batch_rows)
    assert rejects == []
    assert decoded == batch.to_pylist()


@given(st.binary(max_size=80).map(lambda tail: b"id,price,label\n" + tail), st.integers(1, 3))
def test_any_bytes_are_accounted_for(text, batch_rows):
    """Whatever the bytes, each is in exactly one record, and the records do not depend on the size of the batches."""
    rows, rejects, records = read(text, batch_rows=batch_rows)
    assert records == len(rows) + len(rejects)
    assert (rows, sorted(rejects, key=str)) == (read(text)[0], sorted(read(text)[1], key=str))


@given(st.lists(st.sampled_from([b'"', b",", b"a", b"\n", b'""', b"1,2,x\n"]), max_size=24).map(b"".join))
def test_b_40_records_cover_the_file_byte_for_byte(body):
    """The raw bytes of rows and rejects, put in the order of their positions, are the file."""
    text = b"id,price,label\n" + body
    pieces = {}
    for decoded in Csv().decode(io.BytesIO(text), pa.schema([("id", pa.string())])):
        places = [(decoded.position(row), decoded.raw(row)) for row in range(decoded.batch.num_rows)]
        for position, raw in places + [(each.position, each.raw) for each in decoded.rejects]:
            start = int(position.rpartition(" ")[2])
            assert text[start : start + len(raw)] == raw
            assert text[start + len(raw) : start + len(raw) + 1] in (b"\n", b"")
            pieces[start] = raw
    assert sum(len(raw) + 1 for raw in pieces.values()) in (len(body), len(body) + 1)
