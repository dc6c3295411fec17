"""The rarer types and nestings, byte for byte as compiled COBOL programs write and read them."""

import io

import pyarrow as pa
import pytest

from brownfield.data.formats import Choice, Copybook, compile_copybook
from harness.cobol import moves, needs_gnucobol, read_by_cobol, written_by_cobol

pytestmark = [pytest.mark.full, needs_gnucobol]

NUMBERS = """
01 R.
   05 K    PIC X(4).
   05 FA   COMP-1.
   05 FB   COMP-2.
   05 C6   PIC 9(5) COMP-6.
   05 BZ   PIC 9(4) BLANK WHEN ZERO.
   05 PP-H PIC 9(3)PP.
   05 PP-L PIC VPP99.
   05 BT   PIC 9(2) COMP.
   05 BH   PIC S9(4) COMP.
   05 SY   PIC S9(9) COMP SYNC.
   05 NV   PIC S9(4) COMP-5.
   05 SL   PIC S9(3) SIGN LEADING SEPARATE.
"""
ROWS = [
    {"k": f"R{n}", "fa": n * 0.5, "fb": n * 1.25, "c6": abs(n) * 100, "bz": abs(n) % 3, "pp_h": abs(n) * 100,
     "pp_l": abs(n) / 10_000, "bt": abs(n), "bh": n * 100, "sy": n * 10**7, "nv": n * 1000, "sl": n}
    for n in (0, 1, -2, 17, -25)
]  # fmt: skip
FRACTIONS = ("fa", "fb", "pp_l")
SCHEMA = pa.schema(
    [(name, pa.string() if name == "k" else pa.float64() if name in FRACTIONS else pa.int64()) for name in ROWS[0]]
)


def both_ways(book, schema, data, rows):
    """A file decodes to the rows without rejects, and they encode to its very bytes."""
    decoded = list(book.decode(io.BytesIO(data), schema))
    assert [reject for part in decoded for reject in part.rejects] == []
    assert [row for part in decoded for row in part.batch.to_pylist()] == rows
    assert b"".join(book.encode([pa.RecordBatch.from_pylist(rows, schema)])) == data


@pytest.mark.parametrize(
    ("flags", "size", "is_big", "truncates"),
    [
        (["-std=default"], "1-2-4-8", True, True),
        (["-std=ibm"], "2-4-8", True, True),
        (["-std=default", "-fbinary-byteorder=native"], "1-2-4-8", False, True),
        (["-std=ibm", "-fno-binary-truncate"], "2-4-8", True, False),
    ],
    ids=["default", "ibm", "little-endian", "no-truncation"],
)
def test_b_38_numbers_of_every_usage_are_those_of_gnucobol(tmp_path, flags, size, is_big, truncates):
    """Floating point, COMP-6, P, blank zeros, aligned and native numbers agree in every arrangement of the compiler."""
    statements = ["INITIALIZE R."] + [line for row in ROWS for line in moves(row, row)]
    data = written_by_cobol(tmp_path, NUMBERS, "SEQUENTIAL", statements, flags)
    layout = compile_copybook(NUMBERS, binary_size=size)
    assert len(data) == layout.record_bytes * len(ROWS)
    book = Copybook(
        layout, code_page="cp1252", native_endian="little", float_format="ieee",
        is_binary_big_endian=is_big, binary_truncate=truncates,
    )  # fmt: skip
    decoded = list(book.decode(io.BytesIO(data), SCHEMA))
    assert [reject for part in decoded for reject in part.rejects] == []
    assert [row for part in decoded for row in part.batch.to_pylist()] == ROWS
    encoded = b"".join(book.encode([pa.RecordBatch.from_pylist(ROWS, SCHEMA)]))
    slack = {place for item in layout.items if item.name == "sy" for place in range(item.offset - 4, item.offset)}
    for at, (ours, theirs) in enumerate(zip(encoded, data, strict=True)):
        assert ours == theirs or at % layout.record_bytes in slack


def test_b_38_gnucobol_reads_what_we_write(tmp_path):
    """A compiled program reads our file and displays the numbers that were written."""
    book = Copybook(
        compile_copybook(NUMBERS, binary_size="1-2-4-8"),
        code_page="cp1252",
        native_endian="little",
        float_format="ieee",
    )
    data = b"".join(book.encode([pa.RecordBatch.from_pylist(ROWS, SCHEMA)]))
    shown = read_by_cobol(tmp_path, NUMBERS, "SEQUENTIAL", data, ["K", "C6", "BT", "BH", "SY", "SL"], ["-std=default"])
    assert [[line[0].strip(), *map(int, line[1:])] for line in shown] == [
        [row["k"], row["c6"], row["bt"], row["bh"], row["sy"], row["sl"]] for row in ROWS
    ]


ORDERS = """
01 R.
   05 K PIC X(3).
   05 G OCCURS 3.
      10 KIND PIC X.
      10 CASH PIC 9(4).
      10 CARD REDEFINES CASH PIC X(4).
   05 Z PIC X.
"""


def test_b_39_branches_inside_entries_are_those_of_gnucobol(tmp_path):
    """Each entry of a table has the reading that the program filled."""
    row = {"k": "ONE", "kind": ["C", "V", "C"], "cash": [12, None, 34], "card": [None, "VISA", None], "z": "E"}
    statements = [
        "MOVE SPACES TO R.", "MOVE 'ONE' TO K.", "MOVE 'E' TO Z.",
        "MOVE 'C' TO KIND(1).", "MOVE 12 TO CASH(1).", "MOVE 'V' TO KIND(2).", "MOVE 'VISA' TO CARD(2).",
        "MOVE 'C' TO KIND(3).", "MOVE 34 TO CASH(3).", "WRITE R.",
    ]  # fmt: skip
    data = written_by_cobol(tmp_path, ORDERS, "SEQUENTIAL", statements, ["-std=default"])
    rules = {"cash": Choice("kind", ("C",)), "card": Choice("kind", ("V",))}
    book = Copybook(compile_copybook(ORDERS), code_page="cp1252", redefine_rule=rules)
    texts = pa.list_(pa.string())
    schema = pa.schema({"k": pa.string(), "kind": texts, "cash": pa.list_(pa.int64()), "card": texts, "z": pa.string()})
    both_ways(book, schema, data, [row])


@pytest.mark.parametrize("page", ["cp037", "cp273"])
def test_b_37_translated_records_of_gnucobol_are_read(tmp_path, page):
    """Digits and texts that a program wrote, brought to EBCDIC as a file transfer does, decode to the same rows."""
    copybook = "01 R.\n 05 K PIC X(6).\n 05 N PIC S9(5) SIGN LEADING SEPARATE.\n 05 T PIC X(10).\n"
    rows = [{"k": f"K{n}", "n": n, "t": f"TEXT {abs(n)}"} for n in (-99, -1, 0, 7, 12345)]
    statements = [line for row in rows for line in moves(row, row)]
    data = written_by_cobol(tmp_path, copybook, "SEQUENTIAL", statements, ["-std=default"])
    schema = pa.schema({"k": pa.string(), "n": pa.int64(), "t": pa.string()})
    both_ways(Copybook(compile_copybook(copybook), code_page=page), schema, data.decode("ascii").encode(page), rows)
