"""``fixed_width``: text in columns of fixed width, one record a line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.base import BATCH_ROWS
from brownfield.data.formats.characters import Utf8
from brownfield.data.formats.code_page import code_page
from brownfield.data.formats.layout import Layout
from brownfield.data.formats.lines import LINE_END, Line, read_lines
from brownfield.data.formats.numbers import Writing
from brownfield.data.formats.records import Plan
from brownfield.data.formats.unfolding import Unfolded
from brownfield.errors import DeclarationError, FormatError, RejectionCode

if TYPE_CHECKING:
    from brownfield.data.formats.characters import Characters

__all__ = ["FixedWidth"]

_SLACK_BYTES = 65_536
"""Blanks that a line may have behind its last column."""


@dataclass(frozen=True)
class FixedWidth:
    r"""Lines of equal length; blanks at the end of a column are padding, and before a number as well.

    Parameters
    ----------
    layout
        Where the columns lie, in bytes; a line may be longer than they reach only by blanks.
    encoding
        ``utf-8`` or a character set of one byte a character, with line ends as in ASCII.

    Raises
    ------
    DeclarationError
        When the character set does not fit.

    Examples
    --------
    >>> import io
    >>> from brownfield.data.formats.layout import read_layout
    >>> stores = FixedWidth(read_layout("name,start,width\nstore_id,1,5\ncity,6,6\n"))
    >>> wanted = pa.schema([("store_id", pa.int64()), ("city", pa.string())])
    >>> (decoded,) = stores.decode(io.BytesIO(b"  367Boston\n  3x7Austin\n  410\n"), wanted)
    >>> decoded.batch.to_pylist()
    [{'store_id': 367, 'city': 'Boston'}]
    >>> [(each.position, str(each.code)) for each in decoded.rejects]
    [('line 2, byte 12', 'BF-DEC-006'), ('line 3, byte 24', 'BF-DEC-001')]
    """

    layout: Layout
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if not _is_utf8(self.encoding) and code_page(self.encoding).is_ebcdic:
            raise DeclarationError(
                path="encoding",
                expected="a character set with ASCII in it",
                got=repr(self.encoding),
                next_step="Records in EBCDIC are read by the format copybook.",
            )

    def decode(self, stream: BinaryIO, wanted: pa.Schema, batch_rows: int = BATCH_ROWS) -> Iterator[Decoded]:
        """Read a stream to its end (:class:`Format`)."""
        plan = self._plan(wanted)
        width = self.layout.record_bytes
        lines = read_lines(stream, width + _SLACK_BYTES)
        while taken := list(islice(lines, batch_rows)):
            whole = [line for line in taken if not self._fault(line)]
            matrix = np.frombuffer(b"".join([line.raw[:width] for line in whole]), dtype=np.uint8).reshape(-1, width)
            decoded = plan.decode(
                Unfolded(
                    matrix,
                    lambda row, whole=whole: whole[row].position,  # type: ignore[misc]  # a default binds this batch
                    lambda row, matrix=matrix: matrix[row].tobytes(),  # type: ignore[misc]
                )
            )
            rejects = [
                Reject(line.position, code, "", line.raw, min(len(line.raw), width))
                for line in taken
                if (code := self._fault(line))
            ]
            yield Decoded(decoded.batch, decoded.position, decoded.raw, (*decoded.rejects, *rejects))

    def _fault(self, line: Line) -> RejectionCode | None:
        width = self.layout.record_bytes
        if len(line.raw) < width:
            return RejectionCode.DECODE_SHORT
        return RejectionCode.DECODE_LONG if line.is_cut or line.raw[width:].strip(b" ") else None

    def encode(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Write records (:class:`Format`); columns that the batch lacks are blanks."""
        for batch in batches:
            matrix, _ = self._plan(batch.schema).encode(batch)
            if (matrix == LINE_END[0]).any():
                raise FormatError(expected="texts without line ends", got="one with a line end")
            yield b"".join(row.tobytes() + LINE_END for row in matrix)

    def _plan(self, wanted: pa.Schema) -> Plan:
        characters: Characters = Utf8() if _is_utf8(self.encoding) else code_page(self.encoding)
        return Plan.bind(self.layout, wanted, lambda _: characters, Writing(ebcdic=False), "fixed_width")


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")
