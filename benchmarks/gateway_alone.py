"""CPU that the gateway itself takes for one request: everything on, with neither a network nor a model.

Several callers' connections of the door (V2 JSON, 32 numbers, M1's contract) are given one request each by hand, and
their answers are taken from them; a stand-in for the model's process answers each frame with one that was made before.
What is measured: heads, rights, decoding and checks, admission, queue, frames of the hop, output check, decision, text
of the answer, counters and journal. Not measured: sockets, the model. The event loop's own turns are in it.

Compare two trees by turns: ``PYTHONPATH=one/src python benchmarks/gateway_alone.py``, then the other; the least of the
blocks hardly moves, also on a busy machine. With ``--megabytes`` the caches are filled with other things between turns,
as they are where gateway, model and caller share cores.

With ``--refused`` every request is refused unread, as most are under overload. That takes another rule than the
gateway's own, which compiled code does not allow: give it a tree that is not compiled.

    python benchmarks/gateway_alone.py [--callers 16] [--seconds 3] [--megabytes 0] [--refused]
"""

import argparse
import asyncio
import gc
import json
import socket
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import uvloop

from brownfield.clock import SystemClock
from brownfield.contract import compile_contract
from brownfield.data.features import identity
from brownfield.integration import load_document
from brownfield.model.process import ModelChannel
from brownfield.model.process.frames import RESPONSE, Decoder, encode_tensors
from brownfield.security import Principals, authorize
from brownfield.serving.gateway import Dataplane, Door, Handler, Origins, Served, Snapshot, Version
from brownfield.serving.gateway.http_connection import Connection
from brownfield.serving.gateway.pressure import Pressure
from brownfield.serving.gateway.rounds import Verdict
from brownfield.serving.journals import Journals
from brownfield.serving.workers.pool import WorkerPool
from served_mlp import CONTRACT

TURNS = 50
"""Turns of all callers in one measured block."""


class StandIn:
    """The transport to a model's process that answers each call at once."""

    def __init__(self, channel: ModelChannel) -> None:
        self._channel, self._decoder, self._loop = channel, Decoder(), asyncio.get_running_loop()
        self._known: dict[int, np.ndarray] = {}
        self._ends = socket.socketpair()  # nothing ever comes over it
        self._ends[0].setblocking(False)

    def write(self, data: bytes) -> None:
        """Answer in the next turn of the loop."""
        self._loop.call_soon(self._answer, data)

    def _answer(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            rows = frame.layout.rows
            if rows not in self._known:
                self._known[rows] = np.full((rows, 1), 0.5, np.float32)
            answer = encode_tensors(RESPONSE, frame.request_id, 3 << 32 | 9, [self._known[rows]])
            self._channel.data_received(b"".join(answer))

    def get_extra_info(self, _name: str) -> socket.socket:
        """Give a socket to look at."""
        return self._ends[0]

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing is held."""

    def is_closing(self) -> bool:
        """Never."""
        return False


class Caller:
    """The transport of a caller: counts what it is answered."""

    def __init__(self) -> None:
        self.answers = 0
        self.last = b""

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        """Address of the caller."""
        return ("127.0.0.1", 5555)

    def is_closing(self) -> bool:
        """Never."""
        return False

    def write(self, data: bytes) -> None:
        """Take an answer."""
        self.answers += 1
        self.last = data


def gateway(folder: Path) -> tuple[Door, Journals]:
    """Make a door with everything behind it but the model."""
    clock = SystemClock()
    contract = compile_contract(load_document(CONTRACT, "contract.odcs.yaml").data)
    journals = Journals(folder, clock)
    channel: Any = ModelChannel()
    channel.connection_made(StandIn(channel))
    channel._input_names, channel._output_names = ("x",), ("y",)  # noqa: SLF001 (as the greeting would say)
    channel._output_types = (np.dtype(np.float32),)  # noqa: SLF001 (likewise)
    pool = WorkerPool()
    pool.join(channel)
    features = identity(contract.schema("request"), contract.schema("response"))
    served = Served(
        name="mlp",
        contract=contract,
        deadline_ms=5000,
        champion=Version("1", features, pool, row_cap=64),
        record=journals.record_for(SimpleNamespace(name="mlp", contract=contract)),
    )
    principals = Principals.from_spec(SimpleNamespace(tokens=()), folder=folder, host="127.0.0.1", clock=clock)
    handler = Handler(
        Dataplane(Snapshot({"mlp": served}), clock),
        authorize=partial(authorize, principals),
        origins=Origins(["127.0.0.1"]),
        clock=clock,
    )
    return Door(handler), journals


def request() -> bytes:
    """Give what ``wrk`` sends."""
    tensor = {"name": "x", "shape": [1, 32], "datatype": "FP32", "data": [round(0.01 * n, 2) for n in range(32)]}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = "POST /v2/models/mlp/infer HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def measure(folder: Path, options: argparse.Namespace) -> list[float]:
    """Microseconds per request, by block."""
    door, journals = gateway(folder)
    asked = request()
    callers = [(Connection(door), Caller()) for _ in range(options.callers)]
    for connection, transport in callers:
        connection.connection_made(transport)
    last = callers[-1][1]

    async def turn() -> None:
        answers = last.answers
        for connection, _ in callers:
            connection.data_received(asked)
        while last.answers == answers:  # noqa: ASYNC110 (an event would be measured as well)
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # what is done after the answers

    for _ in range(200):
        await turn()
    assert {transport.answers for _, transport in callers} == {200}
    assert b"HTTP/1.1 200 OK" in last.last
    assert b'"brownfield_degraded":false' in last.last
    if options.refused:
        door.handler.pressure = SimpleNamespace(judge=lambda *_: Verdict.REFUSE)
        await turn()
        assert b"HTTP/1.1 503 " in last.last
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)  # as a gateway has it
    other = bytearray(options.megabytes * 2**20)
    blocks, until, flush_s = [], time.process_time() + options.seconds, time.monotonic() + 1
    while time.process_time() < until:
        took_ns = 0
        for _ in range(TURNS):
            other = bytearray(other)
            began_ns = time.thread_time_ns()
            await turn()
            took_ns += time.thread_time_ns() - began_ns
        blocks.append(took_ns / TURNS / options.callers / 1000)
        if time.monotonic() > flush_s:
            await asyncio.to_thread(lambda: [journal.flush() for journal in journals._open.values()])  # noqa: SLF001 (as its task does)
            flush_s = time.monotonic() + 1
    return blocks


def main() -> None:
    """Print the least and the median of the blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--megabytes", type=int, default=0)
    parser.add_argument("--refused", action="store_true")
    options = parser.parse_args()
    if options.refused and not isinstance(Pressure.judge, FunctionType):
        parser.error("--refused takes a tree that is not compiled (PYTHONPATH=src)")
    with tempfile.TemporaryDirectory() as folder:
        blocks = uvloop.run(measure(Path(folder), options))
    print(f"{min(blocks):.2f} us per request at least, {statistics.median(blocks):.2f} in the middle")


if __name__ == "__main__":
    main()
