"""Rows per second into PostgreSQL: the idempotent sink beside bare COPY and bare executemany, in the same run.

Usage: python benchmarks/apply_rows.py [LIBPQ_CONNECTION_STRING [ROWS]]

Without an argument the server is the one that BROWNFIELD_TEST_POSTGRES_URL names.
It must be one to play with: a schema ``brownfield_benchmark`` is made in it and dropped again.
"""

import os
import sys
import time
from collections.abc import Callable

import psycopg
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict

from brownfield.data.sinks import PostgresTableSink, TableTarget, ledger_ddl

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
COLUMNS = ("basket", "store", "label", "score", "at", "degraded", "model")
BATCH_ROWS = 20_000
RUNS = 3


def batches(count: int) -> list[pa.RecordBatch]:
    """Make batches of seven columns."""
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


def effects(parameters: dict, data: list[pa.RecordBatch], attempt: str) -> None:
    """Apply with the sink: each batch an effect with its ledger row, epoch and position, in a transaction."""
    target = TableTarget("scores", COLUMNS, ("basket",))
    with PostgresTableSink(parameters, target, "benchmark", schema=SCHEMA) as sink:
        for number, batch in enumerate(data):
            sink.apply(f"{attempt}-{number}", batch, {"after": [number]})


def bare_copy(parameters: dict, data: list[pa.RecordBatch], _: str) -> None:
    """COPY row by row with the driver, straight into the table: a repeat fails, and nothing is remembered."""
    for batch in data:
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        into = f"COPY {SCHEMA}.scores FROM STDIN"
        with psycopg.connect(**parameters) as connection, connection.cursor() as cursor, cursor.copy(into) as copy:
            for row in rows:
                copy.write_row(row)


def bare_executemany(parameters: dict, data: list[pa.RecordBatch], _: str) -> None:
    """Upsert by executemany: repeats do no harm, and nothing is remembered."""
    values = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS[1:])
    marks = ", ".join(["%s"] * len(COLUMNS))
    statement = f"INSERT INTO {SCHEMA}.scores VALUES ({marks}) ON CONFLICT (basket) DO UPDATE SET {values}"  # noqa: S608 (constants)
    for batch in data:
        with psycopg.connect(**parameters) as connection, connection.cursor() as cursor:
            cursor.executemany(statement, list(zip(*(column.to_pylist() for column in batch.columns), strict=True)))


def measure(run: Callable[[], None]) -> float:
    """Wall seconds of one run."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    """Print the best of interleaved runs of each, and the ratios."""
    server = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BROWNFIELD_TEST_POSTGRES_URL")
    if server is None:
        print("no server: give a connection string, or set BROWNFIELD_TEST_POSTGRES_URL")
        return
    parameters = conninfo_to_dict(server)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    data = batches(count)
    best: dict[str, float] = {}

    def noted(name: str, seconds: float) -> None:
        best[name] = min(best.get(name, seconds), seconds)

    with psycopg.connect(**parameters, autocommit=True) as owner:
        for attempt in range(RUNS):
            for way in (bare_copy, bare_executemany, effects):
                owner.execute(DDL + ledger_ddl("postgres", schema=SCHEMA))
                noted(
                    f"{way.__name__}, new rows",
                    measure(lambda way=way, attempt=attempt: way(parameters, data, f"new{attempt}")),
                )
                assert owner.execute("SELECT count(*) FROM scores").fetchone() == (count,)
                if way is not bare_copy:
                    seconds = measure(lambda way=way, attempt=attempt: way(parameters, data, f"again{attempt}"))
                    noted(f"{way.__name__}, rows that are there", seconds)
            seconds = measure(lambda attempt=attempt: effects(parameters, data, f"again{attempt}"))
            noted("effects, effects that are there", seconds)
            assert owner.execute("SELECT count(*) FROM brownfield_effect").fetchone() == (2 * len(data),)
        owner.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    for name, seconds in best.items():
        print(f"{name}: {count / seconds:,.0f} rows/s")
    print(f"ratio to executemany, new rows: {best['bare_executemany, new rows'] / best['effects, new rows']:.2f}")
    print(f"ratio to bare COPY, new rows: {best['bare_copy, new rows'] / best['effects, new rows']:.2f}")


if __name__ == "__main__":
    main()
