"""What a file format is: a frozen value that holds its options, and turns bytes into batches and back."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from brownfield.data.decoded import Decoded

__all__ = ["BATCH_ROWS", "Format"]

BATCH_ROWS = 65_536
"""Records that are decoded together."""


class Format(Protocol):
    """One way of writing records as bytes.

    ``wanted`` names the columns to read and their types. Whole numbers, numbers and truth values are decoded
    strictly; dates and timestamps stay text, for the contract alone knows their zone and rules.
    """

    def decode(self, stream: BinaryIO, wanted: "pa.Schema", batch_rows: int = BATCH_ROWS) -> "Iterator[Decoded]":
        """Read a stream to its end; each record comes out exactly once, as a row or as a reject.

        Raises
        ------
        FormatError
            When the file as a whole does not have the declared form, such as a header without a wanted column.
        """
        ...

    def encode(self, batches: "Iterable[pa.RecordBatch]") -> Iterator[bytes]:
        """Write records; decoding the bytes again yields the same records.

        Raises
        ------
        FormatError
            When a value cannot be written, such as a number with more digits than its field.
        """
        ...
