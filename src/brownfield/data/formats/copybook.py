"""``copybook``: the fixed records of a mainframe program, laid out by its COBOL copybook."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.base import BATCH_ROWS
from brownfield.data.formats.code_page import code_page
from brownfield.data.formats.layout import Layout
from brownfield.data.formats.numbers import Writing
from brownfield.data.formats.records import Plan
from brownfield.errors import DeclarationError, RejectionCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

__all__ = ["Copybook"]


@dataclass(frozen=True)
class Copybook:
    """Records of fixed length, one after the other without separators (record format F).

    Parameters
    ----------
    layout
        The compiled copybook.
    code_page
        Character set of the texts, and of the digits of zoned numbers.
    native_endian
        Byte order of the machine that wrote native binary numbers (COMP-5); must be given when there are any.

    Raises
    ------
    DeclarationError
        When the code page is unknown, or COMP-5 stands in the layout and no byte order is given.

    Examples
    --------
    >>> import io, pyarrow as pa
    >>> from brownfield.data.formats.copybook_source import compile_copybook
    >>> prices = Copybook(compile_copybook("01 R. 05 STORE-ID PIC 9(3) COMP-3. 05 PRICE PIC S9(3)V99."))
    >>> file = io.BytesIO(bytes.fromhex("367C F0F1F2F3D4") + bytes.fromhex("36AC F0F1F2F3D4"))
    >>> (decoded,) = prices.decode(file, pa.schema([("store_id", pa.int64()), ("price", pa.float64())]))
    >>> decoded.batch.to_pylist(), str(decoded.rejects[0].code), decoded.rejects[0].position
    ([{'store_id': 367, 'price': -12.34}], 'BF-DEC-013', 'record 2, byte 7')
    """

    layout: Layout
    code_page: str = "cp037"
    native_endian: Literal["big", "little"] | None = None

    def __post_init__(self) -> None:
        code_page(self.code_page)
        if self.native_endian is None and any(item.native for item in self.layout.items):
            raise DeclarationError(
                path="native_endian", expected="big or little, for the copybook has COMP-5 fields", got="none",
                next_step="Mainframes and AIX write big, PCs little.",
            )  # fmt: skip

    def decode(self, stream: BinaryIO, wanted: "pa.Schema", batch_rows: int = BATCH_ROWS) -> Iterator[Decoded]:
        """Read a stream to its end; bytes behind the last whole record are one reject (:class:`Format`)."""
        plan = self._plan(wanted)
        size = self.layout.record_bytes
        first = 0
        while data := stream.read(size * batch_rows):
            records, rest = divmod(len(data), size)
            decoded = plan.decode(
                np.frombuffer(data, dtype=np.uint8, count=records * size).reshape(records, size),
                lambda row, first=first: _position(first + row, size),  # type: ignore[misc]  # a default binds this batch
            )
            first += records
            if rest:
                short = Reject(_position(first, size), RejectionCode.DECODE_SHORT, "", data[records * size :], rest)
                decoded = Decoded(decoded.batch, decoded.position, decoded.raw, (*decoded.rejects, short))
                first += 1
            yield decoded

    def encode(self, batches: "Iterable[pa.RecordBatch]") -> Iterator[bytes]:
        """Write records (:class:`Format`); fields that the batch lacks are blanks."""
        for batch in batches:
            yield self._plan(batch.schema).encode(batch).tobytes()

    def _plan(self, wanted: "pa.Schema") -> Plan:
        page = code_page(self.code_page)
        writing = Writing(ebcdic=page.is_ebcdic, little_endian=self.native_endian == "little")
        return Plan.bind(self.layout, wanted, page, writing, "copybook")


def _position(record: int, size: int) -> str:
    return f"record {record + 1}, byte {record * size}"
