"""A contract, an integration and its handler, without processes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from brownfield.contract import Contract, compile_contract
from brownfield.serving.gateway import Dataplane, Handler, Served, Snapshot, Version
from brownfield.serving.workers.inline import InlinePool


def contract(request: list[dict[str, Any]], response: list[dict[str, Any]], *, batched: bool = True) -> Contract:
    """Compile a contract from the properties of its request and response."""
    flag = [{"property": "batched", "value": batched, "vendor": "brownfield"}]
    return compile_contract(
        {
            "apiVersion": "v3.2.0",
            "kind": "DataContract",
            "id": "till",
            "version": "1.0.0",
            "status": "active",
            "schema": [
                {"name": "request", "logicalType": "object", "properties": request, "customProperties": flag},
                {"name": "response", "logicalType": "object", "properties": response, "customProperties": flag},
            ],
        }
    )


def tensor(name: str, dtype: str, shape: list[int | None]) -> dict[str, Any]:
    """Property of a tensor field."""
    value = {"dtype": dtype, "shape": shape}
    return {
        "name": name,
        "required": True,
        "customProperties": [{"property": "tensor", "value": value, "vendor": "brownfield"}],
    }


RETAIL_REQUEST = [
    {"name": "store_id", "logicalType": "integer", "required": True, "logicalTypeOptions": {"minimum": 1}},
    {
        "name": "items",
        "logicalType": "array",
        "required": True,
        "logicalTypeOptions": {"minItems": 0, "maxItems": 20},
        "items": {"logicalType": "string", "logicalTypeOptions": {"maxLength": 64}},
    },
]
RETAIL_RESPONSE = [
    {"name": "items", "logicalType": "array", "required": True, "items": {"logicalType": "string"}},
    {
        "name": "scores",
        "logicalType": "array",
        "items": {"logicalType": "number", "logicalTypeOptions": {"minimum": 0, "maximum": 1}},
    },
]


class RetailFeatures:
    """Features of the fake recommender: the number of items in, the first item back out."""

    def encode(self, columns: Any, rows: int) -> dict[str, Any]:
        """Count the items of each record."""
        return {"x": np.array([len(items) for items in columns["items"]], dtype=np.float32).reshape(rows, 1)}

    def decode(self, tensors: Any, columns: Any, rows: int) -> dict[str, Any]:
        """Score each record's own items by the tensor ``y``."""
        scores = tensors["y"].reshape(rows, -1)
        return {
            "items": [list(items[:1]) for items in columns["items"]],
            "scores": [[float(score) for score in row[:1]] for row in scores],
        }


def halve(tensors: Any) -> dict[str, Any]:
    """A model that answers within the contract."""
    return {"y": 1 / (1 + tensors["x"])}


@pytest.fixture
def retail() -> Contract:
    return contract(RETAIL_REQUEST, RETAIL_RESPONSE)


@pytest.fixture
def pool() -> InlinePool:
    return InlinePool(halve)


@pytest.fixture
def served(retail: Contract, pool: InlinePool) -> Served:
    """The recommender with a model, a constant fallback and a short deadline."""
    from brownfield.serving.fallback.constant import Constant

    return Served(
        name="till",
        contract=retail,
        deadline_ms=200,
        champion=Version("3", RetailFeatures(), pool),
        fallbacks=(Constant({"items": ["BREAD"]}),),
        purpose="Suggest the next items at the till.",
    )


@pytest.fixture
def make_handler() -> Callable[..., Handler]:
    def make(*served: Served, **options: Any) -> Handler:
        return Handler(Dataplane(Snapshot({each.name: each for each in served})), **options)

    return make


@pytest.fixture
def handler(served: Served, make_handler: Callable[..., Handler]) -> Handler:
    return make_handler(served)
