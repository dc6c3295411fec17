"""A shop whose products are a lookup with a chain: a table, the last good copy, and what the test adds."""

import sqlite3
from contextlib import closing

from brownfield.data.pipeline import run_pipeline
from brownfield.integration import load_workspace
from brownfield.store import open_store
from harness.shop import head

WORKSPACE = """
workspace: shop
connections:
  pos: {kind: sqlite, path: legacy/pos.db}
  erp: {kind: sqlite, path: legacy/erp.db}
  host: {kind: folder, path: legacy/host}
"""
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  sales: {feed: true, connection: pos, table: sales, cursor: {column: line_id, key: line_id}}
  products:
    lookup: product_id
    failover: {failures: 2, window_s: 0.4, good_probes: 2, cool_down_s: 30}
    chain: [{connection: erp, table: products}, MORE]
unified:
  lines:
    from: sales
    join: [{source: products, on: product_id, take: [kind], exists: known}]
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = (
    head(request="product_id")
    + """  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: product_id, logicalType: integer, required: true}
  - name: products
    logicalType: object
    properties:
      - {name: product_id, logicalType: integer, primaryKey: true, required: true}
      - {name: kind, logicalType: string}
  - name: lines
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, required: true}
      - {name: product_id, logicalType: integer, required: true}
      - {name: kind, logicalType: string}
      - {name: known, logicalType: boolean}
"""
)
SNAPSHOT = "{snapshot: last_good, max_age_h: 24}"


def lay_out(folder, more=SNAPSHOT, products=20):
    """Make the workspace, with so many products and four sales of them."""
    for name in ("legacy/host", "integrations/reco"):
        (folder / name).mkdir(parents=True)
    (folder / "brownfield.yaml").write_text(WORKSPACE)
    (folder / "integrations/reco/integration.yaml").write_text(INTEGRATION.replace("MORE", more))
    (folder / "integrations/reco/contract.odcs.yaml").write_text(CONTRACT)
    with closing(sqlite3.connect(folder / "legacy/pos.db")) as database, database:
        database.execute("CREATE TABLE sales (line_id INTEGER PRIMARY KEY, product_id INTEGER)")
    with closing(sqlite3.connect(folder / "legacy/erp.db")) as database, database:
        database.execute("CREATE TABLE products (product_id INTEGER PRIMARY KEY, kind TEXT)")
        database.executemany("INSERT INTO products VALUES (?, ?)", [(i, f"kind {i}") for i in range(products)])
    sell(folder, (1, 1), (2, 2), (3, 3), (4, 999))
    return folder


def sell(folder, *lines):
    """Add sales to the feed."""
    with closing(sqlite3.connect(folder / "legacy/pos.db")) as database, database:
        database.executemany("INSERT INTO sales VALUES (?, ?)", lines)


def change(folder, *statements):
    """Change the products in their own system."""
    with closing(sqlite3.connect(folder / "legacy/erp.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def pull(folder, **options):
    """One run: its report."""
    workspace = load_workspace(folder)
    with open_store(folder / "var/brownfield.db") as store:
        return run_pipeline(
            workspace.integrations["reco"], workspace.connections, store, folder / "var/data/reco", **options
        )
