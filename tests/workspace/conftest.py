"""A small workspace with one table of a legacy system."""

import sqlite3
from contextlib import closing

import pytest

from harness.shop import head

CONTRACT = (
    head()
    + """  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: price, logicalType: number, required: true, logicalTypeOptions: {maximum: 10}}
  - name: lines
    logicalType: object
    properties: [{name: line_id, logicalType: integer, required: true}]
"""
)
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources: {sales: {feed: true, connection: pos, table: sales, cursor: {column: line_id, key: line_id}}}
unified: {lines: {from: sales}}
fallback: {chain: [{constant: {items: []}}]}
"""


@pytest.fixture
def till(tmp_path):
    """A till with three lines, two of them too dear for the contract; nothing was read yet."""
    folder = tmp_path / "integrations/reco"
    folder.mkdir(parents=True)
    (tmp_path / "brownfield.yaml").write_text("workspace: shop\nconnections: {pos: {kind: sqlite, path: pos.db}}\n")
    (folder / "integration.yaml").write_text(INTEGRATION)
    (folder / "contract.odcs.yaml").write_text(CONTRACT)
    with closing(sqlite3.connect(tmp_path / "pos.db")) as database, database:
        database.execute("CREATE TABLE sales (line_id INTEGER PRIMARY KEY, price)")
        database.executemany("INSERT INTO sales VALUES (?, ?)", [(1, 5), (2, 50), (3, 500)])
    return tmp_path
