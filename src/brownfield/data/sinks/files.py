"""``files``: one file of a drop folder for each effect, with a marker behind it, each of them seen exactly once.

The file and its marker are written and synced in ``.stage/``, the ledger notes them, and then they are moved out. The
only copy is moved, so behind a crash its absence from the stage proves that it was published, also when the consumer
has taken it since, and also when the reply to the move was lost on the way. Names cannot lead out of the folder, links
are not followed, and nothing that is there is replaced.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import pyarrow as pa

from brownfield.data.folders import Files, Folder
from brownfield.data.sinks.base import Applied, Batch, Found, Position, check_effect_id
from brownfield.data.sinks.file_ledger import FileLedger, FileRecord
from brownfield.data.sinks.table import decode_position, encode_position
from brownfield.errors import DeclarationError, SinkRefused, SinkUnavailable, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["FileSink"]

Encode: TypeAlias = "Callable[[Iterable[pa.RecordBatch]], Iterator[bytes]]"

_STAGE = ".stage"
_MARKER = ".done"
_PLACE = "{effect_id}"
_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.-]*")
_LONGEST_NAME = 150


class FileSink:
    """One drop folder.

    Parameters
    ----------
    folder
        The folder from which the legacy side takes files, on this machine or behind a server; it must be there, and
        have one sink and one ledger.
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
    >>> from brownfield.data.folders import LocalFolder
    >>> from brownfield.data.formats import Csv
    >>> home = tempfile.TemporaryDirectory()
    >>> drop = Path(home.name) / "drop"; drop.mkdir()
    >>> scores = pa.record_batch({"basket": [7, 8], "score": [0.5, 0.25]})
    >>> ledger = Path(home.name) / "ledger.db"
    >>> with FileSink(LocalFolder(drop), "scores-{effect_id}.csv", Csv().encode, ledger, ("score",)) as sink:
    ...     sink.apply("e1", scores), sink.apply("e1", scores)
    (Applied(rows=2, repeated=False), Applied(rows=2, repeated=True))
    >>> print((drop / "scores-e1.csv.done").read_text().splitlines()[0::4])
    ['effect_id=e1', 'total.score=0.75']
    >>> home.cleanup()
    """

    def __init__(self, folder: Folder, name: str, encode: Encode, ledger: Path, totals: tuple[str, ...] = ()) -> None:
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
        self._session = ExitStack()
        self._files: Files | None = None

    def __enter__(self) -> Self:
        self.take_over()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def take_over(self) -> int:
        """Become the owner; publish what the one before had staged, and clear away the rest (:class:`Sink`)."""
        with self._opened() as files:
            self._epoch = self._ledger.take_over()
            for record in self._ledger.staged():
                self._publish(record, files)
            for leftover in files.files(_STAGE):
                files.remove(leftover.path)
        return self._epoch

    def apply(self, effect_id: str, batch: Batch, position: Position | None = None) -> Applied:
        """Make the effect, unless it is there (:class:`Sink`)."""
        check_effect_id(effect_id)
        with self._opened() as files:
            record = self._ledger.find(effect_id)
            if record is not None and record.state is Found.DONE:
                return Applied(record.rows, repeated=True)
            if record is None:
                self._ledger.check_owner(self._epoch)
                name = self._name.replace(_PLACE, effect_id)
                record = FileRecord(effect_id, Found.STAGED, name, self._epoch, batch.num_rows)
                self._stage(record, batch, files)
                self._ledger.stage(record, encode_position(position))
            self._publish(record, files)
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
        """Let go of the folder and the ledger (:class:`Sink`)."""
        self._leave()
        self._ledger.close()

    def _stage(self, record: FileRecord, batch: Batch, files: Files) -> None:
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
        files.write(_staged(record, ""), counted())
        lines = [
            f"effect_id={record.effect_id}",
            f"count={record.rows}",
            f"bytes={size}",
            f"sha256={digest.hexdigest()}",
            *totals,
        ]
        files.write(_staged(record, _MARKER), ["".join(f"{line}\n" for line in lines).encode()])
        files.sync(_STAGE)

    def _publish(self, record: FileRecord, files: Files) -> None:
        """Move the file out, then its marker, each only if it is still staged; then note that it is done."""
        for suffix in ("", _MARKER):
            staged, name = _staged(record, suffix), record.name + suffix
            if files.look(staged) is not None:
                try:
                    with suppress(FileNotFoundError):  # another owner has moved it in this moment
                        files.move(staged, name)
                except FileExistsError:
                    raise SinkRefused(
                        where=self._folder.where, expected=f"no {name} yet", got="one of another's"
                    ) from None
            files.sync("")
            files.sync(_STAGE)
        self._ledger.finish(record.effect_id)

    @contextmanager
    def _opened(self) -> Iterator[Files]:
        """Give the opened folder with its stage; errors of the place become ours, and it is opened anew behind one."""
        try:
            if self._files is None:
                self._files = self._session.enter_context(self._folder.opened())
                self._files.make(_STAGE)
            yield self._files
        except (OSError, Unavailable) as error:
            self._leave()
            if isinstance(error, SinkUnavailable):  # of the ledger
                raise
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else error.what
            raise SinkUnavailable(f"the folder cannot be written ({reason})", where=self._folder.where) from error
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._files = None
        with suppress(OSError):
            self._session.close()


def _staged(record: FileRecord, suffix: str) -> str:
    """Name a staged file; the epoch keeps what a replaced owner still writes apart."""
    return f"{_STAGE}/{record.name}.{record.epoch}{suffix}"


def _total(table: pa.Table, name: str) -> str:
    """Sum a column exactly; floating point numbers are summed without loss and rounded once."""
    if name not in table.column_names:
        raise SinkRefused(path=name, expected="the column of a control total", got="none of this name")
    column = table.column(name)
    values = [value for value in column.to_pylist() if value is not None]
    return repr(math.fsum(values)) if pa.types.is_floating(column.type) else str(sum(values))
