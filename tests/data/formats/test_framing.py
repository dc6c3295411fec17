"""Record formats of the copybook format: descriptor words, blocks, lines, and files that break them."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import Copybook, compile_copybook
from brownfield.errors import DeclarationError, FormatError, RejectionCode

CODES = RejectionCode
ABC = compile_copybook("01 R. 05 F PIC X(3).")
WANTED = pa.schema([("f", pa.string())])


def read(book, raw, wanted=WANTED, rows=65_536):
    """Decode a file: rows, and rejects as (position, code, bytes)."""
    decoded = list(book.decode(io.BytesIO(raw), wanted, rows))
    values = [row for each in decoded for row in each.batch.to_pylist()]
    return values, [(each.position, each.code, each.raw) for part in decoded for each in part.rejects]


@pytest.mark.parametrize(
    ("options", "raw"),
    [
        ({}, "0007 0000 414243 0007 0000 444546"),
        ({"rdw_adjustment": 0}, "0003 0000 414243 0003 0000 444546"),
        ({"is_rdw_big_endian": False, "rdw_adjustment": 0}, "0000 0300 414243 0000 0300 444546"),
        ({"record_format": "VB"}, "000B 0000 0007 0000 414243 000B 0000 0007 0000 444546"),
        ({"record_format": "VB"}, "0012 0000 0007 0000 414243 0007 0000 444546"),
        ({"record_format": "VB"}, "8000 0012 0007 0000 414243 0007 0000 444546"),
        (
            {"record_format": "VB", "is_bdw_big_endian": False, "bdw_adjustment": 0},
            "0000 0E00 0007 0000 414243 0007 0000 444546",
        ),
    ],
)
def test_descriptor_words_are_read_as_declared(options, raw):
    """Byte order, adjustment and blocks say where the records are."""
    book = Copybook(ABC, code_page="cp1252", **{"record_format": "V"} | options)
    assert read(book, bytes.fromhex(raw)) == ([{"f": "ABC"}, {"f": "DEF"}], [])


@pytest.mark.parametrize(
    ("raw", "rejects"),
    [
        pytest.param(
            "0006 0000 4142 0007 0000 444546", [("record 1, byte 4", CODES.DECODE_SHORT, b"AB")], id="B-39-short-record"
        ),
        pytest.param(
            "0008 0000 41424358 0007 0000 444546",
            [("record 1, byte 4", CODES.DECODE_LONG, b"ABCX")],
            id="B-39-long-record",
        ),
        pytest.param(
            "0007 0000 444546 0007 0000 4142",
            [("record 2, byte 7", CODES.DECODE_SHORT, b"\0\x07\0\0AB")],
            id="B-39-cut-file",
        ),
        pytest.param(
            "0007 0000 444546 0007", [("record 2, byte 7", CODES.DECODE_SHORT, b"\0\x07")], id="B-39-cut-word"
        ),
    ],
)
def test_a_record_of_another_length_is_rejected_alone(raw, rejects):
    """Records of the wrong length are kept with their bytes and place; the others are read."""
    book = Copybook(ABC, "V", code_page="cp1252")
    assert read(book, bytes.fromhex(raw)) == ([{"f": "DEF"}], rejects)


@pytest.mark.parametrize(
    ("record_format", "raw"),
    [
        pytest.param("V", "0007 0000 414243 0007 0001 444546", id="B-39-reserved-bytes"),
        pytest.param("V", "0007 0000 414243 0000 0000 444546", id="B-39-zero"),
        pytest.param("V", "0007 0000 414243 4142 4344 444546", id="B-39-text"),
        pytest.param("VB", "000A 0000 0007 0000 414243", id="B-39-record-over-block"),
        pytest.param("VB", "000D 0000 0007 0000 414243 0007 0000 444546", id="B-39-rest-of-block"),
        pytest.param("VB", "0012 0000 0007 0000 414243", id="B-39-file-ends-in-block"),
    ],
)
def test_a_broken_chain_of_descriptor_words_stops_the_file(record_format, raw):
    """Where the next record cannot be found nothing is guessed, and the error says where and what to look at."""
    with pytest.raises(FormatError, match=r"descriptor word|block"):
        read(Copybook(ABC, record_format, code_page="cp1252"), bytes.fromhex(raw))


def test_text_lines_are_filled_with_the_blanks_that_their_writer_dropped():
    """A line may lack blanks at its end and have either line end; a longer one is rejected with its place."""
    book = Copybook(compile_copybook("01 R. 05 F PIC X(3). 05 N PIC 9(2)."), "D", code_page="cp1252")
    wanted = pa.schema([("f", pa.string()), ("n", pa.int64())])
    rows, rejects = read(book, b"ABC12\r\nA  07\nABC123\nAB\nXYZ99", wanted)
    assert rows == [{"f": "ABC", "n": 12}, {"f": "A", "n": 7}, {"f": "XYZ", "n": 99}]
    assert rejects == [
        ("line 3, byte 13", CODES.DECODE_LONG, b"ABC123"),
        ("line 4, byte 20", CODES.DECODE_ZONE, b"AB"),
    ]


@pytest.mark.parametrize(
    ("copybook", "options"),
    [("05 F PIC 9(3) COMP-3.", {"code_page": "cp1252"}), ("05 F PIC X.", {"code_page": "cp037"})],
)
def test_text_lines_hold_text(copybook, options):
    """Packed numbers may hold a line end's byte, and EBCDIC has another one: both are refused."""
    with pytest.raises(DeclarationError):
        Copybook(compile_copybook(f"01 R. {copybook}"), "D", **options)


@given(
    st.lists(st.text("ABC. ", max_size=3), max_size=9),
    st.sampled_from(["F", "FB", "V", "VB", "D"]),
    st.booleans(),
    st.sampled_from([-4, 0, 2]),
    st.integers(1, 4),
)
def test_decoding_undoes_encoding_in_every_record_format(texts, record_format, big, adjustment, rows):
    """decode(encode(x)) = x, the bytes come back too, and the number of records read together changes nothing."""
    words = {"is_rdw_big_endian": big, "rdw_adjustment": adjustment, "is_bdw_big_endian": not big}
    book = Copybook(ABC, record_format, code_page="cp1252", **words)
    batch = pa.record_batch({"f": pa.array([text.rstrip() for text in texts], pa.string())})
    raw = b"".join(book.encode([batch]))
    assert read(book, raw, rows=rows) == (batch.to_pylist(), [])
    again = pa.RecordBatch.from_pylist(read(book, raw)[0], WANTED)
    assert b"".join(book.encode([again])) == raw


def test_blocks_are_no_longer_than_a_track_admits():
    """Records are put into as many blocks as they need, each of at most 32,760 bytes."""
    book = Copybook(compile_copybook("01 R. 05 F PIC X(20000)."), "VB", code_page="cp1252")
    raw = b"".join(book.encode([pa.record_batch({"f": ["A", "B", "C"]})]))
    assert len(raw) == 3 * (20_000 + 8)
    assert [row["f"] for row in read(book, raw)[0]] == ["A", "B", "C"]


@given(st.binary(max_size=80), st.sampled_from(["V", "VB", "D", "F"]))
def test_any_bytes_are_read_to_their_end_or_stop_with_a_reason(data, record_format):
    """Whatever the bytes, no other error comes out, and each record is a row or a reject within its bytes."""
    book = Copybook(ABC, record_format, code_page="cp1252", rdw_adjustment=0 if "V" in record_format else -4)
    try:
        decoded = list(book.decode(io.BytesIO(data), WANTED, 2))
    except FormatError:
        assert "V" in record_format
        return
    for each in (reject for part in decoded for reject in part.rejects):
        assert 0 <= each.offset <= len(each.raw)
