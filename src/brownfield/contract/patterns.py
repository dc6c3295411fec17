r"""Regular expressions that mean the same to Python and to Arrow (RE2), and whose worst case is bounded.

In: a pattern as declared. Out: the same pattern for either engine.
Refused: lookaround, backreferences, named groups, flags, POSIX and Unicode classes, and patterns that a backtracking
engine could try in more than a million ways on the longest admitted text.

The grammar is a subset of both: ``^ $ . | ( ) (?: )``, classes ``[a-z]`` and ``[^a-z]``, quantifiers
``? * + {n} {n,} {n,m}`` (greedy or lazy), ``\d \D \w \W`` (ASCII), ``\s`` outside classes, ``\t \n \r``,
``\b`` and escaped punctuation.
"""

import re
from dataclasses import dataclass

__all__ = ["MAX_TEXT", "Pattern", "PatternRefused", "compile_pattern"]

MAX_PATTERN = 512
"""Longest pattern, in characters."""

MAX_TEXT = 256
"""Longest text, in code points, that a field with a pattern admits unless it declares ``maxLength``."""

MAX_WAYS = 1_000_000
"""Bound on the ways in which a backtracking engine can try one text."""

_MAX_REPEAT = 1000
_MAX_SIZE = 1000
_MAX_GROUPS = 20
_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_"}
_SPACE = r"[\t\n\f\r ]"
_PUNCTUATION = frozenset(r"""\.^$|?*+()[]{}-/ _@#&%,:;=<>!~"'`""")
_QUANTIFIER = re.compile(r"(?:[?*+]|\{([0-9]+)(?:(,)([0-9]*))?\})\??")


class PatternRefused(ValueError):
    """The pattern is outside the common grammar or too costly; the message says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern in the spelling of both engines.

    Parameters
    ----------
    python
        For :mod:`re`, to be searched.
    re2
        For Arrow's ``match_substring_regex``.
    ways
        Bound on the ways a backtracking engine can try one text.
    """

    python: str
    re2: str
    ways: int


def compile_pattern(pattern: str, max_text: int = MAX_TEXT) -> Pattern:
    r"""Translate a declared pattern for both engines.

    Parameters
    ----------
    pattern
        As declared.
    max_text
        Longest text, in code points, that it will be searched in.

    Raises
    ------
    PatternRefused
        Outside the common grammar, or too costly.

    Examples
    --------
    >>> compile_pattern(r"^[A-Z]{2}-\d+$").python
    '^[A-Z]{2}-[0-9]+\\Z'
    >>> compile_pattern("(a+)+$")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    brownfield.contract.patterns.PatternRefused: could be tried in more than 1000000 ways on one text; ...
    """
    if len(pattern) > MAX_PATTERN:
        raise PatternRefused(f"longer than {MAX_PATTERN} characters")
    parser = _Parser(pattern, max_text)
    ways, size = parser.alternatives()
    if parser.at < len(pattern):
        raise PatternRefused(f"a group is closed that was not opened, at character {parser.at}")
    if size > _MAX_SIZE:
        raise PatternRefused(f"longer than {_MAX_SIZE} steps when its repetitions are written out")
    if not parser.anchored:
        ways = min(ways * max(max_text, 1), MAX_WAYS + 1)
    if ways > MAX_WAYS:
        raise PatternRefused(
            f"could be tried in more than {MAX_WAYS} ways on one text; use fewer open repetitions, "
            "anchor it with ^, or declare a smaller maxLength"
        )
    python = "".join(parser.python)
    try:
        re.compile(python)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternRefused(f"not a regular expression: {error}") from error
    return Pattern(python, "".join(parser.re2), ways)


class _Parser:
    """Recursive descent over the pattern: emits both spellings and counts the ways a backtracker may take."""

    def __init__(self, pattern: str, max_text: int) -> None:
        self.pattern = pattern
        self.max_text = max_text
        self.at = 0
        self.python: list[str] = []
        self.re2: list[str] = []
        self.groups = 0
        self.anchored = pattern.startswith("^") and "|" not in pattern

    def alternatives(self) -> tuple[int, int]:
        """Ways through the alternatives, and steps of the automaton that RE2 makes of them."""
        ways, size = self.sequence()
        while self.peek() == "|":
            self.take("|")
            more, steps = self.sequence()
            ways, size = min(ways + more, MAX_WAYS + 1), size + steps
        return ways, size

    def sequence(self) -> tuple[int, int]:
        ways, size = 1, 0
        while self.peek() not in ("", "|", ")"):
            more, steps = self.repeated()
            ways, size = min(ways * more, MAX_WAYS + 1), size + steps
        return ways, size

    def repeated(self) -> tuple[int, int]:
        is_assertion = self.peek() in ("^", "$") or self.pattern.startswith("\\b", self.at)
        ways, size = self.atom()
        found = _QUANTIFIER.match(self.pattern, self.at)
        if found is None:
            if self.peek() == "{":
                raise PatternRefused("write a literal brace as \\{")
            return ways, size
        if is_assertion:
            raise PatternRefused("an anchor cannot be repeated")
        self.take(found[0])
        if self.peek() and self.peek() in "?*+{":
            raise PatternRefused("a repetition of a repetition")
        low, high = self.bounds(found)
        is_open = found[0].startswith(("*", "+")) or (found[2] is not None and not found[3])
        size *= max(low, 1) + 1 if is_open else high
        # Each round may go any way of the atom; then the number of rounds is a choice of its own.
        total = 0
        for rounds in range(low, high + 1):
            total += ways**rounds if rounds < MAX_WAYS.bit_length() or ways == 1 else MAX_WAYS + 1
            if total > MAX_WAYS:
                break
        return min(total, MAX_WAYS + 1), size

    def bounds(self, found: re.Match[str]) -> tuple[int, int]:
        sign = found[0][0]
        if sign != "{":
            return (1 if sign == "+" else 0), (1 if sign == "?" else self.max_text)
        low = int(found[1])
        high = low if found[2] is None else int(found[3]) if found[3] else max(low, self.max_text)
        if low > _MAX_REPEAT or (found[3] and high > _MAX_REPEAT) or high < low:
            raise PatternRefused(f"a repetition must go from a smaller to a larger number, up to {_MAX_REPEAT}")
        return low, high

    def atom(self) -> tuple[int, int]:
        character = self.peek()
        if character == "(":
            return self.group()
        if character == "[":
            self.character_class()
        elif character == "\\":
            self.escape()
        elif character == ".":
            self.take(".", python=r"[^\n]", re2=r"[^\n]")
        elif character == "$":
            self.take("$", python=r"\Z", re2=r"\z")
        elif character in ("?", "*", "+", "{"):
            raise PatternRefused("a repetition without anything to repeat")
        elif character in ("]", "}"):
            raise PatternRefused(f"write a literal {character} as \\{character}")
        else:
            self.take(character)
        return 1, 1

    def group(self) -> tuple[int, int]:
        self.groups += 1
        if self.groups > _MAX_GROUPS:
            raise PatternRefused(f"more than {_MAX_GROUPS} groups")
        opening = "(?:" if self.pattern.startswith("(?:", self.at) else "("
        self.take(opening, python="(?:", re2="(?:")
        if self.peek() in ("?", "*"):
            raise PatternRefused("lookaround, flags and named groups mean different things to the two engines")
        ways, size = self.alternatives()
        if self.peek() != ")":
            raise PatternRefused("a group is not closed")
        self.take(")")
        return ways, size + 1

    def escape(self) -> None:
        letter = self.pattern[self.at + 1 : self.at + 2]
        text = "\\" + letter
        if letter in ("d", "w"):
            self.take(text, python=f"[{_CLASSES[letter]}]", re2=f"[{_CLASSES[letter]}]")
        elif letter in ("D", "W"):
            negated = f"[^{_CLASSES[letter.lower()]}]"
            self.take(text, python=negated, re2=negated)
        elif letter == "s":
            self.take(text, python=_SPACE, re2=_SPACE)
        elif letter == "b":
            self.take(text, python=r"(?a:\b)", re2=r"\b")
        elif letter in ("t", "n", "r") or letter in _PUNCTUATION:
            self.take(text, python=_literal(letter), re2=_literal(letter))
        else:
            raise PatternRefused(f"the escape {text} means different things to the two engines")

    def character_class(self) -> None:
        end = self.at + 1
        out = "["
        if self.pattern.startswith("^", end):
            out, end = "[^", end + 1
        first = end
        while end == first or not self.pattern.startswith("]", end):
            low, end = self.class_member(end, literal_dash=end == first)
            out += low
            if self.pattern.startswith("-", end) and not self.pattern.startswith("-]", end):
                high, end = self.class_member(end + 1, literal_dash=False)
                if high in _CLASSES.values() or low in _CLASSES.values():
                    raise PatternRefused("a range in a class needs two characters")
                out += "-" + high
        self.take(self.pattern[self.at : end + 1], python=out + "]", re2=out + "]")

    def class_member(self, at: int, *, literal_dash: bool) -> tuple[str, int]:
        character, following = self.pattern[at : at + 1], self.pattern[at + 1 : at + 2]
        if character == "\\":
            if following in _CLASSES:
                return _CLASSES[following], at + 2
            if following in ("t", "n", "r") or following in _PUNCTUATION:
                return _literal(following), at + 2
            raise PatternRefused(f"the escape \\{following} in a class means different things to the two engines")
        if not character:
            raise PatternRefused("a class is not closed")
        if character in ("[", "]"):
            raise PatternRefused(f"write a literal {character} in a class as \\{character}")
        if character == "-" and not (literal_dash or following == "]"):
            raise PatternRefused("write a literal - in a class first, last, or as \\-")
        return ("\\" + character if character in "&~|^-" else character), at + 1

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self, text: str, *, python: str | None = None, re2: str | None = None) -> None:
        self.at += len(text)
        self.python.append(text if python is None else python)
        self.re2.append(text if re2 is None else re2)


def _literal(letter: str) -> str:
    if not letter:
        raise PatternRefused("ends in a backslash")
    if letter in ("t", "n", "r"):
        return "\\" + letter
    return "\\" + letter if letter in r"\.^$|?*+()[]{}-" else letter
