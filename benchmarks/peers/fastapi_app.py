"""A hand-written server of the V2 protocol: pydantic models, a model in the loop of each worker."""

import os
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
given = {node.name: node for node in session.get_inputs()}
DTYPES = {"FP32": np.float32, "INT64": np.int64}
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    id: str | None = None
    inputs: list[Tensor]


class Answer(BaseModel):
    model_name: str
    model_version: str
    outputs: list[Tensor]


def arrays(request: Request) -> dict[str, Any]:
    made = {}
    for tensor in request.inputs:
        value = np.array(tensor.data, DTYPES[tensor.datatype])
        if tensor.name not in given or value.size != np.prod(tensor.shape) or not np.isfinite(value).all():
            raise HTTPException(400, "not a tensor that the model takes")
        made[tensor.name] = value.reshape(tensor.shape)
    return made


def answered(request: Request) -> Answer:
    outputs = [
        Tensor(name=node.name, shape=list(value.shape), datatype="FP32", data=value.ravel().tolist())
        for node, value in zip(session.get_outputs(), session.run(None, arrays(request)), strict=True)
    ]
    return Answer(model_name="m", model_version="1", outputs=outputs)


if os.environ.get("IN_THREADS"):

    @app.post("/infer")
    def infer(request: Request) -> Answer:
        return answered(request)

else:

    @app.post("/infer")
    async def infer(request: Request) -> Answer:
        return answered(request)
