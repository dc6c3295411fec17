"""An open-loop load generator: requests are due at moments drawn beforehand, and every latency counts from there.

A closed loop asks for the next answer when it has the last one, so a slow server slows its own load down and looks
better than it is (coordinated omission). Here the moments are a Poisson process of the wanted rate. A request whose
moment has come takes the connection that was used last, or opens one in the place of one that the server closed; where
all are in use it waits here. All that is in its latency. What has no answer after ``--timeout-s`` is a time-out.

The loop is ``openloop.c``, built with ``cc`` for each run. ``late_p99_ms`` says how late requests left although a
connection was free: how late the generator itself was.

    python benchmarks/openloop.py http://127.0.0.1:8080/v1/risk/predict --body request.json --rate 1000 --seconds 10
"""

import argparse
import json
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

__all__ = ["Load", "run"]

KINDS = ("model", "fallback", "refused", "error", "timeout")  # in the order of openloop.c
_MODEL = KINDS.index("model")
_SETTLE_S = 0.5  # for the server to take the connections in
_SOURCE = Path(__file__).with_suffix(".c")
_OUTCOME = np.dtype([("latency_s", "f8"), ("ended_s", "f8"), ("late_s", "f8"), ("kind", "i8")])


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


def run(load: Load) -> dict[str, Any]:
    """Generate the load in a process of its own, and sum up.

    Returns
    -------
    dict
        ``offered`` and ``rates`` (by kind) per second; by kind ``count``, ``p50_ms``, ``p99_ms`` and ``max_ms``;
        ``late_p99_ms``; ``by_second``: model answers in each second.
    """
    parts = urlsplit(load.url)
    draw = np.random.default_rng(load.seed)
    moments_s = np.cumsum(draw.exponential(1 / load.rate, round(load.rate * load.seconds)))
    with tempfile.TemporaryDirectory() as folder:
        generator, request, moments, outcomes = (
            Path(folder) / name for name in ("openloop", "request", "moments", "outcomes")
        )
        subprocess.run(["cc", "-O2", "-o", generator, _SOURCE], check=True)  # noqa: S607 (the machine's compiler)
        request.write_bytes(load.request)
        moments.write_bytes(moments_s.tobytes())
        address = (socket.gethostbyname(parts.hostname or "127.0.0.1"), str(parts.port or 80))
        numbers = (str(load.connections), str(load.timeout_s), str(_SETTLE_S))
        subprocess.run([generator, *address, *numbers, request, moments, outcomes], check=True)
        return _summed_up(load, np.fromfile(outcomes, dtype=_OUTCOME))


def _summed_up(load: Load, outcomes: np.ndarray) -> dict[str, Any]:
    kinds, in_time = outcomes["kind"], outcomes["ended_s"] <= load.seconds
    figures: dict[str, Any] = {"offered": load.rate, "sent": len(outcomes), "rates": {}}
    for number, kind in enumerate(KINDS):
        own_ms = outcomes["latency_s"][kinds == number] * 1e3
        figures["rates"][kind] = round(int(np.sum((kinds == number) & in_time)) / load.seconds, 2)
        if len(own_ms):
            p50, p99 = np.percentile(own_ms, (50, 99))
            figures[kind] = {
                "count": len(own_ms),
                "p50_ms": round(float(p50), 3),
                "p99_ms": round(float(p99), 3),
                "max_ms": round(float(own_ms.max()), 3),
            }
    late_ms = outcomes["late_s"][outcomes["late_s"] >= 0] * 1e3
    figures["late_p99_ms"] = round(float(np.percentile(late_ms, 99)), 3) if late_ms.size else 0
    figures["by_second"] = np.bincount(outcomes["ended_s"][kinds == _MODEL].astype(int)).tolist()
    return figures


def main() -> None:
    """Run once and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--body", type=Path)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--timeout-s", type=float, default=10)
    options = parser.parse_args()
    body = options.body.read_bytes() if options.body else b"{}"
    load = Load(options.url, body, options.rate, options.seconds, options.connections, timeout_s=options.timeout_s)
    print(json.dumps(run(load), indent=1))


if __name__ == "__main__":
    main()
