"""Messages of queues: which were committed, so that they are recognised, and how often others were tried.

A message is named by the SHA-256 of its identifier. An attempt is counted before the message is worked on and in a
transaction of its own, so that a run that is killed by a message has counted.
"""

from collections.abc import Collection, Iterable
from datetime import timedelta
from itertools import islice

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from brownfield.clock import Clock
from brownfield.store.access import Access
from brownfield.store.schema import attempt, inbox

__all__ = ["Inbox"]

_NAMES_PER_QUERY = 500


class Inbox:
    """The messages of every queue that is read.

    Parameters
    ----------
    access, clock
        Of the store.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def committed(self, integration: str, source: str, messages: Collection[str]) -> set[str]:
        """Tell which of these messages were committed by a run, as far back as they are remembered."""
        return {name for name, _ in self._known(inbox, sa.literal(0), integration, source, messages)}

    def attempts(self, integration: str, source: str, messages: Collection[str]) -> dict[str, int]:
        """Tell how often each of these messages was tried and not committed; those never tried are left out."""
        return dict(self._known(attempt, attempt.c.attempts, integration, source, messages))

    def count(self, integration: str, source: str, messages: Collection[str]) -> None:
        """Count one attempt for each message."""
        entry = insert(attempt)
        counted = entry.on_conflict_do_update(
            index_elements=["integration", "source", "message"],
            set_={"attempts": attempt.c.attempts + 1, "last_utc": entry.excluded.last_utc},
        )
        shared = {"integration": integration, "source": source, "attempts": 1, "last_utc": self._clock.now_utc()}
        if messages:
            with self._access.write() as connection:
                connection.execute(counted, [{**shared, "message": name} for name in messages])

    def forgive(self, integration: str, source: str, messages: Collection[str]) -> None:
        """Take one attempt back: the run failed for a reason that is not the messages'."""
        own = (attempt.c.integration == integration, attempt.c.source == source)
        one = attempt.c.message == sa.bindparam("name")
        if messages:
            with self._access.write() as connection:
                names = [{"name": name} for name in messages]
                connection.execute(attempt.update().where(*own, one).values(attempts=attempt.c.attempts - 1), names)
                connection.execute(attempt.delete().where(*own, attempt.c.attempts <= 0))

    def commit(
        self, run_id: str, integration: str, source: str, messages: Collection[str], *, remember: timedelta
    ) -> None:
        """Enter messages as committed, end their count of attempts, and forget what is older than is remembered."""
        now = self._clock.now_utc()
        shared = {"integration": integration, "source": source, "run_id": run_id, "committed_utc": now}
        entry = insert(inbox)
        entered = entry.on_conflict_do_update(
            index_elements=["integration", "source", "message"], set_={"committed_utc": entry.excluded.committed_utc}
        )
        tried = attempt.delete().where(
            attempt.c.integration == integration,
            attempt.c.source == source,
            attempt.c.message == sa.bindparam("name"),
        )
        with self._access.write() as connection:
            if messages:
                connection.execute(entered, [{**shared, "message": name} for name in messages])
                connection.execute(tried, [{"name": name} for name in messages])
            for table, at in ((inbox, inbox.c.committed_utc), (attempt, attempt.c.last_utc)):
                old = (table.c.integration == integration, table.c.source == source, at < now - remember)
                connection.execute(table.delete().where(*old))

    def _known(
        self,
        table: sa.Table,
        value: "sa.ColumnElement[int]",
        integration: str,
        source: str,
        messages: Collection[str],
    ) -> Iterable[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        names = iter(messages)
        with self._access.read() as connection:
            while some := list(islice(names, _NAMES_PER_QUERY)):
                query = sa.select(table.c.message, value).where(
                    table.c.integration == integration, table.c.source == source, table.c.message.in_(some)
                )
                found += [(name, count) for name, count in connection.execute(query)]
        return found
