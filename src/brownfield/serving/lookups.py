"""Lookups at hand for requests: tables that another process keeps fresh, and services that are asked by key.

The process that reads them is started here, and started again when it dies; a table it wrote is mapped in when its
status names another one. Requests see one table or the next, never half of each.
"""

import asyncio
import hashlib
import logging
import mmap
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.clock import Clock, SystemClock
from brownfield.data.served_status import FILE, ServedStatus, check_sealed, read_status, seal_context
from brownfield.data.served_table import ServedTable
from brownfield.errors import DecryptionFailed, FormatError
from brownfield.security import decrypt, read_keyring
from brownfield.serving.gateway.enrich import Enrichment, Found, Joined, Take

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brownfield.integration import EnrichSpec, IntegrationSpec, SourceSpec, WorkspaceSpec
    from brownfield.security import Keyring
    from brownfield.serving.gateway.enrich import ServedLookup
    from brownfield.serving.point_lookups import PointLookup
    from brownfield.types import Columns

__all__ = ["Lookups", "TableLookup"]

_log = logging.getLogger(__name__)

_FIRST_BACK_OFF_S = 1.0
_LONGEST_BACK_OFF_S = 60.0
_LATE_PERIODS = 3


class TableLookup:
    """A lookup that requests find in a table in memory.

    Parameters
    ----------
    name
        The lookup.
    folder
        Where its table and status lie.
    refresh_s
        Seconds between two readings; when none came for three of them, the table is a copy.
    clock
        The system's unless given.
    keys, context
        Decrypt a table that is encrypted, and say which it is.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        refresh_s: float,
        clock: Clock | None = None,
        *,
        keys: "Keyring | None" = None,
        context: str = "",
    ) -> None:
        self.name = name
        self._keys = keys
        self._context = context
        self._folder = folder
        self._late_s = _LATE_PERIODS * refresh_s
        self._now_utc = (clock or SystemClock()).now_utc
        self._held: tuple[ServedStatus, ServedTable | None] | None = None
        self._seen: tuple[int, int] | None = None
        self._trouble: tuple[str, str] | None = None

    async def find(self, keys: "Columns", rows: int, timeout_s: float) -> Found:  # noqa: ARG002 (one signature)
        """Look keys up in the table that holds now (:class:`ServedLookup`)."""
        held = self._held
        status, table = (None, None) if held is None else held
        if status is None or table is None:
            return Found("REFUSE" if status is None else status.state, None, {}, ["unavailable"] * rows)
        found = table.find(keys, rows)
        values = {name: table.take(name, found) for name in table.names}
        reasons = ["" if at >= 0 else "no_match" for at in found.tolist()]
        return Found(self._state(status), status.as_of_utc, values, reasons)

    def _state(self, status: ServedStatus) -> str:
        """Say what the table is: nobody has looked at its source for too long, it is a copy."""
        late = (self._now_utc() - status.written_utc).total_seconds() > self._late_s
        return "SNAPSHOT" if late and status.state in {"PRIMARY", "REPLICA"} else status.state

    def look(self) -> bool:
        """Take over what was written since; whether there was anything.

        A table that cannot be used leaves the one before, which ages. It is tried again at the next look where it could
        not be opened, else when its status is written anew.
        """
        try:
            found = (self._folder / FILE).stat()
        except OSError:
            return False
        seen = (found.st_mtime_ns, found.st_ino)
        if seen == self._seen:
            return False
        status = read_status(self._folder)
        if status is None:
            return False
        table = None if self._held is None or status.sha256 != self._held[0].sha256 else self._held[1]
        if status.file and table is None:
            try:
                table = self._mapped(status)
            except (OSError, ValueError, FormatError, DecryptionFailed) as error:
                self._refuse(status, type(error).__name__)
                self._seen = self._seen if isinstance(error, OSError) else seen
                return False
        self._held, self._seen, self._trouble = (status, table), seen, None
        return True

    def _mapped(self, status: ServedStatus) -> ServedTable:
        """Map a table into memory; an encrypted one is decrypted into it, once."""
        with (self._folder / Path(status.file).name).open("rb") as file:
            content: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hashlib.sha256(content).hexdigest() != status.sha256:
            raise FormatError(expected="the table that its status names", got="other bytes")
        return ServedTable(decrypt(content[:], self._keys, self._context) if status.key_id else content)

    def _refuse(self, status: ServedStatus, reason: str) -> None:
        """Say that a table is not used, once for each trouble."""
        if self._trouble != (status.sha256, reason):
            self._trouble = (status.sha256, reason)
            _log.error(
                "the table of a lookup cannot be used; the one before is served on",
                extra={"event": "BF-LKP-TABLE-REFUSED", "source": self.name, "reason": reason},
            )


class Lookups:
    """The lookups of one served workspace, under one declaration.

    Parameters
    ----------
    workspace
        The declaration.
    clock
        The system's unless given.
    """

    def __init__(self, workspace: "WorkspaceSpec", clock: Clock | None = None) -> None:
        self._workspace = workspace
        self._clock = clock or SystemClock()
        self._tables: dict[tuple[str, str], TableLookup] = {}
        self._points: list[PointLookup] = []
        self._keys = read_keyring(workspace.security, workspace.folder) if _has_tables(workspace) else None
        self._reader: subprocess.Popen[bytes] | None = None
        self._start_at_s = 0.0
        self._started_at_s = 0.0
        self._back_off_s = _FIRST_BACK_OFF_S

    def enrichment(self, spec: "IntegrationSpec") -> Enrichment | None:
        """Make the joins of an integration; None where it declares none."""
        if not spec.enrich:
            return None
        joins = [self._join(spec, each) for each in spec.enrich]
        self._look()
        return Enrichment(joins, self._clock)

    async def look(self) -> None:
        """Take over what was written since."""
        if self._tables:
            await asyncio.to_thread(self._look)

    def keep_reader(self) -> None:
        """Keep alive the process that writes the tables; one process of a workspace does this."""
        if _has_tables(self._workspace):
            self._keep_reader()

    def end(self) -> None:
        """End the process that reads, and the connections that are kept open."""
        reader, self._reader = self._reader, None
        if reader is not None:
            if reader.stdin is not None:
                with suppress(OSError):
                    reader.stdin.close()
            reader.terminate()
            with suppress(subprocess.TimeoutExpired):
                reader.wait(5)
            if reader.poll() is None:
                reader.kill()
                reader.wait()
        for point in self._points:
            point.close()
        self._points = []

    def _join(self, spec: "IntegrationSpec", declared: "EnrichSpec") -> Joined:
        source = spec.sources[declared.source]
        schema = spec.contract.schema(declared.source)
        longest_s = min((place.max_age_h * 3_600 for place in source.chain if place.max_age_h), default=float("inf"))
        takes = tuple(
            Take(schema.field(name), min(spec.contract.stale_after(declared.source, name) or longest_s, longest_s))
            for name in declared.take
        )
        constants = source.chain[-1].constant or {}
        return Joined(self._lookup(spec, declared, source, takes), source.keys, takes, constants)

    def _lookup(
        self, spec: "IntegrationSpec", declared: "EnrichSpec", source: "SourceSpec", takes: "Iterable[Take]"
    ) -> "ServedLookup":
        if source.is_asked_by_key:
            from brownfield.serving.point_lookups import PointLookup

            bound_s = min(each.stale_after_s for each in takes)
            keep_s = min(declared.refresh_s, bound_s)
            old_s = keep_s if bound_s == float("inf") else bound_s
            point = PointLookup(spec, declared, self._workspace, keep_s, old_s, self._clock)
            self._points.append(point)
            return point
        key = (spec.name, declared.source)
        if key not in self._tables:
            folder = self._workspace.folder / "var" / "lookups" / spec.name / declared.source
            check_sealed(spec, declared.source, has_key=self._keys is not None)
            self._tables[key] = TableLookup(
                declared.source, folder, declared.refresh_s, self._clock, keys=self._keys, context=seal_context(*key)
            )
        return self._tables[key]

    def _look(self) -> None:
        for table in tuple(self._tables.values()):
            table.look()

    def _keep_reader(self) -> None:
        now_s = self._clock.monotonic_ns() / 1e9
        if self._reader is not None and self._reader.poll() is None:
            return
        if self._reader is not None:
            _log.error(
                "the process that reads lookups ended; it is started again",
                extra={"event": "BF-LKP-READER-ENDED", "status": self._reader.returncode},
            )
            self._reader = None
            self._wait(now_s)
        if now_s < self._start_at_s:
            return
        self._started_at_s = now_s
        try:
            self._reader = subprocess.Popen(  # noqa: S603 (our own program, no shell)
                [sys.executable, "-P", "-m", "brownfield.data.pipeline.refresh", str(self._workspace.folder)],
                stdin=subprocess.PIPE,
            )
        except OSError as error:
            _log.error(
                "the process that reads lookups cannot be started",
                extra={"event": "BF-LKP-READER-ENDED", "reason": type(error).__name__},
            )
            self._wait(now_s)

    def _wait(self, now_s: float) -> None:
        """Put the next start off, longer each time; one that ran for long begins anew."""
        if now_s - self._started_at_s > _LONGEST_BACK_OFF_S:
            self._back_off_s = _FIRST_BACK_OFF_S
        self._start_at_s = now_s + self._back_off_s
        self._back_off_s = min(self._back_off_s * 2, _LONGEST_BACK_OFF_S)


def _has_tables(workspace: "WorkspaceSpec") -> bool:
    """Say whether any lookup of a workspace is found in a table by requests."""
    return any(
        not spec.sources[each.source].is_asked_by_key
        for spec in workspace.integrations.values()
        for each in spec.enrich
    )
