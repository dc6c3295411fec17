"""What a run over a few new records costs after many runs before it, beside the same with another Brownfield.

Run: ``python benchmarks/increments.py [RUNS] [SRC]`` (1,000 runs unless said). SRC is the ``src`` folder of another
version, which is measured in a process of its own right after; the ratio is of the last hundred runs.
"""

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from brownfield.data.pipeline import run_pipeline
from brownfield.integration import load_workspace
from brownfield.store import open_store

WORKSPACE = "workspace: shop\nconnections:\n  pos: {kind: sqlite, path: pos.db}\n"
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  sales: {feed: true, connection: pos, table: sales, cursor: {column: line_id, key: line_id}}
unified:
  lines: {from: sales}
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: reco
version: 1.0.0
status: active
schema:
  - {name: request, logicalType: object, properties: [{name: store, logicalType: integer, required: true}]}
  - name: response
    logicalType: object
    properties: [{name: items, logicalType: array, required: true, items: {logicalType: string}}]
  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: ticket, logicalType: string, required: true, unique: true}
      - {name: quantity, logicalType: integer, required: true}
  - name: lines
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, primaryKey: true, required: true}
      - {name: ticket, logicalType: string, required: true, unique: true}
      - {name: quantity, logicalType: integer, required: true}
"""
ROWS = 20


def lay_out(shop: Path) -> None:
    """Make a till that has sold nothing yet."""
    (shop / "integrations/reco").mkdir(parents=True)
    (shop / "brownfield.yaml").write_text(WORKSPACE)
    (shop / "integrations/reco/integration.yaml").write_text(INTEGRATION)
    (shop / "integrations/reco/contract.odcs.yaml").write_text(CONTRACT)
    with closing(sqlite3.connect(shop / "pos.db")) as database, database:
        database.execute("CREATE TABLE sales (line_id INTEGER PRIMARY KEY, ticket TEXT, quantity INTEGER)")


def measure(runs: int) -> list[float]:
    """Milliseconds of processor time of each run: other programs on the machine do not count."""
    with tempfile.TemporaryDirectory() as temporary:
        shop = Path(temporary)
        lay_out(shop)
        workspace = load_workspace(shop)
        taken = []
        with open_store(shop / "var/brownfield.db") as store, closing(sqlite3.connect(shop / "pos.db")) as till:
            for number in range(runs):
                lines = range(number * ROWS, (number + 1) * ROWS)
                with till:
                    till.executemany("INSERT INTO sales VALUES (?, ?, 1)", [(line, f"t{line:09d}") for line in lines])
                began = time.process_time()
                run_pipeline(workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco")
                taken.append((time.process_time() - began) * 1_000)
    return taken


def main(runs: int, other: str | None) -> None:
    """Print the figures."""
    taken = measure(runs)
    first, last = statistics.median(taken[:100]), statistics.median(taken[-100:])
    print(f"{runs:,} runs of {ROWS} records, processor time of one: ", end="")
    print(f"among the first hundred {first:.1f} ms, among the last {last:.1f} ms ({last / first:.2f} x)")
    if other is not None:
        environment = {**os.environ, "PYTHONPATH": other}
        done = subprocess.run(
            [sys.executable, __file__, str(runs)], env=environment, capture_output=True, text=True, check=True
        )
        print(f"{other}: {done.stdout.strip()}")
        theirs = float(done.stdout.rpartition("among the last ")[2].partition(" ms")[0])
        print(f"a late run takes {theirs / last:.1f} x as long there")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000, sys.argv[2] if len(sys.argv) > 2 else None)
