"""Declaration against contract: sources, keys, joins and fallback answers."""

from pathlib import Path

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import load_workspace
from brownfield.integration.reader import each_error


def spoiled(workspace: Path, name: str, old: str, new: str) -> list[str]:
    file = workspace / "integrations/next-items" / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(DeclarationError) as refused:
        load_workspace(workspace)
    return [str(error) for error in each_error(refused.value)]


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("lookup: product_id", "lookup: product", "sources.products.lookup: expected a field of products"),
        ("column: line_id", "column: line", "sources.sales.cursor.column"),
        ("key: line_id", "key: [line_id, day]", "sources.sales.cursor.key"),
        ("on: product_id", "on: line_id", "got line_id"),
        ("take: [department]", "take: [departement]", "Did you mean department?"),
        ("take: [department]", "take: [product_id]", "a name that is not taken, got product_id"),
        ("take: [department]", "exists: line_id", "a name that is not taken, got line_id"),
        ("  lines:", "  rows:", "a schema named rows"),
        ("constant: {score: 0.5}", "constant: {score: 1.5}", "rule score.range"),
        ("constant: {score: 0.5}", "constant: {scor: 0.5}", "rule"),
        ("constant: {score: 0.5}", "constant: {score: high}", "rule score.type"),
        ("constant: {score: 0.5}", "constant: {}", "rule score.required"),
    ],
)
def test_what_the_contract_does_not_have(workspace: Path, old: str, new: str, part: str) -> None:
    """Fields and answers that the contract does not know are refused at the key that names them."""
    found = spoiled(workspace, "integration.yaml", old, new)
    assert any(part in each for each in found)
    assert all(each.startswith("integrations/next-items/integration.yaml:") for each in found)


@pytest.mark.parametrize("schema", ["sales", "products", "lines", "request", "response"])
def test_every_part_has_its_schema(workspace: Path, schema: str) -> None:
    """Request, response, each source and each unified table have a schema in the contract."""
    found = spoiled(workspace, "contract.odcs.yaml", f"name: {schema}\n", f"name: other_{schema}\n")
    assert any(f"a schema named {schema} in contract.odcs.yaml" in each for each in found)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("score\n", "a column named like a request field"),
        ("store_id\n", "a column for the required field score"),
        ("store,score\n", "Did you mean"),
        ("store_id,score,score\n", "every column once"),
        ("", "a CSV file in UTF-8 with a header"),
        ('"store_id,score\n', "a CSV file in UTF-8 with a header"),
    ],
)
def test_columns_of_a_fallback_table(workspace: Path, header: str, part: str) -> None:
    """A table's columns are the key (request fields) and the answer (response fields)."""
    found = spoiled(workspace, "popular.csv", "store_id,score\n1,0.25\n", header)
    assert [part in each for each in found] == [True]
    assert found[0].startswith("integrations/next-items/popular.csv:1")


def test_a_table_saved_with_a_byte_order_mark(workspace: Path) -> None:
    """Spreadsheets write a byte order mark before the header; it is no part of the first name."""
    (workspace / "integrations/next-items/popular.csv").write_text("\ufeffstore_id,score\n1,0.5\n", encoding="utf-8")
    assert load_workspace(workspace).integrations
