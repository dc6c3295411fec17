"""``brownfield.yaml``: connections, listener, access; and what a plug-in adds."""

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from brownfield.errors import DeclarationError
from brownfield.integration import DEFAULT, Reference, Registry, Spec, TokenSpec, declaration_schema, load_document
from brownfield.integration.reader import Reader, each_error
from brownfield.integration.workspace import WorkspaceDeclaration


def read(text: str, registry: Registry = DEFAULT) -> WorkspaceDeclaration:
    return Reader(load_document("workspace: shop\n" + text, "w.yaml"), registry).read(WorkspaceDeclaration)


def told(text: str) -> list[str]:
    with pytest.raises(DeclarationError) as refused:
        read(text)
    return [str(error) for error in each_error(refused.value)]


def test_defaults_are_closed() -> None:
    """Without a word the listener is loopback, and nobody else is let in."""
    spec = read("")
    assert (spec.serving.host, spec.serving.port, spec.serving.is_loopback) == ("127.0.0.1", 8080, True)
    assert spec.access.tokens == ()
    assert spec.connections == {}


def test_connections_lie_below_the_workspace_or_by_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A path in the declaration is relative; any other comes from the environment or a file."""
    spec = read("connections: {a: {kind: sqlite, path: legacy/a.db}, b: {kind: folder, path: {env: BF_TEST_DROP}}}\n")
    assert spec.connections["a"].location(tmp_path) == tmp_path / "legacy" / "a.db"
    monkeypatch.setenv("BF_TEST_DROP", "/srv/drop")
    assert spec.connections["b"].location(tmp_path) == Path("/srv/drop")
    monkeypatch.delenv("BF_TEST_DROP")
    with pytest.raises(DeclarationError, match="BF_TEST_DROP"):
        spec.connections["b"].location(tmp_path)


def test_tokens_are_named_never_written() -> None:
    """A principal has a name, a role, and a reference to its token."""
    spec = read(
        "access:\n  tokens:\n"
        "  - {name: a, role: caller, token: {env: A}}\n"
        "  - {name: b, role: operator, token: {file: b}}\n"
    )
    assert spec.access.tokens == (
        TokenSpec(name="a", role="caller", token=Reference(env="A")),
        TokenSpec(name="b", role="operator", token=Reference(file="b")),
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "connections: {a: {path: x}}",
            "one of the installed connections "  # noqa: ISC004 (one text of the pair)
            "(folder, http, mqtt, mysql, nats, odbc, oracle, postgres, rabbitmq, redis, sftp, sqlite), got nothing",
        ),
        ("connections: {a: {kind: sqlit, path: x}}", "Did you mean sqlite?"),
        ("connections: {a: {kind: sqlite}}", "the key path"),
        ("connections: {a: {kind: sqlite, path: /srv/a.db}}", "inside the folder"),
        ("connections: {a: {kind: sqlite, path: x, url: y}}", "the unknown key url"),
        ("connections: {a: {kind: sqlite, path: {env: A, file: b}}}", "either env or file, got both"),
        ("connections: {a: {kind: sqlite, path: {}}}", "either env or file, got neither"),
        ("connections: {a: {kind: sqlite, path: {env: 1A}}}", "the name of an environment variable"),
        ("connections: {a: x}", "a mapping with the key kind"),
        ("serving: {port: 65536}", "[0, 65535]"),
        ("serving: {port: '8080'}", "Write it without quotes."),
        ("serving: {host: example.com}", "an IP address, or localhost"),
        ("serving: {host: 2130706433}", "Quote it"),
        ("serving: {max_body_mib: 0}", "(0, 1024]"),
        ("serving: {max_body_mib: 16, limits: {kept_mib: 8}}", "at least serving.max_body_mib, 16, got 8"),
        ("access: {tokens: [{name: a, role: root, token: {env: A}}]}", "one of admin, approver, auditor, caller"),
        (
            "access: {tokens: [{name: a, role: viewer, token: {env: A}}, {name: a, role: admin, token: {env: B}}]}",
            "every name once, got a again",
        ),
    ],
)
def test_mistakes(text: str, part: str) -> None:
    """Each mistake is one refusal on its line."""
    found = told(text + "\n")
    assert [part in each for each in found] == [True]
    assert found[0].startswith("w.yaml:2: ")


@pytest.mark.parametrize(
    ("host", "loopback"), [("::1", True), ("localhost", True), ("127.0.0.9", True), ("10.0.0.1", False), ("::", False)]
)
def test_loopback(host: str, loopback: bool) -> None:  # noqa: FBT001 (a row of a table)
    """What only this machine can reach is told from what others can."""
    assert read(f"serving: {{host: '{host}'}}\n").serving.is_loopback is loopback


class BrokerConnection(Spec, frozen=True, kw_only=True):
    """A broker, as a plug-in would bring it."""

    queue_limit: Annotated[int, Meta(ge=1, description="Most messages that may wait.")] = 100


def test_a_plugin_is_checked_and_published() -> None:
    """What a plug-in declares is read by its own struct, refused elsewhere, and stands in the schema."""
    registry = DEFAULT.adding("connections", "broker", BrokerConnection)
    spec = read("connections: {b: {kind: broker, queue_limit: 5}}\n", registry)
    assert spec.connections["b"].options == BrokerConnection(queue_limit=5)
    with pytest.raises(DeclarationError, match="Did you mean queue_limit"):
        read("connections: {b: {kind: broker, queue_limt: 5}}\n", registry)
    installed = "folder, http, mqtt, mysql, nats, odbc, oracle, postgres, rabbitmq, redis, sftp, sqlite"
    with pytest.raises(DeclarationError, match=rf"\({installed}\)"):
        read("connections: {b: {kind: broker}}\n")
    with pytest.raises(DeclarationError, match="has no path"):
        spec.connections["b"].location(Path())
    kinds = [
        branch["properties"]["kind"]["const"]
        for branch in declaration_schema(registry)["$defs"]["ConnectionSpec"]["oneOf"]
    ]
    assert kinds == sorted(["broker", *installed.split(", ")])
