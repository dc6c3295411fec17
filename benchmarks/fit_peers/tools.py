"""What each peer of ``bench_fit.py`` does to a model file, run in that peer's own environment.

Usage: python tools.py TOOL OPTIONS (JSON: model, calibration, selection, target, batched, name, floor)

Every tool does what its documentation shows first: no setting is chosen for a model, and none to make it look bad.
Prints one JSON object: empty on success, else the error. Olive is a command of its own and is not started from here.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = dict[str, np.ndarray]


def ort_dynamic(options: dict[str, Any]) -> None:
    """Quantise with onnxruntime's quantize_dynamic as it comes."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(options["model"], options["target"])


def ort_static(options: dict[str, Any]) -> None:
    """Quantise with onnxruntime's quantize_static as it comes, after the pre-processing that its guide asks for."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows: Iterator[Row] = iter(rows_of(options, "calibration")[0])

        def get_next(self) -> Row | None:
            """Give the next row, None after the last."""
            return next(self._rows, None)

    prepared = str(Path(options["target"]).with_suffix(".prepared.onnx"))
    try:
        quant_pre_process(options["model"], prepared)
    except Exception:  # noqa: BLE001 (its symbolic shapes fail on several of the models; the guide says to skip them)
        quant_pre_process(options["model"], prepared, skip_symbolic_shape=True)
    quantize_static(prepared, options["target"], Reader())


def nncf_quantize(options: dict[str, Any]) -> None:
    """Quantise with NNCF's post-training quantisation as it comes."""
    import nncf
    import onnx

    rows, _ = rows_of(options, "calibration")
    onnx.save(nncf.quantize(onnx.load(options["model"]), nncf.Dataset(rows)), options["target"])


def nncf_accuracy(options: dict[str, Any]) -> None:
    """Quantise with NNCF's accuracy control, told the floor and the benchmark's own metric; on an OpenVINO model.

    Given an ONNX model, NNCF 3.4 says that this backend is not supported.
    """
    import nncf
    import openvino
    from metrics import METRICS, ratio

    rows, _ = rows_of(options, "calibration")
    judged, truth = rows_of(options, "selection")
    metric = next(iter(METRICS[options["name"]].values()))

    def validate(model: Any, data: Any) -> tuple[float, None]:
        names = [each.get_any_name() for each in model.outputs]
        given = [model(row) for row in data]
        answers = [{name: each[place] for place, name in enumerate(names)} for each in given]
        return ratio(metric(answers, truth)), None

    made = nncf.quantize_with_accuracy_control(
        openvino.convert_model(options["model"]),
        nncf.Dataset(rows),
        nncf.Dataset(judged),
        validate,
        max_drop=options["floor"],
        drop_type=nncf.DropType.ABSOLUTE,
    )
    openvino.save_model(made, options["target"])


def rows_of(options: dict[str, Any], part: str) -> tuple[list[Row], np.ndarray]:
    """Read one part of the rows: requests of one row each, and their truth."""
    with np.load(options[part], allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files}
    truth = columns.pop("truth")
    batched = options["batched"]
    rows = [
        {name: column[row : row + 1] if batched else np.asarray(column[row]) for name, column in columns.items()}
        for row in range(len(truth))
    ]
    return rows, truth


TOOLS = {each.__name__: each for each in (ort_dynamic, ort_static, nncf_quantize, nncf_accuracy)}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answer, sys.stdout = sys.stdout, sys.stderr
    reason = {}
    try:
        TOOLS[sys.argv[1]](json.loads(sys.argv[2]))
    except Exception as error:  # noqa: BLE001 (whatever a tool raises is its cell)
        reason = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    answer.write(json.dumps(reason))
