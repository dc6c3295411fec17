"""Contracts that the tests of this room share."""

from typing import Any

import pytest

from brownfield.contract import Contract, Schema, compile_contract


def ours(**properties) -> list[dict[str, Any]]:
    """Vendor properties as they stand in a contract."""
    return [{"property": key, "value": value, "vendor": "brownfield"} for key, value in properties.items()]


def rule(name: str, text: str, **more) -> dict[str, Any]:
    """A record rule as it stands in a contract."""
    implementation = {"rule": text, **more}
    return {"id": name, "type": "custom", "engine": "brownfield", "implementation": implementation}


def document(*schemas: dict[str, Any]) -> dict[str, Any]:
    """A contract of these objects."""
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "till",
        "version": "1.2.0",
        "status": "active",
        "schema": list(schemas),
    }


@pytest.fixture
def compile_fields():
    """Compile properties (and more keys of the object) to the schema ``request``."""

    def build(*properties, **more) -> Schema:
        return compile_contract(document({"name": "request", "properties": list(properties), **more})).schema("request")

    return build


@pytest.fixture
def make_document():
    """Give the builders of documents: the document, vendor properties, a record rule."""
    return document, ours, rule


def flagship() -> dict[str, Any]:
    """A contract as a grocery chain would declare it, its dirt expressed as rules."""
    return document(
        {
            "name": "transactions",
            "logicalType": "object",
            "properties": [
                {"name": "line_id", "logicalType": "integer", "primaryKey": True},
                {"name": "store_id", "logicalType": "integer", "required": True, "logicalTypeOptions": {"minimum": 1}},
                {
                    "name": "product_id",
                    "logicalType": "integer",
                    "required": True,
                    "relationships": [{"to": "products.product_id"}],
                },
                {
                    "name": "quantity",
                    "logicalType": "integer",
                    "required": True,
                    "customProperties": ours(unit="piece"),
                },
                {"name": "amount", "logicalType": "number", "required": True, "customProperties": ours(unit="USD")},
                {"name": "department", "logicalType": "string", "customProperties": ours(sentinels=["N/A"])},
                {
                    "name": "sold_at",
                    "logicalType": "timestamp",
                    "required": True,
                    "logicalTypeOptions": {"defaultTimezone": "America/New_York"},
                },
            ],
            "quality": [
                rule("quantity-positive", "quantity > 0"),
                rule("fuel-quantity", "department != 'FUEL' or quantity <= 1000", onNull="pass"),
                {"id": "some-rows", "type": "library", "metric": "rowCount", "mustBeGreaterThan": 0},
            ],
        },
        {
            "name": "products",
            "logicalType": "object",
            "properties": [
                {"name": "product_id", "logicalType": "integer", "primaryKey": True},
                {"name": "department", "logicalType": "string", "required": True},
            ],
        },
        {
            "name": "request",
            "logicalType": "object",
            "properties": [
                {"name": "store_id", "logicalType": "integer", "required": True, "logicalTypeOptions": {"minimum": 1}},
                {
                    "name": "items",
                    "logicalType": "array",
                    "required": True,
                    "logicalTypeOptions": {"maxItems": 200},
                    "items": {"logicalType": "string", "logicalTypeOptions": {"minLength": 1, "maxLength": 64}},
                },
                {
                    "name": "channel",
                    "logicalType": "string",
                    "enum": [{"value": "till"}, {"value": "web"}],
                    "customProperties": ours(nullPolicy="impute", impute="till"),
                },
            ],
        },
        {
            "name": "response",
            "logicalType": "object",
            "properties": [
                {
                    "name": "items",
                    "logicalType": "array",
                    "required": True,
                    "logicalTypeOptions": {"maxItems": 10},
                    "items": {"logicalType": "string"},
                },
                {
                    "name": "scores",
                    "logicalType": "array",
                    "required": True,
                    "logicalTypeOptions": {"maxItems": 10},
                    "items": {
                        "logicalType": "number",
                        "logicalTypeOptions": {"format": "f32", "minimum": 0, "maximum": 1},
                    },
                },
            ],
            "quality": [rule("score-per-item", "length(items) == length(scores)")],
        },
    )


@pytest.fixture
def flagship_document() -> dict[str, Any]:
    """Give the flagship contract as plain values."""
    return flagship()


@pytest.fixture
def contract() -> Contract:
    """Give the flagship contract, compiled."""
    return compile_contract(flagship())
