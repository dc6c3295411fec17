"""The reference page names every key with its own help, and no key that there is not."""

import re
from pathlib import Path

from brownfield.integration import DEFAULT, Reference, Spec
from brownfield.integration.integration import IntegrationDeclaration
from brownfield.integration.loader import MAX_INTEGRATIONS
from brownfield.integration.strict_yaml import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_NODES
from brownfield.integration.words import fields_of, help_of
from brownfield.integration.workspace import WorkspaceDeclaration

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "declaration.md").read_text()
INSIDE = {
    ("ConnectionSpec", "kind"),
    ("ConnectionSpec", "options"),
    ("Location", "options"),
    ("DoorsSpec", "options"),
    ("WriteBackSpec", "to"),
}


def declared_specs() -> list[type[Spec]]:
    """Every struct that is read from a declaration, from the top down."""
    found: list[type[Spec]] = []
    waiting = [WorkspaceDeclaration, IntegrationDeclaration, Reference]
    waiting += [spec for kind in (DEFAULT.connections, DEFAULT.formats, DEFAULT.doors) for spec in kind.values()]
    while waiting:
        spec = waiting.pop()
        if spec not in found:
            found.append(spec)
            waiting += [
                child for child in Spec.__subclasses__() if re.search(rf"\b{child.__name__}\b", str(fields_of(spec)))
            ]
    return found


def test_every_key_stands_on_the_page_with_its_help() -> None:
    """Key and sentence of help are the code's own, in one row of a table; the page has no other rows of keys."""
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \| (.*) \|$", PAGE, re.MULTILINE)
    expected = [
        (key, help_of(field.type) or "")
        for spec in declared_specs()
        for key, field in fields_of(spec).items()
        if (spec.__name__, key) not in INSIDE and spec.__name__ != "AccessSpec"
    ]
    assert sorted(rows) == sorted(expected)


def test_every_plugin_and_limit_stands_on_the_page() -> None:
    """What is installed, and how large a file may be, is said as it is."""
    for kind, names in (("kind", DEFAULT.connections), ("format", DEFAULT.formats)):
        assert set(re.findall(rf"^#+ {kind} `(\w+)`$", PAGE, re.MULTILINE)) == set(names)
    assert all(f"`{door}`" in PAGE for door in DEFAULT.doors)
    limits = f"at most {MAX_BYTES // 2**20} MiB, {MAX_DEPTH} levels and {MAX_NODES:,} values"
    assert limits in PAGE
    assert f"more than {MAX_ALIASES} aliases" in PAGE
    assert f"at most {MAX_INTEGRATIONS:,} integrations" in PAGE
