"""Contracts that this room accepts are contracts of the standard."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema.validators import validator_for

from brownfield.contract import odcs, properties, quality
from brownfield.integration import load_document

standard = pytest.importorskip("open_data_contract_standard", reason="the standard's own schema (a dev dependency)")

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "contract.md"


@pytest.fixture(scope="module")
def odcs_schema():
    """Give the JSON Schema of ODCS 3.2."""
    return json.loads(files(standard).joinpath("schema.json").read_text())


def test_our_contracts_are_valid_odcs(odcs_schema, flagship_document) -> None:
    """The contract in the reference page and the flagship contract keep the standard's own JSON Schema."""
    page = load_document(re.search(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[1], PAGE.name).data
    for document in (flagship_document, page):
        validator_for(odcs_schema)(odcs_schema).validate(document)


def test_the_keys_of_the_standard_are_known(odcs_schema) -> None:
    """Every key that the standard has in the parts that we interpret is known here, and no other."""
    definitions = odcs_schema["$defs"]

    def keys(*names):
        return {key for name in names for key in definitions[name]["properties"]}

    operators = {key for each in definitions["DataQualityOperators"]["oneOf"] for key in each["properties"]}
    checks = keys("DataQuality", "DataQualityLibrary", "DataQualitySql", "DataQualityCustom")
    assert set(odcs_schema["properties"]) == odcs.DOCUMENT_KEYS
    assert keys("SchemaElement", "SchemaObject") == odcs.SCHEMA_KEYS
    assert keys("SchemaElement", "SchemaBaseProperty") | {"items"} == properties.PROPERTY_KEYS
    assert checks | operators == quality.QUALITY_KEYS
