"""Makes one model file in a process of its own: stand-alone, it needs numpy, onnx and onnxruntime, nothing of ours.

Started as ``python -I builder.py OPTIONS`` (JSON) by :mod:`brownfield.fit.build`; what the quantiser crashes, eats or
never ends is this process and not the search. Prints one JSON object: empty when the file is written, else the reason.
"""

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


def main(argument: str) -> int:
    """Make the file that the options ask for."""
    options = json.loads(argument)
    warnings.simplefilter("ignore")
    limit_bytes = options["memory_mib"] << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    sys.stdout, answer = sys.stderr, sys.stdout  # the quantiser prints
    try:
        _build(options)
        reason = {}
    except MemoryError:
        reason = {"error": "the quantiser needs more memory than it may have"}
    except Exception as error:  # noqa: BLE001 (whatever a quantiser raises is one row of the table)
        reason = {"error": f"{type(error).__name__}: {_first_line(error)}"}
    answer.write(json.dumps(reason))
    return 0


def _build(options: dict[str, Any]) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder, target = Path(options["work"]), options["target"]
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(_raised(options["model"], folder)), str(prepared), skip_symbolic_shape=True)
    recipe = options["recipe"]
    if recipe["kind"] == "optimised":
        prepared.replace(target)
    elif recipe["kind"] == "dynamic":
        _dynamic(prepared, target, recipe)
    else:
        _static(prepared, target, recipe, options["calibration"])


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


def _static(prepared: Path, target: str, recipe: dict[str, Any], calibration: str) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    more = {"CalibPercentile": _PERCENTILE} if recipe["calibrator"] == "percentile" else {}
    quantize_static(
        str(prepared),
        target,
        _Reader(calibration),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=recipe["operators"] or None,
        per_channel=True,
        reduce_range=recipe["reduce_range"],
        calibrate_method=methods[recipe["calibrator"]],
        extra_options=more,
    )


class _Reader:
    """Calibration rows as the quantiser asks for them; the file holds ``ROW.INPUT`` arrays."""

    def __init__(self, path: str) -> None:
        import numpy as np

        with np.load(path, allow_pickle=False) as stored:
            rows: dict[str, dict[str, Any]] = {}
            for key in stored.files:
                row, _, name = key.partition(".")
                rows.setdefault(row, {})[name] = stored[key]
        self._rows: Iterator[dict[str, Any]] = iter(rows.values())
        self._count = len(rows)

    def get_next(self) -> dict[str, Any] | None:
        """Next row, None after the last."""
        return next(self._rows, None)

    def __len__(self) -> int:
        return self._count

    def set_range(self, start_index: int, end_index: int) -> None:
        """Leave the rows as they are: they all fit into memory."""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
