"""What the sinks for SQL tables do alike: take part in a ``with``, ask the ledger first, and find a lost COMMIT again.

Each database keeps its own statements, its session and the translation of its driver's errors.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import pyarrow as pa

from brownfield.data.farewell import farewell
from brownfield.data.sinks.base import Applied, Batch, Found, Position, check_effect_id
from brownfield.data.sinks.table import TableTarget, check_stream, decode_position
from brownfield.errors import BrownfieldError

__all__ = ["TableSink"]


class _Connection(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Connection)


class TableSink(ABC, Generic[C]):
    """One table, written by key, with effect and position in one transaction (:class:`Sink`).

    Parameters
    ----------
    target
        What is written.
    stream
        Name under which epoch and position stand in the ledger, such as ``claims/till``.
    """

    def __init__(self, target: TableTarget, stream: str) -> None:
        check_stream(stream)
        self._target = target
        self._stream = stream
        self._connection: C | None = None
        self._epoch = 0

    def __enter__(self) -> Self:
        self.take_over()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def take_over(self) -> int:
        """Become the owner (:class:`Sink`)."""

    def apply(self, effect_id: str, batch: Batch, position: Position | None = None) -> Applied:
        """Make the effect, unless it is there (:class:`Sink`)."""
        check_effect_id(effect_id)
        table = self._target.check(batch)
        try:
            done = self._rows(effect_id)
            if done is not None:
                return Applied(done, repeated=True)
            return self._commit(effect_id, table, position)
        except self._faults() as error:
            translated = self._translated(error)
            if self._settled(effect_id):  # the answer to COMMIT was lost on the way
                return Applied(table.num_rows, repeated=False)
            raise translated from error

    def find(self, effect_id: str) -> Found:
        """Tell how far an effect came (:class:`Sink`)."""
        check_effect_id(effect_id)
        with self._translating():
            return Found.ABSENT if self._rows(effect_id) is None else Found.DONE

    def position(self) -> Position | None:
        """Tell how far the source was read with the last effect (:class:`Sink`)."""
        with self._translating():
            text = self._reached()
        return decode_position(text)

    def close(self) -> None:
        """Let go of the connection (:class:`Sink`)."""
        if self._connection is not None:
            farewell(self._connection)
            self._connection = None

    def _rows(self, effect_id: str) -> int | None:
        found = self._found(effect_id)
        return None if found is None else int(found)

    def _settled(self, effect_id: str) -> bool:
        """Tell whether an effect is there although making it ended in an error."""
        with suppress(BrownfieldError, *self._faults()):
            return self._rows(effect_id) is not None
        return False

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except self._faults() as error:
            raise self._translated(error) from error

    @abstractmethod
    def _faults(self) -> tuple[type[Exception], ...]:
        """Give the errors by which the driver speaks."""

    @abstractmethod
    def _translated(self, error: Any) -> BrownfieldError:
        """Turn one of these errors into ours, without its text: that may hold values of records."""

    @abstractmethod
    def _found(self, effect_id: str) -> Any:
        """Read an effect's count of rows in the ledger, None where there is no such effect."""

    @abstractmethod
    def _reached(self) -> str | None:
        """Read the stream's position as the ledger spells it."""

    @abstractmethod
    def _commit(self, effect_id: str, table: pa.Table, position: Position | None) -> Applied:
        """Make the effect, in one transaction: ledger, epoch and position, rows."""
