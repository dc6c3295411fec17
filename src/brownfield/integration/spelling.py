"""How numbers and times are written as text: declared, never guessed."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal

from msgspec import Meta

from brownfield.integration.reader import Contradiction, Spec

__all__ = ["SERIALS", "NumberSpelling", "stamp_problem", "tokens_of"]

Mark = Annotated[str, Meta(min_length=1, max_length=1)]

SERIALS = ("excel_serial", "epoch_s", "epoch_ms")
"""Counts of days, seconds or milliseconds that stand for a time."""

_TOKEN = re.compile(r"'[^']*'|yyyy|yy|MM|M|DDD|dd|d|HH|H|mm|ss|S{1,6}|[^A-Za-z]")
_LETTER = re.compile(r"[A-Za-z]")
_LONGEST = 64


class NumberSpelling(Spec, frozen=True, kw_only=True):
    """How a number is written as text."""

    decimal: Annotated[Mark, Meta(description="The decimal mark.")] = "."
    thousands: Annotated[Mark, Meta(description="What may stand between groups of three digits.")] | None = None
    minus: Annotated[
        Literal["leading", "trailing", "parentheses", "none"], Meta(description="Where a negative number has its sign.")
    ] = "leading"
    affixes: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=8)], ...],
        Meta(max_length=8, description="Texts that may stand before or after, such as EUR."),
    ] = ()
    percent: Annotated[bool, Meta(description="Whether a percent sign follows, which divides by 100.")] = False
    exponent: Annotated[bool, Meta(description="Whether 1.5E3 is admitted.")] = False
    implied_decimals: Annotated[
        int, Meta(ge=0, le=18, description="Digits at the end that stand behind a mark which is not written.")
    ] = 0

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse marks that could be read two ways."""
        marks = [("decimal", self.decimal), ("thousands", self.thousands)]
        for key, mark in marks:
            if mark is not None and (mark.isalnum() or mark in "+-()"):
                yield Contradiction((key,), "a mark that is no digit, letter or sign", "one")
        if self.thousands == self.decimal:
            yield Contradiction(("thousands",), "another mark than decimal", "the same")
        for index, affix in enumerate(self.affixes):
            if any(letter.isdigit() or letter in f"+-(){self.decimal}{self.thousands or ''}" for letter in affix):
                yield Contradiction(("affixes", index), "no digit, sign or mark of the number", "one")
        if self.implied_decimals and self.exponent:
            yield Contradiction(("exponent",), "no exponent beside implied_decimals", "both")


def tokens_of(spelling: str) -> list[str]:
    """Split a spelling into its tokens: ``yyyy``, ``MM``, ... and the characters between them.

    Examples
    --------
    >>> tokens_of("dd.MM.yyyy")
    ['dd', '.', 'MM', '.', 'yyyy']
    >>> tokens_of("yyyy'T'HH")
    ['yyyy', 'T', 'HH']
    """
    return [part[1:-1] if part.startswith("'") and len(part) > 1 else part for part in _TOKEN.findall(spelling)]


def stamp_problem(spelling: str, *, with_time: bool, first_year: int | None) -> tuple[str, str] | None:
    """Say what is wrong with the spelling of a date or timestamp: what was expected and what was found, or None."""
    if spelling in SERIALS:
        return None
    plain = re.sub(r"'[^']*'", "", spelling)
    if _LETTER.search(_TOKEN.sub("", plain)) or len(spelling) > _LONGEST:
        return "yyyy, yy, MM, M, DDD, dd, d, HH, H, mm, ss, S and marks between them", "other letters"
    found = [part for part in _TOKEN.findall(spelling) if _LETTER.match(part)]
    kinds = [part[0] for part in found]
    return next(_problems(spelling, found, kinds, with_time=with_time, first_year=first_year), None)


def _problems(
    spelling: str, found: list[str], kinds: list[str], *, with_time: bool, first_year: int | None
) -> Iterator[tuple[str, str]]:
    if len(set(kinds)) < len(kinds):
        yield "each part once", "one of them twice"
    if set(kinds) & set("yMdD") not in ({"y", "M", "d"}, {"y", "D"}):
        yield "year, month and day, or year and day of the year (DDD)", "another choice of parts"
    times = [kind for kind in kinds if kind in "HmsS"]
    if with_time and times not in (["H"], ["H", "m"], ["H", "m", "s"], ["H", "m", "s", "S"]):
        yield "hours, then minutes, seconds and fractions as far as they are written", "another choice of parts"
    if not with_time and times:
        yield "a date without a time", "one with a time"
    if ("yy" in found) != (first_year is not None):
        if first_year is None:
            yield "first_year beside yy, for 25 may be 1925 or 2025", "none"
        yield "yy beside first_year", "four digits"
    parts = _TOKEN.findall(spelling)
    for before, after in pairwise(parts):
        if _LETTER.match(before) and _LETTER.match(after) and not {"M", "d", "H"}.isdisjoint({before, after}):
            yield "a mark beside a part without leading zeros (M, d, H)", "digits on both sides"
