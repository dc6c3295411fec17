"""The ledger of a drop folder, in a SQLite file of ours: which effects are staged, which are done, and who may write.

It lies beside the workspace's state, not in the drop folder: the legacy side never sees it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from brownfield.data.sinks.base import Found
from brownfield.errors import Fenced, SinkUnavailable

__all__ = ["FileLedger", "FileRecord"]

_DDL = """
CREATE TABLE IF NOT EXISTS effect (
  effect_id TEXT NOT NULL PRIMARY KEY, state TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL,
  row_count INTEGER NOT NULL, staged_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS owner (
  one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, position TEXT
);
INSERT OR IGNORE INTO owner VALUES (1, 0, NULL);
"""
_COLUMNS = "effect_id, state, name, epoch, row_count"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One effect.

    Parameters
    ----------
    effect_id
        Its identifier.
    state
        ``staged`` or ``done``.
    name
        The file's name in the drop folder.
    epoch
        Epoch of the owner that staged it; part of the staged file's name.
    rows
        Records in the file.
    """

    effect_id: str
    state: Found
    name: str
    epoch: int
    rows: int


class FileLedger:
    """The ledger of one drop folder.

    Parameters
    ----------
    path
        The SQLite file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def take_over(self) -> int:
        """Count the epoch up, and give it."""
        with self._transaction() as connection:
            ((epoch,),) = connection.execute("UPDATE owner SET epoch = epoch + 1 RETURNING epoch").fetchall()
        return int(epoch)

    def check_owner(self, epoch: int) -> None:
        """Refuse an owner that was replaced."""
        with self._transaction() as connection:
            _check_owner(connection, epoch)

    def stage(self, record: FileRecord, position: str | None) -> None:
        """Note that the file and its marker are staged, with the position."""
        with self._transaction() as connection:
            _check_owner(connection, record.epoch)
            connection.execute(
                f"INSERT INTO effect ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 (constants)
                (record.effect_id, record.state.value, record.name, record.epoch, record.rows),
            )
            connection.execute("UPDATE owner SET position = coalesce(?, position)", (position,))

    def finish(self, effect_id: str, position: str | None = None) -> None:
        """Note that the file is published, or the messages are sent, with the position."""
        with self._transaction() as connection:
            connection.execute("UPDATE owner SET position = coalesce(?, position)", (position,))
            connection.execute("UPDATE effect SET state = ? WHERE effect_id = ?", (Found.DONE.value, effect_id))

    def find(self, effect_id: str) -> FileRecord | None:
        """Give one effect."""
        with self._transaction() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM effect WHERE effect_id = ?", (effect_id,)).fetchall()  # noqa: S608
        return _record(rows[0]) if rows else None

    def staged(self) -> list[FileRecord]:
        """Give the effects that are staged and not done, in the order in which they were staged."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM effect WHERE state = ? ORDER BY rowid",  # noqa: S608
                (Found.STAGED.value,),
            ).fetchall()
        return [_record(row) for row in rows]

    def position(self) -> str | None:
        """Give the position of the last staged effect."""
        with self._transaction() as connection:
            ((position,),) = connection.execute("SELECT position FROM owner").fetchall()
        return None if position is None else str(position)

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._connection = _open(self._path)
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.close()
            name = getattr(error, "sqlite_errorname", "")
            raise SinkUnavailable(f"the ledger cannot be written ({name})", where=str(self._path)) from error
        except BaseException:
            self.close()
            raise


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_DDL)
    except BaseException:
        with suppress(sqlite3.Error):
            connection.close()
        raise
    return connection


def _check_owner(connection: sqlite3.Connection, epoch: int) -> None:
    if connection.execute("SELECT epoch FROM owner").fetchall() != [(epoch,)]:
        raise Fenced("another owner has taken over the folder", next_step="End this process; the new owner goes on.")


def _record(row: tuple[str, str, str, int, int]) -> FileRecord:
    effect_id, state, name, epoch, rows = row
    return FileRecord(effect_id, Found(state), name, epoch, rows)
