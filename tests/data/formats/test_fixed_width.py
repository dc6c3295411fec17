"""The fixed_width format: lines cut into columns, byte for byte."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import FixedWidth, read_layout
from brownfield.errors import DeclarationError, FormatError, RejectionCode

LAYOUT = read_layout("name,start,width\nid,1,4\nname,5,6\nopened,11,10\n")
WANTED = pa.schema([("id", pa.int64()), ("name", pa.string()), ("opened", pa.date32())])


def read(text, encoding="utf-8", batch_rows=100):
    """Decode a whole file: rows, and rejects."""
    rows, rejects = [], []
    for decoded in FixedWidth(LAYOUT, encoding).decode(io.BytesIO(text), WANTED, batch_rows):
        rows += decoded.batch.to_pylist()
        rejects += decoded.rejects
    return rows, rejects


@pytest.mark.parametrize(
    ("line", "code", "field", "offset"),
    [
        pytest.param(b"   2Berlin2020-01-0", RejectionCode.DECODE_SHORT, "", 19, id="B-39-short"),
        pytest.param(b"", RejectionCode.DECODE_SHORT, "", 0, id="B-39-empty"),
        pytest.param(b"   2Berlin2020-01-02x", RejectionCode.DECODE_LONG, "", 20, id="B-39-long"),
        pytest.param(b"   2Berl\xc3\xa4" + b"s2020-01-02", RejectionCode.DECODE_LONG, "", 20, id="B-39-wide-character"),
        pytest.param(b"   2Berli\xc32020-01-02", RejectionCode.DECODE_TEXT, "name", 4, id="B-39-cut-character"),
        pytest.param(b" 2 2Berlin2020-01-02", RejectionCode.DECODE_NUMBER, "id", 0, id="B-36-blank-inside"),
        pytest.param(b"   2Ber\0in2020-01-02", RejectionCode.DECODE_TEXT, "name", 4, id="B-40-NUL"),
    ],
)
def test_a_bad_line_costs_exactly_itself(line, code, field, offset):
    """A bad line is rejected with its place, code, field, byte and raw bytes; the lines around it are read."""
    good = b"   1Bonn  2020-01-02"
    rows, (reject,) = read(good + b"\r\n" + line + b"\n" + good + b"   \n")
    assert len(rows) == 2
    assert (reject.position, reject.code, reject.field, reject.offset) == ("line 2, byte 22", code, field, offset)
    assert reject.raw == line


def test_blanks_are_an_empty_text_and_a_missing_number_or_date():
    """A text can be empty; a number or a date that is left blank is not there."""
    assert read(b" " * 20 + b"\n")[0] == [{"id": None, "name": "", "opened": None}]


@pytest.mark.parametrize(
    "layout",
    ["", "name,start\na,1\n", "name,start,width\n", "name,start,width\na,0,3\n", "name,start,width\na,1,x\n",
     "name,start,width\na,1,3\na,4,3\n", "name,start,width\na,1,3\nb,3,3\n", "name,start,width\na,1,99999999\n"],
)  # fmt: skip
def test_a_malformed_layout_is_refused(layout):
    """Missing headings, overlapping or doubled columns, and places that are no numbers are errors."""
    with pytest.raises(FormatError):
        read_layout(layout)


def test_ebcdic_belongs_to_the_copybook_format():
    """Line ends are those of ASCII, so an EBCDIC file is refused here and sent there."""
    with pytest.raises(DeclarationError, match="copybook"):
        FixedWidth(LAYOUT, "cp037")


NAME = st.text(st.characters(codec="latin-1", exclude_characters="\0\n\r"), max_size=6).filter(
    lambda text: not text.endswith(" ")
)


@given(st.lists(st.tuples(st.integers(0, 9999) | st.none(), NAME)), st.integers(1, 3))
def test_decoding_undoes_encoding(rows, batch_rows):
    """decode(encode(x)) = x for texts, numbers and missing numbers."""
    layout = FixedWidth(LAYOUT, "latin-1")
    wanted = pa.schema([("id", pa.int64()), ("name", pa.string())])
    batch = pa.RecordBatch.from_pylist([{"id": number, "name": name} for number, name in rows], wanted)
    encoded = b"".join(layout.encode([batch]))
    decoded = list(layout.decode(io.BytesIO(encoded), wanted, batch_rows))
    assert [row for each in decoded for row in each.batch.to_pylist()] == batch.to_pylist()
    assert not any(each.rejects for each in decoded)
