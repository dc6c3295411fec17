"""A small workspace to be spoiled in one place at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import DEFAULT, load_document
from brownfield.integration.integration import IntegrationDeclaration
from brownfield.integration.reader import Reader, each_error

CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: next-items
version: 1.0.0
status: active
schema:
  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true}
      - {name: product_id, logicalType: integer, required: true}
  - name: products
    logicalType: object
    properties:
      - {name: product_id, logicalType: integer, primaryKey: true}
      - {name: department, logicalType: string}
  - name: lines
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true}
      - {name: department, logicalType: string}
  - name: request
    logicalType: object
    properties:
      - {name: store_id, logicalType: integer, required: true}
  - name: response
    logicalType: object
    properties:
      - {name: score, logicalType: number, required: true, logicalTypeOptions: {minimum: 0, maximum: 1}}
"""
WORKSPACE = """\
workspace: shop
connections:
  pos: {kind: sqlite, path: legacy/pos.db}
  drop: {kind: folder, path: legacy/drop}
"""
INTEGRATION = """\
integration: next-items
purpose: Suggest the next items.
owner: merchandising
contract: contract.odcs.yaml
sources:
  sales: {feed: true, connection: pos, table: sales, cursor: {column: line_id, key: line_id}}
  products:
    lookup: product_id
    chain: [{connection: drop, path: P.DAT, format: copybook, layout: p.cpy}]
unified:
  lines:
    from: sales
    join: [{source: products, on: product_id, take: [department]}]
fallback:
  deadline_ms: 50
  chain: [{table: popular.csv}, {constant: {score: 0.5}}]
doors: {http: {}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace without a mistake."""
    (tmp_path / "brownfield.yaml").write_text(WORKSPACE)
    (tmp_path / "legacy" / "drop").mkdir(parents=True)
    (tmp_path / "legacy" / "pos.db").touch()
    add_integration(tmp_path, "next-items")
    return tmp_path


@pytest.fixture
def add(workspace: Path) -> Callable[[str], Path]:
    """Lays out one more integration of that name and returns its folder."""
    return lambda name: add_integration(workspace, name)


@pytest.fixture
def mistakes() -> Callable[..., list[str]]:
    """Reads keys of ``integration.yaml`` and tells every mistake."""

    def read(text: str, *, head: str = "integration: x\ncontract: c.yaml\n") -> list[str]:
        try:
            Reader(load_document(head + text, "i.yaml"), DEFAULT).read(IntegrationDeclaration)
        except DeclarationError as error:
            return [str(each) for each in each_error(error)]
        return []

    return read


@pytest.fixture
def declared() -> Callable[[str], IntegrationDeclaration]:
    """Reads keys of ``integration.yaml`` that hold no mistake."""

    def read(text: str) -> IntegrationDeclaration:
        document = load_document("integration: x\ncontract: c.yaml\n" + text, "i.yaml")
        return Reader(document, DEFAULT).read(IntegrationDeclaration)

    return read


def add_integration(folder: Path, name: str) -> Path:
    """Lay out one integration and return its folder."""
    home = folder / "integrations" / name
    home.mkdir(parents=True)
    (home / "integration.yaml").write_text(INTEGRATION.replace("next-items", name))
    (home / "contract.odcs.yaml").write_text(CONTRACT)
    (home / "popular.csv").write_text("store_id,score\n1,0.25\n")
    (home / "p.cpy").write_text("       01 P.\n")
    return home
