"""What the legacy system's own workload feels of us: pgbench at 30 % of its capacity, with and without our reads.

Rounds of pgbench with our reader beside it (on) and without (off) alternate in pairs, and as many pairs of off and off
(A/A) tell how much the machine itself varies. The figure is the median of the pairs' ratios of p99 latency, with the
upper 95 % bound by order statistics. The reader, a process of its own as low in rank as those that pull beside a served
workspace, reads pgbench's largest table again and again at the default budget.

Usage: neighbour.py [PAIRS=10] [SECONDS=6] [apart]. It starts a PostgreSQL server of its own. With ``apart`` the server
and its callers have one core and our reader another, as on two hosts; without it all share what there is.
"""

import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from math import comb
from pathlib import Path
from statistics import median

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from brownfield.data.sources import Address, Budget, DatabaseTable, Postgres
from brownfield.host import give_way
from harness.databases import Server, installed, postgres_server

SHARE = 0.3
WANTED = pa.schema([("aid", pa.int64()), ("abalance", pa.int64()), ("filler", pa.string())])


def pgbench(server: Server, folder: Path, *options: str) -> list[float]:
    """Run pgbench, and give the latency of each transaction in ms, the wait for its start included."""
    (program,) = installed("pgbench")
    for log in folder.glob("log*"):
        log.unlink()
    command = [program, "-h", server.host, "-p", str(server.port), "-U", server.user, "-c", "4", "-j", "2", "-l",
               f"--log-prefix={folder / 'log'}", *options, server.database]  # fmt: skip
    environment = {**os.environ, "PGPASSWORD": server.password}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    rows = (line.split() for log in folder.glob("log*") for line in log.read_text().splitlines())
    return [int(row[2]) / 1_000 for row in rows if row[2].isdigit()]


def p99(latencies: list[float]) -> float:
    """99th percentile, as one of the values."""
    return sorted(latencies)[min(int(len(latencies) * 0.99), len(latencies) - 1)]


def upper_bound(ratios: list[float]) -> float:
    """Upper 95 % bound of the median: the smallest order statistic above it with at least that confidence."""
    count = len(ratios)
    below = 0.0
    for place, ratio in enumerate(sorted(ratios)):
        below += comb(count, place) / 2**count
        if below >= 0.95:
            return ratio
    return float("inf")


class Reader:
    """A process that reads the accounts again and again while it is on."""

    def __init__(self, server: Server, folder: Path, cores: set[int]) -> None:
        self.command = [sys.executable, __file__, "--read", str(folder), server.host, str(server.port),
                        server.database, server.user, server.password]  # fmt: skip
        self.cores = cores
        self.rows = 0

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(self._process.pid, self.cores)
        self._process.stdout.readline()  # it reads now

    def __exit__(self, *_: object) -> None:
        self.rows += int(self._process.communicate()[0].splitlines()[-1])


def read(folder: str, host: str, port: str, *account: str) -> None:
    """Be the reader, until standard input ends; print a line at the first page, and the rows read at the end."""
    give_way()
    address = Address(host, int(port), (host,), *account, "off", schema="public")
    source = DatabaseTable(Postgres(), lambda: address, "pgbench_accounts", Budget(Path(folder), "neighbour"))
    off = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), off.set()), daemon=True).start()
    rows = 0
    while not off.is_set():
        for pulled in source.read(WANTED):
            if not rows:
                print("reading", flush=True)
            rows += pulled.decoded.batch.num_rows
            if off.is_set():
                break
    print(rows)


def pairs(count: int, off: Callable[[], float], on: Callable[[], float]) -> list[float]:
    """Ratios on/off of the p99, each pair in an order drawn by chance."""
    chance = random.Random(20_261_121)  # noqa: S311 (an order that can be drawn again)
    ratios = []
    for _ in range(count):
        first = chance.random() < 0.5
        one, other = (on(), off()) if first else (off(), on())
        ratios.append(one / other if first else other / one)
    return ratios


def told(name: str, ratios: list[float]) -> None:
    """Print median and bound."""
    spelt = " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(f"{name}: median {median(ratios):.3f}, upper 95 % bound {upper_bound(ratios):.3f} of {len(ratios)} ({spelt})")


def main() -> None:
    """Measure the capacity, then the pairs."""
    numbers = [each for each in sys.argv[1:] if each.isdigit()]
    count = int(numbers[0]) if numbers else 10
    seconds = numbers[1] if len(numbers) > 1 else "6"
    ours = theirs = os.sched_getaffinity(0)
    if "apart" in sys.argv:
        ours, theirs = {max(ours)}, ours - {max(ours)}
        os.sched_setaffinity(0, theirs)  # what is started from here on stays there, but for the reader
    with postgres_server() as server, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(server)
        capacity = len(pgbench(server, folder, "-T", seconds)) / float(seconds)
        rate = f"--rate={capacity * SHARE:.0f}"
        reader = Reader(server, folder / "budget", ours)

        def off() -> float:
            return p99(pgbench(server, folder, "-T", seconds, rate))

        def on() -> float:
            with reader:
                return off()

        print(f"capacity {capacity:,.0f} transactions/s, run at {SHARE:.0%}; our reads within the default budget, on "
              f"{'a core of their own' if ours != theirs else 'the same cores'}")  # fmt: skip
        with_us = pairs(count, off, on)
        same = pairs(count, off, off)
        told("on/off, p99", with_us)
        told("A/A, p99", same)
        print(f"rows that we read meanwhile: {reader.rows:,}")


def prepare(server: Server) -> None:
    """Make pgbench's own tables."""
    (program,) = installed("pgbench")
    command = [program, "-h", server.host, "-p", str(server.port), "-U", server.user, "-i", "-s", "5", "-q"]
    environment = {**os.environ, "PGPASSWORD": server.password}
    subprocess.run([*command, server.database], check=True, capture_output=True, env=environment)


if __name__ == "__main__":
    read(*sys.argv[2:]) if "--read" in sys.argv else main()
