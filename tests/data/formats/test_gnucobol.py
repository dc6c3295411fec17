"""The oracle of the copybook format: files that a compiled COBOL program really wrote."""

import io
import subprocess

import pyarrow as pa
import pytest

from brownfield.data.formats import Choice, Copybook, compile_copybook
from harness.cobol import moves, needs_gnucobol, written_by_cobol

pytestmark = [
    pytest.mark.full,
    needs_gnucobol,
]

RECORD = """\
           05  K          PIC X(8).
           05  PK         PIC S9(5)V99 COMP-3.
           05  PE         PIC 9(6) COMP-3.
           05  BS         PIC S9(4) COMP.
           05  BM         PIC S9(9) COMP.
           05  BL         PIC S9(12)V9(2) COMP.
           05  NV         PIC S9(9) COMP-5.
           05  ZT         PIC S9(5).
           05  ZU         PIC 9(5)V9.
           05  ZL         PIC S9(5) SIGN LEADING.
           05  ZS         PIC S9(5) SIGN TRAILING SEPARATE.
           05  ZP         PIC S9(5) SIGN LEADING SEPARATE.
           05  G          OCCURS 2.
             10  GA       PIC 9(3).
             10  GB       PIC X(2) OCCURS 2.
"""
VALUES = [0, 1, -1, 42, -42, 9999, -9999, 12345, -12345, 99999, -99999]
NUMBERS = {"pk": 100, "pe": 1, "bs": 1, "bm": 1, "bl": 100, "nv": 1, "zt": 1, "zu": 10, "zl": 1, "zs": 1, "zp": 1}


def truth(value):
    """The record that the program is told to write for one value."""
    record = {"k": f"R{value}"}
    record |= dict.fromkeys(("bm", "nv", "zt", "zl", "zs", "zp"), value)
    record |= {"pe": abs(value), "zu": float(abs(value)), "bs": max(-9999, min(9999, value))}
    record["pk"], record["bl"] = float(value) + 0.25, float(value) + 0.25
    return record | {"ga": [1, 2], "gb": [["AB", "C"], ["D", "EF"]]}


def program(values):
    """COBOL source that moves each record's values and writes it."""
    lines = [
        "       IDENTIFICATION DIVISION.",
        "       PROGRAM-ID. MK.",
        "       ENVIRONMENT DIVISION.",
        "       INPUT-OUTPUT SECTION.",
        "       FILE-CONTROL.",
        '           SELECT F ASSIGN TO "OUT.DAT" ORGANIZATION SEQUENTIAL.',
        "       DATA DIVISION.",
        "       FILE SECTION.",
        "       FD  F.",
        "       01  R.",
        RECORD.rstrip("\n"),
        "       PROCEDURE DIVISION.",
        "           OPEN OUTPUT F.",
    ]
    for value in values:
        record = truth(value)
        lines.append(f'           MOVE "{record["k"]}" TO K.')
        lines += [f"           MOVE {record[name]} TO {name.upper()}." for name in NUMBERS]
        for group in (1, 2):
            lines.append(f"           MOVE {group} TO GA({group}).")
            for place in (1, 2):
                text = record["gb"][group - 1][place - 1]
                lines.append(f'           MOVE "{text}" TO GB({group}, {place}).')
        lines.append("           WRITE R.")
    return "\n".join([*lines, "           CLOSE F.", "           STOP RUN."]) + "\n"


@pytest.mark.parametrize("sign", ["ASCII", "EBCDIC"])
def test_every_usage_is_read_byte_for_byte_as_gnucobol_writes_it(tmp_path, sign):
    """A compiled program's file decodes to the values it was told to write, and encodes to its very bytes."""
    (tmp_path / "mk.cob").write_text(program(VALUES), encoding="ascii")
    subprocess.run(
        ["cobc", "-x", "-std=ibm", f"-fsign={sign}", "-o", "mk", "mk.cob"], cwd=tmp_path, check=True, timeout=100
    )
    subprocess.run(["./mk"], cwd=tmp_path, check=True, timeout=20)
    data = (tmp_path / "OUT.DAT").read_bytes()

    book = Copybook(compile_copybook("       01  R.\n" + RECORD), code_page="ascii", native_endian="little")
    numbers = {name: pa.float64() if scale > 1 else pa.int64() for name, scale in NUMBERS.items()}
    lists = {"ga": pa.list_(pa.int64()), "gb": pa.list_(pa.list_(pa.string()))}
    wanted = pa.schema({"k": pa.string()} | numbers | lists)
    (decoded,) = book.decode(io.BytesIO(data), wanted)

    assert decoded.rejects == ()
    assert decoded.batch.to_pylist() == [truth(value) for value in VALUES]
    if sign == "ASCII":  # the convention in which ASCII files are written back
        assert b"".join(book.encode([decoded.batch])) == data


VARYING = """
01 R.
   05 K PIC X(4).
   05 N PIC 9(2).
   05 M PIC 9(2) COMP.
   05 T PIC S9(3) COMP-3 OCCURS 0 TO 5 TIMES DEPENDING ON N.
   05 U OCCURS 1 TO 3 TIMES DEPENDING ON M.
      10 UA PIC X(2).
      10 UB PIC 9(2) OCCURS 2.
   05 Z PIC X(3).
"""
TAIL = """
01 R.
   05 K PIC X(4).
   05 N PIC 9(2).
   05 T OCCURS 0 TO 5 TIMES DEPENDING ON N.
      10 TA PIC X(2).
      10 TB PIC S9(3).
"""
PARTIES = """
01 R.
   05 KIND PIC X.
   05 PERSON.
      10 NM PIC X(6).
      10 AGE PIC 9(3) COMP-3.
   05 COMPANY REDEFINES PERSON.
      10 REG PIC 9(8).
"""
LINES = """
01 R.
   05 K PIC X(4).
   05 N PIC S9(3).
   05 NOTE PIC X(8).
"""


def check_both_ways(book, schema, data, rows):
    """A file decodes to the rows without rejects, and they encode to its very bytes."""
    decoded = list(book.decode(io.BytesIO(data), schema))
    assert [reject for part in decoded for reject in part.rejects] == []
    assert [row for part in decoded for row in part.batch.to_pylist()] == rows
    assert b"".join(book.encode([pa.RecordBatch.from_pylist(rows, schema)])) == data


def test_b_39_tables_of_varying_length_are_those_of_gnucobol(tmp_path):
    """What stands behind two tables moves up as a compiled program moves it, at every length of both."""
    rows = [
        {
            "k": f"R{n}{m}", "n": n, "m": m, "t": [(-1) ** i * (100 * n + i) for i in range(n)],
            "ua": [f"{chr(65 + i)}{m}" for i in range(m)], "ub": [[i, 90 + i] for i in range(m)], "z": f"E{n}",
        }
        for n in range(6)
        for m in (1, 2, 3)
    ]  # fmt: skip
    statements = [line for row in rows for line in moves(row, ["n", "m", "k", "t", "ua", "ub", "z"])]
    data = written_by_cobol(tmp_path, VARYING, "SEQUENTIAL", statements, ["-std=ibm", "-fodoslide"])
    text, whole, texts = pa.string(), pa.int64(), pa.list_(pa.string())
    schema = pa.schema(
        {
            "k": text,
            "n": whole,
            "m": whole,
            "t": pa.list_(whole),
            "ua": texts,
            "ub": pa.list_(pa.list_(whole)),
            "z": text,
        }
    )
    book = Copybook(
        compile_copybook(VARYING), "V", code_page="cp1252", rdw_adjustment=0, variable_size_occurs="shift_record"
    )
    check_both_ways(book, schema, data, rows)


@pytest.mark.parametrize("standard", ["default", "ibm", "mf"])
def test_b_39_a_table_at_the_end_is_as_long_as_gnucobol_writes_it(tmp_path, standard):
    """Records end with the last entry under every standard of the compiler."""
    rows = [
        {"k": f"R{n}", "n": n, "ta": [f"A{i}" for i in range(n)], "tb": [i - 2 for i in range(n)]} for n in range(6)
    ]
    statements = [line for row in rows for line in moves(row, ["n", "k", "ta", "tb"])]
    data = written_by_cobol(tmp_path, TAIL, "SEQUENTIAL", statements, [f"-std={standard}"])
    schema = pa.schema({"k": pa.string(), "n": pa.int64(), "ta": pa.list_(pa.string()), "tb": pa.list_(pa.int64())})
    book = Copybook(
        compile_copybook(TAIL), "V", code_page="cp1252", rdw_adjustment=0, variable_size_occurs="shift_record"
    )
    check_both_ways(book, schema, data, rows)


def test_b_39_redefined_bytes_are_read_as_gnucobol_wrote_them(tmp_path):
    """The branch that the program filled is read, and no other."""
    rows = [
        {"kind": "P", "nm": "ANNA", "age": 42, "reg": None},
        {"kind": "C", "nm": None, "age": None, "reg": 12345678},
        {"kind": "P", "nm": "BO", "age": 7, "reg": None},
    ]
    statements = [line for row in rows for line in moves(row, ["kind", "nm", "age", "reg"])]
    data = written_by_cobol(tmp_path, PARTIES, "SEQUENTIAL", statements, ["-std=default"])
    schema = pa.schema({"kind": pa.string(), "nm": pa.string(), "age": pa.int64(), "reg": pa.int64()})
    rules = {"person": Choice("kind", ("P",)), "company": Choice("kind", ("C",))}
    check_both_ways(Copybook(compile_copybook(PARTIES), code_page="cp1252", redefine_rule=rules), schema, data, rows)


def test_text_lines_are_those_of_gnucobol(tmp_path):
    """Lines of a LINE SEQUENTIAL file, without the blanks at their end, come in and go out."""
    rows = [
        {"k": "A", "n": -12, "note": "SEE"},
        {"k": "BCDE", "n": 999, "note": ""},
        {"k": "", "n": 0, "note": "LONGNOTE"},
    ]
    statements = [
        line for row in rows for line in moves({k: v or (" " if v == "" else v) for k, v in row.items()}, row)
    ]
    data = written_by_cobol(tmp_path, LINES, "LINE SEQUENTIAL", statements, ["-std=default"])
    schema = pa.schema({"k": pa.string(), "n": pa.int64(), "note": pa.string()})
    check_both_ways(Copybook(compile_copybook(LINES), "D", code_page="cp1252"), schema, data, rows)
