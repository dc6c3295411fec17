"""Nanoseconds that keeping one decision costs the request path, beside a list append and `logging.info`.

Run: ``python benchmarks/journal_append.py``. Flushing, which another thread does, is printed apart.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from brownfield.clock import SystemClock
from brownfield.contract import compile_contract
from brownfield.store import Journal, JournalPolicy, read_journal
from brownfield.types import Decision, Reason

CALLS = 20_000
ROUNDS = 5
PROPERTIES = [
    {"name": "items", "logicalType": "string"},
    {"name": "customer", "logicalType": "string", "classification": "pii"},
]
CONTRACT = {
    "apiVersion": "v3.2.0",
    "kind": "DataContract",
    "id": "bench",
    "version": "1.0.0",
    "status": "active",
    "schema": [{"name": name, "logicalType": "object", "properties": PROPERTIES} for name in ("request", "response")],
}
DECISION = Decision(
    id="a1b2c3d4e5f60718", integration="bench", source="model", version="1.0.0", reason=Reason.STATIC, degraded=False,
    contract="bench@1.0.0",
)  # fmt: skip
LATENCY_US = {"decode": 12, "check": 8, "features": 31, "queue": 20, "infer": 180, "encode": 9}
INPUTS = {"items": ["milk", "bread"], "customer": ["Ann", "Lee"]}


def per_call_ns(call: Callable[[], object]) -> float:
    """Nanoseconds per call over one round."""
    started = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - started) / CALLS


def main() -> None:
    """Print the medians of paired rounds and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        policy = JournalPolicy(envelopes_per_s=10**9, buffer_entries=10**6)
        journal = Journal(
            Path(folder), integration="bench", contract=compile_contract(CONTRACT), clock=SystemClock(), policy=policy
        )
        log = logging.getLogger("bench")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(logging.StreamHandler(Path(os.devnull).open("w")))  # noqa: SIM115 (open until the script ends)
        kept: list[object] = []
        calls = {
            "list append": lambda: kept.append(DECISION),
            "Journal.append": lambda: journal.append(DECISION, LATENCY_US, 2, INPUTS),
            "logging.info": lambda: log.info("decision %s %s %s", DECISION.id, DECISION.source, DECISION.version),
        }
        rounds: dict[str, list[float]] = {name: [] for name in calls}
        flushes: list[float] = []
        for _ in range(ROUNDS):
            for name, call in calls.items():
                rounds[name].append(per_call_ns(call))
            started = time.perf_counter_ns()
            journal.flush()
            flushes.append((time.perf_counter_ns() - started) / CALLS)
        journal.close()
        medians = {name: sorted(values)[ROUNDS // 2] for name, values in rounds.items()}
        for name, value in medians.items():
            print(f"{name:16} {value:8.0f} ns   {value / medians['list append']:7.1f} x list append")
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(f"flush, per entry {sorted(flushes)[ROUNDS // 2]:8.0f} ns   (another thread)")
        rows = read_journal(Path(folder)).num_rows
        print(f"on disk          {size / rows:8.1f} bytes per decision; dropped {journal.dropped}")


if __name__ == "__main__":
    main()
