"""Writers that are killed: each makes effect after effect of ten records, from where the ledger says, until told.

Usage: writer.py SETTINGS_JSON. For each line of input, a number of effects or 0, it begins a writer in a process of its
own, which tells its identifier when it has taken over and asks for the last effect again; then it tells how that ended.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

import pyarrow as pa

from brownfield.data.folders import LocalFolder, SftpAddress, SftpFolder
from brownfield.data.formats import Csv
from brownfield.data.sinks import FileSink, MysqlTableSink, PostgresTableSink, SqliteTableSink, TableTarget
from brownfield.data.sources import Budget
from brownfield.errors import SinkUnavailable

TARGET = TableTarget("scores", ("basket", "score"), ("basket",))
EFFECT_ROWS = 10


def make(settings: dict):
    """Make the sink of the settings."""
    kind = settings["kind"]
    if kind == "files":
        return FileSink(
            LocalFolder(Path(settings["drop"])), "{effect_id}.csv", Csv(header=False).encode, Path(settings["ledger"])
        )
    if kind == "sftp":
        address = SftpAddress(**{**settings["address"], "addresses": tuple(settings["address"]["addresses"])})
        budget = Budget(Path(settings["var"]) / "budgets", "sftp", 2, 10**9)
        folder = SftpFolder("drop", lambda: address, settings["drop"], budget, Path(settings["var"]) / "spool")
        return FileSink(folder, "{effect_id}.csv", Csv(header=False).encode, Path(settings["ledger"]))
    if kind == "sqlite":
        return SqliteTableSink(Path(settings["path"]), TARGET, "soak", busy_timeout_s=10)
    if kind == "mysql":
        return MysqlTableSink(settings["parameters"], TARGET, "soak")
    return PostgresTableSink(settings["parameters"], TARGET, "soak", schema=settings["schema"])


DRIVERS = {"mysql": "pymysql", "postgres": "psycopg", "sftp": "paramiko"}


def main() -> None:
    """Begin a writer for each line of the input; what is imported once is there in every one."""
    settings = json.loads(sys.argv[1])
    if settings["kind"] in DRIVERS:
        importlib.import_module(DRIVERS[settings["kind"]])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            write(make(settings), int(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def write(sink, last: int) -> None:
    """Write effects, so many or until killed."""
    for attempt in range(50):
        try:
            sink.take_over()
            break
        except SinkUnavailable:
            if attempt == 49:
                raise
            time.sleep(0.2)
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    done = (sink.position() or {"after": 0})["after"]
    for number in range(max(done, 1), done + last + 1 if last else sys.maxsize):
        baskets = range(number * EFFECT_ROWS, (number + 1) * EFFECT_ROWS)
        batch = pa.record_batch({"basket": baskets, "score": [float(number)] * EFFECT_ROWS})
        sink.apply(f"effect-{number}", batch, {"after": number})
    sink.close()


if __name__ == "__main__":
    main()
