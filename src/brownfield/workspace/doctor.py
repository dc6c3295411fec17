"""The health of a workspace and its host; its backup while it is served, and its restore, whole or not at all.

A restore stages and verifies everything first, then moves the old state aside and the new into place.
`brownfield.yaml` leaves first and comes back last: a workspace that a kill leaves half moved is none until
:func:`complete_restore` has finished the move.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield import __version__
from brownfield.clock import Clock, SystemClock
from brownfield.errors import DeclarationError, FormatError, NotFound, StoreError
from brownfield.host import HostFacts, read_host
from brownfield.store import private_folder, sync_folder, workspace_lock, write_private
from brownfield.workspace.archive import Manifest, extract_archive, write_archive
from brownfield.workspace.capabilities import Capability, wheel_tag

if TYPE_CHECKING:
    from brownfield.store import MigrationPlan

__all__ = ["Backup", "Examination", "Restore", "backup", "complete_restore", "examine", "restore"]

_DATABASE = "var/brownfield.db"
_MOVED = ("brownfield.yaml", f"{_DATABASE}-wal", f"{_DATABASE}-shm", _DATABASE, "integrations")
"""What a restore replaces, in the order in which it leaves; it comes back in the reverse order."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What this host offers, and how the store is.

    Parameters
    ----------
    host
        Cores, memory, kernel features.
    store
        Its revision and the migrations it would need; ``current`` is None when there is no store yet.
    lookups
        Where each lookup stands in its chain, and the moment of what it was last read from.
    wheels
        Newest kind of wheel that installs.
    request_path
        ``compiled`` or ``interpreted``: how this installation runs the path of a request.
    capabilities
        Libraries and arithmetic, each tried in a child.
    findings
        What of them is wrong.
    """

    host: HostFacts
    store: "MigrationPlan"
    lookups: tuple[str, ...] = ()
    wheels: str = ""
    request_path: str = ""
    capabilities: tuple[Capability, ...] = ()
    findings: tuple[str, ...] = ()

    def __str__(self) -> str:
        store = "none yet" if self.store.current is None else f"revision {self.store.current}, whole"
        if self.store.current and self.store.steps:
            store += f", {len(self.store.steps)} migrations to run"
        return "\n".join(
            [
                *(f"{name}: {_shown(self.host, name)}" for name in self.host.__slots__),
                f"wheels: {self.wheels}",
                f"request path: {self.request_path}",
                *map(str, self.capabilities),
                f"store: {store}",
                *self.lookups,
                *(f"finding: {each}" for each in self.findings),
            ]
        )


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was written.

    Parameters
    ----------
    file
        The zip file, readable by its owner alone.
    files, size_bytes
        How many files it holds, and their bytes together.
    """

    file: str
    files: int
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.file}: {self.files} files, {self.size_bytes / 2**20:.1f} MiB"


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore that was done.

    Parameters
    ----------
    workspace
        The folder.
    made_utc
        When the backup was made.
    replaced
        Folder in which the state before lies; empty when there was none.
    """

    workspace: str
    made_utc: str
    replaced: str

    def __str__(self) -> str:
        aside = f"; what was there before lies in {self.replaced}" if self.replaced else ""
        return f"{self.workspace}: restored the backup of {self.made_utc}{aside}"


def _shown(host: HostFacts, name: str) -> str:
    value = getattr(host, name)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return " ".join(sorted(value)) if isinstance(value, frozenset) else str(value)


def examine(workspace: Path, capabilities: Sequence[Capability] = ()) -> Examination:
    """Read what the host can do and check that the store is whole.

    Parameters
    ----------
    workspace
        Its folder; one without a workspace will do.
    capabilities
        As :func:`~brownfield.workspace.capabilities.probe_capabilities` found them.

    Raises
    ------
    NotFound
        When there is no such folder.
    StoreError
        When it is torn or corrupt.
    StoreTooNew
        When a newer Brownfield wrote it.
    """
    from brownfield.store import check_whole, migration_plan  # brings SQLAlchemy, which a start does without

    if not workspace.is_dir():
        raise NotFound("there is no such folder", where=str(workspace), next_step="Name the folder of a workspace.")
    database = workspace / _DATABASE
    if database.exists():
        check_whole(database)
    plan = migration_plan(database)
    lookups = _lookups(database) if plan.current is not None and not plan.steps else ()
    host = read_host()
    findings = tuple(str(each) for each in capabilities if each.finding)
    return Examination(host, plan, lookups, wheel_tag(host), _request_path(), tuple(capabilities), findings)


def _request_path() -> str:
    """Say how it runs, without loading it."""
    found = find_spec("brownfield.serving.gateway.dataplane")
    return "interpreted" if found is None or str(found.origin).endswith(".py") else "compiled"


def _lookups(database: Path) -> tuple[str, ...]:
    """Say where each lookup stands; a store that would have to be migrated is left alone."""
    from brownfield.store import open_store

    with open_store(database) as store:
        return tuple(
            f"lookup {each.integration}.{each.source}: {each.state}"
            + (f", as of {each.as_of_utc:%Y-%m-%dT%H:%M:%SZ}" if each.as_of_utc else "")
            for each in store.lookups.states()
        )


def backup(workspace: Path, target: Path, *, clock: Clock | None = None) -> Backup:
    """Write declarations, bundles and the store to one file; the workspace may be in use meanwhile.

    Legacy data, the journal and what can be made again (``var/data``) are not part of it.

    Raises
    ------
    NotFound
        When the folder is no workspace.
    DeclarationError
        When the target exists already, or the workspace holds links, which a backup would silently cut.
    StoreError
        When the store cannot be copied, or the disk refuses.
    """
    from brownfield.store import copy_database

    if not (workspace / "brownfield.yaml").is_file():
        raise NotFound(
            "this folder is no workspace", where=str(workspace), next_step="Name the folder of brownfield.yaml."
        )
    if target.exists():
        raise DeclarationError("the backup file exists already", where=str(target), next_step="Name another file.")
    files = {path.relative_to(workspace).as_posix(): path for path in _declared(workspace)}
    made_utc = (clock or SystemClock()).now_utc().strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as scratch:
            if (workspace / _DATABASE).exists():
                files[_DATABASE] = Path(scratch) / "brownfield.db"
                copy_database(workspace / _DATABASE, files[_DATABASE])
            part = Path(scratch) / "backup.zip"
            with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                manifest = write_archive(file, files, made_utc=made_utc, version=__version__)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, target)
        sync_folder(target.parent)
    except OSError as error:
        raise _disk_refused(target, error) from error
    return Backup(str(target), len(manifest.files), sum(member.bytes for member in manifest.files.values()))


def restore(workspace: Path, source: Path, *, clock: Clock | None = None) -> Restore:
    """Put a backup in the place of a workspace's declarations, bundles and store; what was there is kept aside.

    Raises
    ------
    FormatError
        When the file is not a sound backup; nothing was changed.
    StoreError
        When the workspace is being served, the backup's store is torn or too new, or the disk refuses.
    """
    clock = clock or SystemClock()
    try:
        with workspace_lock(workspace):
            _check_one_file_system(workspace)
            _finish(workspace, clock)
            staged = workspace / ".restore"
            if staged.exists():
                shutil.rmtree(staged)  # an earlier restore that never became ready
            private_folder(staged)
            try:
                manifest = _stage(staged, source)
            except BaseException:
                shutil.rmtree(staged, ignore_errors=True)
                raise
            replaced = _finish(workspace, clock)
    except OSError as error:
        raise _disk_refused(workspace, error) from error
    return Restore(str(workspace), manifest.made_utc, replaced)


def complete_restore(workspace: Path, *, clock: Clock | None = None) -> bool:
    """Finish a restore that was interrupted after everything had been staged; whether there was one.

    Raises
    ------
    StoreError
        When the workspace is being served, or the disk refuses.
    """
    if not (workspace / ".restore" / "ready").exists():
        return False
    try:
        with workspace_lock(workspace):
            _finish(workspace, clock or SystemClock())
    except OSError as error:
        raise _disk_refused(workspace, error) from error
    return True


def _declared(workspace: Path) -> Iterator[Path]:
    yield workspace / "brownfield.yaml"
    for path in sorted((workspace / "integrations").rglob("*")):
        if path.is_symlink():
            raise DeclarationError(
                "the workspace holds a link, which a backup cannot keep",
                where=str(path),
                next_step="Put the file itself in its place.",
            )
        if path.is_file():
            yield path


def _check_one_file_system(workspace: Path) -> None:
    if workspace.stat().st_dev != (workspace / "var").stat().st_dev:
        raise StoreError(
            "var lies on another file system, so nothing can be moved into place at once",
            where=str(workspace),
            next_step="Restore into a folder beside it, and copy from there.",
        )


def _stage(staged: Path, source: Path) -> Manifest:
    if not source.is_file():
        raise NotFound("there is no such backup file", where=str(source))
    manifest = extract_archive(source, staged / "new")
    if "brownfield.yaml" not in manifest.files:
        raise FormatError("not a sound backup: it holds no workspace", where=str(source))
    from brownfield.store import check_whole, migration_plan

    database = staged / "new" / _DATABASE
    if database.exists():
        check_whole(database)
        migration_plan(database)
    for folder in (staged / "new").rglob("*/"):
        sync_folder(folder)
    private_folder(staged / "old" / "var")
    write_private(staged / "ready", b"")
    return manifest


def _finish(workspace: Path, clock: Clock) -> str:
    """Move the old out and the new in; each step may be repeated, so a killed move is taken up where it ended."""
    staged = workspace / ".restore"
    if not (staged / "ready").exists():
        return ""
    if not (staged / "moved").exists():
        for name in _MOVED:
            if (workspace / name).exists():
                (workspace / name).rename(staged / "old" / name)
        sync_folder(workspace)
        write_private(staged / "moved", b"")
    for name in reversed(_MOVED):
        if (staged / "new" / name).exists():
            private_folder((workspace / name).parent)
            (staged / "new" / name).rename(workspace / name)
    sync_folder(workspace / "var")
    sync_folder(workspace)
    aside = private_folder(workspace / "var" / "replaced") / clock.now_utc().strftime("%Y%m%dT%H%M%S.%fZ")
    staged.rename(aside)
    sync_folder(workspace)
    kept = aside / "old"
    return str(kept) if any(path.is_file() for path in kept.rglob("*")) else ""


def _disk_refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the file system refused: {error.strerror}",
        where=str(error.filename or path),
        next_step="Mend it and try again.",
    )
