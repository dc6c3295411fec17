"""Connections to database servers: addresses and secrets by reference, safe cursors, budgets within bounds."""

import re
from pathlib import Path

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import DEFAULT, DatabaseConnection, Reference, load_document
from brownfield.integration.reader import Reader
from brownfield.integration.workspace import WorkspaceDeclaration

GOOD = "host: {env: POS_HOST}, database: pos, user: reader, password: {file: secrets/pos}"


def connection(text):
    """Read one connection of a workspace."""
    document = load_document(f"workspace: w\nconnections:\n  pos: {{{text}}}\n", "w.yaml")
    return Reader(document, DEFAULT).read(WorkspaceDeclaration).connections["pos"].options


@pytest.mark.parametrize(("kind", "port"), [("postgres", 5432), ("mysql", 3306)])
def test_a_connection_has_safe_defaults(kind, port):
    """Encrypted and checked, few connections, a modest rate, and a time for each statement."""
    options = connection(f"kind: {kind}, {GOOD}")
    assert isinstance(options, DatabaseConnection)
    assert options.port == port
    assert options.host == Reference(env="POS_HOST")
    assert options.tls.mode == "verify"
    assert (options.budget.max_connections, options.budget.rows_per_s) == (2, 20_000)
    assert options.budget.statement_timeout_s == 30


@pytest.mark.parametrize(
    ("text", "part"),
    [
        pytest.param("host: db.internal, database: p, user: u", "a reference", id="B-71-host"),
        pytest.param("host: {env: H}, database: p, user: u, password: geheim", "a reference", id="B-71-password"),
        pytest.param("host: {env: H}, database: p, user: u, passwort: {env: P}", "Did you mean password", id="key"),
        pytest.param("host: {env: H}, user: u", "the key database", id="database"),
        pytest.param("host: {env: H}, database: p, user: u, port: 0", "[1, 65535]", id="port"),
        pytest.param("host: {env: H}, database: p, user: u, tls: {mode: prefer}", "encrypt, off, verify", id="tls"),
        pytest.param(
            "host: {env: H}, database: p, user: u, tls: {mode: off, ca_file: a}", "mode: verify only", id="ca"
        ),
        pytest.param("host: {env: H}, database: p, user: u, budget: {rows_per_s: 0}", "[20, ", id="rate"),
        pytest.param(
            "host: {env: H}, database: p, user: u, budget: {quiet_hours: {zone: Mars, windows: ['1-2']}}",
            "two times of day",
            id="quiet",
        ),
        pytest.param(
            "host: {env: H}, database: p, user: u, budget: {quiet_hours: {zone: Mars/X, windows: ['08:00-09:00']}}",
            "a time zone",
            id="zone",
        ),
    ],
)
def test_mistakes_are_told_with_what_was_expected(text, part):
    """A host or password that is written out, a key, a bound or a zone that is wrong; no secret is repeated."""
    with pytest.raises(DeclarationError) as caught:
        connection(f"kind: postgres, {text}")
    assert part in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "w.yaml:3" in str(caught.value)


def test_the_example_of_the_reference_page_loads():
    """What the page shows can be copied."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "connections.md").read_text(encoding="utf-8")
    kinds = []
    for block in re.findall(r"```yaml\n(connections:.*?)```", page, re.DOTALL):
        document = load_document(f"workspace: w\n{block}", "w.yaml")
        kinds += [each.kind for each in Reader(document, DEFAULT).read(WorkspaceDeclaration).connections.values()]
    assert kinds == ["postgres", "odbc", "http"]
