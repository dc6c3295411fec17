"""One SQLite file: opened, checked, migrated forward with a backup, and read or written in transactions.

A path comes in; a :class:`Database` of the newest schema goes out.
Refused: a file written by a newer Brownfield, a torn or corrupt one, one that another process keeps locked.
"""

import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory

from brownfield.clock import Clock
from brownfield.errors import StoreError, StoreTooNew
from brownfield.store.files import part_name, private_folder, sync_folder

__all__ = ["Database", "MigrationPlan", "check_whole", "copy_database", "migration_plan", "open_database"]

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_LINE = re.compile(r"\S+ (?:-> )?\S+ +\S+ +\S+ (?P<pid>\d+) [0-9a-f]+:[0-9a-f]+:(?P<inode>\d+) ")
_ONE_MIGRATION = threading.Lock()  # the operations that Alembic's steps import are one per process
_RESTORE = "Restore the last backup with `brownfield doctor --restore FILE`."


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What opening a store would do to it.

    Parameters
    ----------
    current
        Revision of the file; None when there is no file yet.
    target
        Revision of this Brownfield.
    steps
        One line for each migration that would run, oldest first.
    """

    current: str | None
    target: str
    steps: tuple[str, ...]


class Database:
    """Read and write transactions on one file; made by :func:`open_database`."""

    def __init__(self, path: Path, *, busy_timeout_ms: int = 5000) -> None:
        self.path = path
        self.busy_timeout_ms = busy_timeout_ms
        self._engine = sa.create_engine(
            f"sqlite:///{path}", hide_parameters=True, connect_args={"timeout": busy_timeout_ms / 1000}
        )
        sa.event.listen(self._engine, "connect", _prepare)
        sa.event.listen(self._engine, "begin", _begin)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one moment of the store and never waits for writers."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give the one connection that may write; everything in it happens, durably, or nothing does."""
        with (
            self._translated(),
            self._engine.connect().execution_options(bf_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise _store_error(self.path, error.orig, self.busy_timeout_ms) from error


def open_database(path: Path, *, clock: Clock, busy_timeout_ms: int = 5000) -> Database:
    """Open a store's file; create it when there is none, and bring an older one forward after a backup.

    Raises
    ------
    StoreTooNew
        When a newer Brownfield wrote it.
    StoreError
        When it is torn, corrupt, locked or not ours to read.
    """
    try:
        if not path.exists():
            _create(path)
        with closing(_sqlite(path, busy_timeout_ms)) as connection:
            _check_whole(path, connection)
        plan = migration_plan(path)
        if plan.steps:
            _backup_beside(path, plan.current or "empty", clock)
    except sqlite3.Error as error:
        raise _store_error(path, error, busy_timeout_ms) from error
    except OSError as error:
        raise StoreError(
            f"cannot be opened: {error.strerror}", where=str(error.filename or path), next_step=_os_next_step(error)
        ) from error
    database = Database(path, busy_timeout_ms=busy_timeout_ms)
    if plan.steps:
        try:
            _migrate(database)
        except BaseException:
            database.close()
            raise
    return database


def migration_plan(path: Path) -> MigrationPlan:
    """Say what opening the store at `path` would migrate, without touching it.

    Raises
    ------
    StoreTooNew
        When a newer Brownfield wrote it.
    StoreError
        When it is no store.
    """
    scripts = ScriptDirectory(str(_MIGRATIONS))
    target = scripts.get_current_head() or ""
    if not path.exists():
        return MigrationPlan(None, target, tuple(step.doc for step in _steps(scripts, None, path)))
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise _store_error(path, error, 0) from error
    current = row[0] if row else None
    return MigrationPlan(
        current, target, tuple(f"{step.revision}: {step.doc}" for step in _steps(scripts, current, path))
    )


def copy_database(source: Path, target: Path, *, busy_timeout_ms: int = 5000) -> None:
    """Copy a store that may be in use, whole and consistent, to a new private file."""
    part = part_name(target)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(_sqlite(source, busy_timeout_ms)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE")
        _fsync(part)
        part.replace(target)
    except sqlite3.Error as error:
        raise _store_error(source, error, busy_timeout_ms) from error
    finally:
        part.unlink(missing_ok=True)
    sync_folder(target.parent)


def check_whole(path: Path) -> None:
    """Refuse a file that is not a whole store.

    Raises
    ------
    StoreError
        When it is torn or corrupt.
    """
    try:
        with closing(_sqlite(path, 0)) as connection:
            _check_whole(path, connection)
    except sqlite3.Error as error:
        raise _store_error(path, error, 0) from error


def _steps(scripts: ScriptDirectory, current: str | None, path: Path) -> Sequence[Script]:
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise StoreTooNew(
            where=str(path),
            expected=f"a store of revision {scripts.get_current_head()} or older",
            got=f"revision {current}",
            next_step="Install the Brownfield that wrote it, or restore a backup taken before that upgrade.",
        )
    return list(reversed(list(scripts.iterate_revisions("head", current or "base"))))


def _create(path: Path) -> None:
    """Build a new store under a hidden name and give it its own only when it is whole."""
    if path.with_name(path.name + "-wal").exists():
        raise StoreError(
            "the database is gone and its write-ahead log is still there", where=str(path), next_step=_RESTORE
        )
    private_folder(path.parent)
    part = part_name(path)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        database = Database(part)
        try:
            _migrate(database)
        finally:
            database.close()
        _fsync(part)
        with suppress(FileExistsError):  # another process was first; its store is as good as ours
            os.link(part, path)
    finally:
        for suffix in ("", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)
    sync_folder(path.parent)


def _migrate(database: Database) -> None:
    scripts = ScriptDirectory(str(_MIGRATIONS))
    with _ONE_MIGRATION, database.write() as connection:
        context = MigrationContext.configure(connection)
        with Operations.context(context):
            for step in _steps(scripts, context.get_current_revision(), database.path):
                step.module.upgrade()
        context.stamp(scripts, "head")


def _backup_beside(path: Path, revision: str, clock: Clock) -> Path:
    stamp = clock.now_utc().strftime("%Y%m%dT%H%M%S.%fZ")
    target = path.with_name(f"{path.name}.{revision}.{stamp}.bak")
    copy_database(path, target)
    return target


def _sqlite(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=busy_timeout_ms / 1000, isolation_level=None)


def _check_whole(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse an empty or half-readable file: a store is created whole, so it is a torn one."""
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    log = path.with_name(path.name + "-wal")
    cut = path.stat().st_size % page_bytes != 0 and not (log.exists() and log.stat().st_size)
    findings = connection.execute("PRAGMA quick_check(1)").fetchall()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if cut or findings != [("ok",)] or "alembic_version" not in tables:
        raise StoreError("the file is torn, corrupt or no store", where=str(path), next_step=_RESTORE)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's events say BEGIN, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("bf_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _store_error(path: Path, error: BaseException | None, busy_timeout_ms: int) -> StoreError:
    """One clear sentence for what SQLite reports; its own text names tables and rules, never values."""
    text = str(error)
    where = str(path)
    if "locked" in text or "busy" in text:
        holders = ", ".join(map(str, _lock_holders(path))) or "unknown"
        return StoreError(
            f"locked by another process (pid {holders}) for more than {busy_timeout_ms} ms",
            where=where,
            next_step="Wait for it to finish, or stop it.",
        )
    if "disk is full" in text:
        return StoreError("the disk is full; nothing was changed", where=where, next_step="Free space and try again.")
    if "readonly" in text or "unable to open" in text:
        return StoreError(
            f"cannot be written: {text}", where=where, next_step="Check the owner and mode of the folder and file."
        )
    if "malformed" in text or "not a database" in text or "no such table" in text:
        return StoreError(f"the file is torn, corrupt or no store: {text}", where=where, next_step=_RESTORE)
    return StoreError(text, where=where)


def _os_next_step(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Check the owner and mode of the folder and file."
    return "Mend the file system and try again."


def _lock_holders(path: Path) -> list[int]:
    """Process ids that hold a lock on the file or its shared memory, from ``/proc/locks``."""
    files = [candidate for suffix in ("", "-shm") if (candidate := path.with_name(path.name + suffix)).exists()]
    inodes = {str(file.stat().st_ino) for file in files}
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    found = {_LOCK_LINE.match(line) for line in lines}
    return sorted({int(lock["pid"]) for lock in found if lock and lock["inode"] in inodes} - {os.getpid()})
