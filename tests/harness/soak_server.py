"""A fork server for soaks: all imports are made once, so that a child is under way some milliseconds after it is asked.

Usage: soak_server.py WORKSPACE. Each line on standard input forks a child that pulls and delivers until it is killed,
once the one before was reaped; its process id is printed. The line ``end`` reaps the last one. Each answer holds the
status of the child that was reaped. Only what is out of reach for a while is tried again: every other error of a child
ends it, and its text stands in ``var/soak-errors``.
"""

import os
import sys
import traceback
from pathlib import Path

from brownfield.data.pipeline import run_pipeline
from brownfield.errors import SourceUnavailable
from brownfield.integration import load_workspace
from brownfield.store import open_store


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
                    pull_for_ever(shop)
                except BaseException:  # noqa: BLE001 (the parent reads it)
                    with (shop / "var/soak-errors").open("a") as errors:
                        traceback.print_exc(file=errors)
                    os._exit(1)
        sys.stdout.write(f"{child} {status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
