"""Strict YAML: what is read, what is refused, and that every refusal names its line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.errors import DeclarationError
from brownfield.integration.strict_yaml import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, load_document


def read(text: str | bytes) -> dict:
    return load_document(text, "x.yaml").data


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("2026-11-21", "2026-11-21"),
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"),
        ("12:30:45", "12:30:45"),
        ("1.2.3", "1.2.3"),
        ("0", 0),
        ("-17", -17),
        ("+5", 5),
        ("9223372036854775807", 2**63 - 1),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ('"010"', "010"),
        ("'1_000'", "1_000"),
        ("=", "="),
        ("-", None),
        ("=x", "=x"),
        ("${HOME}", "${HOME}"),
        ('"{{7*7}}"', "{{7*7}}"),
        ("a%s%n", "a%s%n"),
        ("1h", "1h"),
        ("1e", "1e"),
        ("nan", "nan"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(scalar: str, value: object) -> None:
    """B-20, B-70: scalars resolve by the core schema of YAML 1.2, dates stay text, and nothing is expanded."""
    if scalar == "-":
        assert read("a:\n  -\n") == {"a": [None]}
        return
    found = read(f"a: {scalar}\n")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        pytest.param("a: 1\nb: 2\na: 3\n", 3, "first on line 1", id="B-20-duplicate"),
        pytest.param("a: {b: 1, 'b': 2}\n", 1, "first on line 1", id="B-20-duplicate-flow"),
        pytest.param("%YAML 1.1\n---\na: 1\n", 1, "no directives", id="B-20-directive"),
        pytest.param("%TAG ! tag:x,2026:\n---\na: 1\n", 1, "no directives", id="B-20-tag-directive"),
        pytest.param("a: !!python/object:os.system x\n", 1, "no tags", id="B-20-python-object"),
        pytest.param("a: !!str 1\n", 1, "no tags", id="B-20-standard-tag"),
        pytest.param("a: ! x\n", 1, "no tags", id="B-20-bare-tag"),
        pytest.param("a: !x {b: 1}\n", 1, "no tags", id="B-20-mapping-tag"),
        pytest.param("x: &x {a: 1}\ny:\n  <<: *x\n", 3, "no merge keys", id="B-20-merge"),
        pytest.param("a: 1\n---\nb: 2\n", 2, "one document", id="B-20-documents"),
        pytest.param("a: *x\n", 1, "alias to nothing", id="B-20-undefined-alias"),
        pytest.param("a: &x\n  b: *x\n", 2, "alias to what holds it", id="B-20-recursion"),
        pytest.param("a: &x 1\nb: &x 2\n", 2, "every anchor once", id="B-20-anchor-twice"),
        pytest.param("&x a: 1\n", 1, "a plain text as key", id="B-20-anchor-on-key"),
        pytest.param("a: 1_000\n", 1, "underscores", id="B-20-underscore"),
        pytest.param("a: 1.5_0\n", 1, "underscores", id="B-20-underscore-float"),
        pytest.param("a: 010\n", 1, "leading zeros", id="B-20-octal-1.1"),
        pytest.param("a: -010.5\n", 1, "leading zeros", id="B-20-zero-float"),
        pytest.param("a: 0o17\n", 1, "decimal", id="B-20-octal-1.2"),
        pytest.param("a: 0x1F\n", 1, "decimal", id="B-20-hex"),
        pytest.param("a: 0b11\n", 1, "decimal", id="B-20-binary"),
        pytest.param("a: .inf\n", 1, "finite", id="B-20-inf"),
        pytest.param("a: -.INF\n", 1, "finite", id="B-20-minus-inf"),
        pytest.param("a: .nan\n", 1, "finite", id="B-20-nan"),
        pytest.param("a: 1e999\n", 1, "double", id="B-68-float-overflow"),
        pytest.param("a: 9223372036854775808\n", 1, "64 bits", id="B-68-integer-overflow"),
        pytest.param(f"a: {'9' * 5000}\n", 1, "64 bits", id="B-68-many-digits"),
        pytest.param("a:\n\tb: 1\n", 2, "spaces as indentation", id="B-20-tab"),
        pytest.param("a: [1,\n \t2]\n", 2, "spaces as indentation", id="B-20-tab-in-flow"),
        pytest.param("1: x\n", 1, "a text as key", id="B-20-number-key"),
        pytest.param("true: x\n", 1, "a text as key", id="B-20-boolean-key"),
        pytest.param("? [a]\n: x\n", 1, "a plain text as key", id="B-20-list-key"),
        pytest.param("a: 'x\n", 1, "not valid YAML", id="B-20-open-quote"),
        pytest.param("a: [1, 2\n", 1, "not valid YAML", id="B-20-open-bracket"),
        pytest.param("a: b: c\n", 1, "not valid YAML", id="B-20-colons"),
        pytest.param("- a\n", 1, "a mapping of keys", id="B-20-list-at-top"),
        pytest.param("just text\n", 1, "a mapping of keys", id="B-20-text-at-top"),
        pytest.param("", 1, "an empty file", id="B-20-empty"),
        pytest.param("# nothing\n", 1, "an empty file", id="B-20-comment-only"),
        pytest.param("---\n...\n", 2, "a mapping of keys", id="B-20-empty-document"),
        pytest.param("\ufeffa: 1\n", 1, "byte order mark", id="B-07-bom"),
        pytest.param(b"\xef\xbb\xbfa: 1\n", 1, "byte order mark", id="B-07-bom-bytes"),
        pytest.param(b"a: 1\nb: \xff\n", 2, "UTF-8", id="B-07-invalid"),
        pytest.param(b"a: 1\nb: \xed\xa0\x80\n", 2, "UTF-8", id="B-07-surrogate"),
        pytest.param("a: 1\n".encode("utf-16"), 1, "UTF-8", id="B-07-utf-16"),
        pytest.param("a: 1\nb: x\0y\n", 2, "U+0000", id="B-08-nul"),
        pytest.param("a: x\x1b[31m\n", 1, "U+001B", id="B-20-escape"),
        pytest.param("a: b\x85c: d\n", 1, "U+0085", id="B-20-nel-is-no-line-end"),
        pytest.param("a: b\u2028c: d\n", 1, "U+2028", id="B-20-ls-is-no-line-end"),
    ],
)
def test_refusals_name_the_line(text: str | bytes, line: int, part: str) -> None:
    """What two readers could read differently is refused, with the line on which it stands."""
    with pytest.raises(DeclarationError) as refused:
        read(text)
    assert refused.value.where == f"x.yaml:{line}"
    assert part in str(refused.value)


@pytest.mark.timeout(10)
def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    """B-20: more than twenty aliases are refused, and so are fewer that grow beyond all bounds."""
    many = "a: &a 1\nb: [" + ", ".join(["*a"] * (MAX_ALIASES + 1)) + "]\n"
    with pytest.raises(DeclarationError, match="at most 20 aliases"):
        read(many)
    laughs = (
        "a: &a ["
        + "x, " * 500
        + "x]\n"
        + "".join(
            f"{name}: &{name} [*{last}, *{last}, *{last}, *{last}, *{last}]\n"
            for last, name in zip("abcd", "bcde", strict=False)
        )
    )
    with pytest.raises(DeclarationError, match="at most 200000 values"):
        read(laughs)


def test_aliases_do_not_hide_depth() -> None:
    """B-20: nesting is counted with aliases in place, so no later reader recurses deeper than the bound."""
    inner = "[" * (MAX_DEPTH - 2) + "1" + "]" * (MAX_DEPTH - 2)
    assert read(f"a: &a {inner}\n")
    with pytest.raises(DeclarationError, match="levels"):
        read(f"a: &a {inner}\nb: [[[*a]]]\n")


def test_few_aliases_are_allowed() -> None:
    """An anchor spares a repetition."""
    assert read("a: &x {k: 1}\nb: *x\n") == {"a": {"k": 1}, "b": {"k": 1}}


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "a: " + "{b: " * 100_000, "- " * 100_000])
def test_depth_is_bounded_before_recursion(text: str) -> None:
    """B-13: a hundred thousand brackets are refused at the first few."""
    with pytest.raises(DeclarationError):
        read(text)


def test_size_is_bounded() -> None:
    """A file beyond the bound is refused unread."""
    with pytest.raises(DeclarationError, match="at most"):
        read(b"#" * (MAX_BYTES + 1))


def test_lines_of_nested_keys_and_items() -> None:
    """Every key and item knows its line; what is missing is reported at the mapping that lacks it."""
    document = load_document("a:\n  b:\n    - x\n    - {c: 1,\n       d: 2}\n\ne: 1\n", "f.yaml")
    assert document.where(["a", "b", 1, "d"]) == "f.yaml:5"
    assert document.where(["a", "b", 0]) == "f.yaml:3"
    assert document.where(["e"]) == "f.yaml:7"
    assert document.where(["a", "missing"]) == "f.yaml:1"
    assert document.where([]) == "f.yaml:1"


def test_windows_line_ends() -> None:
    """Files that were saved on Windows read the same."""
    document = load_document(b"a: 1\r\nb:\r\n  - 2\r\n", "f.yaml")
    assert document.data == {"a": 1, "b": [2]}
    assert document.where(["b", 0]) == "f.yaml:3"


_plain = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_plain, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.full
@given(st.dictionaries(_plain, _values, max_size=5))
def test_json_is_yaml(data: dict) -> None:
    """Any JSON document without exotic characters is read as its own data (YAML 1.2 contains JSON)."""
    assert read(json.dumps(data, ensure_ascii=False, indent=1)) == data


@given(st.text(max_size=100) | st.text("ab:- \n\t{}[]&*!|>'\"%@#,?~0.x\ud800", max_size=60))
def test_any_text_is_read_or_refused(content: str) -> None:
    """B-20: no text ends in anything but data or a typed refusal, lone surrogates and all."""
    try:
        found = read(content)
    except DeclarationError as refused:
        found = refused.where
    assert isinstance(found, dict) or found.startswith("x.yaml:")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """No sequence of bytes ends in anything but data or a typed refusal."""
    try:
        found = read(content)
    except DeclarationError as refused:
        found = refused.where
    assert isinstance(found, dict) or found.startswith("x.yaml:")
