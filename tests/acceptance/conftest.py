"""A workspace served by the command line itself, as a service manager would start it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from harness.processes import MODEL, descendants

RETAIL = Path(__file__).resolve().parents[2] / "examples" / "retail"


class Served:
    """A process of ``brownfield serve``, its address and its log."""

    def __init__(self, folder: Path, log: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._log = log
        command = [sys.executable, "-m", "brownfield", "serve", str(folder), "--port", "0", *options]
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(command, stdout=stderr, stderr=stderr, env={**os.environ, **(env or {})})
        self.port = self._listening_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def _listening_port(self) -> int:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = re.search(r'"event":"BF-SRV-SERVING".*?"port":(\d+)', self.log)
            if found and self._answers(int(found[1])):
                return int(found[1])
            assert self.process.poll() is None, self.log
            time.sleep(0.05)
        raise AssertionError(self.log)

    @staticmethod
    def _answers(port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        """What was written so far."""
        return self._log.read_text(encoding="utf-8")

    @property
    def models(self) -> list[psutil.Process]:
        """The processes of models."""
        return descendants(self.process.pid, MODEL)

    def asked_without_a_model(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """The answer to a request during which no model's process woke up.

        Heartbeats wake it every other second, so the same is asked again when one may have been among it: a request
        that reached the model would wake it each time.
        """
        for _ in range(8):
            before = self._model_steps()
            answer = ask()
            if before and self._model_steps() == before:
                return answer
        raise AssertionError("a model's process woke up each time")

    def _model_steps(self) -> list[tuple[int, int]]:
        """Each model process and how often it went to sleep after work: one that is not asked for anything stands."""
        return [(model.pid, model.num_ctx_switches().voluntary) for model in self.models]

    def raw(self, request: bytes, timeout_s: float = 10.0) -> bytes:
        """Send bytes as they are and read until the answer is whole or the server hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as connection:
            connection.sendall(request)
            answer = b""
            while part := connection.recv(65536):
                answer += part
                head, found, body = answer.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                if found and length and len(body) >= int(length[1]):
                    break
            return answer

    def end(self) -> int:
        """Drain; the exit status."""
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Serves workspaces until the tests of a module end."""
    running: list[Served] = []

    def start(folder: Path, *options: str, **more: Any) -> Served:
        running.append(Served(folder, tmp_path_factory.mktemp("log") / "serve.log", *options, **more))
        return running[-1]

    yield start
    for one in running:
        one.process.terminate()
    for one in running:
        one.process.wait(30)


@pytest.fixture(scope="module")
def retail(serve: Callable[..., Served], tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The retail example's own declaration and bundle, served."""
    folder = tmp_path_factory.mktemp("acceptance") / "retail"
    shutil.copytree(RETAIL, folder, ignore=shutil.ignore_patterns("__pycache__", "legacy", "var"))
    return serve(folder)


def total_and_parts(server_timing: str) -> tuple[float, float]:
    """The whole of a ``Server-Timing`` header and the sum of its other parts, in milliseconds."""
    spans = dict(re.findall(r"(\w+);dur=([\d.]+)", server_timing))
    total = float(spans.pop("total"))
    return total, sum(map(float, spans.values()))


def body_of(answer: bytes) -> Any:
    """The JSON of a raw HTTP answer."""
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.fixture(scope="session")
def timing() -> Callable[[str], tuple[float, float]]:
    """Reads a ``Server-Timing`` header."""
    return total_and_parts


@pytest.fixture(scope="session")
def parse() -> Callable[[bytes], Any]:
    """Reads the JSON of a raw answer."""
    return body_of


def brownfield(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "brownfield", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, **options)


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a verb of the command line."""
    return brownfield
