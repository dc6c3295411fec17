"""LitServe: batches of up to 32 requests."""

import os
from typing import Any

import litserve
import numpy as np
from v2_common import answer, arrays, joined, session


class Model(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = session()

    def decode_request(self, request: dict[str, Any]) -> dict[str, np.ndarray]:
        return arrays(request)

    def batch(self, inputs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return joined(inputs)

    def predict(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.session.run(None, inputs)[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return [row[None] for row in output]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return answer(output)


if __name__ == "__main__":
    api = Model(max_batch_size=32, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]), fast_queue=True)
    server.run(port=int(os.environ["PORT"]), num_api_servers=2, log_level="error", generate_client_file=False)
