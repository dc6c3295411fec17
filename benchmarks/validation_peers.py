"""Validation of the same records by Brownfield, pydantic, pandera, Great Expectations and dlt, in the same run.

Usage: python benchmarks/validation_peers.py [--peers FOLDER] [--rounds 5] [--records 100000]

Each peer lives in an environment of its own under FOLDER (a temporary one unless said), which this script makes with
pip where it is not there, and works in a process of its own. They take turns: in each round every worker reads the
valid records, and then the same with one broken in a hundred, again and again for a second of processor time. The
medians of the rounds count, in records per CPU-second of the worker, all its threads together; ratios are taken within
each round. Each answers with the numbers of the records that it refuses: the run ends when they are not exactly the
broken ones, which are known from how they are made.

The records have 10 fields, 8 value rules and 1 rule over two fields; each rule is broken equally often.
What each of them does:

- brownfield, rows: reads bodies of 1,000 JSON records, checks types and all 9 rules, gives columns, or refuses the body
  and names the records.
- brownfield, JSON lines: decodes JSON lines and checks the batches: types and all 9 rules, good records kept.
- brownfield, batch: checks an Arrow table that is in memory already: types and all 9 rules, good records kept.
- pydantic: reads the same bodies with the same types and rules into a list of models, or refuses the body.
- pandera: validates a pandas frame that is in memory already, lazily: types and all 9 rules.
- Great Expectations: validates a pandas frame in memory already against 9 expectations, with complete results.
- dlt: extracts, normalises and loads records (a twentieth as many) into DuckDB. It validates with pydantic's model and
  discards the others. It alone writes, too: its ratio says what its way into a table costs, not what its check does.
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
    "dlt": ["dlt[duckdb]", "pydantic"],
}
ROWS, LINES, BATCH = "brownfield, rows", "brownfield, JSON lines", "brownfield, batch"
PROMISED = {ROWS: 0.8e6, BATCH: 10e6}
OF_THE_SAME_INPUT = {"pydantic": ROWS, "pandera": BATCH, "great_expectations": BATCH, "dlt": LINES}
PER_BODY = 1000
ONE_BROKEN_IN = 100
FEWER_FOR_DLT = 20
CPU_SECONDS = 1.0
DEPARTMENTS = ["GROCERY", "FUEL", "DELI", "PRODUCE", "MEAT"]
BROKEN = [
    ("line_id", -1), ("store_id", 501), ("quantity", -1), ("price", -0.01), ("discount", 0.01), ("product", ""),
    ("week", 54), ("department", "NONE"), ("quantity", 1001),
]  # fmt: skip
Records = list[dict[str, Any]]
Work = Callable[[], list[int]]


def broken_of(count: int) -> range:
    """Say which records are broken."""
    return range(ONE_BROKEN_IN // 2, count, ONE_BROKEN_IN)


def records_of(count: int, *, broken: bool) -> Records:
    """Make the records, the same in every process."""
    records = [
        {
            "line_id": row + 1, "store_id": row % 457 + 1, "household_id": row % 2500, "quantity": row % 19 + 1,
            "price": (row % 9800 + 100) / 100, "discount": -(row % 100) / 100, "product": f"PRODUCT TYPE {row % 300}",
            "week": row % 53 + 1, "loyal": row % 2 == 0, "department": DEPARTMENTS[row % 5],
        }
        for row in range(count)
    ]  # fmt: skip
    for turn, row in enumerate(broken_of(count) if broken else ()):
        field, value = BROKEN[turn % len(BROKEN)]
        records[row][field] = value
    return records


def bodies_of(records: Records) -> list[tuple[int, bytes]]:
    """Write the records as JSON bodies, with the number of the first of each."""
    return [(at, json.dumps(records[at : at + PER_BODY]).encode()) for at in range(0, len(records), PER_BODY)]


def of_brownfield_rows(records: Records) -> Work:
    """Read bodies by the row path."""
    from brownfield.errors import InputRefused
    from contract_rows import contract

    decode, bodies = contract().rows.decode, bodies_of(records)

    def read() -> list[int]:
        refused: set[int] = set()
        for first, body in bodies:
            try:
                decode(body)
            except InputRefused as error:
                refused |= {first + each.row for each in error.violations}
        return sorted(refused)

    return read


def of_brownfield_batch(records: Records) -> Work:
    """Check a table by the batch path."""
    import pyarrow as pa

    from contract_rows import contract

    check, table = contract().batches.check, pa.Table.from_pylist(records)
    return lambda: [each.row for each in check(table).rejected]


def of_brownfield_lines(records: Records) -> Work:
    """Decode JSON lines and check their batches."""
    import pyarrow as pa

    from brownfield.data.formats import Json
    from contract_rows import contract

    check, wanted = contract().batches.check, pa.Table.from_pylist(records).schema
    data = b"".join(json.dumps(each).encode() + b"\n" for each in records)

    def read() -> list[int]:
        refused: list[int] = []
        first = 0
        for part in Json().decode(io.BytesIO(data), wanted):
            refused += [first + each.row for each in check(part.batch).rejected]
            first += part.batch.num_rows
        return refused

    return read


def line_model() -> Any:
    """Make the model of pydantic, strict and closed."""
    from typing import Annotated, Literal

    from pydantic import BaseModel, ConfigDict, Field, model_validator

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

    return Line


def of_pydantic(records: Records) -> Work:
    """Read bodies with models of pydantic."""
    from pydantic import TypeAdapter, ValidationError

    read, bodies = TypeAdapter(list[line_model()]).validate_json, bodies_of(records)  # type: ignore[misc]

    def validate() -> list[int]:
        refused: set[int] = set()
        for first, body in bodies:
            try:
                read(body)
            except ValidationError as error:
                refused |= {first + int(each["loc"][0]) for each in error.errors()}
        return sorted(refused)

    return validate


def of_pandera(records: Records) -> Work:
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
    frame = pd.DataFrame(records)

    def validate() -> list[int]:
        try:
            schema.validate(frame, lazy=True)
        except pa.errors.SchemaErrors as error:
            return sorted({int(each) for each in error.failure_cases["index"]})
        return []

    return validate


def of_great_expectations(records: Records) -> Work:
    """Validate with an expectation suite on pandas."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    logging_off()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("lines")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": pd.DataFrame(records)})
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

    def validate() -> list[int]:
        results = batch.validate(suite, result_format="COMPLETE").results
        return sorted({int(row) for each in results for row in each.result["unexpected_index_list"] or ()})

    return validate


def logging_off() -> None:
    """Keep a peer's words off the pipe."""
    import logging

    logging.disable(logging.CRITICAL)


def of_dlt(records: Records) -> Work:
    """Load with a pipeline of dlt into DuckDB, what its model refuses discarded."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    import duckdb

    logging_off()
    model, numbers = line_model(), iter(range(10**6))

    def load() -> list[int]:
        with tempfile.TemporaryDirectory() as folder:
            name = f"lines{next(numbers)}"
            target = dlt.destinations.duckdb(f"{folder}/{name}.duckdb")
            pipeline = dlt.pipeline(name, destination=target, dataset_name="d", pipelines_dir=folder)
            contract = {"tables": "evolve", "columns": "freeze", "data_type": "discard_row"}
            pipeline.run(records, table_name="lines", columns=model, schema_contract=contract)
            with duckdb.connect(f"{folder}/{name}.duckdb") as loaded:
                there = {row for (row,) in loaded.execute("SELECT line_id FROM d.lines").fetchall()}
        return [row for row in range(len(records)) if row + 1 not in there]

    return load


WORKERS: dict[str, Callable[[Records], Work]] = {
    ROWS: of_brownfield_rows, LINES: of_brownfield_lines, BATCH: of_brownfield_batch, "pydantic": of_pydantic,
    "pandera": of_pandera, "great_expectations": of_great_expectations, "dlt": of_dlt,
}  # fmt: skip


def serve(name: str, count: int) -> None:
    """Work for each line that comes in, which says on which records; answer with the rate and what was refused."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    works = {kind: WORKERS[name](records_of(count, broken=kind == "broken")) for kind in ("valid", "broken")}
    for work in works.values():
        work()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        work, times, begun, taken = works[line.strip()], 0, time.process_time(), 0.0
        while taken < CPU_SECONDS:
            refused = work()
            times += 1
            taken = time.process_time() - begun
        print(json.dumps([count * times / taken, refused]), file=answers, flush=True)


def environment(folder: Path, module: str, packages: list[str]) -> str:
    """Make an environment that holds a module, unless it is there; give its Python."""
    python = folder / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", f"import {module}"], check=False).returncode:
        print(f"installing {', '.join(packages)} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *packages]
        subprocess.run(install, check=True)
    return str(python)


class Worker:
    """A process that validates with one of them."""

    def __init__(self, name: str, python: str, count: int) -> None:
        self.name, self.count = name, count
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        self.process = subprocess.Popen(
            [python, __file__, "--worker", name, "--records", str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        self.answer()

    def answer(self) -> str:
        """Wait for a line; end the run with the worker's last words where none comes."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.log.seek(0)
            raise SystemExit(f"{self.name} ended:\n{self.log.read()[-3000:]}")
        return line

    def rate(self, kind: str) -> float:
        """Measure records per CPU-second of one round; what is refused must be what is broken."""
        print(kind, file=self.process.stdin, flush=True)
        rate, refused = json.loads(self.answer())
        broken = list(broken_of(self.count)) if kind == "broken" else []
        if refused != broken:
            raise SystemExit(
                f"{self.name} refused {len(refused)} of the {kind} records, {len(broken)} are broken: "
                f"records {sorted(set(refused) ^ set(broken))[:10]} differ"
            )
        return float(rate)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.log.close()


def measure(peers: Path, rounds: int, count: int) -> tuple[dict[str, int], dict[str, dict[str, list[float]]]]:
    """Measure all in turns: records of each, and rates by kind and name."""
    pythons = {name: sys.executable for name in WORKERS if name not in PEERS}
    pythons |= {name: environment(peers / name, name, packages) for name, packages in PEERS.items()}
    counts = {name: count // FEWER_FOR_DLT if name == "dlt" else count for name in pythons}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, python in pythons.items():
            workers[name] = Worker(name, python, counts[name])
            stack.callback(workers[name].close)
        rates: dict[str, dict[str, list[float]]] = {
            kind: {name: [] for name in workers} for kind in ("valid", "broken")
        }
        for _ in range(rounds):
            for kind, found in rates.items():
                for name, worker in workers.items():
                    found[name].append(worker.rate(kind))
    return counts, rates


def report(counts: dict[str, int], rates: dict[str, dict[str, list[float]]]) -> None:
    """Print medians, spreads, and the ratios within the rounds."""
    rounds = len(rates["valid"][ROWS])
    print(f"10 fields, 9 rules; millions of records per CPU-second, medians of {rounds} interleaved rounds")
    print(f"{'':24}{'valid':>9}  {'least to most':18}{'1 % broken':>11}  {'least to most':18}ours is (valid, broken)")
    for name in counts:
        line = f"{name:24}"
        for kind, width in (("valid", 9), ("broken", 11)):
            found = sorted(rates[kind][name])
            spread = f"{found[0] / 1e6:.4f} to {found[-1] / 1e6:.4f}"
            line += f"{statistics.median(found) / 1e6:{width}.4f}  {spread:18}"
        if name in OF_THE_SAME_INPUT:
            ours = OF_THE_SAME_INPUT[name]
            times = [
                statistics.median(a / b for a, b in zip(rates[kind][ours], rates[kind][name], strict=True))
                for kind in ("valid", "broken")
            ]
            line += f"{times[0]:.2f}x, {times[1]:.2f}x by {ours.removeprefix('brownfield, ')}"
        print(line)
    refused = {name: f"{len(broken_of(count)):,} of {count:,}" for name, count in counts.items()}
    print(f"refused: in every round each refused exactly the broken records, {refused[ROWS]} (dlt {refused['dlt']}), "
          "and no valid one")  # fmt: skip
    for name, least in PROMISED.items():
        found = statistics.median(rates["valid"][name])
        print(f"promised of {name}: {least / 1e6:.1f} M/s, {'kept' if found >= least else 'NOT KEPT'}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(arguments.worker, arguments.records)
        return
    with tempfile.TemporaryDirectory(prefix="brownfield-peers-") as folder:
        report(*measure(arguments.peers or Path(folder), arguments.rounds, arguments.records))


if __name__ == "__main__":
    main()
