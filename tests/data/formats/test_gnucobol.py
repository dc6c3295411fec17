"""The oracle of the copybook format: files that a compiled COBOL program really wrote."""

import io
import shutil
import subprocess

import pyarrow as pa
import pytest

from brownfield.data.formats import Copybook, compile_copybook

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("cobc") is None, reason="GnuCOBOL is not installed (apt-get install gnucobol3)"),
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
