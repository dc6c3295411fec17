"""MLServer: a runtime of one's own over onnxruntime, in the server's process."""

import asyncio
import os

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from v2_common import session


class Model(MLModel):
    async def load(self) -> bool:
        self.session = session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
        [value] = self.session.run(None, inputs)
        return InferenceResponse(model_name="m", outputs=[NumpyCodec.encode_output("y", np.asarray(value))])


async def main() -> None:
    settings = Settings(
        http_port=int(os.environ["PORT"]),
        grpc_port=int(os.environ["PORT2"]),
        metrics_port=int(os.environ["PORT3"]),
        parallel_workers=0,
        debug=False,
        load_models_at_startup=False,
    )
    server = MLServer(settings)
    await server.start([ModelSettings(name="m", implementation=Model)])


asyncio.run(main())
