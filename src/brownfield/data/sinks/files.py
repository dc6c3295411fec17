"""``files``: one file of a drop folder for each effect, with a marker behind it, each of them seen exactly once.

The file and its marker are written and synced in ``.stage/``, the ledger notes them, and then they are moved out. The
only copy is moved, so behind a crash its absence from the stage proves that it was published, also when the consumer
has taken it since. Names cannot lead out of the folder, links are not followed, and nothing that is there is replaced.
"""

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import pyarrow as pa

from brownfield.data.sinks.base import Applied, Batch, Found, Position, check_effect_id
from brownfield.data.sinks.file_ledger import FileLedger, FileRecord
from brownfield.data.sinks.table import decode_position, encode_position
from brownfield.errors import DeclarationError, SinkRefused, SinkUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FileSink"]

Encode: TypeAlias = "Callable[[Iterable[pa.RecordBatch]], Iterator[bytes]]"

_STAGE = ".stage"
_MARKER = ".done"
_PLACE = "{effect_id}"
_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.-]*")
_LONGEST_NAME = 150
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FileSink:
    """One drop folder.

    Parameters
    ----------
    folder
        The folder from which the legacy side takes files; it must be there, and have one sink and one ledger.
    name
        Name of each file, with ``{effect_id}`` in it.
    encode
        Writes records as bytes: the ``encode`` of a format.
    ledger
        The ledger's SQLite file, outside the folder.
    totals
        Columns of numbers whose sums stand in the marker.

    Raises
    ------
    DeclarationError
        When the name could lead elsewhere, or does not tell effects apart.

    Examples
    --------
    >>> import tempfile
    >>> from brownfield.data.formats import Csv
    >>> home = tempfile.TemporaryDirectory()
    >>> drop = Path(home.name) / "drop"; drop.mkdir()
    >>> scores = pa.record_batch({"basket": [7, 8], "score": [0.5, 0.25]})
    >>> with FileSink(drop, "scores-{effect_id}.csv", Csv().encode, Path(home.name) / "l.db", ("score",)) as sink:
    ...     sink.apply("e1", scores), sink.apply("e1", scores)
    (Applied(rows=2, repeated=False), Applied(rows=2, repeated=True))
    >>> print((drop / "scores-e1.csv.done").read_text().splitlines()[0::4])
    ['effect_id=e1', 'total.score=0.75']
    >>> home.cleanup()
    """

    def __init__(self, folder: Path, name: str, encode: Encode, ledger: Path, totals: tuple[str, ...] = ()) -> None:
        plain = name.replace(_PLACE, "e", 1)
        if name.count(_PLACE) != 1 or not _NAME.fullmatch(plain) or len(name) > _LONGEST_NAME:
            raise DeclarationError(
                path="name",
                expected=f"a file name of ASCII letters, digits and . _ - with {_PLACE} in it once",
                got="another text",
            )
        self._folder = folder
        self._name = name
        self._encode = encode
        self._ledger = FileLedger(ledger)
        self._totals = totals
        self._epoch = 0

    def __enter__(self) -> Self:
        self.take_over()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def take_over(self) -> int:
        """Become the owner; publish what the one before had staged, and clear away the rest (:class:`Sink`)."""
        with self._opened() as (drop, stage):
            self._epoch = self._ledger.take_over()
            for record in self._ledger.staged():
                self._publish(record, drop, stage)
            for leftover in os.listdir(stage):  # noqa: PTH208 (by descriptor: no link is followed)
                os.unlink(leftover, dir_fd=stage)
        return self._epoch

    def apply(self, effect_id: str, batch: Batch, position: Position | None = None) -> Applied:
        """Make the effect, unless it is there (:class:`Sink`)."""
        check_effect_id(effect_id)
        with self._opened() as (drop, stage):
            record = self._ledger.find(effect_id)
            if record is not None and record.state is Found.DONE:
                return Applied(record.rows, repeated=True)
            if record is None:
                self._ledger.check_owner(self._epoch)
                name = self._name.replace(_PLACE, effect_id)
                record = FileRecord(effect_id, Found.STAGED, name, self._epoch, batch.num_rows)
                self._stage(record, batch, stage)
                self._ledger.stage(record, encode_position(position))
            self._publish(record, drop, stage)
        return Applied(record.rows, repeated=False)

    def find(self, effect_id: str) -> Found:
        """Tell how far an effect came (:class:`Sink`)."""
        check_effect_id(effect_id)
        record = self._ledger.find(effect_id)
        return Found.ABSENT if record is None else record.state

    def position(self) -> Position | None:
        """Tell how far the source was read with the last effect (:class:`Sink`)."""
        return decode_position(self._ledger.position())

    def close(self) -> None:
        """Let go of the ledger (:class:`Sink`)."""
        self._ledger.close()

    def _stage(self, record: FileRecord, batch: Batch, stage: int) -> None:
        """Write file and marker, sync both, then the folder: behind this the ledger may say that they are there."""
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        digest = hashlib.sha256()
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for part in self._encode(table.to_batches()):
                digest.update(part)
                size += len(part)
                yield part

        totals = [f"total.{name}={_total(table, name)}" for name in self._totals]
        _write(_staged(record, ""), counted(), stage)
        lines = [
            f"effect_id={record.effect_id}",
            f"count={record.rows}",
            f"bytes={size}",
            f"sha256={digest.hexdigest()}",
            *totals,
        ]
        _write(_staged(record, _MARKER), ["".join(f"{line}\n" for line in lines).encode()], stage)
        os.fsync(stage)

    def _publish(self, record: FileRecord, drop: int, stage: int) -> None:
        """Move the file out, then its marker, each only if it is still staged; then note that it is done."""
        for suffix in ("", _MARKER):
            staged = _staged(record, suffix)
            if _is_there(staged, stage):
                if _is_there(record.name + suffix, drop):
                    raise SinkRefused(
                        where=str(self._folder), expected=f"no {record.name + suffix} yet", got="one of another's"
                    )
                with suppress(FileNotFoundError):  # another owner has moved it in this moment
                    os.rename(staged, record.name + suffix, src_dir_fd=stage, dst_dir_fd=drop)
            os.fsync(drop)
            os.fsync(stage)
        self._ledger.finish(record.effect_id)

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, int]]:
        """Open the drop folder and its stage, for the time of one call; errors of the system become ours."""
        try:
            drop = os.open(self._folder, _FOLDER)
            try:
                with suppress(FileExistsError):
                    os.mkdir(_STAGE, 0o700, dir_fd=drop)
                stage = os.open(_STAGE, _FOLDER, dir_fd=drop)
                try:
                    yield drop, stage
                finally:
                    os.close(stage)
            finally:
                os.close(drop)
        except OSError as error:
            raise SinkUnavailable(
                f"the folder cannot be written ({error.strerror})", where=str(self._folder)
            ) from error


def _staged(record: FileRecord, suffix: str) -> str:
    """Name a staged file; the epoch keeps what a replaced owner still writes apart."""
    return f"{record.name}.{record.epoch}{suffix}"


def _write(name: str, parts: Iterable[bytes], folder: int) -> None:
    """Write a new file under ``.part``, sync it and name it; one that fails is abandoned, never synced again."""
    part = f"{name}.part"
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)
    file = os.open(part, _NEW, 0o640, dir_fd=folder)
    try:
        try:
            for data in parts:
                left = memoryview(data)
                while left:
                    left = left[os.write(file, left) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _total(table: pa.Table, name: str) -> str:
    """Sum a column exactly; floating point numbers are summed without loss and rounded once."""
    if name not in table.column_names:
        raise SinkRefused(path=name, expected="the column of a control total", got="none of this name")
    column = table.column(name)
    values = [value for value in column.to_pylist() if value is not None]
    return repr(math.fsum(values)) if pa.types.is_floating(column.type) else str(sum(values))
