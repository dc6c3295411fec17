"""One silo, three databases: the same declaration but for the connection gives the same table, row for row."""

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from brownfield.data.pipeline import open_tables, run_pipeline
from brownfield.errors import DeclarationError
from brownfield.integration import load_workspace
from brownfield.store import open_store

pytestmark = pytest.mark.full

INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  sales: {feed: true, connection: pos, table: sales, cursor: {column: sold_at, key: line_id, lag_s: 60}}
  products: {lookup: product_id, connection: pos, table: products}
unified:
  lines:
    from: sales
    join: [{source: products, on: product_id, take: [kind]}]
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: reco
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties: [{name: store_id, logicalType: integer, required: true}]
  - name: response
    logicalType: object
    properties: [{name: items, logicalType: array, required: true, items: {logicalType: string}}]
  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: product_id, logicalType: integer, required: true, relationships: [{to: products.product_id}]}
      - {name: quantity, logicalType: integer, required: true, logicalTypeOptions: {exclusiveMinimum: 0}}
      - {name: price, logicalType: number}
      - {name: sold_at, logicalType: timestamp, required: true, logicalTypeOptions: {defaultTimezone: Europe/Berlin}}
      - {name: day, logicalType: date}
      - {name: card, logicalType: string, classification: pii}
      - {name: online, logicalType: boolean}
  - name: products
    logicalType: object
    properties:
      - {name: product_id, logicalType: integer, primaryKey: true, required: true}
      - {name: kind, logicalType: string}
  - name: lines
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: product_id, logicalType: integer, required: true}
      - {name: quantity, logicalType: integer, required: true}
      - {name: price, logicalType: number}
      - {name: sold_at, logicalType: timestamp, required: true}
      - {name: day, logicalType: date}
      - {name: card, logicalType: string}
      - {name: online, logicalType: boolean}
      - {name: kind, logicalType: string}
"""
COLUMNS = ("line_id", "product_id", "quantity", "price", "sold_at", "day", "card", "online")
TYPES = {
    "sqlite": ("INTEGER PRIMARY KEY", "INTEGER", "INTEGER", "REAL", "TEXT", "TEXT", "TEXT", "INTEGER"),
    "postgres": ("bigint PRIMARY KEY", "int", "smallint", "numeric(8,2)", "timestamp", "date", "char(8)", "boolean"),
    "mysql": ("serial PRIMARY KEY", "int", "smallint", "decimal(8,2)", "datetime(6)", "date", "char(8)", "tinyint(1)"),
}


def silo():
    """The rows: good ones, and some that the contract refuses."""
    noon = datetime(2026, 7, 1, 12)  # noqa: DTZ001 (the till's own wall time)
    products = [(place, f"kind {place % 7} ü") for place in range(40)]
    sales = []
    for line in range(500):
        stamp, day = noon + timedelta(seconds=line), f"2026-07-{line % 28 + 1:02}"
        sales.append((line + 1, line % 40, line % 9, round(line * 0.37, 2), stamp, day, f"c{line}", line % 2))
    sales.append((1_000, 99, 1, None, noon, None, None, None))  # there is no such product
    sales.append((1_001, 1, 1, 1.5, datetime(2026, 10, 25, 2, 30), None, None, None))  # noqa: DTZ001 (a time that is there twice)
    return sales, products


def spelt(row, *, truth):
    """Spell a row as SQL."""
    cells = []
    for place, value in enumerate(row):
        if value is None:
            cells.append("NULL")
        elif truth and place == 7:
            cells.append("true" if value else "false")
        else:
            cells.append(str(value) if isinstance(value, int | float) else f"'{value}'")
    return f"({', '.join(cells)})"


def script(kind):
    """Statements that make the silo."""
    sales, products = silo()
    truth = kind == "postgres"
    till = ", ".join(map(" ".join, zip(COLUMNS, TYPES[kind], strict=True)))
    code = "product_id INTEGER PRIMARY KEY, kind varchar(20)"
    for table, rows, shape in (("sales", sales, till), ("products", products, code)):
        yield f"DROP TABLE IF EXISTS {table}"
        yield f"CREATE TABLE {table} ({shape})"
        values = ", ".join(spelt(row, truth=truth and table == "sales") for row in rows)
        yield f"INSERT INTO {table} VALUES {values}"  # noqa: S608 (our own rows)


def unified(folder, connection, **integration):
    """Run the pipeline over a silo: the table, the counts, and what is in quarantine."""
    home = folder / "integrations" / "reco"
    home.mkdir(parents=True)
    (folder / "brownfield.yaml").write_text(f"workspace: shop\nconnections:\n  pos: {connection}\n")
    (home / "integration.yaml").write_text(integration.get("text", INTEGRATION))
    (home / "contract.odcs.yaml").write_text(CONTRACT)
    workspace = load_workspace(folder)
    with open_store(folder / "var" / "store.db") as store:
        spec = workspace.integrations["reco"]
        report = run_pipeline(spec, workspace.connections, store, folder / "var" / "data")
        refused = sorted((each.source, each.position, each.code) for each in store.quarantine.select("reco"))
    with closing(open_tables(folder / "var" / "data")) as tables:
        table = tables.sql("SELECT * FROM lines ORDER BY line_id").to_arrow_table()
    counts = {name: (source.rows_in, source.accepted, source.by_code) for name, source in report.sources.items()}
    return table, counts, refused


@pytest.fixture
def by_reference(server, tmp_path, monkeypatch):
    """Declare the server, its secrets by reference."""
    monkeypatch.setenv("TEST_DB_HOST", server.host)
    monkeypatch.setenv("TEST_DB_PORT", str(server.port))
    secret = tmp_path / "password"
    secret.write_text(server.password)
    secret.chmod(0o600)
    return (
        f"{{kind: {server.kind}, host: {{env: TEST_DB_HOST}}, port: {{env: TEST_DB_PORT}}, database: {server.database},"
        f" user: {server.user}, password: {{file: {secret}}}, tls: {{mode: off}}}}"
    )


def test_the_same_silo_in_every_database_gives_the_same_table(server, tmp_path, by_reference):
    """SQLite's table is the measure: schema, rows, counts and quarantine are equal to it."""
    legacy = tmp_path / "lite" / "legacy"
    legacy.mkdir(parents=True)
    with closing(sqlite3.connect(legacy / "pos.db")) as connection:
        connection.executescript(";".join(script("sqlite")))
    expected = unified(tmp_path / "lite", "{kind: sqlite, path: legacy/pos.db}")
    server.run(*script(server.kind))
    table, counts, refused = unified(tmp_path / "server", by_reference)
    assert table.schema.equals(expected[0].schema)
    assert table.equals(expected[0])
    assert counts == expected[1]
    assert [each[0::2] for each in refused] == [each[0::2] for each in expected[2]]
    assert table.num_rows == 444


def test_f_49_a_feed_without_a_lag_is_refused_by_the_declaration(server, tmp_path, by_reference):
    """The same cursor that is safe in SQLite, where writers wait for each other, is not safe here."""
    text = INTEGRATION.replace("column: sold_at, key: line_id, lag_s: 60", "column: line_id, key: line_id")
    with pytest.raises(DeclarationError, match="lag_s above 0") as caught:
        unified(tmp_path / "server", by_reference, text=text)
    assert "integration.yaml:5" in str(caught.value)
