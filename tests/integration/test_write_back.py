"""``write_back``: what may be written where, and every declaration that is refused."""

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import CsvFormat, each_error, load_workspace, write_back_digest

CONNECTIONS = """\
  out: {kind: sqlite, path: legacy/out.db}
  box: {kind: folder, path: legacy/box}
"""
TILL = "till: {from: lines, connection: out, table: till, key: line_id, columns: [line_id, department]}"


def write(workspace, text, connections=CONNECTIONS):
    """Declare write-backs in a workspace without a mistake."""
    file = workspace / "integrations/next-items/integration.yaml"
    file.write_text(file.read_text() + f"write_back:\n  {text}\n")
    settings = workspace / "brownfield.yaml"
    settings.write_text(settings.read_text() + connections)
    return workspace


def refused(workspace):
    """Every mistake of a workspace."""
    with pytest.raises(DeclarationError) as caught:
        load_workspace(workspace)
    return "\n".join(str(each) for each in each_error(caught.value))


def test_a_table_and_a_file_are_written(workspace):
    """The place stands flat beside the columns, and what is left out is safe."""
    file = 'box: {from: lines, connection: box, path: "l-{effect_id}.csv", format: csv, columns: [line_id]}'
    declared = load_workspace(write(workspace, f"{TILL}\n  {file}")).integrations["next-items"].write_back
    till, box = declared["till"], declared["box"]
    assert (till.to.table, till.keys, till.mode, till.max_pending_rows) == ("till", ("line_id",), "upsert", 1_000_000)
    assert (box.to.path, box.to.options, box.keys) == ("l-{effect_id}.csv", CsvFormat(), ())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        pytest.param(TILL.replace("from: lines", "from: sales"), "a unified table (lines), got sales", id="no-table"),
        pytest.param(TILL.replace("out, table", "pos, table"), "a connection that no source reads", id="S-17-same"),
        pytest.param(TILL.replace("out, table", "nowhere, table"), "a connection of the workspace", id="no-connection"),
        pytest.param(TILL.replace("table: till", "path: x.csv, format: csv"), "table beside a connection",
                     id="no-file"),
        pytest.param(TILL.replace(", columns: [line_id, department]", ""), "the key columns, got none",
                     id="S-17-columns"),
        pytest.param(TILL.replace("department]", "secret]"), "fields of lines, got secret", id="S-17-unknown-column"),
        pytest.param(TILL.replace(" key: line_id,", ""), "the key of the table, got none", id="no-key"),
        pytest.param(TILL.replace("key: line_id", "key: department"), "the contract calls unique", id="key-not-unique"),
        pytest.param(TILL.replace("key: line_id", "key: other"), "columns among those written", id="key-not-written"),
        pytest.param(TILL.replace("[line_id, ", "[line_id, line_id, "), "each column once", id="twice"),
        pytest.param(TILL.replace("columns", "totals: [line_id], columns"), "totals beside path only", id="totals"),
        pytest.param(TILL.replace("connection: out, table: till", "snapshot: last_good, max_age_h: 1"), "a snapshot",
                     id="snapshot"),
        pytest.param(TILL.replace("columns", "rows: 7, columns"), "unknown key rows", id="B-67-unknown"),
    ],
)  # fmt: skip
def test_s_17_what_is_not_declared_is_not_written(workspace, text, part):
    """S-17: a write-back without columns, key, or a connection of its own is refused with file and line."""
    message = refused(write(workspace, text))
    assert part in message
    assert "integration.yaml:" in message


def test_s_17_a_table_of_a_lookup_is_not_written(workspace):
    """What is pulled whole again and again has no row that could be written once."""
    write(workspace, TILL)
    file = workspace / "integrations/next-items/integration.yaml"
    file.write_text(
        file.read_text()
        .replace("from: sales\n    join: [{source: products, on: product_id, take: [department]}]", "from: products")
    )  # fmt: skip
    assert "a table that is made from a feed, got the lookup products" in refused(workspace)


def test_s_17_the_reading_user_does_not_write(workspace):
    """S-17: two names for one user of one server are one credential, and it is refused."""
    server = "{kind: postgres, host: {env: PG}, database: pos, user: USER, password: {env: PW}}"
    both = f"  reads: {server.replace('USER', 'legacy')}\n  writes: {server.replace('USER', 'legacy')}\n"
    write(workspace, TILL.replace("connection: out", "connection: writes"), both)
    assert "a user that reads nothing, got the user of the connection reads" in refused(workspace)
    settings = workspace / "brownfield.yaml"
    settings.write_text(settings.read_text().replace("writes: " + server.replace("USER", "legacy"),
                                                     "writes: " + server.replace("USER", "scorer")))  # fmt: skip
    assert load_workspace(workspace).integrations["next-items"].write_back["till"].to.connection == "writes"


def test_the_digest_moves_with_all_that_decides_what_is_written(workspace):
    """Another column, mode, place or connection is another digest; the same declaration is the same."""

    def digest(workspace):
        loaded = load_workspace(workspace)
        spec = loaded.integrations["next-items"]
        till = spec.write_back["till"]
        return write_back_digest(till, loaded.connections[till.to.connection], spec.contract.schema("lines"))

    write(workspace, TILL)
    first = digest(workspace)
    assert digest(workspace) == first
    file = workspace / "integrations/next-items/integration.yaml"
    text, seen = file.read_text(), {first}
    for before, after in (
        ("columns: [line_id, department]", "columns: [line_id]"),
        ("table: till,", "table: till, mode: insert_only,"),
        ("table: till,", "table: other,"),
    ):
        file.write_text(text.replace(before, after))
        seen.add(digest(workspace))
    file.write_text(text)
    settings = workspace / "brownfield.yaml"
    settings.write_text(settings.read_text().replace("legacy/out.db", "legacy/elsewhere.db"))
    assert len(seen | {digest(workspace)}) == 5
