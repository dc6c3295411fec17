"""Triton behind PyTriton: its HTTP front, batches of up to 32 in 1 ms, the model in Python."""

import os
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from v2_common import session

model = session()
KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


@batch
def infer(**inputs: np.ndarray) -> list[Any]:
    return model.run(None, inputs)


config = TritonConfig(
    http_port=int(os.environ["PORT"]), grpc_port=int(os.environ["PORT2"]), metrics_port=int(os.environ["PORT3"])
)
with Triton(config=config) as triton:
    triton.bind(
        model_name="m",
        infer_func=infer,
        inputs=[Tensor(name=node.name, dtype=KINDS[node.type], shape=(node.shape[1],)) for node in model.get_inputs()],
        outputs=[Tensor(name=node.name, dtype=np.float32, shape=(-1,)) for node in model.get_outputs()],
        config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=1000)),
        strict=True,
    )
    triton.serve()
