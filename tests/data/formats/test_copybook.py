"""The copybook format: numbers and texts byte for byte, rejects with field and byte."""

import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import Copybook, compile_copybook
from brownfield.errors import DeclarationError, FormatError, RejectionCode

CODES = RejectionCode


def one(clauses, raw, wanted, **options):
    """Decode records of one field: values, and rejects as (code, byte)."""
    book = Copybook(compile_copybook(f"01 R. 05 F {clauses}."), **options)
    rows, rejects = [], []
    for decoded in book.decode(io.BytesIO(raw), pa.schema([("f", wanted)])):
        rows += [row["f"] for row in decoded.batch.to_pylist()]
        rejects += [(each.code, each.offset) for each in decoded.rejects]
    return rows, rejects


@pytest.mark.parametrize(
    ("clauses", "raw", "value"),
    [
        ("PIC S9(5)V99 COMP-3", "0012345D", -123.45),
        ("PIC S9(5)V99 COMP-3", "0012345C", 123.45),
        ("PIC S9(5)V99 COMP-3", "0012345F", 123.45),
        ("PIC 9(4) COMP-3", "01234F", 1234.0),
        ("PIC S9(3)", "F0F4D2", -42.0),
        ("PIC S9(3)", "F0F4C2", 42.0),
        ("PIC S9(3) SIGN LEADING", "D0F4F2", -42.0),
        ("PIC S9(3) SIGN TRAILING SEPARATE", "F0F4F260", -42.0),
        ("PIC S9(3) SIGN LEADING SEPARATE", "4EF0F4F2", 42.0),
        ("PIC 9(3)V9", "F1F2F3F4", 123.4),
        ("PIC S9(4) COMP", "FFD6", -42.0),
        ("PIC S9(9)V9 COMP", "FFFFFFFFFFFFFFFF", -0.1),
        ("PIC 9(4) BINARY", "270F", 9999.0),
    ],
)
def test_a_number_is_read_as_its_picture_says(clauses, raw, value):
    """Known encodings of known values."""
    assert one(clauses, bytes.fromhex(raw), pa.float64()) == ([value], [])


@pytest.mark.parametrize(
    ("clauses", "raw", "code", "at"),
    [
        pytest.param("PIC S9(5) COMP-3", "12345B", CODES.DECODE_SIGN, 2, id="B-38-packed-sign"),
        pytest.param("PIC S9(5) COMP-3", "123450", CODES.DECODE_SIGN, 2, id="B-38-packed-no-sign"),
        pytest.param("PIC 9(5) COMP-3", "12345D", CODES.DECODE_SIGN, 2, id="B-38-packed-minus-unsigned"),
        pytest.param("PIC S9(5) COMP-3", "1A345C", CODES.DECODE_DIGIT, 0, id="B-38-packed-digit"),
        pytest.param("PIC S9(5) COMP-3", "1234FC", CODES.DECODE_DIGIT, 2, id="B-38-packed-last-digit"),
        pytest.param("PIC S9(4) COMP-3", "12345C", CODES.DECODE_DIGIT, 0, id="B-38-packed-beyond-picture"),
        pytest.param("PIC S9(5) COMP-3", "404040", CODES.DECODE_SIGN, 2, id="B-38-packed-blanks"),
        pytest.param("PIC S9(3)", "F04042", CODES.DECODE_ZONE, 1, id="B-38-zone"),
        pytest.param("PIC S9(3)", "F0F4E2", CODES.DECODE_SIGN, 2, id="B-38-overpunch"),
        pytest.param("PIC S9(3)", "F0FAC2", CODES.DECODE_DIGIT, 1, id="B-38-zoned-digit"),
        pytest.param("PIC 9(3)", "F0F4C2", CODES.DECODE_ZONE, 2, id="B-38-sign-on-unsigned"),
        pytest.param("PIC S9(3) SIGN TRAILING SEPARATE", "F0F4F240", CODES.DECODE_SIGN, 3, id="B-38-separate-sign"),
        pytest.param("PIC S9(4) COMP", "2710", CODES.DECODE_NUMBER, 0, id="B-38-binary-beyond-picture"),
        pytest.param("PIC 9(3) OCCURS 2", "F0F4F2F0F4C2", CODES.DECODE_ZONE, 5, id="B-38-second-occurrence"),
        pytest.param("PIC X(3)", "C100C3", CODES.DECODE_TEXT, 0, id="B-37-NUL-in-text"),
        pytest.param("PIC X(6)", "C10E42C30FC2", CODES.DECODE_TEXT, 0, id="B-37-shift-out-and-in"),
    ],
)
def test_a_bad_field_rejects_its_record_with_the_byte(clauses, raw, code, at):
    """The code says what is wrong and the offset says where; the good record beside it is read."""
    bad = bytes.fromhex(raw)
    good = Copybook(compile_copybook(f"01 R. 05 F {clauses}."))
    wanted = pa.string() if "X" in clauses else pa.int64()
    value = "A" if "X" in clauses else 7
    if "OCCURS" in clauses:
        wanted, value = pa.list_(wanted), [value, value]
    encoded = b"".join(good.encode([pa.record_batch([pa.array([value], wanted)], names=["f"])]))
    rows, rejects = one(clauses, encoded + bad + encoded, wanted)
    assert rows == [value, value]
    assert rejects == [(code, at)]


@pytest.mark.parametrize(("order", "value"), [("big", 258), ("little", 513)])
def test_b_38_native_binary_is_read_in_the_declared_byte_order(order, value):
    """COMP-5 uses all its bits, in the order of the machine that wrote it, which must be declared."""
    assert one("PIC S9(4) COMP-5", b"\x01\x02", pa.int64(), native_endian=order) == ([value], [])
    assert one("PIC S9(4) COMP-5", b"\x7f\x7f", pa.int64(), native_endian=order) == ([0x7F7F], [])
    with pytest.raises(DeclarationError, match="native_endian"):
        Copybook(compile_copybook("01 R. 05 F PIC S9(4) COMP-5."))


def test_b_39_bytes_behind_the_last_whole_record_are_one_reject():
    """A short last record is counted and kept, never dropped."""
    book = Copybook(compile_copybook("01 R. 05 F PIC X(4)."))
    (decoded,) = book.decode(io.BytesIO("ABCDEF".encode("cp037")), pa.schema([("f", pa.string())]))
    assert decoded.batch.to_pylist() == [{"f": "ABCD"}]
    (reject,) = decoded.rejects
    assert (reject.code, reject.position, reject.raw) == (CODES.DECODE_SHORT, "record 2, byte 4", "EF".encode("cp037"))


def test_b_47_an_empty_file_has_no_records():
    """No bytes, no batches."""
    book = Copybook(compile_copybook("01 R. 05 F PIC X(4)."))
    assert list(book.decode(io.BytesIO(b""), pa.schema([("f", pa.string())]))) == []


@pytest.mark.parametrize("page", ["cp037", "cp273", "cp500", "cp1047", "cp1140"])
def test_b_37_every_character_of_a_code_page_comes_back(page):
    """All characters but NUL and the two shifts survive the way out and in, and the padding falls away."""
    text = bytes(each for each in range(1, 256) if each not in {0x0E, 0x0F}).decode(page).replace(" ", "") + "."
    book = Copybook(compile_copybook("01 R. 05 F PIC X(300)."), code_page=page)
    encoded = b"".join(book.encode([pa.record_batch({"f": [text]})]))
    assert encoded == text.encode(page).ljust(300, " ".encode(page))
    (decoded,) = book.decode(io.BytesIO(encoded), pa.schema([("f", pa.string())]))
    assert decoded.batch.to_pylist() == [{"f": text}]


def test_b_37_an_unknown_code_page_is_refused():
    """A code page that Python and the ebcdic package lack, or one with several bytes a character, is an error."""
    for page in ("cp9999", "cp932", "utf-8"):
        with pytest.raises(DeclarationError, match="one byte a character"):
            Copybook(compile_copybook("01 R. 05 F PIC X."), code_page=page)


def test_a_wanted_column_that_the_copybook_lacks_names_the_nearest():
    """The error says which field comes near."""
    book = Copybook(compile_copybook("01 R. 05 STORE-ID PIC 9."))
    with pytest.raises(FormatError, match="The nearest is store_id"):
        list(book.decode(io.BytesIO(b"\xf1"), pa.schema([("store_no", pa.int64())])))


@pytest.mark.parametrize(
    ("clauses", "wanted"),
    [
        ("PIC 9V9", pa.int64()),
        ("PIC 9 OCCURS 2", pa.int64()),
        ("PIC 9", pa.list_(pa.int64())),
        ("PIC S9", pa.string()),
        ("PIC 9", pa.bool_()),
    ],
)
def test_a_picture_that_cannot_become_the_wanted_type_is_refused(clauses, wanted):
    """Digits are never cut off, and lists come from OCCURS alone."""
    with pytest.raises(FormatError):
        one(clauses, b"\xf1\xf1", wanted)


def test_b_45_digits_wanted_as_text_keep_their_zeros():
    """A numeric key that the contract calls a text keeps its leading zeros."""
    assert one("PIC 9(5) COMP-3", bytes.fromhex("00042F"), pa.string()) == (["00042"], [])


@pytest.mark.parametrize(
    "value",
    [pytest.param(10**5, id="too-many-digits"), pytest.param(-1, id="negative"), pytest.param(None, id="missing")],
)
def test_a_value_that_does_not_fit_is_not_written(value):
    """Encoding refuses what the field cannot hold, instead of cutting it."""
    book = Copybook(compile_copybook("01 R. 05 F PIC 9(5) COMP-3."))
    with pytest.raises(FormatError):
        list(book.encode([pa.record_batch([pa.array([value], pa.int64())], names=["f"])]))


@st.composite
def numeric_fields(draw):
    """A picture, and values within it, without their decimal point."""
    digits = draw(st.integers(1, 18))
    scale = draw(st.integers(0, min(digits, 4)))
    signed = draw(st.booleans())
    usage = draw(
        st.sampled_from(
            ["", "COMP-3", "COMP", "COMP-5", "SIGN LEADING", "SIGN TRAILING SEPARATE", "SIGN LEADING SEPARATE"]
        )
    )
    limit = 10**digits - 1
    values = draw(st.lists(st.integers(-limit if signed else 0, limit), min_size=1, max_size=4))
    whole = f"9({digits - scale})" if digits > scale else ""
    picture = f"{'S' if signed else ''}{whole}{f'V9({scale})' if scale else ''}"
    return f"PIC {picture} {usage if signed or 'SIGN' not in usage else ''}", scale, values


@given(numeric_fields(), st.sampled_from(["cp037", "latin-1"]), st.sampled_from(["big", "little"]))
def test_decoding_undoes_encoding_and_encoding_undoes_decoding(field, page, order):
    """decode(encode(x)) = x for every picture and usage, and the bytes come back as well."""
    clauses, scale, values = field
    book = Copybook(compile_copybook(f"01 R. 05 K PIC X(3). 05 F {clauses}."), code_page=page, native_endian=order)
    exact = all(abs(value) < 2**53 for value in values)
    if scale and not exact:
        values = [value % 2**40 for value in values]
    column = (
        pa.array([float(Decimal(value).scaleb(-scale)) for value in values]) if scale else pa.array(values, pa.int64())
    )
    batch = pa.record_batch({"k": ["a"] * len(values), "f": column})
    encoded = b"".join(book.encode([batch]))
    (decoded,) = book.decode(io.BytesIO(encoded), batch.schema)
    assert decoded.rejects == ()
    assert decoded.batch.to_pydict() == batch.to_pydict()
    assert b"".join(book.encode([decoded.batch])) == encoded


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_accounted_for(data):
    """Whatever the bytes, every record is a row or a reject that names a code and a byte within it."""
    book = Copybook(compile_copybook("01 R. 05 A PIC S9(3) COMP-3. 05 B PIC S9(2). 05 C PIC X. 05 D PIC 9(3) COMP."))
    wanted = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("c", pa.string()), ("d", pa.int64())])
    records = 0
    for decoded in book.decode(io.BytesIO(data), wanted, 2):
        records += decoded.records
        for each in decoded.rejects:
            assert each.offset is not None
            assert 0 <= each.offset <= len(each.raw)
    assert records == -(-len(data) // book.layout.record_bytes)


def test_groups_that_occur_become_lists_in_the_order_of_the_record():
    """Values of nested OCCURS come out as nested lists and go back to the same bytes."""
    book = Copybook(compile_copybook("01 R. 05 G OCCURS 2. 10 A PIC 9. 10 B PIC X OCCURS 2."), code_page="ascii")
    wanted = pa.schema([("a", pa.list_(pa.int64())), ("b", pa.list_(pa.list_(pa.string())))])
    (decoded,) = book.decode(io.BytesIO(b"1xy2zw3ab4cd"), wanted)
    assert decoded.batch.to_pylist() == [
        {"a": [1, 2], "b": [["x", "y"], ["z", "w"]]},
        {"a": [3, 4], "b": [["a", "b"], ["c", "d"]]},
    ]
    assert b"".join(book.encode([decoded.batch])) == b"1xy2zw3ab4cd"


def test_the_batch_size_changes_nothing():
    """Positions and rows are the same however many records are decoded together."""
    rng = np.random.default_rng(7)
    data = rng.integers(0xF0, 0xFC, size=3 * 50, dtype=np.uint8).tobytes()
    book = Copybook(compile_copybook("01 R. 05 F PIC 9(3)."))

    def everything(batch_rows):
        rows, rejects = [], []
        for decoded in book.decode(io.BytesIO(data), pa.schema([("f", pa.int64())]), batch_rows):
            rows += [
                (decoded.position(row), decoded.raw(row), value["f"])
                for row, value in enumerate(decoded.batch.to_pylist())
            ]
            rejects += decoded.rejects
        return rows, rejects

    assert everything(7) == everything(1000)
