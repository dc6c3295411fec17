"""Look at an ONNX file with our own reader, before any engine does.

In: a path. Out: its Signature. The file is parsed as protocol buffers only: no weights are followed, nothing is run.
Refused, each by a rule of its own: other formats, foreign operators, weights outside the folder, bombs, and tensors
that the open inference protocol has no word for.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brownfield.model.files import read_plain
from brownfield.model.formats import looks_like
from brownfield.model.onnx_weights import V2_DTYPES, Weights
from brownfield.model.rules import refused, text
from brownfield.model.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

__all__ = ["inspect_onnx", "inspect_onnx_bytes"]

MAX_MODEL_BYTES = (1 << 31) - 1
MAX_NODES = 200_000
MAX_NESTING = 16
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that the engine brings itself."""
_CAST = "Cast it in the graph to one of these, for example to float32."
_OLDER = "Export the model for an operator set and a file version that are known here."
_PLAIN = "Export the model with plain tensors (for scikit-learn pipelines: `zipmap=False`)."


def inspect_onnx(path: Path) -> Signature:
    """Check the structure of an ONNX file and return what it takes and gives.

    Parameters
    ----------
    path
        The model; weights outside it must lie in the same folder.

    Returns
    -------
    Signature
        Inputs and outputs as the open inference protocol sees them.

    Raises
    ------
    BundleRefused
        ``rule`` names the check, see :data:`brownfield.model.RULES`.
    """
    return inspect_onnx_bytes(read_plain(path, limit_bytes=MAX_MODEL_BYTES), path.parent)


def inspect_onnx_bytes(data: bytes, folder: Path | None = None) -> Signature:
    """Check an ONNX model in memory; ``folder`` holds its external weights (``None``: it may have none)."""
    model = _parse(data)
    _check_head(model)
    walk = _Walk(model, folder)
    inputs = _tensors(model.graph.input, "input", {each.name for each in model.graph.initializer})
    if not inputs:
        raise refused(
            "onnx-structure", expected="a graph with inputs", got="one whose answer is the same for every request"
        )
    outputs = _tensors(model.graph.output, "output", set())
    return Signature(inputs, outputs, walk.opsets.get("", 0), walk.nodes, tuple(sorted(walk.weights.external_files)))


def _parse(data: bytes) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not data:
        raise refused("model-empty")
    other = looks_like(data)
    if other is not None:
        raise refused("model-format", expected="an ONNX model", got=other)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise refused(
            "model-format", expected="an ONNX model", got="bytes that are none, or not the whole of one"
        ) from error
    return model


def _check_head(model: "onnx.ModelProto") -> None:
    import onnx

    if not model.HasField("graph") or not model.graph.output:
        raise refused("onnx-structure", expected="a graph with outputs", next_step="Is this an ONNX model at all?")
    if model.training_info:
        raise refused("onnx-structure", expected="a model for inference", got="one that carries its training")
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        versions = f"file version 1 to {onnx.IR_VERSION}"
        raise refused("onnx-opset", expected=versions, got=str(model.ir_version), next_step=_OLDER)


def _tensors(values: "Iterable[onnx.ValueInfoProto]", side: str, defaults: set[str]) -> tuple[TensorSpec, ...]:
    specs = tuple(_tensor(value, side) for value in values if value.name not in defaults)
    names = Counter(spec.name for spec in specs)
    if "" in names or any(count > 1 for count in names.values()):
        raise refused("onnx-names")
    return specs


def _tensor(value: "onnx.ValueInfoProto", side: str) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    dtype = V2_DTYPES.get(value.type.tensor_type.elem_type) if kind == "tensor_type" else None
    if dtype is None:
        raise refused(
            f"onnx-{side}-type",
            path=ascii(value.name),
            expected="a tensor of booleans, integers, float16, float32, float64 or texts",
            got=_type_name(value.type, kind),
            next_step=_CAST if kind == "tensor_type" else _PLAIN,
        )
    if not value.type.tensor_type.HasField("shape"):
        if side == "input":
            raise refused("onnx-input-shape", path=ascii(value.name))
        return TensorSpec(text(value.name), dtype, None)
    dims = value.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in dims)
    if any(size is not None and size < 0 for size in shape):
        raise refused("onnx-input-shape", path=ascii(value.name), got=str(shape))
    return TensorSpec(text(value.name), dtype, shape, tuple(text(dim.dim_param) for dim in dims))


def _type_name(proto: "onnx.TypeProto", kind: str | None) -> str:
    from onnx import TensorProto

    if kind != "tensor_type":
        return (kind or "no type").removesuffix("_type").replace("_", " ")
    number = proto.tensor_type.elem_type
    known = number in TensorProto.DataType.values()
    return f"a tensor of {TensorProto.DataType.Name(number).lower()}" if known else f"a tensor of type {number}"


class _Walk:
    """One pass over all graphs of a model: counts, operators, weights."""

    def __init__(self, model: "onnx.ModelProto", folder: Path | None) -> None:
        self.nodes = 0
        self.weights = Weights(folder)
        self.opsets = _opsets(model.opset_import)
        self.functions = {(each.domain, each.name) for each in model.functions}
        _check_calls(model)
        self.graph(model.graph, self.opsets, 0)
        for function in model.functions:
            opsets = _opsets(function.opset_import) or self.opsets
            for default in function.attribute_proto:
                self.attribute(default, opsets, 1)
            self.each_node(function.node, {}, opsets, 1)

    def graph(self, graph: "onnx.GraphProto", opsets: dict[str, int], depth: int) -> None:
        """Check one graph and what is nested in it."""
        if depth > MAX_NESTING:
            raise refused("onnx-nesting", expected=f"up to {MAX_NESTING} levels")
        if graph.sparse_initializer:
            raise refused("onnx-structure", expected="dense weights", got="sparse ones")
        for tensor in graph.initializer:
            self.weights.check(tensor)
        self.each_node(graph.node, {tensor.name: tensor for tensor in graph.initializer}, opsets, depth)

    def each_node(
        self, nodes: "Iterable[onnx.NodeProto]", known: dict[str, Any], opsets: dict[str, int], depth: int
    ) -> None:
        """Check the nodes of a graph or a function; ``known`` are the tensors whose values stand in the file."""
        for node in nodes:
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise refused("onnx-nodes", expected=f"up to {MAX_NODES}")
            self.operator(node, opsets)
            for attribute in node.attribute:
                for tensor in self.attribute(attribute, opsets, depth):
                    if node.op_type == "Constant" and len(node.output) == 1:
                        known[node.output[0]] = tensor
            if node.op_type == "ConstantOfShape" and node.input and node.input[0] in known:
                self.weights.check_filled(node, known[node.input[0]])

    def attribute(
        self, attribute: "onnx.AttributeProto", opsets: dict[str, int], depth: int
    ) -> "tuple[onnx.TensorProto, ...]":
        """Check what an attribute of a node holds, or what a function's holds by default; its tensors."""
        tensors = (*((attribute.t,) if attribute.HasField("t") else ()), *attribute.tensors)
        for tensor in tensors:
            self.weights.check(tensor)
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise refused("onnx-structure", expected="dense constants", got="sparse ones")
        for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            self.graph(inner, opsets, depth + 1)
        return tensors

    def operator(self, node: "onnx.NodeProto", opsets: dict[str, int]) -> None:
        """Check that the engine brings the operator."""
        from onnx import defs

        domain, operator = "" if node.domain == "ai.onnx" else text(node.domain), text(node.op_type)
        if (node.domain, operator) in self.functions:
            return
        if domain not in DOMAINS:
            raise refused(
                "onnx-domain", expected=f"a domain of {sorted(DOMAINS)}", got=f"{domain!a} ({node.op_type!a})"
            )
        if domain not in opsets:
            raise refused("onnx-opset", expected=f"an operator set for the domain {domain!a}", got="none")
        if domain != "com.microsoft" and not defs.has(operator, max_inclusive_version=opsets[domain], domain=domain):
            raise refused("onnx-operator", got=f"{node.op_type!a} in operator set {opsets[domain]}")


def _opsets(imports: "Iterable[onnx.OperatorSetIdProto]") -> dict[str, int]:
    from onnx import defs

    newest = {"": defs.onnx_opset_version(), "ai.onnx.ml": defs.onnx_ml_opset_version()}
    opsets = {("" if each.domain == "ai.onnx" else text(each.domain)): each.version for each in imports}
    for domain, version in opsets.items():
        if version < 1 or version > newest.get(domain, version):
            known = f"1 to {newest.get(domain)}"
            raise refused("onnx-opset", path=domain or "ai.onnx", expected=known, got=str(version), next_step=_OLDER)
    return opsets


def _check_calls(model: "onnx.ModelProto") -> None:
    """Refuse functions that call themselves, directly or by others."""
    functions = {(each.domain, each.name): each for each in model.functions}
    calls = {
        key: {call for call in (*_called(each.node), *_called_by(each.attribute_proto)) if call in functions}
        for key, each in functions.items()
    }
    while calls:
        leaves = {key for key, called in calls.items() if not called}
        if not leaves:
            raise refused("onnx-nesting", got="a function that calls itself")
        calls = {key: called - leaves for key, called in calls.items() if key not in leaves}


def _called(nodes: "Iterable[onnx.NodeProto]") -> Iterator[tuple[str, str]]:
    for node in nodes:
        yield node.domain, node.op_type
        yield from _called_by(node.attribute)


def _called_by(attributes: "Iterable[onnx.AttributeProto]") -> Iterator[tuple[str, str]]:
    for attribute in attributes:
        for inner in (attribute.g, *attribute.graphs):
            yield from _called(inner.node)
