"""The words of a copybook, each with its line: columns, comments and sentences."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from brownfield.errors import FormatError

__all__ = ["Word", "refuse", "sentences"]

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[^\s,;.'"]+(?:[.,][^\s,;.'"]+)*|\.""")
_FIXED_FORM = re.compile(r"(?:[0-9]{6}| {6})(?:[ */Dd-].*)?")
_DIRECTIVES = ("COPY", "REPLACE", "REPLACING", "EXEC")


@dataclass(frozen=True, slots=True)
class Word:
    """One word, in capitals unless it is a literal, and the line on which it stands."""

    text: str
    line: int


def sentences(text: str, file: str) -> Iterator[list[Word]]:
    """Cut a copybook into its sentences, each with the words before its full stop.

    Columns 1 to 6 and 73 to 80 are not code where all lines have the fixed form.

    Raises
    ------
    FormatError
        For directives that would change the text, such as COPY, and for literals that go on in the next line.
    """
    sentence: list[Word] = []
    for number, code in _code_lines(text, file):
        for word in _TOKEN.findall(code):
            if word == ".":
                if sentence:
                    yield sentence
                sentence = []
                continue
            upper = word if word[0] in "'\"" else word.upper()
            if upper in _DIRECTIVES:
                raise refuse(upper, number, file, "Expand it first: give the text as the compiler saw it.")
            sentence.append(Word(upper, number))
    if sentence:
        yield sentence


def _code_lines(text: str, file: str) -> Iterator[tuple[int, str]]:
    lines = text.expandtabs(8).splitlines()
    fixed = all(_FIXED_FORM.fullmatch(line) or not line.strip() for line in lines)
    for number, line in enumerate(lines, 1):
        code = line[6:72] if fixed else line.lstrip()
        if code[:1] in ("*", "/") or (fixed and code[:1] in ("D", "d")):
            continue
        if fixed and code[:1] == "-":
            raise refuse("a continued line", number, file, "Write the word or literal on one line.")
        yield number, (code[1:] if fixed else code).split("*>")[0]


def refuse(what: str, line: int, file: str, next_step: str = "") -> FormatError:
    """Make the error for what stands in a copybook and is not read."""
    return FormatError(
        f"{what} is not read",
        where=f"{file}:{line}",
        next_step=next_step or "Describe these bytes as PIC X(n), or leave the field out by FILLER.",
    )
