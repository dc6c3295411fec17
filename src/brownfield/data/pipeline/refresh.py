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
from brownfield.data.served_status import FILE, ServedStatus, check_sealed, hides_values, read_status, seal_context
from brownfield.data.served_table import write_served_table
from brownfield.errors import BrownfieldError
from brownfield.host import give_way
from brownfield.integration import load_workspace
from brownfield.logs import configure_logs
from brownfield.security import encrypt
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
        check_sealed(integration, name, has_key=custody.keys is not None)
        run, rows = _read(integration, connections, store, name, custody, clock)
        status = _publish(integration, name, run, rows, folder, clock, before)
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
            rows_sha256="" if before is None else before.rows_sha256,
            key_id="" if before is None else before.key_id,
            written_utc=clock.now_utc(),
            reason=error.what or type(error).__name__,
        )
    write_private(folder / FILE, msgspec.json.encode(status))
    if status.file:
        _remove_others(folder, status.file)  # not before: who starts meanwhile finds the table of the status before
    if before is None or before.state != status.state:
        _log.log(
            logging.INFO if status.state == str(State.PRIMARY) else logging.WARNING,
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


def _publish(  # noqa: PLR0913, PLR0917 (what a table is made of, and where it goes)
    integration: "IntegrationSpec",
    name: str,
    run: Run,
    rows: pa.Table,
    folder: Path,
    clock: Clock,
    before: ServedStatus | None,
) -> ServedStatus:
    """Write the table that holds now; one with the rows of the table before stays as it is."""
    held = run.sources[name].held
    if held is None:
        raise AssertionError("a lookup was read from somewhere")
    if held.resort is not None:
        return ServedStatus(state="FALLBACK", as_of_utc=None, file="", sha256="", written_utc=clock.now_utc())
    taken = dict.fromkeys(field for each in served_by_table(integration)[name] for field in each.take)
    content = write_served_table(rows, integration.sources[name].keys, list(taken))
    rows_sha256 = hashlib.sha256(content).hexdigest()
    key = run.custody.keys.active if run.custody.keys is not None and hides_values(integration, name) else None
    status = ServedStatus(
        state=str(held.state),
        as_of_utc=held.as_of_utc,
        file="",
        sha256="",
        written_utc=clock.now_utc(),
        rows_sha256=rows_sha256,
        key_id="" if key is None else key.key_id,
    )
    same = before is not None and (before.rows_sha256, before.key_id) == (rows_sha256, status.key_id)
    if before is not None and same and _is_whole(folder, before):
        file, digest = before.file, before.sha256
    else:
        content = content if key is None else encrypt(content, key, seal_context(integration.name, name))
        digest = hashlib.sha256(content).hexdigest()
        file = f"served-{digest[:16]}.table"
        write_private(folder / file, content)
    return msgspec.structs.replace(status, file=file, sha256=digest)


def _is_whole(folder: Path, status: ServedStatus) -> bool:
    """Say whether a table still is what its status names."""
    try:
        with (folder / Path(status.file).name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == status.sha256
    except OSError:
        return False


def _remove_others(folder: Path, file: str) -> None:
    for old in folder.glob("served-*.table"):
        if old.name != file:
            with suppress(OSError):  # whoever has it open reads on
                old.unlink()


def _try_to_refresh(
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    name: str,
    custody: Custody,
    clock: Clock,
) -> None:
    """Read one lookup; what nobody foresaw, such as a full disk, is its trouble alone, and ends with its next turn."""
    try:
        refresh(integration, connections, store, name, custody, clock)
    except Exception as error:  # noqa: BLE001 (whatever it is, the other lookups are read on)
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__  # no text with values
        _log.exception(
            "a lookup cannot be refreshed; its last table is served on",
            extra={"event": "BF-LKP-UNREAD", "integration": integration.name, "source": name, "reason": why},
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
                    _try_to_refresh(integration, workspace.connections, store, name, custody, clock)
                    period_s = min(each.refresh_s for each in wanted)
                    due[integration.name, name] = clock.monotonic_ns() / 1e9 + period_s
            wait_s = max(min(due.values(), default=60.0) - clock.monotonic_ns() / 1e9, 0.0)
            readable, _, _ = select.select([sys.stdin], [], [], min(wait_s, 60.0))
            if readable and not sys.stdin.read(1):
                return


if __name__ == "__main__":
    configure_logs(waits=False)
    give_way()
    main(Path(sys.argv[1]))
