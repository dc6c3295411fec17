"""BentoML: a batchable service over arrays, its own protocol."""

from typing import Any

import bentoml
import numpy as np
from v2_common import session


@bentoml.service(traffic={"timeout": 10}, workers=1)
class Model:
    def __init__(self) -> None:
        self.session = session()
        self.inputs = [(node.name, node.shape[1], node.type) for node in self.session.get_inputs()]

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=2000)
    def infer(self, x: np.ndarray) -> np.ndarray:
        x, at, made = np.atleast_2d(x), 0, {}
        for name, width, kind in self.inputs:
            part = x[:, at : at + width]
            made[name] = part.astype(np.int64 if "int64" in kind else np.float32)
            at += width
        outputs: Any = self.session.run(None, made)[0]
        return outputs
