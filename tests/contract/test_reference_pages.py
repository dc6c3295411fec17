"""The reference pages say what the code does."""

import ast
import re
from pathlib import Path

import pytest

from brownfield.contract import rules
from brownfield.contract.properties import CUSTOM_FIELD, CUSTOM_SCHEMA, LOGICAL_TYPES, OPTION_KEYS
from brownfield.errors import RejectionCode

PAGES = Path(__file__).parents[2] / "docs" / "reference"


def test_every_rejection_code_is_documented_once() -> None:
    """The page lists exactly the codes of the closed list, by name."""
    found = re.findall(
        r"^\| (BF-[A-Z]+-\d{3}) \| ([A-Z_]+) \| \S.*\|$", (PAGES / "rejection-codes.md").read_text(), re.MULTILINE
    )
    assert found == [(code.value, code.name) for code in RejectionCode]


def test_every_key_of_a_contract_is_documented() -> None:
    """Vendor properties, logical types and their options all stand in the page."""
    page = (PAGES / "contract.md").read_text()
    words = {*CUSTOM_FIELD, *CUSTOM_SCHEMA, *LOGICAL_TYPES, *(key for keys in OPTION_KEYS.values() for key in keys)}
    missing = {word for word in words if f"`{word}`" not in page}
    assert missing <= {"distanceMetric", "embeddingModel", "embeddingModelVersion", "normalized"}


def test_the_codes_of_rules_are_those_of_the_page() -> None:
    """Each kind of rule appears in the page with the code that it reports."""
    page = (PAGES / "contract.md").read_text()
    kinds = [getattr(rules, name) for name in rules.__all__ if hasattr(getattr(rules, name), "code")]
    assert len(kinds) > 8
    assert all(kind.code.value in page for kind in kinds)


@pytest.mark.parametrize("block", range(2))
def test_the_examples_of_the_page_compile(block, compile_fields) -> None:
    """The contract in the page compiles, and so does its record rule."""
    from brownfield.contract import compile_contract
    from brownfield.integration import load_document

    text = re.findall(r"```yaml\n(.*?)```", (PAGES / "contract.md").read_text(), re.DOTALL)[block]
    data = load_document(text, "contract.md").data
    if block:
        fields = [{"name": "department", "logicalType": "string"}, {"name": "quantity", "logicalType": "integer"}]
        assert compile_fields(*fields, **data).record_rules[0].id == "pump-quantities"
    else:
        assert compile_contract(data).schema("transactions").set_rules


def test_no_module_evaluates_python() -> None:
    """B-75: nothing in this room calls eval, exec or compile on text."""
    for path in (PAGES.parents[1] / "src" / "brownfield" / "contract").glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not {call.id for call in calls if isinstance(call, ast.Name)} & {"eval", "exec", "compile", "__import__"}
