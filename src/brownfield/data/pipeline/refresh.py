"""Lookups read again and again for the gateway, in a process of their own, which the supervisor starts.

Each is pulled as in a run: checked, guarded, kept as the last good copy. What holds then is written for the gateway as
one file of plain arrays. The process ends when the pipe of the one that started it closes.
"""

import hashlib
import logging
import select
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from brownfield.clock import Clock, SystemClock
from brownfield.data.pipeline.begun import begin
from brownfield.data.pipeline.chain import lookup_folder
from brownfield.data.pipeline.custody import Custody, custody_of
from brownfield.data.pipeline.failover import State
from brownfield.data.pipeline.plan import reading_order
from brownfield.data.pipeline.running import Run
from brownfield.data.served_status import FILE, ServedStatus, read_status
from brownfield.data.served_table import write_served_table
from brownfield.errors import BrownfieldError
from brownfield.integration import load_workspace
from brownfield.logs import configure_logs
from brownfield.store import open_store, private_folder, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brownfield.integration import ConnectionSpec, EnrichSpec, IntegrationSpec
    from brownfield.store import Store

__all__ = ["refresh", "served_by_table"]

_log = logging.getLogger(__name__)


def served_by_table(integration: "IntegrationSpec") -> "dict[str, list[EnrichSpec]]":
    """Name the lookups that requests find in a table, with what they take of them."""
    served: dict[str, list[EnrichSpec]] = {}
    for each in integration.enrich:
        if not integration.sources[each.source].is_asked_by_key:
            served.setdefault(each.source, []).append(each)
    return served


def refresh(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    name: str,
    custody: Custody,
    clock: Clock | None = None,
) -> ServedStatus:
    """Read one lookup and write what requests find in it.

    Parameters
    ----------
    integration, connections, store, clock
        As :func:`run_pipeline` takes them; nothing of a run is entered in the store.
    name
        The lookup.
    custody
        Keys of its copies.

    Returns
    -------
    ServedStatus
        Also when nothing could be read: the table before stays, and ages.
    """
    clock = clock or SystemClock()
    folder = private_folder(lookup_folder(integration, name))
    before = read_status(folder)
    try:
        run, rows = _read(integration, connections, store, name, custody, clock)
    except BrownfieldError as error:
        _log.warning(
            "a lookup cannot be read; its last table is served on",
            extra={"event": "BF-LKP-UNREAD", "integration": integration.name, "source": name, "reason": str(error)},
        )
        status = ServedStatus(
            state=str(State.SNAPSHOT if before is not None and before.file else State.REFUSE),
            as_of_utc=None if before is None else before.as_of_utc,
            file="" if before is None else before.file,
            sha256="" if before is None else before.sha256,
            written_utc=clock.now_utc(),
            reason=error.what or type(error).__name__,
        )
    else:
        status = _publish(integration, name, run, rows, folder, clock)
    write_private(folder / FILE, msgspec.json.encode(status))
    if before is None or before.state != status.state:
        _log.warning(
            "a lookup changed its state",
            extra={
                "event": "BF-LKP-STATE",
                "integration": integration.name,
                "source": name,
                "was": before.state if before else "",
                "now": status.state,
            },
        )
    return status


def _read(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    name: str,
    custody: Custody,
    clock: Clock,
) -> tuple[Run, pa.Table]:
    """Read the lookup, and before it those that its rules refer to; feeds are what runs remember of them."""
    order = reading_order(integration)
    needed = {name} | _referred_to(integration, name)
    output = integration.folder.parents[1] / "var" / "data" / integration.name
    with ExitStack() as writers:
        run = Run(
            integration,
            store,
            private_folder(output),
            begun=begin(integration, store, None),
            rebuild=False,
            accept=(),
            clock=clock,
            writers=writers,
            keeps_copies=True,
            tables=False,
            custody=custody,
        )
        run.kept[name] = list(integration.contract.schema(name).names)
        for each in order[: order.index(name) + 1]:
            if each not in needed:
                continue
            if integration.sources[each].feed:
                run.recall(each)
            else:
                run.read(each, run.binding(each, connections))
    return run, run.lookups[name]


def _referred_to(integration: "IntegrationSpec", name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for target in integration.contract.schema(waiting.pop()).batches.references:
            source = target.partition(".")[0]
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def _publish(
    integration: "IntegrationSpec", name: str, run: Run, rows: pa.Table, folder: Path, clock: Clock
) -> ServedStatus:
    held = run.sources[name].held
    if held is None:
        raise AssertionError("a lookup was read from somewhere")
    if held.resort is not None:
        return ServedStatus(state="FALLBACK", as_of_utc=None, file="", sha256="", written_utc=clock.now_utc())
    taken = dict.fromkeys(field for each in served_by_table(integration)[name] for field in each.take)
    content = write_served_table(rows, integration.sources[name].keys, list(taken))
    digest = hashlib.sha256(content).hexdigest()
    file = f"served-{digest[:16]}.table"
    if not (folder / file).exists():
        write_private(folder / file, content)
    for old in folder.glob("served-*.table"):
        if old.name != file:
            with suppress(OSError):  # whoever has it open reads on
                old.unlink()
    return ServedStatus(
        state=str(held.state), as_of_utc=held.as_of_utc, file=file, sha256=digest, written_utc=clock.now_utc()
    )


def main(folder: Path) -> None:
    """Read the lookups of a workspace, each at its interval, until the standard input closes."""
    workspace = load_workspace(folder)
    clock, custody = SystemClock(), custody_of(workspace)
    due: dict[tuple[str, str], float] = {}
    with open_store(folder / "var" / "brownfield.db") as store:
        while True:
            for integration in workspace.integrations.values():
                for name, wanted in served_by_table(integration).items():
                    now_s = clock.monotonic_ns() / 1e9
                    if now_s < due.get((integration.name, name), now_s):
                        continue
                    refresh(integration, workspace.connections, store, name, custody, clock)
                    period_s = min(each.refresh_s for each in wanted)
                    due[integration.name, name] = clock.monotonic_ns() / 1e9 + period_s
            wait_s = max(min(due.values(), default=60.0) - clock.monotonic_ns() / 1e9, 0.0)
            readable, _, _ = select.select([sys.stdin], [], [], min(wait_s, 60.0))
            if readable and not sys.stdin.read(1):
                return


if __name__ == "__main__":
    configure_logs()
    main(Path(sys.argv[1]))
