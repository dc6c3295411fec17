"""A writer that is killed: makes effect after effect of ten records each, from where the ledger says, until told.

Usage: writer.py SETTINGS_JSON. It prints a line when it has taken over, and each time asks for the last effect again.
"""

import json
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


def main() -> None:
    """Write until the settings' last effect, or until killed."""
    settings = json.loads(sys.argv[1])
    sink = make(settings)
    for attempt in range(50):
        try:
            sink.take_over()
            break
        except SinkUnavailable:
            if attempt == 49:
                raise
            time.sleep(0.2)
    sys.stdout.write("started\n")
    sys.stdout.flush()
    done = (sink.position() or {"after": 0})["after"]
    last = settings.get("more")
    for number in range(max(done, 1), done + last + 1 if last else sys.maxsize):
        baskets = range(number * EFFECT_ROWS, (number + 1) * EFFECT_ROWS)
        batch = pa.record_batch({"basket": baskets, "score": [float(number)] * EFFECT_ROWS})
        sink.apply(f"effect-{number}", batch, {"after": number})
    sink.close()


if __name__ == "__main__":
    main()
