"""Rows per second into PostgreSQL: the idempotent sink beside COPY, executemany and dlt, in the same run.

Usage: python benchmarks/apply_rows.py [--server STRING] [--rows 200000] [--rounds 5] [--peers FOLDER]

Without ``--server`` (a libpq connection string or URL) or ``BROWNFIELD_TEST_POSTGRES_URL`` a server of its own is
started. A named one must be one to play with: schemas ``brownfield_benchmark...`` are made in it and dropped again.
dlt works in an environment of its own under FOLDER (a temporary one unless said), which pip makes where it is not
there. All take turns with the same rows, first into an empty table (new) and then again (there); the
medians of the rounds count, in rows per second of the clock, and ratios are taken within each round.

- sink: batches of 20,000 rows, each one an effect with its ledger row, epoch and position in one transaction; a repeat
  of a batch changes nothing. ``known`` hands the same effects in again, as a run does after a crash.
- COPY: row by row with the driver, a transaction for each batch; a repeat fails, and nothing is remembered.
- executemany: INSERT ... ON CONFLICT DO UPDATE with the driver, likewise; repeats do no harm.
- dlt, Arrow: the table handed to dlt as Arrow, loaded as CSV, merged by key with strategy upsert, in one load package.
- dlt, rows: a tenth of the same rows as dictionaries, merged likewise.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from validation_peers import environment

SCHEMA = "brownfield_benchmark"
DDL = f"""
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
SET search_path = {SCHEMA};
CREATE TABLE scores (
  basket bigint PRIMARY KEY, store integer, label text, score double precision,
  at timestamptz, degraded boolean, model text
);
"""
DLT_SCHEMA = f"{SCHEMA}_dlt"
DLT_PACKAGES = ["dlt[postgres]", "pyarrow"]
COLUMNS = ("basket", "store", "label", "score", "at", "degraded", "model")
BATCH_ROWS = 20_000
FEWER_FOR_DLT_ROWS = 10
PROMISED = 80_000
SINK, COPY, MANY, DLT_ARROW, DLT_ROWS = "sink", "COPY", "executemany", "dlt, Arrow", "dlt, rows"
NEW, THERE, KNOWN = "new", "there", "known"
Parameters = dict[str, Any]
Rates = dict[tuple[str, str], list[float]]


def batches(count: int) -> list[Any]:
    """Make batches of seven columns, the same in every process."""
    import pyarrow as pa

    made = []
    for start in range(0, count, BATCH_ROWS):
        rows = range(start, min(start + BATCH_ROWS, count))
        columns = [
            pa.array(rows, pa.int64()),
            pa.array([row % 457 for row in rows], pa.int32()),
            pa.array([f"PRODUCT {row % 1000}" for row in rows]),
            pa.array([row / count for row in rows]),
            pa.array([1_760_000_000_000_000 + row for row in rows], pa.timestamp("us", "UTC")),
            pa.array([row % 10 == 0 for row in rows]),
            pa.array(["recommender@1.0.0"] * len(rows)),
        ]
        made.append(pa.RecordBatch.from_arrays(columns, names=list(COLUMNS)))
    return made


def sink(parameters: Parameters, data: list[Any], attempt: str) -> None:
    """Apply with the sink."""
    from brownfield.data.sinks import PostgresTableSink, TableTarget

    target = TableTarget("scores", COLUMNS, ("basket",))
    with PostgresTableSink(parameters, target, "benchmark", schema=SCHEMA) as into:
        for number, batch in enumerate(data):
            into.apply(f"{attempt}-{number}", batch, {"after": [number]})


def copy(parameters: Parameters, data: list[Any], _: str) -> None:
    """COPY with the driver."""
    import psycopg

    for batch in data:
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        into = f"COPY {SCHEMA}.scores FROM STDIN"
        with psycopg.connect(**parameters) as connection, connection.cursor() as cursor, cursor.copy(into) as writer:
            for row in rows:
                writer.write_row(row)


def executemany(parameters: Parameters, data: list[Any], _: str) -> None:
    """Upsert by executemany."""
    import psycopg

    values = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS[1:])
    marks = ", ".join(["%s"] * len(COLUMNS))
    statement = f"INSERT INTO {SCHEMA}.scores VALUES ({marks}) ON CONFLICT (basket) DO UPDATE SET {values}"  # noqa: S608 (constants)
    for batch in data:
        with psycopg.connect(**parameters) as connection, connection.cursor() as cursor:
            cursor.executemany(statement, list(zip(*(column.to_pylist() for column in batch.columns), strict=True)))


def serve_dlt(count: int) -> None:
    """Load for each line that comes in, which says how and as whom; answer with the seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    import pyarrow as pa

    table = pa.Table.from_batches(batches(count))
    rows = table.slice(0, count // FEWER_FOR_DLT_ROWS).to_pylist()
    print("ready", file=answers, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            name, way, credentials = json.loads(line)
            begun = time.perf_counter()
            target = dlt.destinations.postgres(credentials=credentials)
            pipeline = dlt.pipeline(name, destination=target, dataset_name=DLT_SCHEMA, pipelines_dir=folder)
            pipeline.run(
                table if way == DLT_ARROW else rows, table_name="scores", primary_key="basket",
                write_disposition={"disposition": "merge", "strategy": "upsert"},
                loader_file_format="csv" if way == DLT_ARROW else None,
            )  # fmt: skip
            print(time.perf_counter() - begun, file=answers, flush=True)


class Dlt:
    """The process that loads with dlt."""

    def __init__(self, python: str, count: int) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [python, __file__, "--worker", "--rows", str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        self.answer()

    def answer(self) -> str:
        """Wait for a line; end the run with the process's last words where none comes."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.log.seek(0)
            raise SystemExit(f"dlt ended:\n{self.log.read()[-3000:]}")
        return line

    def load(self, name: str, way: str, parameters: Parameters) -> float:
        """Seconds of one load."""
        credentials = {
            "host": parameters["host"], "port": int(parameters.get("port", 5432)), "username": parameters["user"],
            "password": parameters.get("password", ""), "database": parameters["dbname"],
        }  # fmt: skip
        print(json.dumps([name, way, credentials]), file=self.process.stdin, flush=True)
        return float(self.answer())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.log.close()


@contextlib.contextmanager
def server(named: str | None) -> Iterator[Parameters]:
    """Connect to the named server, or start one."""
    from psycopg.conninfo import conninfo_to_dict

    if named:
        yield dict(conninfo_to_dict(named))
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from harness.databases import postgres_server

    with postgres_server() as started:
        yield started.options


def measure(run: Callable[[], None]) -> float:
    """Wall seconds of one run."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def rounds_of(
    owner: Any, parameters: Parameters, dlt: Dlt, count: int, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """Rows per second by way and state of the table, one for each round."""
    from brownfield.data.sinks import ledger_ddl

    data = batches(count)
    rates: Rates = {}

    def noted(way: str, state: str, rows: int, seconds: float) -> None:
        rates.setdefault((way, state), []).append(rows / seconds)

    def holds(table: str, rows: int) -> None:
        assert owner.execute(f"SELECT count(*) FROM {table}").fetchone() == (rows,), table  # noqa: S608 (constants)

    for attempt in range(rounds):
        for way, run in {COPY: copy, MANY: executemany, SINK: sink}.items():
            owner.execute(DDL + ledger_ddl("postgres", schema=SCHEMA))
            for state in (NEW, THERE) if way != COPY else (NEW,):
                effects = f"{state}{attempt}"
                noted(way, state, count, measure(lambda run=run, effects=effects: run(parameters, data, effects)))
                holds(f"{SCHEMA}.scores", count)
        noted(SINK, KNOWN, count, measure(lambda again=f"{THERE}{attempt}": sink(parameters, data, again)))
        holds(f"{SCHEMA}.brownfield_effect", 2 * len(data))
        for way, rows in {DLT_ARROW: count, DLT_ROWS: count // FEWER_FOR_DLT_ROWS}.items():
            drop_dlt(owner)
            for state in (NEW, THERE):
                seconds = dlt.load(f"scores_{attempt}_{rows}", way, parameters)
                noted(way, state, rows, seconds)
                holds(f"{DLT_SCHEMA}.scores", rows)
    return rates


def drop_dlt(owner: Any) -> None:
    """Drop what dlt made."""
    owner.execute(f"DROP SCHEMA IF EXISTS {DLT_SCHEMA} CASCADE; DROP SCHEMA IF EXISTS {DLT_SCHEMA}_staging CASCADE")


def report(rates: Rates) -> None:
    """Print medians, spreads, and the ratios of the sink within the rounds."""
    print(f"{'':28}{'rows/s':>10}  {'least to most':22}sink is")
    for (way, state), found in rates.items():
        line = (
            f"{f'{way}, {state}':28}{statistics.median(found):10,.0f}  {f'{min(found):,.0f} to {max(found):,.0f}':22}"
        )
        if way != SINK:
            ratios = [ours / theirs for ours, theirs in zip(rates[SINK, state], found, strict=True)]
            line += f"{statistics.median(ratios):.2f}x"
        print(line)
    middle = min(statistics.median(rates[SINK, state]) for state in (NEW, THERE))
    print(f"promised of the sink: {PROMISED:,} rows/s, {'kept' if middle >= PROMISED else 'NOT KEPT'}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=os.environ.get("BROWNFIELD_TEST_POSTGRES_URL"), metavar="STRING")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=Path, metavar="FOLDER")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve_dlt(arguments.rows)
        return
    import psycopg

    with tempfile.TemporaryDirectory(prefix="brownfield-peers-") as folder, contextlib.ExitStack() as stack:
        python = environment((arguments.peers or Path(folder)) / "dlt_postgres", "dlt", DLT_PACKAGES)
        parameters = stack.enter_context(server(arguments.server))
        dlt = Dlt(python, arguments.rows)
        stack.callback(dlt.close)
        owner = stack.enter_context(psycopg.connect(**parameters, autocommit=True))
        version, fsync = (owner.execute(f"SHOW {name}").fetchone()[0] for name in ("server_version", "fsync"))
        print(f"{arguments.rows:,} rows of 7 columns into PostgreSQL {version}, fsync {fsync}; "
              f"medians of {arguments.rounds} interleaved rounds")  # fmt: skip
        report(rounds_of(owner, parameters, dlt, arguments.rows, arguments.rounds))
        owner.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        drop_dlt(owner)


if __name__ == "__main__":
    main()
