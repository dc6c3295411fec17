"""What the benchmarks compare is the same, and what their page lists is all of them."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def peers():
    """The benchmark of validation, as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import validation_peers

        validation_peers.of_brownfield_batch([])  # imports what the benchmarks share
        yield validation_peers
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_page_lists_every_script() -> None:
    """Each script of the benchmarks has its line, and each line its script."""
    lines = (BENCHMARKS / "README.md").read_text(encoding="utf-8").splitlines()
    listed = {line.split("`")[1] for line in lines if line.startswith("| `")}
    assert listed == {path.name for path in BENCHMARKS.glob("*.py")} - {"served_mlp.py", "serving_models.py"}


@pytest.mark.parametrize("name", ["brownfield, rows", "brownfield, JSON lines", "brownfield, batch"])
def test_our_ways_refuse_exactly_the_broken_records(peers, name: str) -> None:
    """All nine rules of the benchmark are broken in turn, and each way names these records and no other."""
    work = peers.WORKERS[name]
    assert work(peers.records_of(1800, broken=False))() == []
    assert work(peers.records_of(1800, broken=True))() == list(range(50, 1800, 100))


@pytest.mark.parametrize("further", [[], ["--refused"]], ids=["answered", "refused"])
def test_the_gateway_answers_alone(further) -> None:
    """Its stand-ins for sockets and a model are enough for the gateway as it is now."""
    command = [sys.executable, BENCHMARKS / "gateway_alone.py", "--callers", "4", "--seconds", "0.1", *further]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert re.match(r"\d+\.\d\d us per request at least, ", ended.stdout), ended.stderr


_HEAD = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n"
_ANSWERS = {
    "model": _HEAD % (b"200 OK", 2) + b"\r\n{}",
    "fallback": _HEAD % (b"200 OK", 17) + b'\r\n{"degraded":true}',
    "refused": _HEAD % (b"503 Service Unavailable", 0) + b"\r\n",
    "error": _HEAD % (b"500 Internal Server Error", 1) + b"\r\nx",
    "refused, and closes": _HEAD % (b"429 Too Many Requests", 0) + b"connection: close\r\n\r\n",
}


async def _answer_in_turn(turns, reader, writer):
    """Answer requests of all connections in turn: each kind, one in two parts, one late, one never, one cut off."""
    while await reader.readuntil(b"{}"):
        kind = next(turns)
        answer = _ANSWERS.get(kind, _ANSWERS["model"])
        if kind == "never":
            continue
        if kind == "cut off":
            break
        if kind == "late":
            await asyncio.sleep(0.3)
        if kind == "in parts":
            writer.write(answer[:25])
            await asyncio.sleep(0.01)
            answer = answer[25:]
        writer.write(answer)
        if b"close" in answer:
            break


@pytest.mark.skipif(shutil.which("cc") is None, reason="the generator is built with cc")
def test_the_open_load_tells_what_became_of_each_request() -> None:
    """Every request is noted once, as what it was, from when it was due; what was closed is opened again."""
    kinds = [*_ANSWERS, "in parts", "late", "never", "cut off"]

    async def serve_and_load() -> dict[str, Any]:
        turns = itertools.cycle(kinds)

        async def serve(reader, writer) -> None:
            with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await _answer_in_turn(turns, reader, writer)

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            command = [sys.executable, str(BENCHMARKS / "openloop.py"), f"http://127.0.0.1:{port}/", "--rate", "200"]
            command += ["--seconds", "1.8", "--connections", "100", "--timeout-s", "2"]
            loading = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            told, _ = await loading.communicate()
            await asyncio.sleep(0.1)  # until the last connection is found to be closed
        return dict(json.loads(told))

    told = asyncio.run(serve_and_load())
    each = 200 * 1.8 / len(kinds)
    counted = {kind: told[kind]["count"] for kind in ("model", "fallback", "refused", "error", "timeout")}
    assert counted == {"model": 3 * each, "fallback": each, "refused": 2 * each, "error": 2 * each, "timeout": each}
    assert told["timeout"]["p50_ms"] > 2000
    assert 300 < told["model"]["max_ms"] < 2000
