"""What a source is: a place in the legacy system that is looked at, read, and told when its records are safe.

``probe`` looks without side effects, ``read`` yields the records after a position, ``ack`` is called only when their
effect is durable; it may be repeated and may be lost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from brownfield.data.decoded import Decoded

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["UNKNOWN", "Position", "Probe", "Pulled", "Source"]

Position: TypeAlias = Mapping[str, Any]
"""How far a source was read: JSON-able, opaque to all but the source itself."""

UNKNOWN = datetime.max.replace(tzinfo=UTC)
"""Stands for a moment that a source cannot tell: it lies ahead of every clock, so nobody believes it."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What looking at a source shows.

    Parameters
    ----------
    records
        Records that there are now; None where only reading can tell.
    size_bytes
        Size of the file or database; None for a server's table.
    """

    records: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Pulled:
    """Records read together, and how far the source is read with them.

    Parameters
    ----------
    origin
        What holds the records: the table, or the file with the digest of its content. With a record's position it
        names the record once and for all.
    decoded
        The records.
    position
        Where reading goes on.
    done_share
        Share of the source read so far, in [0, 1]; None where it cannot be told.
    """

    origin: str
    decoded: Decoded
    position: Position
    done_share: float | None = None


class Source(Protocol):
    """One place in the legacy system, read-only."""

    def probe(self) -> Probe:
        """Look whether the source is there and of the declared shape.

        Raises
        ------
        SourceUnavailable
            When it cannot be reached or read.
        DeclarationError
            When it lacks what the declaration names.
        """
        ...

    def read(self, wanted: "pa.Schema", after: Position | None = None) -> Iterator[Pulled]:
        """Read the records behind a position, or all; each comes out exactly once, as a row or as a reject.

        Raises
        ------
        SourceUnavailable, DeclarationError
            As :meth:`probe`.
        """
        ...

    def ack(self, position: Position) -> None:
        """Take note that everything up to a position is safe."""
        ...
