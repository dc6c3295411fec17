"""A small silo: a till whose sales are the feed, products to look up, and one unified table of lines."""

import sqlite3
from contextlib import closing
from pathlib import Path

WORKSPACE = "workspace: shop\nconnections:\n  pos: {kind: sqlite, path: pos.db}\n  drop: {kind: folder, path: drop}\n"
_TABLES = """  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: product_id, logicalType: integer, required: true, relationships: [{to: products.product_id}]}
SALES
  - name: products
    logicalType: object
    properties:
      - {name: product_id, logicalType: integer, primaryKey: true, required: true}
      - {name: kind, logicalType: string}
  - name: lines
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
LINES
      - {name: kind, logicalType: string}
"""


def head(request: str = "store_id", identifier: str = "reco") -> str:
    """Give the begin of a contract: a request of one whole number, a response of items."""
    return f"""
apiVersion: v3.2.0
kind: DataContract
id: {identifier}
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties: [{{name: {request}, logicalType: integer, required: true}}]
  - name: response
    logicalType: object
    properties: [{{name: items, logicalType: array, required: true, items: {{logicalType: string}}}}]
"""


def contract(sales: str, lines: str = "") -> str:
    """Give the contract, with what a sale and a line of the unified table have of their own, one field a line."""
    own = {"SALES": sales, "LINES": lines}
    parts = []
    for line in (head() + _TABLES).split("\n"):
        parts += [f"      - {field}" for field in own[line].split("\n") if field] if line in own else [line]
    return "\n".join(parts)


def declare(folder: Path, workspace: str, integration: str, contract: str) -> None:
    """Write the declarations of the shop, or write them again."""
    home = folder / "integrations/reco"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "brownfield.yaml").write_text(workspace)
    (home / "integration.yaml").write_text(integration)
    (home / "contract.odcs.yaml").write_text(contract)


def fill(folder: Path, products: str, columns: tuple[str, ...], sales: list[tuple] | None = None) -> None:
    """Make the till, with these columns beside the number of the line, and the file of products."""
    (folder / "drop").mkdir()
    (folder / "drop/products.csv").write_text(f"product_id,kind\n{products}")
    with closing(sqlite3.connect(folder / "pos.db")) as database, database:
        database.execute(f"CREATE TABLE sales (line_id INTEGER PRIMARY KEY, {', '.join(columns)})")
        marks = ", ".join("?" * (len(columns) + 1))
        database.executemany(f"INSERT INTO sales VALUES ({marks})", sales or [])  # noqa: S608 (question marks)
