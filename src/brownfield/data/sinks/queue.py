"""``queue``: one message for each record of an effect, each confirmed by the broker before the effect counts as made.

Every message has the same identifier on each attempt: the effect's and the record's number. Redis and NATS keep each
once; RabbitMQ and MQTT may hold a message twice after a crash, and its consumer knows it by the identifier.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import pyarrow as pa

from brownfield.data.brokers import Allowance, Broker, BrokerRefused, Outgoing, Unreachable
from brownfield.data.sinks.base import Applied, Batch, Found, Position, check_effect_id
from brownfield.data.sinks.file_ledger import FileLedger, FileRecord
from brownfield.data.sinks.table import decode_position, encode_position
from brownfield.errors import SinkRefused, SinkUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["QueueSink"]

Encode: TypeAlias = "Callable[[Iterable[pa.RecordBatch]], Iterator[bytes]]"


class QueueSink:
    """One queue that is written; it has one sink and one ledger.

    Parameters
    ----------
    broker
        The queue, such as ``Rabbitmq(address, "scores")``.
    queue
        Its name, for messages and the ledger.
    encode
        Writes one record as the body of a message: the ``encode`` of a format, such as ``Json().encode``.
    ledger
        The ledger's SQLite file, in the workspace's ``var``.
    budget
        What the broker can bear; none where it has room for all.
    """

    def __init__(
        self, broker: Broker, queue: str, encode: Encode, ledger: Path, budget: Allowance | None = None
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._encode = encode
        self._ledger = FileLedger(ledger)
        self._budget = budget
        self._held = ExitStack()
        self._is_connected = False
        self._epoch = 0

    def __enter__(self) -> Self:
        self.take_over()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def take_over(self) -> int:
        """Become the owner, and look whether the queue is there (:class:`Sink`)."""
        with self._errors():
            self._connect()
        self._epoch = self._ledger.take_over()
        return self._epoch

    def apply(self, effect_id: str, batch: Batch, position: Position | None = None) -> Applied:
        """Make the effect, unless it is there; one that was begun is sent again from its start (:class:`Sink`)."""
        check_effect_id(effect_id)
        record = self._ledger.find(effect_id)
        if record is not None and record.state is Found.DONE:
            return Applied(record.rows, repeated=True)
        self._ledger.check_owner(self._epoch)
        if record is None:
            record = FileRecord(effect_id, Found.STAGED, self._queue, self._epoch, batch.num_rows)
            self._ledger.stage(record, None)
        messages = list(self._messages(effect_id, batch))
        page = len(messages) or 1 if self._budget is None else self._budget.page_rows
        for start in range(0, len(messages), page):
            some = messages[start : start + page]
            with ExitStack() as paced, self._errors():
                if self._budget is not None:
                    paced.enter_context(self._budget.rows(len(some)))
                self._connect()
                self._broker.publish(some)
        self._ledger.finish(effect_id, encode_position(position))
        return Applied(record.rows, repeated=False)

    def find(self, effect_id: str) -> Found:
        """Tell how far an effect came; ``staged`` is one of which some messages may be there (:class:`Sink`)."""
        check_effect_id(effect_id)
        record = self._ledger.find(effect_id)
        return Found.ABSENT if record is None else record.state

    def position(self) -> Position | None:
        """Tell how far the source was read with the last effect that was made (:class:`Sink`)."""
        return decode_position(self._ledger.position())

    def close(self) -> None:
        """Let go of the connection and the ledger (:class:`Sink`)."""
        self._let_go()
        self._ledger.close()

    def _messages(self, effect_id: str, batch: Batch) -> Iterator[Outgoing]:
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        row = 0
        for part in table.to_batches():
            for at in range(part.num_rows):
                body = b"".join(self._encode([part.slice(at, 1)]))
                headers = {"bf-effect-id": effect_id, "bf-row": str(row)}
                yield Outgoing(f"{effect_id}-{row}", body, headers)
                row += 1

    def _connect(self) -> None:
        if self._is_connected:
            return
        self._held.callback(self._broker.close)
        if self._budget is None:
            self._broker.depth()
        else:
            self._held.enter_context(self._budget.connection())
            with self._budget.attempt():
                self._broker.depth()
        self._is_connected = True

    def _let_go(self) -> None:
        self._is_connected = False
        self._held.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Tell what the broker says as errors of a sink."""
        try:
            yield
        except Unreachable as error:
            self._let_go()
            raise SinkUnavailable(
                f"the broker cannot be written ({error})",
                where=f"queue {self._queue}",
                next_step="Look whether it runs, then ask for the same effect again.",
            ) from error
        except BrokerRefused as error:
            self._let_go()
            raise SinkRefused(
                where=f"queue {self._queue}", expected=error.expected, got=error.got, next_step=error.next_step
            ) from error
