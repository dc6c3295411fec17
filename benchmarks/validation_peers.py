"""Validation of the same records by Brownfield, pydantic, pandera, Great Expectations and dlt, in the same run.

Usage: python benchmarks/validation_peers.py [--rows 100000] [--rounds 5] [--environments FOLDER]

Each peer lives in an environment of its own, which this script makes with pip on the first run, and works in a process
of its own. They take turns; the median of the rounds counts, in records per CPU-second of the worker.
The records have 10 fields, 8 value rules and 1 record rule, and are all valid.

What each of them does:

- brownfield, rows: reads bodies of 1,000 JSON records, checks types and all 9 rules, gives columns.
- brownfield, JSON lines: decodes a file of JSON lines and checks the batches: decode and all 9 rules.
- brownfield, batch: checks an Arrow table that is in memory already: types and all 9 rules, an exact mask of rows.
- pydantic: reads the same bodies with the same types and rules into a list of models.
- pandera: validates a pandas frame that is in memory already, lazily: types and all 9 rules.
- Great Expectations: validates a pandas frame in memory already against 9 expectations; a summary, not a mask.
- dlt: extracts, normalises and loads a tenth of the records into DuckDB with types frozen; its rules are types alone.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEERS = {
    "pydantic": ["pydantic"],
    "pandera": ["pandera[pandas]"],
    "great_expectations": ["great-expectations", "pandas"],
    "dlt": ["dlt[duckdb]"],
}
OURS = ("brownfield, rows", "brownfield, JSON lines", "brownfield, batch")
PER_BODY = 1000
DEPARTMENTS = ["GROCERY", "FUEL", "DELI", "PRODUCE", "MEAT"]
Work = Callable[[], int]


def rows_of(count: int) -> list[dict[str, Any]]:
    """Make the records, the same in every process."""
    return [
        {
            "line_id": row + 1, "store_id": row % 457 + 1, "household_id": row % 2500, "quantity": row % 19 + 1,
            "price": (row % 9800 + 100) / 100, "discount": -(row % 100) / 100, "product": f"PRODUCT TYPE {row % 300}",
            "week": row % 53 + 1, "loyal": row % 2 == 0, "department": DEPARTMENTS[row % 5],
        }
        for row in range(count)
    ]  # fmt: skip


def bodies_of(rows: list[dict[str, Any]]) -> list[bytes]:
    """Write the records as JSON bodies."""
    return [json.dumps(rows[at : at + PER_BODY]).encode() for at in range(0, len(rows), PER_BODY)]


def of_brownfield(name: str, rows: list[dict[str, Any]]) -> Work:
    """Check by Brownfield's two paths, and read its JSON lines."""
    import pyarrow as pa

    from brownfield.data.formats import Json
    from contract_rows import contract

    schema = contract()
    table = pa.Table.from_pylist(rows)
    if name == "brownfield, rows":
        bodies = bodies_of(rows)
        return lambda: sum(schema.rows.decode(body).rows for body in bodies)
    if name == "brownfield, batch":
        return lambda: schema.batches.check(table).accepted.num_rows
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    def lines() -> int:
        decoded = Json().decode(io.BytesIO(data), table.schema)
        return sum(schema.batches.check(part.batch).accepted.num_rows for part in decoded)

    return lines


def of_pydantic(rows: list[dict[str, Any]]) -> Work:
    """Read with models of pydantic, strict and closed."""
    from typing import Annotated, Literal

    from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

    class Line(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        line_id: Annotated[int, Field(ge=1)]
        store_id: Annotated[int, Field(ge=1, le=500)]
        household_id: int
        quantity: Annotated[int, Field(ge=0, le=100_000)]
        price: Annotated[float, Field(ge=0)]
        discount: Annotated[float, Field(le=0)]
        product: Annotated[str, Field(min_length=1, max_length=40)]
        week: Annotated[int, Field(ge=1, le=53)]
        loyal: bool
        department: Literal["GROCERY", "FUEL", "DELI", "PRODUCE", "MEAT"]

        @model_validator(mode="after")
        def fuel(self) -> "Line":
            """Only fuel is sold by the thousand."""
            if self.department != "FUEL" and self.quantity > 1000:
                raise ValueError
            return self

    read, bodies = TypeAdapter(list[Line]).validate_json, bodies_of(rows)
    return lambda: sum(len(read(body)) for body in bodies)


def of_pandera(rows: list[dict[str, Any]]) -> Work:
    """Validate with a schema of pandera on pandas."""
    import pandas as pd
    import pandera.pandas as pa

    check = pa.Check
    schema = pa.DataFrameSchema(
        {
            "line_id": pa.Column("int64", check.ge(1)), "store_id": pa.Column("int64", check.in_range(1, 500)),
            "household_id": pa.Column("int64"), "quantity": pa.Column("int64", check.in_range(0, 100_000)),
            "price": pa.Column("float64", check.ge(0)), "discount": pa.Column("float64", check.le(0)),
            "product": pa.Column(str, check.str_length(1, 40)), "week": pa.Column("int64", check.in_range(1, 53)),
            "loyal": pa.Column(bool), "department": pa.Column(str, check.isin(DEPARTMENTS)),
        },
        checks=check(lambda frame: (frame["department"] == "FUEL") | (frame["quantity"] <= 1000)),
        strict=True,
    )  # fmt: skip
    frame = pd.DataFrame(rows)
    return lambda: len(schema.validate(frame, lazy=True))


def of_great_expectations(rows: list[dict[str, Any]]) -> Work:
    """Validate with an expectation suite on pandas."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    logging_off()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("lines")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": pd.DataFrame(rows)})
    between = gxe.ExpectColumnValuesToBeBetween
    suite = gx.ExpectationSuite(
        "lines",
        expectations=[
            between(column="line_id", min_value=1), between(column="store_id", min_value=1, max_value=500),
            between(column="quantity", min_value=0, max_value=100_000), between(column="price", min_value=0),
            between(column="discount", max_value=0),
            gxe.ExpectColumnValueLengthsToBeBetween(column="product", min_value=1, max_value=40),
            between(column="week", min_value=1, max_value=53),
            gxe.ExpectColumnValuesToBeInSet(column="department", value_set=DEPARTMENTS),
            between(column="quantity", max_value=1000, condition_parser="pandas",
                    row_condition='department!="FUEL"'),
        ],
    )  # fmt: skip

    def validate() -> int:
        result = batch.validate(suite)
        if not result.success:
            raise SystemExit("the records are valid")
        return len(rows)

    return validate


def logging_off() -> None:
    """Keep a peer's words off the pipe."""
    import logging

    logging.disable(logging.CRITICAL)


def of_dlt(rows: list[dict[str, Any]]) -> Work:
    """Load with a pipeline of dlt into DuckDB."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt

    logging_off()
    few = rows[: len(rows) // 10]
    folder = tempfile.mkdtemp()
    numbers = iter(range(10**6))

    def load() -> int:
        name = f"lines{next(numbers)}"
        target = dlt.destinations.duckdb(f"{folder}/{name}.duckdb")
        pipeline = dlt.pipeline(name, destination=target, dataset_name="d", pipelines_dir=folder)
        pipeline.run(few, table_name="lines", schema_contract={"data_type": "freeze"})
        return len(few)

    return load


def work_of(name: str, rows: list[dict[str, Any]]) -> Work:
    """Find what one worker does."""
    peers = {
        "pydantic": of_pydantic,
        "pandera": of_pandera,
        "great_expectations": of_great_expectations,
        "dlt": of_dlt,
    }
    return peers[name](rows) if name in peers else of_brownfield(name, rows)


def serve(name: str, count: int) -> None:
    """Work one round for each line that comes in; answer with records per CPU-second."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = work_of(name, rows_of(count))
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        begun = time.process_time()
        with contextlib.redirect_stdout(sys.stderr):
            done = work()
        print(done / (time.process_time() - begun), file=answers, flush=True)


def environment(peer: str, folder: Path) -> str:
    """Make a peer's environment, unless it is there; give its Python."""
    python = folder / peer / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", f"import {peer}"], check=False).returncode:
        venv.create(folder / peer, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS[peer]], check=True)
    return str(python)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "brownfield-peers")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(arguments.worker, arguments.rows)
        return
    pythons = dict.fromkeys(OURS, sys.executable)
    pythons |= {peer: environment(peer, arguments.environments) for peer in PEERS}
    workers = {
        name: subprocess.Popen(
            [python, __file__, "--worker", name, "--rows", str(arguments.rows)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for name, python in pythons.items()
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for name, worker in workers.items():
        if worker.stdout is None or worker.stdout.readline() != "ready\n":
            raise SystemExit(f"{name} did not start")
    for _ in range(arguments.rounds):
        for name, worker in workers.items():
            if worker.stdin is None or worker.stdout is None:
                raise SystemExit(name)
            print("go", file=worker.stdin, flush=True)
            rates[name].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    base = statistics.median(rates[OURS[0]])
    print(f"{arguments.rows:,} records, 10 fields, 9 rules, median of {arguments.rounds} (records per CPU-second)")
    for name, found in rates.items():
        middle = statistics.median(found)
        spread = f"{min(found) / 1e6:.4f} to {max(found) / 1e6:.4f}"
        print(f"{name:24} {middle / 1e6:9.4f} M/s {middle / base:9.4f}x   {spread}")


if __name__ == "__main__":
    main()
