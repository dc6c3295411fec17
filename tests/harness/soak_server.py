"""A fork server for soaks: all imports are made once, so that a child is under way some milliseconds after it is asked.

Usage: soak_server.py WORKSPACE. Each line with a number on standard input forks a child that pulls and delivers until
it is killed, once the one before was reaped; its process id is printed. The line ``end`` reaps the last one. Each
answer holds the status of the child that was reaped. Only what is out of reach for a while is tried again: every other
error of a child ends it, and its text stands in ``var/soak-errors``.

Children with even numbers also kill themselves, by the same SIGKILL, where it hurts most: between two steps that must
not be torn apart, as the number draws it. All others are killed from outside, wherever they are.
"""

import os
import random
import signal
import sys
import traceback
from pathlib import Path

from brownfield.data.pipeline import run as run_module
from brownfield.data.pipeline import run_pipeline
from brownfield.data.pipeline.running import Run
from brownfield.data.sources import DatabaseTable, FileFeed, QueueSource, SqliteTable
from brownfield.errors import SourceUnavailable
from brownfield.integration import load_workspace
from brownfield.store import open_store
from brownfield.store.outbox import Outbox

AIMS = [
    (Outbox, "_update"),
    (Run, "commit"),
    (Run, "publish"),
    (run_module, "deliver"),
    *((source, "ack") for source in (SqliteTable, DatabaseTable, FileFeed, QueueSource)),
]
"""What is called between two steps: the sink has a batch, and the outbox does not know; and so on."""


_AIMED_SHARE = 0.4


def aim(number: int) -> None:
    """Let the process kill itself in one of these calls, or nowhere."""
    chance = random.Random(number)  # noqa: S311 (moments of kills)
    if number % 2:
        return
    left = chance.randrange(1, 5)
    for owner, name in AIMS:
        real, picked = getattr(owner, name), chance.random() < _AIMED_SHARE

        def deadly(*arguments, real=real, picked=picked, **options):
            nonlocal left
            left -= picked
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(owner, name, deadly)


def pull_for_ever(shop: Path) -> None:
    """Pull and deliver again and again."""
    workspace = load_workspace(shop)
    [spec] = workspace.integrations.values()
    while True:
        with open_store(shop / "var/brownfield.db") as store:
            try:
                while True:
                    run_pipeline(spec, workspace.connections, store, shop / "var/data" / spec.name)
            except SourceUnavailable:
                continue


def main() -> None:
    """Serve until told to end."""
    shop = Path(sys.argv[1])
    load_workspace(shop)
    child = 0
    for line in sys.stdin:
        status = os.waitpid(child, 0)[1] if child else 0
        child = 0
        if line.strip() != "end":
            child = os.fork()
            if child == 0:
                try:
                    aim(int(line))
                    pull_for_ever(shop)
                except BaseException:  # noqa: BLE001 (the parent reads it)
                    with (shop / "var/soak-errors").open("a") as errors:
                        traceback.print_exc(file=errors)
                    os._exit(1)
        sys.stdout.write(f"{child} {status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
