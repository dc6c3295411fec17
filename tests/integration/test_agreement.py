"""Declaration against contract: sources, keys, joins and fallback answers."""

from collections.abc import Callable
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


@pytest.fixture
def joined(workspace: Path) -> Callable[[str, str, str], list[str]]:
    """Joins a lookup to requests, by a key of these kinds, and tells every mistake."""
    places = {
        "table": "[{connection: pos, table: products}, {snapshot: last_good, max_age_h: 24}]",
        "service": "[{connection: crm, endpoint: {path: '/p/{sku}'}, format: json}]",
    }

    def load(place: str, asked: str, known: str) -> list[str]:
        crm = "  crm: {kind: http, base_url: {env: CRM_URL}}\n"
        (workspace / "brownfield.yaml").write_text((workspace / "brownfield.yaml").read_text() + crm)
        file = workspace / "integrations/next-items/contract.odcs.yaml"
        old = "      - {name: store_id, logicalType: integer, required: true}\n"
        key = f"      - {{name: sku, logicalType: {asked}, required: true}}\n"
        lookup = (
            "  - name: items\n    logicalType: object\n    properties:\n"
            f"      - {{name: sku, logicalType: {known}, required: true}}\n"
            "      - {name: price, logicalType: number}\n"
        )
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, old + key) + lookup)
        file = workspace / "integrations/next-items/integration.yaml"
        text = file.read_text().replace("unified:", f"  items: {{lookup: sku, chain: {places[place]}}}\nunified:")
        file.write_text(text + "enrich: [{source: items, on: sku, take: [price]}]\n")
        try:
            load_workspace(workspace)
        except DeclarationError as refused:
            return [str(each) for each in each_error(refused)]
        return []

    return load


@pytest.mark.parametrize(
    ("place", "asked", "known"),
    [
        ("table", "integer", "string"),
        ("table", "string", "integer"),
        ("table", "integer", "number"),
        ("table", "timestamp", "date"),
        ("table", "boolean", "integer"),
        ("service", "integer", "string"),
        ("service", "string", "date"),
    ],
)
def test_a_key_of_another_kind_is_never_found(
    joined: Callable[[str, str, str], list[str]], place: str, asked: str, known: str
) -> None:
    """What would be no match for every request is refused where the join names the key."""
    [told] = joined(place, asked, known)
    assert told.startswith("integrations/next-items/integration.yaml:")
    assert "enrich[0].on: expected sku of one kind in request and items" in told
    assert f"got {asked} in request, {known} in items" in told
    assert "declare both alike in contract.odcs.yaml" in told


@pytest.mark.parametrize(
    ("place", "asked", "known"),
    [
        *((place, kind, kind) for place in ("table", "service") for kind in ("integer", "string", "number", "date")),
        ("table", "string", "date"),
        ("service", "integer", "number"),
    ],
)
def test_a_key_that_is_found_is_no_mistake(
    joined: Callable[[str, str, str], list[str]], place: str, asked: str, known: str
) -> None:
    """Of one kind; a date in a table is found by its text, and what a service answers by its value."""
    assert joined(place, asked, known) == []


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
