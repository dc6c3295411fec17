"""The store of one workspace: its parts over one database, each call a transaction, or several calls in one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from brownfield.clock import Clock, SystemClock
from brownfield.store.access import Access, Joined
from brownfield.store.audit import Audit
from brownfield.store.database import Database, open_database
from brownfield.store.inbox import Inbox
from brownfield.store.ledger import Ledger
from brownfield.store.lookups import Lookups
from brownfield.store.outbox import Outbox
from brownfield.store.parts import Parts
from brownfield.store.quarantine import Quarantine
from brownfield.store.registry import Registry

__all__ = ["Store", "Transaction", "open_store"]


class Transaction:
    """The parts of a store, bound to one transaction."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self.ledger = Ledger(access, clock)
        self.inbox = Inbox(access, clock)
        self.lookups = Lookups(access, clock)
        self.parts = Parts(access)
        self.outbox = Outbox(access, clock)
        self.quarantine = Quarantine(access, clock)
        self.registry = Registry(access, clock)
        self.audit = Audit(access, clock)


class Store(Transaction):
    """The parts of a store; each call is a transaction of its own, durable when it returns.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with open_store(Path(folder.name) / "var" / "brownfield.db") as store:
    ...     with store.commit() as tx:
    ...         run_id = tx.ledger.begin_run(integration="shop", kind="pipeline", contract="shop@1.0.0",
    ...                                      contract_digest="00")
    ...         tx.ledger.advance("shop", "baskets", {"line_id": 7}, previous=None)
    ...     store.ledger.position("shop", "baskets")
    {'line_id': 7}
    >>> folder.cleanup()
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self._database = database
        self._clock = clock

    @property
    def path(self) -> Path:
        """The database file."""
        return self._database.path

    @contextmanager
    def commit(self) -> Iterator[Transaction]:
        """Do several things in one transaction: effects, counts and position happen together or not at all."""
        with self._database.write() as connection:
            yield Transaction(Joined(connection), self._clock)

    def rewind(self, integration: str, source: str, position: Any, *, actor: str, reason: str) -> None:
        """Move a source's position to anywhere, backwards too; the audit log says who and why."""
        with self.commit() as tx:
            current = tx.ledger.position(integration, source)
            tx.ledger.advance(integration, source, position, previous=current)
            tx.audit.append(
                actor=actor, action="position.rewind", subject=f"{integration}.{source}", detail={"reason": reason}
            )

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(path: Path | str, *, clock: Clock | None = None, busy_timeout_ms: int = 5000) -> Store:
    """Open the store of a workspace, usually ``var/brownfield.db``; create it or bring it forward when needed.

    Parameters
    ----------
    path
        The database file. A new one is readable by its owner alone.
    clock
        Whose time is stamped; the system's when not given.
    busy_timeout_ms
        How long to wait for another process's transaction.

    Raises
    ------
    StoreTooNew
        When a newer Brownfield wrote it.
    StoreError
        When it is torn, corrupt, locked, or not ours to read and write.
    """
    clock = clock or SystemClock()
    return Store(open_database(Path(path), clock=clock, busy_timeout_ms=busy_timeout_ms), clock)
