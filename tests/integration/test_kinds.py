"""Names and paths: what is safe everywhere, and nothing else."""

import re

import pytest

from brownfield.integration import is_slug

BAD_NAMES = [
    "..",
    "a/b",
    "a\\b",
    "../x",
    "Store",
    "store_1",
    "-a",
    "a-",
    "",
    "a b",
    "a" * 64,
    "a" * 300,
    "con",
    "nul",
    "com1",
    "lpt9",
    "store\u202ex",
    "st\u00f6re",
    "a.b",
    "a%2fb",
    "a\n",
    "a\u200b",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=[f"B-69-{number}" for number in range(len(BAD_NAMES))])
def test_integration_names_are_slugs(mistakes, name: str) -> None:
    """B-69: a name that is unsafe in a URL, a folder or on Windows is refused, and shown without its tricks."""
    text = "".join(f"\\u{ord(c):04x}" for c in name)
    told = mistakes(f'integration: "{text}"\ncontract: c.yaml\n', head="")
    assert len(told) == 1
    assert "63 characters" in told[0]
    assert not re.search("[\u202e\u200b\n]", told[0])
    assert len(told[0]) < 300
    assert not is_slug(name)


@pytest.mark.parametrize("name", ["a", "7", "store-recommendations", "a" * 63, "console", "com10", "x--y"])
def test_good_names(mistakes, name: str) -> None:
    """Slugs are taken, also those that merely begin like a device."""
    assert mistakes(f"integration: '{name}'\ncontract: c.yaml\n", head="") == []
    assert is_slug(name)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/..",
        "..",
        "C:/x",
        "a\\..\\b",
        "",
        "~\\u0000",
        "a\\u000ab",
        "file:x",
        "x" * 1025,
    ],
)
def test_paths_stay_below_their_folder(mistakes, path: str) -> None:
    """B-73: absolute paths, parents, drives and control characters are refused."""
    escaped = path if "\\u" in path else path.replace("\\", "\\\\")
    told = mistakes(f'integration: x\ncontract: "{escaped}"\n', head="")
    assert len(told) == 1
    assert "inside the folder" in told[0]


@pytest.mark.parametrize("path", ["a", "a/b.yaml", ".hidden", "a..b", "...", "dir/..b", "with space.csv", "~/x"])
def test_paths_below_the_folder(mistakes, path: str) -> None:
    """Ordinary names are taken, dots and all."""
    assert mistakes(f'integration: x\ncontract: "{path}"\n', head="") == []


@pytest.mark.parametrize("name", ["Pos", "pos-1", "1pos", "con", "a" * 64, "pos.db"])
def test_source_names_are_identifiers(mistakes, name: str) -> None:
    """B-69: names of sources become columns and metrics, so they are lower-case identifiers."""
    told = mistakes(f"sources: {{{name}: {{feed: true, connection: pos, table: t}}}}\n")
    assert len(told) == 1
    assert "underscores" in told[0]
