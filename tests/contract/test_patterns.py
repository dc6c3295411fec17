"""Patterns: the common subset of Python's and Arrow's regular expressions, with a bounded worst case."""

import re
import time

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.contract.patterns import PatternRefused, compile_pattern

REFUSED = {
    "B-74-nested": "(a+)+$",
    "B-74-nested-optional": "(a?){50}a{50}",
    "B-74-overlapping-alternatives": "^(a|a)*$",
    "B-74-overlapping-alternatives-counted": "^(a|a){30}$",
    "B-74-many-open": "^a*a*a*a*b",
    "B-74-many-optional": "a?" * 25 + "a" * 25,
    "B-74-long": "a" * 600,
    "B-74-large-count": "a{1001}",
    "B-74-large-automaton": "(a{100}){100}",
    "lookahead": "(?=a)",
    "lookbehind": "(?<=a)b",
    "backreference": r"(a)\1",
    "named-group": "(?P<x>a)",
    "flags": "(?i)a",
    "python-end": r"a\Z",
    "re2-end": r"a\z",
    "posix-class": "[[:alpha:]]",
    "unicode-class": r"\p{L}",
    "possessive": "a++",
    "hexadecimal": r"\x41",
    "space-in-class": r"[\s]",
    "open-group": "(a",
    "closed-group": "a)",
    "open-class": "[a",
    "range-of-classes": r"[\d-z]",
    "backwards-range": "[z-a]",
    "lonely-repetition": "*a",
    "repeated-anchor": "^*a",
    "low-brace": "a{,3}",
    "trailing-backslash": "a\\",
    "class-subtraction": "[a-z--b]",
}


@pytest.mark.parametrize("pattern", REFUSED.values(), ids=REFUSED)
def test_a_pattern_that_is_costly_or_ambiguous_is_refused(pattern) -> None:
    """What the engines read differently, or a backtracking engine could take for ever over, is refused."""
    with pytest.raises(PatternRefused):
        compile_pattern(pattern)


ACCEPTED = [
    r"^[A-Z]{2}-\d{1,4}$",
    r"^\w+@\w+\.[a-z]{2,}$",
    r"\bfuel\b",
    r"^(?:GROCERY|FUEL)?$",
    r"^\+?[0-9 ()-]{5,20}$",
    r"[^a-z\d_]",
    r"^\S$".replace(r"\S", "[^ ]"),
    "é+",
    r"a.c",
    "a$",
    r"[]a]".replace("[]a]", r"[\]a]"),
    r"[&~|^]",
]
LETTERS = st.text(st.sampled_from("aAzZ09_ -.,@\n\t\r\x0b\x0cé日²٣]^&\\$+b"), max_size=8)


@pytest.mark.full
@settings(max_examples=150, deadline=None)
@given(
    pattern=st.sampled_from(ACCEPTED), texts=st.lists(LETTERS | st.sampled_from(["fuel", "abc", "AB-12"]), min_size=20)
)
def test_both_engines_give_one_answer(pattern, texts) -> None:
    """A pattern is found by Python exactly where Arrow finds it, line ends and other alphabets included."""
    compiled = compile_pattern(pattern, 100)
    python = [re.search(compiled.python, text) is not None for text in texts]
    assert pc.match_substring_regex(pa.array(texts), compiled.re2).to_pylist() == python


PIECES = st.sampled_from(
    [
        "a",
        "[ab]",
        ".",
        r"\d",
        "a?",
        "a+",
        "b*",
        "(a|b)",
        "(ab)?",
        "a{2,3}",
        "(?:a|bc){2}",
        "^",
        "$",
        "|",
        "(a*b)",
        "x{0,2}?",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=6), st.text(st.sampled_from("abx0\n"), max_size=12))
def test_composed_patterns_give_one_answer(pieces, text) -> None:
    """Whatever pattern is accepted, both engines agree on it."""
    try:
        compiled = compile_pattern("".join(pieces), 12)
    except PatternRefused:
        return
    found = re.search(compiled.python, text) is not None
    assert pc.match_substring_regex(pa.array([text]), compiled.re2).to_pylist() == [found]


def test_the_bound_on_ways_bounds_the_time() -> None:
    """B-74: the costliest accepted kind of pattern fails on its longest text within a bounded number of steps."""
    compiled = compile_pattern("^[ab]*[ab]*c", 256)
    start = time.process_time()
    assert re.search(compiled.python, "a" * 256) is None
    assert compiled.ways <= 1_000_000
    assert time.process_time() - start < 5
