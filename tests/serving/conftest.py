"""What the tests of the prediction path stand on: a till with a fake model, and workspaces with a tiny real one."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from brownfield.contract import Contract, compile_contract
from brownfield.data.features import identity
from brownfield.integration import load_document
from brownfield.model import Golden, write_bundle
from brownfield.serving import Background, serve_workspace
from brownfield.serving.fallback.constant import Constant
from brownfield.serving.gateway import Dataplane, Handler, Response, Served, Snapshot, Version
from brownfield.serving.workers.inline import InlinePool
from harness.processes import MODEL, descendants
from harness.virtual_time import VirtualClock


def contract(request: list[dict[str, Any]], response: list[dict[str, Any]], *, batched: bool = True) -> Contract:
    """Compile a contract from the properties of its request and response."""
    flag = [{"property": "batched", "value": batched, "vendor": "brownfield"}]
    return compile_contract(
        {
            "apiVersion": "v3.2.0",
            "kind": "DataContract",
            "id": "till",
            "version": "1.0.0",
            "status": "active",
            "schema": [
                {"name": "request", "logicalType": "object", "properties": request, "customProperties": flag},
                {"name": "response", "logicalType": "object", "properties": response, "customProperties": flag},
            ],
        }
    )


def tensor(name: str, dtype: str, shape: list[int | None]) -> dict[str, Any]:
    """Property of a tensor field."""
    value = {"dtype": dtype, "shape": shape}
    return {
        "name": name,
        "required": True,
        "customProperties": [{"property": "tensor", "value": value, "vendor": "brownfield"}],
    }


RETAIL_REQUEST = [
    {"name": "store_id", "logicalType": "integer", "required": True, "logicalTypeOptions": {"minimum": 1}},
    {
        "name": "items",
        "logicalType": "array",
        "required": True,
        "logicalTypeOptions": {"minItems": 0, "maxItems": 20},
        "items": {"logicalType": "string", "logicalTypeOptions": {"maxLength": 64}},
    },
]
RETAIL_RESPONSE = [
    {"name": "items", "logicalType": "array", "required": True, "items": {"logicalType": "string"}},
    {
        "name": "scores",
        "logicalType": "array",
        "items": {"logicalType": "number", "logicalTypeOptions": {"minimum": 0, "maximum": 1}},
    },
]


class RetailFeatures:
    """Features of the fake recommender: the number of items in, the first item back out."""

    def encode(self, columns: Any, rows: int) -> dict[str, Any]:
        """Count the items of each record."""
        return {"x": np.array([len(items) for items in columns["items"]], dtype=np.float32).reshape(rows, 1)}

    def decode(self, tensors: Any, columns: Any, rows: int) -> dict[str, Any]:
        """Score each record's own items by the tensor ``y``."""
        scores = tensors["y"].reshape(rows, 1)
        return {
            "items": [list(items[:1]) for items in columns["items"]],
            "scores": scores.tolist(),
        }


def halve(tensors: Any) -> dict[str, Any]:
    """A model that answers within the contract."""
    return {"y": 1 / (1 + tensors["x"])}


@pytest.fixture
def retail() -> Contract:
    return contract(RETAIL_REQUEST, RETAIL_RESPONSE)


@pytest.fixture
def pool() -> InlinePool:
    return InlinePool(halve)


@pytest.fixture
def served(retail: Contract, pool: InlinePool) -> Served:
    """The recommender with a model and a constant fallback; a second is more than a busy machine stalls."""
    return Served(
        name="till",
        contract=retail,
        deadline_ms=1000,
        champion=Version("3", RetailFeatures(), pool, integration="till"),
        fallbacks=(Constant({"items": ["BREAD"]}, retail.schema("response")),),
        purpose="Suggest the next items at the till.",
    )


@pytest.fixture
def make_handler() -> Callable[..., Handler]:
    def make(*served: Served, **options: Any) -> Handler:
        return Handler(Dataplane(Snapshot({each.name: each for each in served})), **options)

    return make


@pytest.fixture
def handler(served: Served, make_handler: Callable[..., Handler]) -> Handler:
    return make_handler(served)


class Client:
    """Asks a handler without a transport."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def ask(self, method: str, path: str, body: Any = b"", **headers: str) -> Response:
        """One request; a body that is not bytes is sent as JSON; header names with dashes as underscores."""
        fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.handler.handle(method, path.encode(), fields, content)

    async def predict(self, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        """Ask the till in named fields; status and parsed body."""
        response = await self.ask("POST", "/v1/till/predict", body, **headers)
        return response.status, msgspec.json.decode(response.body)

    async def infer(self, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        """Ask the till in V2; status and parsed body."""
        response = await self.ask("POST", "/v2/models/till/infer", body, **headers)
        return response.status, msgspec.json.decode(response.body)


@pytest.fixture
def client(handler: Handler) -> Client:
    return Client(handler)


@pytest.fixture
def clock() -> VirtualClock:
    virtual = VirtualClock()
    virtual.now_s = time.monotonic()  # by which an InlinePool goes
    return virtual


@pytest.fixture
def timeless_client(served: Served, clock: VirtualClock) -> Client:
    """For ``run_virtually``: no turn of the loop is a long one, in which the first are asked before the last came."""
    return Client(Handler(Dataplane(Snapshot({served.name: served}), clock), clock=clock))


@pytest.fixture
def make_client(make_handler: Callable[..., Handler]) -> Callable[..., Client]:
    return lambda *served, **options: Client(make_handler(*served, **options))


@pytest.fixture
def make_contract() -> Callable[..., Contract]:
    return contract


@pytest.fixture
def tensor_property() -> Callable[..., dict[str, Any]]:
    return tensor


CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: risk
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties:
      - name: x
        required: true
        customProperties: [{property: tensor, value: {dtype: float32, shape: [4]}, vendor: brownfield}]
  - name: response
    logicalType: object
    properties:
      - name: y
        required: true
        customProperties: [{property: tensor, value: {dtype: float32, shape: [1]}, vendor: brownfield}]
"""


def model(weight: float = 1.0, then: str = "Identity", outputs: int = 1) -> bytes:
    """ONNX bytes of ``y = then(weight * sum(x))``, the sum repeated for each output."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4, outputs], [weight] * 4 * outputs)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node(then, ["s"], ["y"])]
    graph = helper.make_graph(nodes, "risk", [x], [y], [weights])
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def write_model(  # noqa: PLR0913 (all but the first four by name)
    folder: Path,
    name: str,
    version: str,
    data: bytes,
    weight: float = 1.0,
    session: dict[str, Any] | None = None,
    *,
    rows: int = 2,
) -> Path:
    """Bundle a model with identity features and so many golden records, to be served in the given session."""
    provenance = {"fit": {"session": session}} if session else {}
    contract = compile_contract(load_document(CONTRACT, "contract.odcs.yaml").data)
    features = identity(contract.schema("request"), contract.schema("response"))
    x = np.repeat(np.arange(1, rows + 1, dtype=np.float32)[:, None], 4, axis=1)  # no two alike
    golden = Golden({"x": x}, {"y": weight * x.sum(1, keepdims=True)}) if rows else None
    bundle = folder / "integrations" / "risk" / "bundles" / name
    write_bundle(
        bundle,
        name="risk",
        version=version,
        model=data,
        features=features,
        contract=contract,
        golden=golden,
        provenance=provenance,
    )
    return bundle


def declare(
    folder: Path, *, model_path: str | None = "bundles/one", deadline_ms: int = 250, fallback: bool = True
) -> None:
    """Write the declaration of the workspace ``risk`` with its contract."""
    integration = folder / "integrations" / "risk"
    integration.mkdir(parents=True, exist_ok=True)
    (folder / "brownfield.yaml").write_text("workspace: risk\n", encoding="utf-8")
    (integration / "contract.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    lines = ["integration: risk", "contract: contract.odcs.yaml"]
    lines += [f"model: {{path: {model_path}}}"] if model_path else []
    chain = "[{constant: {y: [0.5]}}]" if fallback else "[]"
    lines += [f"fallback: {{deadline_ms: {deadline_ms}, chain: {chain}}}"]
    (integration / "integration.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def risk_workspace(folder: Path, **options: object) -> Path:
    """A workspace that serves ``y = sum(x)`` as version 1, with the constant 0.5 as fallback."""
    write_model(folder, "one", "1", model())
    declare(folder, **options)
    return folder


@pytest.fixture(scope="session")
def risk() -> SimpleNamespace:
    """Makes workspaces with a real model: ``workspace``, ``declare``, ``write_model``, ``model``."""
    return SimpleNamespace(workspace=risk_workspace, declare=declare, write_model=write_model, model=model)


class Traffic(threading.Thread):
    """Callers that ask without pause on connections of their own, and keep a history of what they got."""

    def __init__(self, url: str, callers: int = 4, body: Any = None) -> None:
        super().__init__(daemon=True)
        self.history: list[tuple[float, float, dict[str, Any]]] = []
        self.failures: list[str] = []
        self._body = body or {"x": [1, 2, 3, 4]}
        self._url = url
        self._ending = threading.Event()
        self._callers = [threading.Thread(target=self._ask, daemon=True) for _ in range(callers)]

    def run(self) -> None:
        """Start every caller and wait for all."""
        for caller in self._callers:
            caller.start()
        for caller in self._callers:
            caller.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._ending.is_set():
                began = time.monotonic()
                try:
                    response = client.post("/v1/risk/predict", json=self._body)
                except httpx.ConnectError:
                    return  # the listener is gone: nothing was accepted
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    return
                if response.status_code != 200:
                    self.failures.append(f"{response.status_code} {response.text}")
                    continue
                self.history.append((began, time.monotonic(), response.json()))

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 60.0, since: int = 0) -> float:
        """Wait for an answer, behind the first so many, of which ``condition`` holds; the moment at which it came."""
        seen, until = since, time.monotonic() + timeout_s
        while time.monotonic() < until:
            for _, ended, answer in self.history[seen:]:
                seen += 1
                if condition(answer):
                    return ended
            time.sleep(0.005)
        raise AssertionError(f"no such answer among {len(self.history)}; failures: {self.failures[:3]}")

    def end(self) -> None:
        """Stop asking and wait until the last answers are in."""
        self._ending.set()
        self.join(90)


class Running:
    """A workspace served in a process of its own."""

    def __init__(self, background: Background, folder: Path) -> None:
        self.process = background.process
        self.pid = background.process.pid
        self.url = background.url
        self.folder = folder
        self._log = folder / "var" / "serve.log"

    @property
    def log(self) -> str:
        """What it logged so far."""
        return self._log.read_text(encoding="utf-8")

    def ready_status(self) -> int | None:
        """Status of the readiness call, None when nobody listens."""
        try:
            return httpx.get(f"{self.url}/v2/health/ready").status_code
        except httpx.TransportError:
            return None

    def predict(self, x: list[float]) -> dict[str, Any]:
        """One answer in named fields."""
        response = httpx.post(f"{self.url}/v1/risk/predict", json={"x": x})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def model_pids(self) -> list[int]:
        """Processes of models."""
        return [each.pid for each in descendants(self.pid, MODEL)]

    def pid_of(self, name: str) -> int:
        """Process of a name, such as ``bf-gateway-0`` or ``bf-manager``; 0 while there is none."""
        return next((each.pid for each in descendants(self.pid) if _name(each) == name), 0)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _serving() -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as stack:
        yield lambda folder: Running(stack.enter_context(serve_workspace(folder)), folder)


@pytest.fixture
def serving() -> Iterator[Callable[..., Running]]:
    """Serves workspaces until the test ends."""
    yield from _serving()


@pytest.fixture(scope="module")
def serving_once() -> Iterator[Callable[..., Running]]:
    """Serves workspaces until the tests of the module end."""
    yield from _serving()


@pytest.fixture
def traffic() -> Iterator[Callable[..., Traffic]]:
    """Starts callers; ends them with the test."""
    started: list[Traffic] = []

    def start(running: Running, **options: Any) -> Traffic:
        started.append(Traffic(running.url, **options))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.end()
