"""Makes one model file in a process of its own: stand-alone, it needs numpy, onnx and onnxruntime, nothing of ours.

Started as ``python -I builder.py OPTIONS`` (JSON) by :mod:`brownfield.fit.build`; what the quantiser crashes, eats or
never ends is this process and not the search. Prints one JSON object: empty when the file is written (or ``layers``,
the most sensitive first), else the reason.
"""

import inspect
import json
import resource
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

_LEAST_OPSET = 13  # below it a scale by channel has no word, and the file made does not load
_PERCENTILE = 99.99
_STRIDE = 8
_RANKED_ROWS = 8


def main(argument: str) -> int:
    """Make the file that the options ask for."""
    options = json.loads(argument)
    warnings.simplefilter("ignore")
    limit_bytes = options["memory_mib"] << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    sys.stdout, answer = sys.stderr, sys.stdout  # the quantiser prints
    try:
        said = _rank(options) if options["job"] == "rank" else _build(options)
    except MemoryError:
        said = {"error": "the quantiser needs more memory than it may have"}
    except Exception as error:  # noqa: BLE001 (whatever a quantiser raises is one row of the table)
        said = {"error": f"{type(error).__name__}: {_first_line(error)}"}
    answer.write(json.dumps(said))
    return 0


def _build(options: dict[str, Any]) -> dict[str, Any]:
    prepared, target, recipe = _prepared(options), options["target"], options["recipe"]
    if recipe["kind"] == "optimised":
        prepared.replace(target)
    elif recipe["kind"] == "dynamic":
        _dynamic(prepared, target, recipe)
    else:
        _static(prepared, target, options)
    return {}


def _prepared(options: dict[str, Any]) -> Path:
    """Model file with constants folded, shapes inferred and a name for each node."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder = Path(options["work"])
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(_raised(options["model"], folder)), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(prepared)
    if all(node.name for node in model.graph.node):
        return prepared
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(model, prepared)
    return prepared


def _raised(model: str, folder: Path) -> Path:
    """Model file whose operator set can say what is to be written into it."""
    import onnx

    loaded = onnx.load(model)
    opset = next((each.version for each in loaded.opset_import if each.domain in ("", "ai.onnx")), _LEAST_OPSET)
    if opset >= _LEAST_OPSET:
        return Path(model)
    raised = folder / "raised.onnx"
    onnx.save(onnx.version_converter.convert_version(loaded, _LEAST_OPSET), str(raised))
    return raised


def _dynamic(prepared: Path, target: str, recipe: dict[str, Any]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(prepared),
        target,
        op_types_to_quantize=recipe["operators"] or None,
        per_channel=True,
        reduce_range=recipe["reduce_range"],
        weight_type=QuantType.QInt8,
    )


def _static(prepared: Path, target: str, options: dict[str, Any], only: str = "") -> None:
    """Quantise with scales from calibration rows; ``only`` names the one node to quantise."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    recipe = options["recipe"]
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    rows = _Reader(options["calibration"])
    more: dict[str, Any] = {"CalibStridedMinMax": rows.stride}  # all activations of all rows would not fit into memory
    if recipe["calibrator"] == "percentile":
        more["CalibPercentile"] = _PERCENTILE
    quantize_static(
        str(prepared),
        target,
        rows,
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=recipe["operators"] or None,
        nodes_to_quantize=[only] if only else None,
        nodes_to_exclude=recipe["left_out"],
        per_channel=True,
        reduce_range=recipe["reduce_range"],
        calibrate_method=methods[recipe["calibrator"]],
        extra_options=more,
        **_cached(quantize_static, options["ranges"]),
    )


def _cached(quantize: Any, ranges: str) -> dict[str, Any]:
    """Option that keeps what was calibrated for the next file; older quantisers calibrate again."""
    known = "calibration_cache_path" in inspect.signature(quantize).parameters
    return {"calibration_cache_path": ranges} if known else {}


def _rank(options: dict[str, Any]) -> dict[str, Any]:
    """Nodes by how much the outputs change when that node alone is quantised, the worst first."""
    import onnx

    prepared, rows = _prepared(options), _Reader(options["calibration"]).rows[:_RANKED_ROWS]
    before = _answers(prepared, rows)
    whole = Path(options["work"]) / "whole.onnx"
    _static(prepared, str(whole), options)
    quantised = _quantised_nodes(onnx.load(whole, load_external_data=False).graph, options["recipe"]["operators"])
    worst = []
    for node in onnx.load(prepared, load_external_data=False).graph.node:
        if node.name in quantised:
            alone = Path(options["work"]) / "alone.onnx"
            _static(prepared, str(alone), options, only=node.name)
            worst.append((_distance(before, _answers(alone, rows)), node.name))
    return {"layers": [name for distance, name in sorted(worst, reverse=True) if distance > 0]}


def _quantised_nodes(graph: Any, operators: list[str]) -> set[str]:
    """Names of the nodes that read what was quantised."""
    restored = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    return {
        node.name
        for node in graph.node
        if node.op_type != "QuantizeLinear"
        and (not operators or node.op_type in operators)
        and restored.intersection(node.input)
    }


def _answers(model: Path, rows: "list[dict[str, Any]]") -> "list[list[Any]]":
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    return [session.run(None, row) for row in rows]


def _distance(before: "list[list[Any]]", after: "list[list[Any]]") -> float:
    """Mean squared difference of the float outputs, as a share of their mean square."""
    import numpy as np

    total = 0.0
    for outputs, others in zip(before, after, strict=True):
        for one, other in zip(outputs, others, strict=True):
            if one.dtype.kind == "f":
                power = float(np.square(one, dtype=np.float64).mean()) or 1.0
                total += float(np.square(one.astype(np.float64) - other).mean()) / power
    return total


class _Reader:
    """Calibration rows as the quantiser asks for them; the file holds ``ROW.INPUT`` arrays."""

    def __init__(self, path: str) -> None:
        import numpy as np

        with np.load(path, allow_pickle=False) as stored:
            rows: dict[str, dict[str, Any]] = {}
            for key in stored.files:
                row, _, name = key.partition(".")
                rows.setdefault(row, {})[name] = stored[key]
        self.stride = min(_STRIDE, len(rows))
        self.rows = list(rows.values())[: len(rows) // self.stride * self.stride]
        self._left: Iterator[dict[str, Any]] = iter(self.rows)

    def get_next(self) -> dict[str, Any] | None:
        """Next row, None after the last."""
        return next(self._left, None)

    def __len__(self) -> int:
        return len(self.rows)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give these rows next."""
        self._left = iter(self.rows[start_index:end_index])


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
