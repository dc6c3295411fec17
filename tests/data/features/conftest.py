"""A till's contract, and the pieces of features files that the tests of this room share."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from brownfield.contract import Contract, compile_contract
from brownfield.data.features import Features, learn, parse_features

INTEGER_LIST = {"logicalType": "array", "items": {"logicalType": "integer"}}
TEXT_LIST = {"logicalType": "array", "items": {"logicalType": "string"}}
NUMBER_LIST = {"logicalType": "array", "items": {"logicalType": "number"}}


def till_contract() -> Contract:
    """One field of every kind on both sides."""
    request: list[dict[str, Any]] = [
        {"name": "store_id", "logicalType": "integer", "required": True},
        {"name": "items", "required": True, **TEXT_LIST},
        {"name": "history", **INTEGER_LIST},
        {"name": "amount", "logicalType": "number"},
        {"name": "price", "logicalType": "number", "required": True, "logicalTypeOptions": {"minimum": 0}},
        {"name": "channel", "logicalType": "string"},
        {"name": "member", "logicalType": "boolean", "required": True},
        {"name": "day", "logicalType": "date"},
        {"name": "note", "logicalType": "string", "required": True},
    ]
    response: list[dict[str, Any]] = [
        {"name": "items", **TEXT_LIST},
        {"name": "scores", **NUMBER_LIST},
        {"name": "label", "logicalType": "string"},
        {"name": "score", "logicalType": "number"},
        {"name": "accept", "logicalType": "boolean"},
    ]
    return compile_contract(
        {
            "apiVersion": "v3.2.0",
            "kind": "DataContract",
            "id": "till",
            "version": "1.0.0",
            "status": "active",
            "schema": [
                {"name": "request", "logicalType": "object", "properties": request},
                {"name": "response", "logicalType": "object", "properties": response},
            ],
        }
    )


@pytest.fixture(scope="session")
def contract() -> Contract:
    return till_contract()


@pytest.fixture(scope="session")
def build(contract: Contract) -> Callable[..., Features]:
    """Features from input entries, output entries and training columns."""

    def make(
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> Features:
        document = {"inputs": inputs, "outputs": outputs or [{"field": "score", "kind": "scalar", "tensor": "y"}]}
        spec = parse_features(document, contract.schema("request"), contract.schema("response"))
        return learn(spec, [] if columns is None else [columns])

    return make
