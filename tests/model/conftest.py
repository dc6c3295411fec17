"""Small models made on the spot, and a bundle of one of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from brownfield.contract import Contract, compile_contract
from brownfield.data.features import Features, learn, parse_features
from brownfield.model import Golden, write_bundle

WEIGHTS = np.array([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]], dtype=np.float32)


def make_model(**changes: Any) -> onnx.ModelProto:
    """``y = x @ w`` over batches named ``n``; keywords replace parts of the graph or model."""
    parts: dict[str, Any] = {
        "nodes": [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "inputs": [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])],
        "outputs": [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        "weights": [numpy_helper.from_array(WEIGHTS, "w")],
        "opsets": [helper.make_opsetid("", 17)],
        "functions": [],
        "ir_version": 9,
    } | changes
    graph = helper.make_graph(parts["nodes"], "g", parts["inputs"], parts["outputs"], parts["weights"])
    return helper.make_model(
        graph, opset_imports=parts["opsets"], functions=parts["functions"], ir_version=parts["ir_version"]
    )


@pytest.fixture(scope="session")
def contract() -> Contract:
    items = {"logicalType": "array", "items": {"logicalType": "string"}}
    sides = [
        {"name": "request", "properties": [{"name": "basket", "required": True, **items}]},
        {"name": "response", "properties": [{"name": "items", "required": True, **items}]},
    ]
    head = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "till", "version": "1.0.0", "status": "active"}
    return compile_contract({**head, "schema": sides})


@pytest.fixture(scope="session")
def make_features(contract: Contract) -> Callable[..., Features]:
    """Features of the model above; ``labels`` of its output and ``known`` items of its input can be changed."""

    def make(labels: list[str] | None = None, known: list[str] | None = None, tensor: str = "x") -> Features:
        document = {
            "inputs": [
                {"field": "basket", "kind": "multi_hot", "tensor": tensor, "vocabulary": known or ["a", "b", "c"]}
            ],
            "outputs": [{"field": "items", "kind": "top_k", "tensor": "y", "k": 1, "labels": labels or ["d", "e"]}],
        }
        return learn(parse_features(document, contract.schema("request"), contract.schema("response")))

    return make


@pytest.fixture
def bundle_folder(tmp_path: Path, contract: Contract, make_features: Callable[..., Features]) -> Path:
    inputs = np.eye(3, dtype=np.float32)
    golden = Golden({"x": inputs}, {"y": inputs @ WEIGHTS})
    write_bundle(
        tmp_path / "bundle",
        name="till-model",
        version="1",
        model=make_model().SerializeToString(),
        features=make_features(),
        contract=contract,
        golden=golden,
        metrics={"recall_at_10": 0.179},
        provenance={"seed": 7},
    )
    return tmp_path / "bundle"


@pytest.fixture(scope="session")
def model_of() -> Callable[..., bytes]:
    """Bytes of the model above with parts replaced."""
    return lambda **changes: make_model(**changes).SerializeToString()
