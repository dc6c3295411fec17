"""What the peers that bring no protocol of their own share: a V2 request to arrays, a session, arrays to an answer."""

import os
from typing import Any

import numpy as np
import onnxruntime

DTYPES = {"FP32": np.float32, "INT64": np.int64}


def session() -> Any:
    """Open the model with the threads that the benchmark gives."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["THREADS"])
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(os.environ["MODEL"], options)


def arrays(request: dict[str, Any]) -> dict[str, np.ndarray]:
    """Tensors by name."""
    return {
        tensor["name"]: np.array(tensor["data"], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
        for tensor in request["inputs"]
    }


def joined(several: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of several requests as those of one."""
    return {name: np.concatenate([each[name] for each in several]) for name in several[0]}


def answer(value: np.ndarray, name: str = "y") -> dict[str, Any]:
    """One output as a V2 answer."""
    output = {"name": name, "datatype": "FP32", "shape": list(value.shape), "data": value.ravel().tolist()}
    return {"model_name": "m", "outputs": [output]}
