"""``queue``: the messages of a broker's queue, each with exactly one effect however often the broker hands it out.

A run takes messages until none comes for the declared time, or the declared number is reached. An attempt is counted
for each before it is looked at; a message that came with every failed run, the last time alone, is refused instead of
tried again. The broker is told that messages are safe only behind the commit, and what it hands out once more is
recognised by the inbox.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeAlias

from brownfield.data.brokers import Broker, BrokerRefused, Incoming, Unreachable
from brownfield.data.decoded import Decoded, Reject
from brownfield.data.sources.base import Position, Probe, Pulled
from brownfield.data.sources.budget import Budget
from brownfield.errors import BrownfieldError, DeclarationError, FormatError, RejectionCode, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

    from brownfield.store import Inbox

__all__ = ["QueueSource", "Taking"]

Decode: TypeAlias = "Callable[[BinaryIO, pa.Schema], Iterator[Decoded]]"

_NAME = re.compile(r"[\x21-\x7e]{1,128}")
_MOST_BYTES = 256 << 20
"""Bodies that one run takes together; the rest is the next run's."""


@dataclass(frozen=True)
class Taking:
    """How messages are taken and told apart.

    Parameters
    ----------
    by_content
        Whether equal messages are one; else the identifier of producer or stream names them.
    max_messages
        Messages of one run.
    idle_s
        Time without a message after which the queue counts as empty.
    max_message_bytes
        A longer message is refused.
    max_attempts
        Failed runs after which a message is refused.
    remember
        How long a message that was committed is recognised.
    """

    by_content: bool = False
    max_messages: int = 5_000
    idle_s: float = 1.0
    max_message_bytes: int = 1 << 20
    max_attempts: int = 5
    remember: timedelta = timedelta(days=14)

    def together(self, attempts: int) -> int:
        """Messages that a run takes with one that failed so often: fewer each time, and none beside it the last time.

        Examples
        --------
        >>> [Taking().together(attempts) for attempts in range(5)]
        [5000, 594, 70, 8, 1]
        """
        share = max(0.0, 1 - attempts / (self.max_attempts - 1))
        return int(self.max_messages**share)


@dataclass(frozen=True, slots=True)
class _Message:
    """One message with its name: what it is called in positions, and by which digest it is remembered."""

    incoming: Incoming
    name: str
    digest: str
    code: RejectionCode | None = None
    """Why it is refused without a look into its body."""


class QueueSource:
    """One queue of a broker, as a feed.

    Parameters
    ----------
    broker
        The queue.
    queue
        Its name, part of the identity of each record.
    decode
        Reads the body of one message: the ``decode`` of its format.
    budget
        What the broker can bear; its rows are messages.
    inbox
        Remembers messages: that of the store.
    owner
        Names of integration and source, under which they are remembered.
    taking
        How messages are taken.
    """

    def __init__(  # noqa: PLR0913 (what reading a queue is made of)
        self,
        broker: Broker,
        queue: str,
        decode: Decode,
        *,
        budget: Budget,
        inbox: "Inbox",
        owner: tuple[str, str],
        taking: Taking,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self.decode = decode
        self._budget = budget
        self._inbox = inbox
        self._owner = owner
        self._taking = taking
        self._held = ExitStack()
        self._taken: dict[str, None] = {}
        self._tags: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """After a failed run let the messages go back; the attempt counts unless the reason is known and not theirs."""
        if kind is None:
            return
        self._let_go()
        if issubclass(kind, BrownfieldError) or not issubclass(kind, Exception):
            with suppress(BrownfieldError):  # what went wrong first is what is told
                self._inbox.forgive(*self._owner, self._taken)

    def probe(self) -> Probe:
        """Look whether the queue is there, and how many messages wait in it (:class:`Source`)."""
        with ExitStack() as held, self._errors():
            self._connect(held)
            return Probe(self._broker.depth(), None)

    def read(self, wanted: "pa.Schema", after: Position | None = None) -> Iterator[Pulled]:
        """Take messages until the queue is empty or the run has enough; the position counts them (:class:`Source`)."""
        self._taken.clear()
        self._tags.clear()
        before = 0 if after is None else int(after["messages"])
        most, size = self._taking.max_messages, 0
        with self._errors():
            self._connect(self._held)
        while len(self._taken) < most and size < _MOST_BYTES:
            page = min(self._budget.page_rows, most - len(self._taken))
            with self._errors(), self._budget.rows(page):
                incoming = self._broker.receive(page, self._taking.idle_s)
            taken, most, is_cut = self._admit(incoming, most, recognise=after is not None)
            if taken:
                size += sum(len(each.incoming.body or b"") for each in taken)
                for decoded in self._decoded(taken, wanted):
                    yield Pulled(self._queue, decoded, {"messages": before + len(self._taken)})
            if is_cut or len(incoming) < page:
                break
        if not self._taken:
            self.ack({"messages": before})  # what came was committed before

    def enter(self, inbox: "Inbox", run_id: str) -> None:
        """Enter what was taken as committed, in the transaction of its effect."""
        inbox.commit(run_id, *self._owner, self._taken, remember=self._taking.remember)

    def ack(self, position: Position) -> None:  # noqa: ARG002 (a run commits all that it took)
        """Tell the broker that what was taken is safe; where it is not told, it hands out what the inbox recognises."""
        with suppress(Unreachable, BrokerRefused):
            self._broker.confirm(self._tags)
        self._let_go()

    def _connect(self, held: ExitStack) -> None:
        """Connect within the budget; the place among the connections is kept until they are let go."""
        held.enter_context(self._budget.connection())
        held.callback(self._broker.close)
        with self._budget.attempt():
            self._broker.depth()

    def _let_go(self) -> None:
        self._held.close()
        self._tags.clear()

    def _admit(self, incoming: Sequence[Incoming], most: int, *, recognise: bool) -> tuple[list[_Message], int, bool]:
        """Leave out what was committed before, count an attempt for the rest, and stop before what must come alone."""
        messages = [self._named(each) for each in incoming]
        names = {each.digest for each in messages}
        committed = self._inbox.committed(*self._owner, names) if recognise else set()
        attempts = self._inbox.attempts(*self._owner, names)
        taken: list[_Message] = []
        is_cut = False
        for message in messages:
            if message.digest in committed or message.digest in self._taken:
                self._tags.append(message.incoming.tag)
                continue
            failed = attempts.get(message.digest, 0)
            is_poison = failed >= self._taking.max_attempts
            allowed = most if is_poison else min(most, self._taking.together(failed))
            if len(self._taken) >= allowed:
                is_cut = True
                break
            most = allowed
            self._taken[message.digest] = None
            self._tags.append(message.incoming.tag)
            taken.append(replace(message, code=RejectionCode.MESSAGE_POISON) if is_poison else message)
        self._inbox.count(*self._owner, [each.digest for each in taken])
        return taken, most, is_cut

    def _named(self, incoming: Incoming) -> _Message:
        """Name a message; one that has no identifier, where one is needed, is named by its content and refused."""
        code = None
        body = incoming.body or b""
        if incoming.identifier is not None and not self._taking.by_content:
            name = incoming.identifier
        else:
            name = f"content:{hashlib.sha256(body).hexdigest()}"
            code = None if self._taking.by_content else RejectionCode.MESSAGE_NO_ID
        if len(body) > self._taking.max_message_bytes:
            code = RejectionCode.MESSAGE_TOO_LARGE
        digest = hashlib.sha256(name.encode()).hexdigest()
        return _Message(incoming, name if _NAME.fullmatch(name) else f"sha256:{digest}", digest, code)

    def _decoded(self, messages: Sequence[_Message], wanted: "pa.Schema") -> Iterator[Decoded]:
        """Decode messages one by one, and give their records as one batch for each stretch that has one head."""
        bodies = [(message, self._of_body(message, wanted)) for message in messages]
        for head, stretch in groupby(bodies, lambda each: _head(each[1])):
            yield _together(stretch, head, wanted)

    def _of_body(self, message: _Message, wanted: "pa.Schema") -> "list[Decoded] | RejectionCode":
        """Decode one message, or say why it is refused as a whole."""
        if message.code is not None:
            return message.code
        try:
            found = list(self.decode(io.BytesIO(message.incoming.body or b""), wanted))
        except FormatError:
            return RejectionCode.MESSAGE_BODY
        return found if any(each.records for each in found) else RejectionCode.MESSAGE_BODY

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Tell what the broker says as errors of a source."""
        try:
            yield
        except Unreachable as error:
            raise SourceUnavailable(
                f"the broker cannot be read ({error})",
                where=f"queue {self._queue}",
                next_step="Look whether it runs; the next run goes on, nothing is lost.",
            ) from error
        except BrokerRefused as error:
            raise DeclarationError(
                where=f"queue {self._queue}", expected=error.expected, got=error.got, next_step=error.next_step
            ) from error


def _head(body: "list[Decoded] | RejectionCode") -> bytes:
    """Give what a record needs before it to be decoded alone: the header line that its message had."""
    return b"" if isinstance(body, RejectionCode) else body[0].head


def _together(
    bodies: "Iterable[tuple[_Message, list[Decoded] | RejectionCode]]", head: bytes, wanted: "pa.Schema"
) -> Decoded:
    """Give the records of messages as one batch, each named by its message."""
    import pyarrow as pa

    parts: list[Decoded] = []
    rows: list[tuple[str, Decoded, int]] = []
    rejects: list[Reject] = []
    for message, found in bodies:
        if isinstance(found, RejectionCode):
            rejects.append(Reject(f"message {message.name}", found, "", message.incoming.body or b""))
            continue
        for each in found:
            parts.append(each)
            rows += [(message.name, each, row) for row in range(each.batch.num_rows)]
            rejects += [replace(bad, position=f"message {message.name}, {bad.position}") for bad in each.rejects]
    batches = [each.batch for each in parts] or [pa.RecordBatch.from_pylist([], wanted)]
    table = pa.Table.from_batches(batches).combine_chunks()
    whole = table.to_batches()
    return Decoded(
        whole[0] if whole else batches[0],
        lambda row: f"message {rows[row][0]}, {rows[row][1].position(rows[row][2])}",
        lambda row: rows[row][1].raw(rows[row][2]),
        tuple(rejects),
        head,
    )
