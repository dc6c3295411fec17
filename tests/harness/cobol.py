"""Files that a compiled COBOL program really wrote, and programs that read ours."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["leaves", "moves", "needs_gnucobol", "read_by_cobol", "written_by_cobol"]

needs_gnucobol = pytest.mark.skipif(
    shutil.which("cobc") is None, reason="GnuCOBOL is not installed (apt-get install gnucobol3)"
)


def _varying(copybook: str, *, varying: bool) -> str:
    return "RECORD VARYING FROM 1 TO 400" if varying or "DEPENDING" in copybook else ""


def _run(folder: Path, source: list[str], options: list[str]) -> str:
    """Compile a program in free form and run it; give what it displays."""
    (folder / "mk.cob").write_text("\n".join(source) + "\n", encoding="ascii")
    subprocess.run(["cobc", "-x", "-free", *options, "-o", "mk", "mk.cob"], cwd=folder, check=True, timeout=100)
    done = subprocess.run(["./mk"], cwd=folder, check=True, timeout=20, stdout=subprocess.PIPE)
    return done.stdout.decode("ascii")


def written_by_cobol(
    folder: Path, copybook: str, organization: str, statements: list[str], options: list[str], *, varying: bool = False
) -> bytes:
    """Compile a program that makes the statements between opening and closing its file, run it, give its file."""
    source = [
        "IDENTIFICATION DIVISION.", "PROGRAM-ID. MK.", "ENVIRONMENT DIVISION.", "INPUT-OUTPUT SECTION.",
        "FILE-CONTROL.", f'SELECT F ASSIGN TO "OUT.DAT" ORGANIZATION {organization}.', "DATA DIVISION.",
        "FILE SECTION.", f"FD F {_varying(copybook, varying=varying)}.", copybook.strip(), "PROCEDURE DIVISION.",
        "OPEN OUTPUT F.", *statements, "CLOSE F.", "STOP RUN.",
    ]  # fmt: skip
    _run(folder, source, options)
    return (folder / "OUT.DAT").read_bytes()


def read_by_cobol(
    folder: Path, copybook: str, organization: str, data: bytes, names: list[str], options: list[str]
) -> list[list[str]]:
    """Compile a program that reads a file of ours and displays the named fields of each record, run it."""
    (folder / "IN.DAT").write_bytes(data)
    source = [
        "IDENTIFICATION DIVISION.", "PROGRAM-ID. MK.", "ENVIRONMENT DIVISION.", "INPUT-OUTPUT SECTION.",
        "FILE-CONTROL.", f'SELECT F ASSIGN TO "IN.DAT" ORGANIZATION {organization}.', "DATA DIVISION.",
        "FILE SECTION.", f"FD F {_varying(copybook, varying=False)}.", copybook.strip(),
        "WORKING-STORAGE SECTION.", "01 AT-END PIC X VALUE 'N'.", "PROCEDURE DIVISION.", "OPEN INPUT F.",
        "PERFORM UNTIL AT-END = 'Y'", "READ F AT END MOVE 'Y' TO AT-END NOT AT END",
        *(f"DISPLAY {name} '|' NO ADVANCING" for name in names), "DISPLAY ' '", "END-READ", "END-PERFORM",
        "CLOSE F.", "STOP RUN.",
    ]  # fmt: skip
    return [line.split("|")[:-1] for line in _run(folder, source, options).splitlines()]


def moves(row: dict[str, Any], names: Any) -> list[str]:
    """COBOL statements that move one record's values and write it."""
    lines = []
    for name in names:
        value = row[name]
        if value is None:
            continue
        for path, item in leaves(value):
            place = f"({', '.join(str(step + 1) for step in path)})" if path else ""
            literal = item if isinstance(item, int | float) else repr(item)
            lines.append(f"MOVE {literal} TO {name.upper().replace('_', '-')}{place}.")
    return [*lines, "WRITE R."]


def leaves(value: Any, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Any]]:
    """Every single value of nested lists, with its place."""
    if not isinstance(value, list):
        return [(path, value)]
    return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
