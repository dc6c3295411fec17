"""An open-loop load generator: requests are due at moments drawn beforehand, and every latency counts from there.

A closed loop asks for the next answer when it has the last one, so a slow server slows its own load down and looks
better than it is (coordinated omission). Here the moments are a Poisson process of the wanted rate. A request whose
moment has come takes the connection that was used last, or opens one in the place of one that the server closed; where
all are in use it waits here. All that is in its latency. What has no answer after ``--timeout-s`` is a time-out.

One process is one loop over epoll with raw sockets, without a coroutine or an object for a request. ``--limit`` tells
how many requests a second this machine's generator can send and read at all, against a server that only echoes fixed
bytes; a run is only as good as that, and ``late_p99_ms`` says how late requests left although a connection was free.

    python benchmarks/openloop.py http://127.0.0.1:8080/v1/risk/predict --body request.json --rate 1000 --seconds 10
    python benchmarks/openloop.py --limit
"""

import argparse
import gc
import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

__all__ = ["Load", "own_limit", "run"]

KINDS = ("model", "fallback", "refused", "error", "timeout")
_MODEL, _FALLBACK, _REFUSED, _ERROR, _TIMEOUT = range(5)
_DEGRADED = (b'"brownfield_degraded":true', b'"degraded":true')
_LOOK_EVERY_S = 0.25
_SETTLE_S = 0.5  # for the server to take the connections in
_SHORTEST_WAIT_S = 20e-6  # below that it looks again at once
_ECHO = """
import select, socket, sys
listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
print(listener.getsockname()[1], flush=True)
poller, open_ones = select.epoll(), {}
poller.register(listener.fileno(), select.EPOLLIN)
answer = b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}"
while True:
    for number, _ in poller.poll():
        one = open_ones.get(number)
        if one is None:
            one, _ = listener.accept()
            open_ones[one.fileno()] = one
            poller.register(one.fileno(), select.EPOLLIN)
        else:
            try:
                data = one.recv(65536)
            except OSError:
                data = b""
            if data:
                one.send(answer)
            else:
                poller.unregister(number)
                open_ones.pop(number).close()
"""


@dataclass(frozen=True)
class Load:
    """What to send.

    Parameters
    ----------
    url
        Where to.
    body
        Of every request.
    rate
        Requests a second on average.
    seconds
        For which requests are due; answers are waited for afterwards.
    connections
        Most requests under way; all are opened at the begin, and one that the server closed when a request needs it.
    timeout_s
        After which nobody waits for an answer.
    headers
        Further header fields.
    seed
        Of the moments.
    """

    url: str
    body: bytes
    rate: float
    seconds: float
    connections: int = 1000
    timeout_s: float = 10.0
    headers: tuple[tuple[str, str], ...] = ()
    seed: int = 0

    @property
    def request(self) -> bytes:
        """The bytes of one request."""
        parts = urlsplit(self.url)
        fields = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": str(len(self.body))}
        lines = [f"{name}: {value}" for name, value in (*fields.items(), *self.headers)]
        return "\r\n".join([f"POST {parts.path} HTTP/1.1", *lines, "", ""]).encode() + self.body


class _Connection:
    __slots__ = ("data", "due", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.data = b""


@dataclass
class _Outcome:
    latencies_s: list[float] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    begun_s: float = 0.0


class _Generator:
    """One process of the generator."""

    def __init__(self, load: Load) -> None:
        parts = urlsplit(load.url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._load = load
        self._request = load.request
        self._poller = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._free: list[_Connection] = []
        self._backlog: deque[float] = deque()
        self.outcome = _Outcome()
        for _ in range(load.connections):
            self._free.append(self._connect())

    def run(self) -> None:
        """Send what is due, and read what comes."""
        load = self._load
        draw = np.random.default_rng(load.seed)
        count = round(load.rate * load.seconds)
        self.outcome.begun_s = begun_s = time.perf_counter() + _SETTLE_S
        moments = (np.cumsum(draw.exponential(1 / load.rate, count)) + begun_s).tolist()
        gc.disable()
        now = time.perf_counter()
        at, look = 0, now + _LOOK_EVERY_S
        late, clock = self.outcome.late_s, time.perf_counter
        while at < count or len(self._free) < len(self._open) or self._backlog:
            while at < count and moments[at] <= now:
                if self._free:
                    self._send(self._free.pop(), moments[at])
                    late.append(clock() - moments[at])
                else:
                    self._backlog.append(moments[at])
                    self._replace()
                at += 1
            wait = max(0.0, moments[at] - clock()) if at < count else _LOOK_EVERY_S
            if wait > _SHORTEST_WAIT_S:
                select.select([self._poller.fileno()], [], [], min(wait, _LOOK_EVERY_S))  # epoll counts milliseconds
            for number, _ in self._poller.poll(0):
                self._receive(self._open[number])
            now = clock()
            if now > look:
                look = now + _LOOK_EVERY_S
                self._give_up(now)

    def _reconnect(self) -> _Connection | None:
        """Open one that was closed; None where all are open, or none can be opened just now."""
        if len(self._open) == self._load.connections:
            return None
        try:
            return self._connect()
        except OSError:
            return None

    def _connect(self) -> _Connection:
        one = _Connection(self._address)
        self._open[one.socket.fileno()] = one
        self._poller.register(one.socket.fileno(), select.EPOLLIN)
        return one

    def _send(self, one: _Connection, due: float) -> None:
        one.due = due
        try:
            one.socket.send(self._request)
        except OSError:
            self._broken(one, _ERROR)

    def _receive(self, one: _Connection) -> None:
        try:
            data = one.socket.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or not one.due:  # closed, or told something that it did not ask
            self._broken(one, _ERROR)
            return
        if one.data:
            data = one.data + data
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) < end + 4 + _length(data, end):
            one.data = data
            return
        one.data = b""
        self._end(one, _kind(data))
        if b"onnection: close" in data[:end]:
            self._close(one)
            self._replace()
        else:
            self._next(one)

    def _end(self, one: _Connection, kind: int) -> None:
        if one.due:
            now = time.perf_counter()
            self.outcome.latencies_s.append(now - one.due)
            self.outcome.kinds.append(kind)
            self.outcome.ended_s.append(now)
        one.due = 0.0

    def _next(self, one: _Connection) -> None:
        if self._backlog:
            self._send(one, self._backlog.popleft())
        else:
            self._free.append(one)

    def _broken(self, one: _Connection, kind: int) -> None:
        if not one.due:
            self._free.remove(one)
        self._end(one, kind)
        self._close(one)
        self._replace()

    def _replace(self) -> None:
        """Open connections for those who wait; what cannot be opened is tried again later."""
        while self._backlog:
            one = self._reconnect()
            if one is None:
                return
            self._next(one)

    def _close(self, one: _Connection) -> None:
        del self._open[one.socket.fileno()]
        self._poller.unregister(one.socket.fileno())
        one.socket.close()

    def _give_up(self, now: float) -> None:
        self._replace()
        latest = now - self._load.timeout_s
        while self._backlog and self._backlog[0] < latest:
            self._note_unsent(now, self._backlog.popleft())
        for one in tuple(self._open.values()):
            if one.due and one.due < latest:
                self._broken(one, _TIMEOUT)

    def _note_unsent(self, now: float, due: float) -> None:
        self.outcome.latencies_s.append(now - due)
        self.outcome.kinds.append(_TIMEOUT)
        self.outcome.ended_s.append(now)


def _length(data: bytes, end: int) -> int:
    head = data[:end].lower()
    at = head.find(b"content-length:")
    if at < 0:
        return 0
    stop = head.find(b"\r", at)
    return int(head[at + 15 : stop if stop > 0 else end])


def _kind(data: bytes) -> int:
    status = data[9:12]
    if status == b"200":
        return _FALLBACK if any(mark in data for mark in _DEGRADED) else _MODEL
    return _REFUSED if status in {b"503", b"429"} else _ERROR


def run(load: Load, processes: int = 1) -> dict[str, Any]:
    """Generate the load in processes of its own, and sum up.

    Returns
    -------
    dict
        ``offered`` and ``rates`` (by kind) per second; ``p50_ms``, ``p99_ms`` and ``max_ms`` by kind; ``late_p99_ms``;
        ``by_second``: model answers in each second.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for number in range(processes):
            path = Path(folder) / f"{number}.npz"
            said = {
                "url": load.url,
                "body": load.body.decode(),
                "rate": load.rate / processes,
                "seconds": load.seconds,
                "connections": max(1, load.connections // processes),
                "timeout_s": load.timeout_s,
                "headers": load.headers,
                "seed": load.seed + number,
            }
            command = [sys.executable, __file__, "--worker", str(path)]
            started.append((path, subprocess.Popen(command, stdin=subprocess.PIPE, text=True), json.dumps(said)))
        for _, process, text in started:
            process.stdin.write(text)
            process.stdin.close()
        for _, process, _ in started:
            if process.wait():
                raise RuntimeError("the generator failed")
        parts = [np.load(path) for path, _, _ in started]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}
    return _summed_up(load, joined)


def _summed_up(load: Load, joined: dict[str, np.ndarray]) -> dict[str, Any]:
    kinds, latencies = joined["kinds"], joined["latencies_s"] * 1e3
    in_time = joined["ended_s"] <= joined["begun_s"].min() + load.seconds
    figures: dict[str, Any] = {"offered": load.rate, "sent": len(kinds), "rates": {}}
    for number, kind in enumerate(KINDS):
        own = latencies[kinds == number]
        figures["rates"][kind] = round(int(np.sum((kinds == number) & in_time)) / load.seconds, 2)
        if len(own):
            p50, p99 = np.percentile(own, (50, 99))
            figures[kind] = {
                "p50_ms": round(float(p50), 3),
                "p99_ms": round(float(p99), 3),
                "max_ms": round(float(own.max()), 3),
            }
    figures["late_p99_ms"] = round(float(np.percentile(joined["late_s"], 99)) * 1e3, 3) if joined["late_s"].size else 0
    ended = joined["ended_s"][kinds == _MODEL]
    if ended.size:
        figures["by_second"] = np.bincount((ended - ended.min()).astype(int)).tolist()
    return figures


def own_limit(seconds: float = 2.0, connections: int = 64) -> float:
    """Measure the requests a second that one process reaches against a server that only echoes fixed bytes."""
    with subprocess.Popen([sys.executable, "-c", _ECHO], stdout=subprocess.PIPE, text=True) as echo:
        try:
            url = f"http://127.0.0.1:{int(echo.stdout.readline())}/"
            load = Load(url, b"x" * 391, 250_000, seconds, connections, timeout_s=seconds)
            rates = run(load)["rates"]
        finally:
            echo.kill()
    return float(rates["model"])


def _worker(path: str) -> None:
    said = json.loads(sys.stdin.read())
    said["body"] = said["body"].encode()
    said["headers"] = tuple(tuple(each) for each in said["headers"])
    generator = _Generator(Load(**said))
    generator.run()
    outcome = generator.outcome
    np.savez(
        path,
        latencies_s=np.array(outcome.latencies_s),
        kinds=np.array(outcome.kinds, dtype=np.int8),
        ended_s=np.array(outcome.ended_s),
        late_s=np.array(outcome.late_s),
        begun_s=np.array([outcome.begun_s]),
    )


def main() -> None:
    """Run once and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--body", type=Path)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--timeout-s", type=float, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--limit", action="store_true", help="what the generator itself can reach")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _worker(options.worker)
    elif options.limit:
        print(json.dumps({"own_limit_per_s": own_limit()}))
    else:
        body = options.body.read_bytes() if options.body else b"{}"
        load = Load(options.url, body, options.rate, options.seconds, options.connections, timeout_s=options.timeout_s)
        print(json.dumps(run(load, options.processes), indent=1))


if __name__ == "__main__":
    main()
