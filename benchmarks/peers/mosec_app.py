"""Mosec: a Rust front, model workers as processes; msgspec reads the body."""

import os
from typing import Any

import msgspec
from mosec import Server, Worker
from v2_common import answer, arrays, session


class Model(Worker):
    def __init__(self) -> None:
        self.session = session()

    def deserialize(self, data: bytes) -> Any:
        return msgspec.json.decode(data)

    def serialize(self, data: Any) -> bytes:
        return msgspec.json.encode(data)

    def forward(self, data: Any) -> Any:
        return answer(self.session.run(None, arrays(data))[0])


if __name__ == "__main__":
    server = Server()
    server.append_worker(Model, num=int(os.environ["WORKERS"]), max_batch_size=1)
    server.run()
