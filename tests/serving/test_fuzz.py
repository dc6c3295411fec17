"""R-17, R-18: hostile requests against a served workspace with a real model process.

``BROWNFIELD_HOSTILE_REQUESTS`` says how many; the figures of the documents are of 100,000.
"""

import asyncio
import collections
import os
import re
import socket
import struct

import httpx
import psutil
import pytest

from harness.hostile_http import MARK, hostile

pytestmark = pytest.mark.full

COUNT = int(os.environ.get("BROWNFIELD_HOSTILE_REQUESTS", "4000"))
ANSWER = re.compile(rb"(?=HTTP/1\.1 \d{3} )")
_CALLERS = 16
_RESET = struct.pack("ii", 1, 0)
_GROWTH_BYTES = min(COUNT / 200, 32) * 2**20  # of the second half: 1 MiB per 100, and never more than that


async def send(port, pieces):
    """Everything that comes back for these pieces, once nothing more is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            if len(pieces) > 1:
                await asyncio.sleep(0)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()


def attack(port, seeds):
    """Statuses by kind, and what should not have come back."""
    statuses, wrong = collections.Counter(), []
    waiting = iter(seeds)

    async def caller():
        for seed in waiting:
            kind, pieces = hostile(seed)
            got = await send(port, pieces)
            for part in ANSWER.split(got)[1:]:
                status = int(part[9:12])
                statuses[kind, status] += 1
                if (status >= 500 and status != 505) or b"%d.0" % MARK in part:
                    wrong.append((seed, part[:300]))

    async def all_callers():
        await asyncio.gather(*(caller() for _ in range(_CALLERS)))

    asyncio.run(all_callers())
    return statuses, wrong


def memory_bytes(running):
    """Of all processes of the workspace."""
    top = psutil.Process(running.pid)
    return sum(each.memory_info().rss for each in [top, *top.children(recursive=True)])


def test_r17_hostile_requests_cost_nothing(risk, serving, tmp_path):
    """R-17, R-18, B-03: no 5xx, no end of a process, nothing smuggled, no memory kept, and the model answers on."""
    running = serving(risk.workspace(tmp_path, deadline_ms=5000))
    port = int(running.url.rsplit(":", 1)[1])
    processes = {each.pid for each in psutil.Process(running.pid).children(recursive=True)}
    first, wrong = attack(port, range(COUNT // 2))
    before = memory_bytes(running)
    second, also_wrong = attack(port, range(COUNT // 2, COUNT))
    assert wrong + also_wrong == []
    assert memory_bytes(running) - before < _GROWTH_BYTES
    assert {each.pid for each in psutil.Process(running.pid).children(recursive=True)} == processes
    statuses = first + second
    assert sum(statuses.values()) > COUNT / 2
    assert {status for kind, status in statuses if kind == "framing"} == {400}
    assert {200, 400, 422} <= {status for _, status in statuses}
    answer = running.predict([1, 2, 3, 4])
    assert (answer["decision"]["source"], answer["prediction"]) == ("model", {"y": [10.0]})
    text = httpx.get(f"{running.url}/metrics").text
    assert 'brownfield_http_responses_total{status="500"}' not in text
    assert 'brownfield_http_responses_total{status="503"}' not in text
    assert "BF-GTW-REQUEST-FAILED" not in running.log
