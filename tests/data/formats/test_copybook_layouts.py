"""Copybooks of every shape: tables in tables, branches in tables, all usages; what is written comes back."""

import io
import math
import struct

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.data.formats import Choice, Copybook, compile_copybook
from brownfield.errors import DeclarationError, FormatError, RejectionCode

CODES = RejectionCode
TEXT = st.text(st.sampled_from("ABCXYZ19-"), max_size=4)
FIELDS = {
    "PIC X(4)": (pa.string(), TEXT),
    "PIC 9(3)": (pa.int64(), st.integers(0, 999)),
    "PIC S9(3)V9 COMP-3": (pa.float64(), st.integers(-9999, 9999).map(lambda n: n / 10)),
    "PIC S9(4) COMP": (pa.int64(), st.integers(-9999, 9999)),
    "PIC 9(5) COMP-6": (pa.int64(), st.integers(0, 99_999)),
    "PIC 9(2)PP": (pa.int64(), st.integers(0, 99).map(lambda n: n * 100)),
    "PIC VPP9(2)": (pa.float64(), st.integers(0, 99).map(lambda n: n / 10**4)),
    "PIC S9(9) COMP-5": (pa.int64(), st.integers(-(2**31), 2**31 - 1)),
    "PIC 9(4) BLANK WHEN ZERO": (pa.int64(), st.integers(0, 9999)),
    "PIC S9(3) SIGN LEADING SEPARATE": (pa.int64(), st.integers(-999, 999)),
    "PIC S9(3) SIGN TRAILING SEPARATE": (pa.int64(), st.integers(-999, 999)),
    "COMP-1": (pa.float64(), st.integers(-(2**20), 2**20).map(lambda n: n / 8)),
    "COMP-2": (pa.float64(), st.floats(-1e60, 1e60).filter(lambda x: x == 0 or abs(x) > 1e-60)),
}


class Shape:
    """A generated copybook: its text, columns, rules, and a way of drawing records."""

    def __init__(self, draw):
        self.draw = draw
        self.lines, self.columns, self.rules, self.number = ["01 R."], {}, {}, 0

    def name(self, prefix):
        """A name that no other field has."""
        self.number += 1
        return f"{prefix}{self.number}"

    def group(self, level, depth, lists, *, may_vary):
        """Add fields, tables and redefined bytes below a group; give what fills one entry of it."""
        fills = []
        for _ in range(self.draw(st.integers(1, 3))):
            kinds = ["field"] if depth == 0 else ["field", "table", "branches"] + ["varying"] * (2 * may_vary)
            fills.append(getattr(self, self.draw(st.sampled_from(kinds)))(level, depth, lists, may_vary=may_vary))
        return fills

    def column(self, name, kind, lists):
        """Note a column, a list in each table around it."""
        for _ in range(lists):
            kind = pa.list_(kind)
        self.columns[name.lower()] = kind

    def field(self, level, _depth, lists, **_options):
        """Add one field."""
        clause = self.draw(st.sampled_from(sorted(FIELDS)))
        name = self.name("F")
        self.lines.append(f"{level:02} {name} {clause}.")
        kind, values = FIELDS[clause]
        self.column(name, kind, lists)
        return ("field", name.lower(), values)

    def table(self, level, depth, lists, *, may_vary):
        """Add a table of fixed length."""
        entries = self.draw(st.integers(1, 3))
        self.lines.append(f"{level:02} {self.name('T')} OCCURS {entries}.")
        return ("table", None, entries, entries, self.group(level + 1, depth - 1, lists + 1, may_vary=may_vary))

    def varying(self, level, depth, lists, **_options):
        """Add a counter and its table."""
        counter, least = self.name("N"), self.draw(st.integers(0, 1))
        most = self.draw(st.integers(1, 3))
        self.lines.append(f"{level:02} {counter} PIC 9.")
        self.lines.append(f"{level:02} {self.name('T')} OCCURS {least} TO {most} DEPENDING ON {counter}.")
        self.column(counter, pa.int64(), lists)
        return ("table", counter.lower(), least, most, self.group(level + 1, depth - 1, lists + 1, may_vary=True))

    def branches(self, level, depth, lists, **_options):
        """Add a selector and bytes with two readings."""
        selector, one, other = self.name("K"), self.name("B"), self.name("B")
        self.lines.append(f"{level:02} {selector} PIC X.")
        self.column(selector, pa.string(), lists)
        parts = []
        for name, clause, value in ((one, "", "P"), (other, f" REDEFINES {one}", "Q")):
            self.lines.append(f"{level:02} {name}{clause}.")
            self.rules[name.lower()] = Choice(selector.lower(), (value,))
            parts.append(self.group(level + 1, depth - 1, lists, may_vary=False))
        return ("branches", selector.lower(), *parts)

    def record(self, fills):
        """Draw one record, or one entry, as its columns."""
        row = {}
        for kind, *rest in fills:
            if kind == "field":
                row[rest[0]] = self.draw(rest[1])
            elif kind == "table":
                counter, least, most, inner = rest
                entries = [self.record(inner) for _ in range(self.draw(st.integers(least, most)))]
                row |= {name: [entry[name] for entry in entries] for name in names_of(inner)}
                row |= {} if counter is None else {counter: len(entries)}
            else:
                selector, one, other = rest
                chosen, left, value = self.draw(st.sampled_from([(one, other, "P"), (other, one, "Q")]))
                row |= dict.fromkeys(names_of(left)) | self.record(chosen) | {selector: value}
        return row


def names_of(fills):
    """Columns of a group."""
    found = []
    for kind, *rest in fills:
        if kind == "field":
            found.append(rest[0])
        elif kind == "table":
            found += ([rest[0]] if rest[0] else []) + names_of(rest[3])
        else:
            found += [rest[0], *names_of(rest[1]), *names_of(rest[2])]
    return found


@st.composite
def files(draw):
    """A copybook with records of its shape."""
    shape = Shape(draw)
    fills = shape.group(5, 2, 0, may_vary=True)
    rows = [shape.record(fills) for _ in range(draw(st.integers(1, 4)))]
    return "\n".join(shape.lines), shape.columns, shape.rules, rows


@pytest.mark.full
@settings(max_examples=150, deadline=None)
@given(
    files(),
    st.sampled_from(["max_size", "shift_record", "pad_record"]),
    st.sampled_from(["F", "V", "VB"]),
    st.sampled_from([("cp037", "ibm", "big"), ("cp1252", "ieee", "little")]),
)
def test_decoding_undoes_encoding_of_generated_layouts(file, occurs, record_format, machine):
    """decode(encode(x)) = x and the bytes come back, whatever stands inside what, in every record format."""
    text, columns, rules, rows = file
    page, floats, endian = machine
    book = Copybook(
        compile_copybook(text), record_format, page, endian, variable_size_occurs=occurs, redefine_rule=rules,
        float_format=floats, is_binary_big_endian=endian == "big",
    )  # fmt: skip
    schema = pa.schema(columns)
    batch = pa.RecordBatch.from_pylist(rows, schema)
    raw = b"".join(book.encode([batch]))
    decoded = list(book.decode(io.BytesIO(raw), schema, 3))
    assert [reject for part in decoded for reject in part.rejects] == []
    again = [row for part in decoded for row in part.batch.to_pylist()]
    assert again == rows
    assert b"".join(book.encode([pa.RecordBatch.from_pylist(again, schema)])) == raw


ORDERS = """
01 R.
   05 KEY-NO PIC 9(2).
   05 N PIC 9.
   05 ORD OCCURS 0 TO 3 DEPENDING ON N.
      10 M PIC 9.
      10 QTY PIC 9(2) OCCURS 0 TO 3 DEPENDING ON M.
      10 KIND PIC X.
      10 CASH PIC 9(4).
      10 CARD REDEFINES CASH PIC X(4).
   05 Z PIC X.
"""
ORDER_FIELDS = pa.schema(
    {
        "key_no": pa.int64(),
        "qty": pa.list_(pa.list_(pa.int64())),
        "cash": pa.list_(pa.int64()),
        "card": pa.list_(pa.string()),
        "z": pa.string(),
    }
)
ORDER_RULES = {"cash": Choice("kind", ("M",)), "card": Choice("kind", ("C",))}


def orders(record_format="V", occurs="shift_record"):
    """The format of orders with lines."""
    return Copybook(
        compile_copybook(ORDERS), record_format, "cp1252", variable_size_occurs=occurs, rdw_adjustment=0,
        redefine_rule=ORDER_RULES,
    )  # fmt: skip


def read(book, raw, wanted):
    """Rows, and rejects as (code, field, byte of the record)."""
    decoded = list(book.decode(io.BytesIO(raw), wanted))
    rows = [row for part in decoded for row in part.batch.to_pylist()]
    return rows, [(each.code, each.field, each.offset) for part in decoded for each in part.rejects]


def test_tables_inside_tables_and_branches_inside_entries_are_read():
    """Each entry has its own length and its own branch, and what stands behind is found."""
    raw = b"07" + b"2" + b"1" + b"42" + b"M0012" + b"0" + b"CVISA" + b"!"
    rows, rejects = read(orders("F"), raw + b"080?", ORDER_FIELDS)
    assert rejects == []
    assert rows == [
        {"key_no": 7, "qty": [[42], []], "cash": [12, None], "card": [None, "VISA"], "z": "!"},
        {"key_no": 8, "qty": [], "cash": [], "card": [], "z": "?"},
    ]


@pytest.mark.parametrize(
    ("raw", "reject"),
    [
        pytest.param(b"0721" + b"42M0012" + b"9CVISA!", (CODES.DECODE_COUNT, "m", 11), id="B-39-inner-count"),
        pytest.param(b"0721" + b"42M0012" + b"xCVISA!", (CODES.DECODE_ZONE, "m", 11), id="B-38-inner-count"),
        pytest.param(b"0721" + b"42M0012" + b"0XVISA!", (CODES.DECODE_BRANCH, "kind", 12), id="B-39-inner-branch"),
        pytest.param(b"0721" + b"42M00x2" + b"0CVISA!", (CODES.DECODE_ZONE, "cash", 9), id="B-38-inner-number"),
        pytest.param(b"0721" + b"4xM0012" + b"0CVISA!", (CODES.DECODE_ZONE, "qty", 5), id="B-38-inner-entry"),
        pytest.param(b"0721" + b"42M0012" + b"0CVI", (CODES.DECODE_SHORT, "", 15), id="B-39-shorter-than-counted"),
        pytest.param(b"0721" + b"42M0012" + b"0CVISA!?", (CODES.DECODE_LONG, "", 18), id="B-39-longer-than-counted"),
    ],
)
def test_a_fault_inside_nested_tables_names_its_byte(raw, reject):
    """The offset is that of the record as it came, and the neighbours are read."""
    good = b"080?"
    file = b"".join(bytes([0, len(each), 0, 0]) + each for each in (good, raw, good))
    rows, rejects = read(orders(), file, ORDER_FIELDS)
    assert [row["key_no"] for row in rows] == [8, 8]
    assert rejects == [reject]


def test_a_branch_inside_a_branch_needs_both_rules():
    """A reading of redefined bytes inside another is chosen in the records of the outer one alone."""
    text = """01 R. 05 K PIC X. 05 L PIC X. 05 A PIC X(4). 05 B REDEFINES A. 10 C PIC 9(4).
              10 D REDEFINES C PIC X(4)."""
    rules = {"a": Choice("k", ("A",)), "b": Choice("k", ("B",)), "c": Choice("l", ("C",)), "d": Choice("l", ("D",))}
    wanted = pa.schema({"a": pa.string(), "c": pa.int64(), "d": pa.string()})
    book = Copybook(compile_copybook(text), code_page="cp1252", redefine_rule=rules)
    rows, rejects = read(book, b"AXwordBC0042BDtextBXnone", wanted)
    assert rows == [
        {"a": "word", "c": None, "d": None},
        {"a": None, "c": 42, "d": None},
        {"a": None, "c": None, "d": "text"},
    ]
    assert rejects == [(CODES.DECODE_BRANCH, "l", 1)]
    del rules["b"]
    with pytest.raises(DeclarationError, match="a rule for b around it"):
        Copybook(compile_copybook(text), redefine_rule=rules)


@pytest.mark.parametrize(
    ("clause", "raw", "value"),
    [
        ("COMP-1", "C276A000", -118.625),
        ("COMP-1", "42640000", 100.0),
        ("COMP-2", "4110000000000000", 1.0),
        ("COMP-2", "0000000000000000", 0.0),
        ("COMP-2", "401999999999999A", 0.1),
        ("COMP-1", "7FFFFFFF", 7.2370051459731155e75),
    ],
)
def test_hexadecimal_floats_are_those_of_the_mainframe(clause, raw, value):
    """Published values of the format are read, and written as the same bytes."""
    book = Copybook(compile_copybook(f"01 R. 05 F {clause}."), float_format="ibm")
    wanted = pa.schema({"f": pa.float64()})
    rows, rejects = read(book, bytes.fromhex(raw), wanted)
    assert rejects == []
    assert rows == [{"f": pytest.approx(value, rel=1e-15)}]
    assert b"".join(book.encode([pa.RecordBatch.from_pylist(rows, wanted)])) == bytes.fromhex(raw)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_b_32_a_float_that_is_no_number_is_rejected_and_not_written(number):
    """NaN and infinities come neither in nor out."""
    book = Copybook(compile_copybook("01 R. 05 F COMP-2."), native_endian="big", float_format="ieee")
    wanted = pa.schema({"f": pa.float64()})
    rows, rejects = read(book, struct.pack(">dd", 1.5, number), wanted)
    assert (rows, rejects) == ([{"f": 1.5}], [(CODES.DECODE_NUMBER, "f", 0)])
    for floats in ("ieee", "ibm"):
        book = Copybook(compile_copybook("01 R. 05 F COMP-2."), native_endian="big", float_format=floats)
        with pytest.raises(FormatError, match="finite"):
            list(book.encode([pa.record_batch({"f": [number]})]))


@pytest.mark.parametrize(("length", "number"), [("COMP-1", 1e39), ("COMP-2", 1e76), ("COMP-1", 1e-80)])
def test_a_float_beyond_its_field_is_not_written(length, number):
    """What the mainframe's exponent cannot hold is refused instead of wrapped."""
    floats = "ieee" if number == 1e39 else "ibm"
    book = Copybook(compile_copybook(f"01 R. 05 F {length}."), native_endian="big", float_format=floats)
    with pytest.raises(FormatError, match="can hold"):
        list(book.encode([pa.record_batch({"f": [number]})]))


def test_floats_need_their_format():
    """How floating-point numbers are written is declared, never guessed; IEEE needs its byte order."""
    layout = compile_copybook("01 R. 05 F COMP-1.")
    with pytest.raises(DeclarationError, match="float_format"):
        Copybook(layout)
    with pytest.raises(DeclarationError, match="native_endian"):
        Copybook(layout, float_format="ieee")


@pytest.mark.parametrize(
    ("options", "raw", "outcome"),
    [
        ({}, "2710", (CODES.DECODE_NUMBER, "f", 0)),
        ({"binary_truncate": False}, "2710", 10_000),
        ({"is_binary_big_endian": False}, "0100", 1),
        ({"is_binary_big_endian": False, "binary_truncate": False}, "FF7F", 32_767),
    ],
)
def test_b_38_binary_numbers_keep_to_their_picture_or_use_their_bits(options, raw, outcome):
    """TRUNC(STD) and TRUNC(BIN), in both byte orders, both ways."""
    book = Copybook(compile_copybook("01 R. 05 F PIC S9(4) COMP."), **options)
    wanted = pa.schema({"f": pa.int64()})
    rows, rejects = read(book, bytes.fromhex(raw), wanted)
    if isinstance(outcome, int):
        assert (rows, rejects) == ([{"f": outcome}], [])
        assert b"".join(book.encode([pa.RecordBatch.from_pylist(rows, wanted)])) == bytes.fromhex(raw)
    else:
        assert (rows, rejects) == ([], [outcome])


def test_b_37_a_field_may_have_a_code_page_of_its_own():
    """One text is read and written in another code page than the rest."""
    book = Copybook(
        compile_copybook("01 R. 05 A PIC X(3). 05 B PIC X(3)."), code_page="cp037", field_code_pages={"b": "cp273"}
    )
    raw = "{x}".encode("cp037") + "äöü".encode("cp273")
    wanted = pa.schema({"a": pa.string(), "b": pa.string()})
    assert read(book, raw, wanted) == ([{"a": "{x}", "b": "äöü"}], [])
    assert b"".join(book.encode([pa.record_batch({"a": ["{x}"], "b": ["äöü"]})])) == raw
    for wrong in ({"c": "cp273"}, {"b": "cp1252"}):
        with pytest.raises(DeclarationError, match="field_code_pages"):
            Copybook(book.layout, field_code_pages=wrong)


@pytest.mark.parametrize(
    ("clauses", "raw", "reject"),
    [
        pytest.param("PIC 9(4) COMP-6", "12A4", (CODES.DECODE_DIGIT, "f", 1), id="B-38-comp-6-digit"),
        pytest.param("PIC 9(3) COMP-6", "1234", (CODES.DECODE_DIGIT, "f", 0), id="B-38-comp-6-beyond-picture"),
        pytest.param("PIC 9(2) BLANK WHEN ZERO", "40F1", (CODES.DECODE_ZONE, "f", 0), id="B-38-half-blank"),
        pytest.param("PIC 9(2)", "4040", (CODES.DECODE_ZONE, "f", 0), id="B-38-blank-not-declared"),
    ],
)
def test_faults_of_the_other_usages_have_codes(clauses, raw, reject):
    """A bad field names its code and byte."""
    book = Copybook(compile_copybook(f"01 R. 05 F {clauses}."))
    assert read(book, bytes.fromhex(raw), pa.schema({"f": pa.int64()})) == ([], [reject])


def test_synchronized_numbers_stand_on_their_boundary():
    """Half words at even bytes, full words at multiples of four; the slack is part of the record."""
    layout = compile_copybook("01 R. 05 A PIC X. 05 B PIC 9(4) COMP SYNC. 05 C PIC X. 05 D PIC 9(9) COMP SYNC.")
    assert [(item.name, item.offset) for item in layout.items] == [("a", 0), ("b", 2), ("c", 4), ("d", 8)]
    assert layout.record_bytes == 12


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_of_nested_records_are_accounted_for(data):
    """Whatever the bytes, every record is a row or a reject that names a byte within it, or the file is refused."""
    book = orders("F", "max_size")
    records = 0
    for decoded in book.decode(io.BytesIO(data), ORDER_FIELDS, 2):
        records += decoded.records
        assert all(0 <= each.offset <= len(each.raw) for each in decoded.rejects)
    assert records == -(-len(data) // book.layout.record_bytes)
