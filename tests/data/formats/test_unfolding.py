"""Tables of varying length and redefined bytes: every declared reading, both ways, and what does not fit."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import Choice, Copybook, compile_copybook
from brownfield.errors import DeclarationError, FormatError, RejectionCode

CODES = RejectionCode
TABLES = compile_copybook(
    """
    01 R.
       05 K PIC X.
       05 N PIC 9.
       05 M PIC 9(2) COMP.
       05 T PIC 9(2) OCCURS 0 TO 3 DEPENDING ON N.
       05 G OCCURS 1 TO 2 TIMES DEPENDING ON M INDEXED BY I.
          10 A PIC X.
          10 B PIC 9 OCCURS 2.
       05 Z PIC X(2).
    """
)
TABLE_FIELDS = pa.schema(
    {
        "k": pa.string(),
        "n": pa.int64(),
        "t": pa.list_(pa.int64()),
        "a": pa.list_(pa.string()),
        "b": pa.list_(pa.list_(pa.int64())),
        "z": pa.string(),
    }
)
PARTIES = compile_copybook(
    """
    01 R.
       05 KIND PIC X.
       05 PERSON.
          10 NM  PIC X(4).
          10 AGE PIC 9(2).
       05 COMPANY REDEFINES PERSON.
          10 REG PIC 9(4).
    """
)
PARTY_FIELDS = pa.schema({"kind": pa.string(), "nm": pa.string(), "age": pa.int64(), "reg": pa.int64()})
RULES = {"person": Choice("kind", ("P", "Q")), "company": Choice("kind", ("C",))}


def tables(occurs, record_format="F", **options):
    """Make the format with tables."""
    return Copybook(TABLES, record_format, code_page="cp1252", variable_size_occurs=occurs, **options)


def read(book, raw, wanted, rows=65_536):
    """Decode a file: rows, and rejects as (code, field, byte of the record)."""
    decoded = list(book.decode(io.BytesIO(raw), wanted, rows))
    values = [row for each in decoded for row in each.batch.to_pylist()]
    return values, [(each.code, each.field, each.offset) for part in decoded for each in part.rejects]


@pytest.mark.parametrize(
    ("occurs", "raw"),
    [
        ("max_size", b"A1\0\x0107....x12...ZZ" + b"B0\0\x02......x12y34ZY"),
        ("shift_record", b"A1\0\x0107x12ZZ" + b"B0\0\x02x12y34ZY"),
        ("pad_record", b"A1\0\x0107x12ZZ       " + b"B0\0\x02x12y34ZY      "),
    ],
)
def test_a_table_of_varying_length_is_read_as_declared(occurs, raw):
    """What stands behind a table is found where the option says, and absent entries do not come out."""
    rows, rejects = read(tables(occurs), raw, TABLE_FIELDS)
    assert rejects == []
    assert rows == [
        {"k": "A", "n": 1, "t": [7], "a": ["x"], "b": [[1, 2]], "z": "ZZ"},
        {"k": "B", "n": 0, "t": [], "a": ["x", "y"], "b": [[1, 2], [3, 4]], "z": "ZY"},
    ]


@pytest.mark.parametrize(
    ("raw", "reject"),
    [
        pytest.param(b"A4\0\x0107x12ZZ", (CODES.DECODE_COUNT, "n", 1), id="B-39-count-too-high"),
        pytest.param(b"A1\0\x0007x12ZZ", (CODES.DECODE_COUNT, "m", 2), id="B-39-count-too-low"),
        pytest.param(b"Ax\0\x0107x12ZZ", (CODES.DECODE_ZONE, "n", 1), id="B-38-count-no-number"),
        pytest.param(b"A2\0\x0107x12ZZ", (CODES.DECODE_SHORT, "", 11), id="B-39-shorter-than-counted"),
        pytest.param(b"A0\0\x0107x12ZZ", (CODES.DECODE_LONG, "", 9), id="B-39-longer-than-counted"),
        pytest.param(b"A", (CODES.DECODE_SHORT, "", 1), id="B-39-no-counter"),
        pytest.param(b"A1\0\x0107x1xZZ", (CODES.DECODE_ZONE, "b", 8), id="B-38-behind-a-table"),
        pytest.param(b"A2\0\x01070xx12ZZ", (CODES.DECODE_ZONE, "t", 7), id="B-38-second-entry"),
        pytest.param(b"A1\0\x0107x12\0Z", (CODES.DECODE_TEXT, "z", 9), id="B-37-behind-both-tables"),
    ],
)
def test_a_bad_count_or_entry_rejects_its_record_at_its_byte(raw, reject):
    """The code names what is wrong and the offset is that of the record as it came; its neighbours are read."""
    good = b"A1\0\x0107x12ZZ"
    file = b"".join(bytes([0, len(each) + 4, 0, 0]) + each for each in (good, raw, good))
    rows, rejects = read(tables("shift_record", "V"), file, TABLE_FIELDS)
    assert [row["k"] for row in rows] == ["A", "A"]
    assert rejects == [reject]


def test_b_39_a_bad_count_in_records_without_separators_stops_the_file():
    """Without descriptor words nothing says where the record behind a bad count begins."""
    with pytest.raises(FormatError, match="the next record cannot be found"):
        read(tables("shift_record"), b"A4\0\x0107x12ZZ", TABLE_FIELDS)


def test_b_39_a_record_without_separators_that_the_file_cuts_is_a_reject():
    """The bytes behind the last whole record are kept, also where the counters say how long a record is."""
    rows, rejects = read(tables("shift_record"), b"A1\0\x0107x12ZZ" + b"B0\0\x02x12", TABLE_FIELDS)
    assert [row["k"] for row in rows] == ["A"]
    assert rejects == [(CODES.DECODE_SHORT, "", 7)]


@st.composite
def table_rows(draw):
    """Records with tables of every admitted length."""
    digit, letter = st.integers(0, 9), st.sampled_from("abc")
    entries = draw(st.lists(st.tuples(letter, st.lists(digit, min_size=2, max_size=2)), min_size=1, max_size=2))
    numbers = draw(st.lists(st.integers(0, 99), max_size=3))
    return {
        "k": draw(letter),
        "n": len(numbers),
        "t": numbers,
        "a": [letter for letter, _ in entries],
        "b": [pair for _, pair in entries],
        "z": draw(letter),
    }


@pytest.mark.full
@given(
    st.lists(table_rows(), min_size=1, max_size=6),
    st.sampled_from(["max_size", "shift_record", "pad_record"]),
    st.sampled_from(["F", "V", "VB"]),
    st.integers(1, 4),
)
def test_decoding_undoes_encoding_of_tables(rows, occurs, record_format, together):
    """decode(encode(x)) = x and the bytes come back, for every option, record format and batch size."""
    book = tables(occurs, record_format)
    raw = b"".join(book.encode([pa.RecordBatch.from_pylist(rows, TABLE_FIELDS)]))
    assert read(book, raw, TABLE_FIELDS, together) == (rows, [])
    again = pa.RecordBatch.from_pylist(read(book, raw, TABLE_FIELDS)[0], TABLE_FIELDS)
    assert b"".join(book.encode([again])) == raw


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 2}, "the length of its lists"),
        ({"t": [1, 2, 3, 4], "n": 4}, "0 to 3 entries"),
        ({"a": ["x"], "b": [[1, 2], [3, 4]]}, "as long as their counter"),
        ({"t": None}, "a list in each record"),
    ],
)
def test_lists_that_do_not_fit_their_counter_are_not_written(change, words):
    """The counter and all lists of a table agree, within its bounds."""
    row = {"k": "a", "n": 1, "t": [1], "a": ["x"], "b": [[1, 2]], "z": "z"} | change
    with pytest.raises(FormatError, match=words):
        list(tables("max_size").encode([pa.RecordBatch.from_pylist([row], TABLE_FIELDS)]))


def test_tables_need_their_option():
    """Where the room of absent entries lies is declared, never guessed."""
    with pytest.raises(DeclarationError, match="variable_size_occurs"):
        Copybook(TABLES)


def test_the_branch_that_the_rule_names_is_read_and_the_others_are_missing():
    """A record has the fields of its own branch; its numbers are not read as another branch's text."""
    book = Copybook(PARTIES, code_page="cp1252", redefine_rule=RULES)
    rows, rejects = read(book, b"PANNA42C1234  QBOB 07", PARTY_FIELDS)
    assert rejects == []
    assert rows == [
        {"kind": "P", "nm": "ANNA", "age": 42, "reg": None},
        {"kind": "C", "nm": None, "age": None, "reg": 1234},
        {"kind": "Q", "nm": "BOB", "age": 7, "reg": None},
    ]


@pytest.mark.parametrize(
    ("raw", "reject"),
    [
        pytest.param(b"X1234  ", (CODES.DECODE_BRANCH, "kind", 0), id="B-39-ambiguous"),
        pytest.param(b"C12A4  ", (CODES.DECODE_ZONE, "reg", 3), id="B-38-in-a-branch"),
        pytest.param(b"PANNAxx", (CODES.DECODE_ZONE, "age", 5), id="B-38-behind-a-text"),
    ],
)
def test_a_record_without_a_branch_is_rejected(raw, reject):
    """No branch is guessed, and a fault in a branch names its field and byte."""
    book = Copybook(PARTIES, code_page="cp1252", redefine_rule=RULES)
    rows, rejects = read(book, b"PANNA42" + raw + b"C1234  ", PARTY_FIELDS)
    assert [row["kind"] for row in rows] == ["P", "C"]
    assert rejects == [reject]


def test_a_variable_record_may_end_behind_its_branch():
    """A record behind a descriptor word need not fill the longest branch, but its own."""
    book = Copybook(PARTIES, "V", code_page="cp1252", redefine_rule=RULES, rdw_adjustment=0)
    file = b"".join(bytes([0, len(each), 0, 0]) + each for each in (b"C1234", b"PANNA4", b"C1234  "))
    rows, rejects = read(book, file, PARTY_FIELDS)
    assert [row["reg"] for row in rows] == [1234, 1234]
    assert rejects == [(CODES.DECODE_SHORT, "", 6)]


@given(
    st.lists(
        st.one_of(
            st.builds(lambda age: {"kind": "P", "nm": "EVE", "age": age, "reg": None}, st.integers(0, 99)),
            st.builds(lambda reg: {"kind": "C", "nm": None, "age": None, "reg": reg}, st.integers(0, 9999)),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["F", "V", "VB"]),
)
def test_decoding_undoes_encoding_of_branches(rows, record_format):
    """decode(encode(x)) = x and the bytes come back, whatever branches follow each other."""
    book = Copybook(PARTIES, record_format, redefine_rule=RULES)
    raw = b"".join(book.encode([pa.RecordBatch.from_pylist(rows, PARTY_FIELDS)]))
    assert read(book, raw, PARTY_FIELDS) == (rows, [])
    again = pa.RecordBatch.from_pylist(rows, PARTY_FIELDS)
    assert b"".join(book.encode([again])) == raw


def test_a_value_of_a_branch_that_is_not_read_is_not_written():
    """Writing it would destroy the fields of the record's own branch."""
    book = Copybook(PARTIES, redefine_rule=RULES)
    row = {"kind": "C", "nm": "EVE", "age": None, "reg": 1}
    with pytest.raises(FormatError, match="another branch"):
        list(book.encode([pa.RecordBatch.from_pylist([row], PARTY_FIELDS)]))


def test_a_branch_without_a_rule_is_not_read_and_one_without_a_condition_always_is():
    """Other fields need no rule; a branch that is read in every record says so."""
    plain = Copybook(PARTIES, code_page="cp1252")
    assert read(plain, b"PANNA42", pa.schema({"kind": pa.string()})) == ([{"kind": "P"}], [])
    with pytest.raises(FormatError, match="redefine_rule"):
        read(plain, b"PANNA42", PARTY_FIELDS)
    always = Copybook(PARTIES, code_page="cp1252", redefine_rule={"company": Choice()})
    assert read(always, b"P123442", pa.schema({"reg": pa.int64()})) == ([{"reg": 1234}], [])


@pytest.mark.parametrize(
    "rules",
    [
        {"nobody": Choice("kind", ("P",))},
        {"person": Choice("age", (7,))},
        {"person": Choice("kind", (7,))},
        {"person": Choice("kind", ("P",)), "company": Choice("kind", ("P", "C"))},
        {"person": Choice("kind", ("P",)), "company": Choice()},
    ],
)
def test_a_rule_that_does_not_fit_the_copybook_is_refused(rules):
    """Rules name branches, tell them apart by an earlier field of one kind, and never hold together."""
    with pytest.raises(DeclarationError, match="redefine_rule"):
        Copybook(PARTIES, redefine_rule=rules)
