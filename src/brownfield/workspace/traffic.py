"""Paced traffic against a running workspace: requests in, one measured answer each out; nothing is retried.

Each request has an intended moment; latency counts from it, so that a server that stalls cannot hide it
(no coordinated omission). An answer that is not a 200 is kept with its status, a broken connection with status 0.
"""

import http.client
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["Answered", "send_paced"]

_STAGE = re.compile(r"([a-z_]+);dur=([0-9.]+)")


@dataclass(slots=True)
class Answered:
    """One request's fate as its caller saw it.

    Parameters
    ----------
    index
        Position of the request in the list that was sent.
    at_s
        Intended moment, in seconds from the start.
    latency_ms
        From the intended moment to the last byte.
    status
        HTTP status; 0 when the connection broke.
    body
        Decoded answer; empty when there was none.
    stages_ms
        Parts of the server's own account (``Server-Timing``).
    """

    index: int
    at_s: float
    latency_ms: float
    status: int
    body: dict[str, Any] = field(default_factory=dict)
    stages_ms: dict[str, float] = field(default_factory=dict)


def send_paced(  # noqa: PLR0913 (all but the address and the bodies are keywords)
    host: str,
    port: int,
    path: str,
    bodies: Sequence[bytes],
    *,
    rate_per_s: float,
    callers: int = 4,
    done: Callable[[int], None] | None = None,
) -> list[Answered]:
    """Send every body once, at a steady rate, over a few keep-alive connections.

    Parameters
    ----------
    host, port, path
        Where to.
    bodies
        JSON bodies, in order.
    rate_per_s
        Requests per second over all callers.
    callers
        Connections, each with a thread of its own.
    done
        Called with the number of answers so far, from any caller's thread.

    Returns
    -------
    list of Answered
        One per body, in order.
    """
    results: list[Answered | None] = [None] * len(bodies)
    counter = _Counter()
    start_s = time.monotonic() + 0.05

    def call(first: int) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        for index in range(first, len(bodies), callers):
            at_s = index / rate_per_s
            time.sleep(max(0.0, start_s + at_s - time.monotonic()))
            results[index] = _ask(connection, path, bodies[index], index, at_s, start_s)
            counter.add(done)
        connection.close()

    threads = [threading.Thread(target=call, args=(first,), daemon=True) for first in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [result for result in results if result is not None]


def _ask(
    connection: http.client.HTTPConnection, path: str, body: bytes, index: int, at_s: float, start_s: float
) -> Answered:
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return Answered(index, at_s, (time.monotonic() - start_s - at_s) * 1e3, status=0)
    latency_ms = (time.monotonic() - start_s - at_s) * 1e3
    stages = {name: float(value) for name, value in _STAGE.findall(response.getheader("Server-Timing") or "")}
    return Answered(index, at_s, latency_ms, response.status, _decoded(content), stages)


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


class _Counter:
    """Counts answers across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self, done: Callable[[int], None] | None) -> None:
        with self._lock:
            self._count += 1
            if done is not None:
                done(self._count)
