"""One silo, three databases: the same declaration but for the connection gives the same table, row for row."""

import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from brownfield.data.pipeline import open_tables, run_pipeline
from brownfield.errors import DeclarationError, SourceChanged
from brownfield.integration import load_workspace
from brownfield.store import open_store
from brownfield.workspace.ddl import owners_ddl
from harness.shop import contract, declare

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
CONTRACT = contract(
    """
{name: quantity, logicalType: integer, required: true, logicalTypeOptions: {exclusiveMinimum: 0}}
{name: price, logicalType: number}
{name: sold_at, logicalType: timestamp, required: true, logicalTypeOptions: {defaultTimezone: Europe/Berlin}}
{name: day, logicalType: date}
{name: card, logicalType: string, classification: pii}
{name: online, logicalType: boolean}
""",
    """
{name: product_id, logicalType: integer, required: true}
{name: quantity, logicalType: integer, required: true}
{name: price, logicalType: number}
{name: sold_at, logicalType: timestamp, required: true}
{name: day, logicalType: date}
{name: card, logicalType: string}
{name: online, logicalType: boolean}
""",
)
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
    """Run the pipeline over a silo, or on in it: the table, the counts, and what is in quarantine."""
    connections = f"workspace: shop\nconnections:\n  pos: {connection}\n"
    declare(folder, connections, integration.get("text", INTEGRATION), integration.get("contract", CONTRACT))
    workspace = load_workspace(folder)
    with open_store(folder / "var" / "store.db") as store:
        spec = workspace.integrations["reco"]
        report = run_pipeline(spec, workspace.connections, store, folder / "var" / "data")
        refused = sorted((each.source, each.position, each.code) for each in store.quarantine.select("reco"))
    with closing(open_tables(folder / "var" / "data")) as tables:
        table = tables.sql("SELECT * FROM lines ORDER BY line_id").to_arrow_table()
    counts = {name: (source.rows_in, source.accepted, source.by_code) for name, source in report.sources.items()}
    return table, counts, refused


DRIVERS = {"postgres": ("postgresql", "PostgreSQL Unicode"), "mysql": ("mysql", "MariaDB Unicode")}


@pytest.fixture(params=["native", "odbc"])
def by_reference(request, server, tmp_path, monkeypatch):
    """Declare the server, its address and secrets by reference: with its own driver, and behind ODBC."""
    monkeypatch.setenv("TEST_DB_HOST", server.host)
    monkeypatch.setenv("TEST_DB_PORT", str(server.port))
    secret = tmp_path / "password"
    secret.write_text(server.password)
    secret.chmod(0o600)
    if request.param == "odbc":
        dialect, driver = DRIVERS[server.kind]
        where = f"Driver={{{driver}}};Server={server.host};Port={server.port};Database={server.database}"
        monkeypatch.setenv("TEST_DB_ODBC", where)
        return (
            f"{{kind: odbc, dialect: {dialect}, connection_string: {{env: TEST_DB_ODBC}}, user: {server.user},"
            f" password: {{file: {secret}}}}}"
        )
    return (
        f"{{kind: {server.kind}, host: {{env: TEST_DB_HOST}}, port: {{env: TEST_DB_PORT}}, database: {server.database},"
        f" user: {server.user}, password: {{file: {secret}}}, tls: {{mode: off}}}}"
    )


def test_i4_f_52_the_same_silo_in_every_database_gives_the_same_table(server, tmp_path, by_reference):
    """SQLite's table is the measure: schema, rows, counts and quarantine are equal to it."""
    legacy = tmp_path / "lite" / "legacy"
    legacy.mkdir(parents=True)
    with closing(sqlite3.connect(legacy / "pos.db")) as connection:
        connection.executescript(";".join(script("sqlite")))
        before = list(connection.iterdump())
        content = (legacy / "pos.db").read_bytes()
    expected = unified(tmp_path / "lite", "{kind: sqlite, path: legacy/pos.db}")
    with closing(sqlite3.connect(legacy / "pos.db")) as connection:
        assert list(connection.iterdump()) == before
    assert (legacy / "pos.db").read_bytes() == content
    server.run(*script(server.kind))
    before = server.dump()
    table, counts, refused = unified(tmp_path / "server", by_reference)
    assert server.dump() == before, "I4, F-52: the legacy database is the same to the last bit"
    assert b"c499" in before
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


NATIVE = pytest.mark.parametrize("by_reference", ["native"], indirect=True)
ALTERED = {
    "dropped": ("DROP COLUMN card", "card", "no such field any more"),
    "renamed": ("RENAME COLUMN card TO holder", "card", "of its type: holder"),
    "widened": ("{set} card {type} char(12)", "card", r"char(acter)?\(12\)"),
    "retyped": ("{set} quantity {type} bigint", "quantity", "bigint"),
    "required": ("{required}", "day", "date NOT NULL"),
}


@pytest.mark.parametrize("change", ALTERED, ids=[f"F-46-{name}" for name in ALTERED])
@NATIVE
def test_f_46_a_changed_column_stops_before_the_first_row(server, tmp_path, by_reference, change):
    """The next run names the column, what it was and what it is; nothing of it is committed."""
    server.run(*script(server.kind))
    first = unified(tmp_path / "server", by_reference)
    statement, column, now = ALTERED[change]
    postgres = server.kind == "postgres"
    statement = statement.format(
        set="ALTER COLUMN" if postgres else "MODIFY COLUMN",
        type="TYPE" if postgres else "",
        required="ALTER COLUMN day SET NOT NULL" if postgres else "MODIFY COLUMN day date NOT NULL",
    )
    server.run("DELETE FROM sales WHERE day IS NULL", f"ALTER TABLE sales {statement}")
    with pytest.raises(SourceChanged) as caught:
        unified(tmp_path / "server", by_reference)
    assert caught.value.path == column
    assert "as in the run before" in caught.value.expected
    assert re.search(now, caught.value.got)
    with closing(open_tables(tmp_path / "server" / "var" / "data")) as tables:
        assert tables.sql("SELECT * FROM lines ORDER BY line_id").to_arrow_table().equals(first[0])


@NATIVE
def test_f_46_columns_in_another_order_and_new_ones_change_nothing(server, tmp_path, by_reference):
    """F-46: columns are read by name, so a new one, also between the others, is passed over."""
    server.run(*script(server.kind))
    unified(tmp_path / "server", by_reference)
    server.run("ALTER TABLE sales ADD COLUMN more integer" + (" FIRST" if server.kind == "mysql" else ""))
    server.run("INSERT INTO products VALUES (99, 'late')")
    table, counts, _ = unified(tmp_path / "server", by_reference)
    assert counts["sales"][0] == 0
    assert table.num_rows == 444


FOLLOWED = INTEGRATION.replace(
    "cursor: {column: sold_at, key: line_id, lag_s: 60}",
    "changes: {table: sales_change, key: line_id, deletes: records}",
)
CHANGES_CONTRACT = re.sub(
    r"(name: line_id, logicalType: integer), primaryKey: true(, required: true})",
    r"\1\2\n      - {name: op, logicalType: string}",
    CONTRACT,
)


@NATIVE
def test_f_51_a_followed_table_gives_its_changes_run_after_run(server, tmp_path, by_reference):
    """F-51: the printed DDL, run by the owner, feeds the unified table with changes and tombstones, each once."""
    drop = ["DROP TABLE IF EXISTS sales_change"]
    server.run(*drop, *(["DROP FUNCTION IF EXISTS sales_change_note CASCADE"] if server.kind == "postgres" else []))
    server.run(*(each for each in script(server.kind) if not each.startswith("INSERT INTO sales")))
    where = tmp_path / "server"
    with pytest.raises(DeclarationError, match="sales_change"):
        unified(where, by_reference, text=FOLLOWED, contract=CHANGES_CONTRACT)
    text = owners_ddl(where, "reco.sales")
    with closing(server.connect()) as owner:
        cursor = owner.cursor()
        for statement in [text] if server.kind == "postgres" else text.split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        owner.commit()
    server.run(*(each for each in script(server.kind) if each.startswith("INSERT INTO sales")))
    server.run("UPDATE sales SET quantity = 5 WHERE line_id = 2", "DELETE FROM sales WHERE line_id = 3")
    table, counts, _ = unified(where, by_reference, text=FOLLOWED, contract=CHANGES_CONTRACT)
    rows = table.select(["line_id", "op"]).to_pylist()
    assert counts["sales"][0] == 502 + 2
    assert sorted(row["op"] for row in rows if row["line_id"] == 2) == ["c", "u"]
    assert sorted(row["op"] for row in rows if row["line_id"] == 3) == ["c", "d"]
    again, counts, _ = unified(where, by_reference, text=FOLLOWED, contract=CHANGES_CONTRACT)
    assert (counts["sales"][0], again.num_rows) == (0, table.num_rows)


@NATIVE
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("{slot: brownfield}", "until the legacy disk is full"),
        ("{key: line_id}", "the key table"),
        ("{table: sales_change}", "Name the field that names a row"),
    ],
    ids=["F-51-slot", "no-table", "no-key"],
)
def test_f_51_a_replication_slot_is_refused_with_the_reason(tmp_path, by_reference, changes, said):
    """F-51: a slot, or a change table that is not named, is an error of the declaration, with its line."""
    text = INTEGRATION.replace("cursor: {column: sold_at, key: line_id, lag_s: 60}", f"changes: {changes}")
    with pytest.raises(DeclarationError, match=said) as caught:
        unified(tmp_path / "server", by_reference, text=text)
    assert "integration.yaml:5" in str(caught.value)
