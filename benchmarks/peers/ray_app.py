"""Ray Serve as shipped: one replica, batches of up to 32 in 1 ms."""

import os
import time
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from v2_common import answer, arrays, joined, session


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=1000)
class Model:
    def __init__(self) -> None:
        self.session = session()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def run(self, several: list[Any]) -> list[Any]:
        outputs = self.session.run(None, joined(several))[0]
        return [row[None] for row in outputs]

    async def __call__(self, request: Request) -> Any:
        return answer(await self.run(arrays(await request.json())))


ray.init(
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    object_store_memory=200 * 2**20,
    runtime_env={"env_vars": {name: os.environ[name] for name in ("MODEL", "THREADS", "PYTHONPATH")}},
)
serve.start(
    http_options={"port": int(os.environ["PORT"]), "host": "127.0.0.1"}, logging_config={"enable_access_log": False}
)
serve.run(Model.bind(), route_prefix="/infer")
while True:
    time.sleep(60)
