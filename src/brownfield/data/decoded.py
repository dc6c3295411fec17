"""What reading legacy data yields: the records that decode, as one Arrow batch, and a reject for each that does not.

Nothing is lost between the two: records read = rows of the batch + rejects.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brownfield.errors import RejectionCode

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Decoded", "Reject"]


@dataclass(frozen=True, slots=True)
class Reject:
    """One record that does not decode.

    Parameters
    ----------
    position
        Where it stands in its source, such as ``record 7, byte 364``; unique in the source and the same on each read.
    code
        Why, from the closed list.
    field
        Name of the first field that does not decode; empty for the record as a whole.
    raw
        The record's bytes as they came.
    offset
        Byte in ``raw`` at which the fault begins; None where a source has no bytes of its own.
    """

    position: str
    code: RejectionCode
    field: str
    raw: bytes
    offset: int | None = None

    @property
    def rule(self) -> str:
        """Identifier of the rule that was broken, in the manner of the contract's: ``FIELD.decode`` or ``decode``."""
        return f"{self.field}.decode" if self.field else "decode"


@dataclass(frozen=True, slots=True)
class Decoded:
    """Records read together.

    Parameters
    ----------
    batch
        The records that decode, in the order of the source.
    position
        Gives the position of a row of the batch, spelt as in :class:`Reject`.
    raw
        Gives the bytes of a row of the batch as they came.
    rejects
        The records that do not decode.
    head
        Bytes that must stand before a record's own so that it can be decoded alone, such as a line of column names.
    """

    batch: "pa.RecordBatch"
    position: Callable[[int], str]
    raw: Callable[[int], bytes]
    rejects: tuple[Reject, ...] = ()
    head: bytes = b""

    @property
    def records(self) -> int:
        """Number of records read."""
        return int(self.batch.num_rows) + len(self.rejects)
