"""How a part of the store gets its connection: a transaction of its own, or the one that others share with it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import sqlalchemy as sa

__all__ = ["Access", "Joined"]


class Access(Protocol):
    """Gives connections inside a transaction."""

    def read(self) -> AbstractContextManager[sa.Connection]:
        """Give a connection to read with."""
        ...

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Give a connection to write with; leaving the block without an error commits, unless it is shared."""
        ...


class Joined:
    """The connection of a transaction that somebody else begins and ends."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give the shared connection."""
        yield self._connection

    write = read
