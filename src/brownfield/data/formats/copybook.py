"""``copybook``: the records of a mainframe program, laid out by its COBOL copybook."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Literal

from brownfield.data.formats import framing
from brownfield.data.formats.base import BATCH_ROWS
from brownfield.data.formats.choosing import Choice
from brownfield.data.formats.code_page import CodePage, code_page
from brownfield.data.formats.framing import Descriptor, Frames
from brownfield.data.formats.layout import Layout
from brownfield.data.formats.lines import LINE_END
from brownfield.data.formats.numbers import Writing
from brownfield.data.formats.records import Plan
from brownfield.data.formats.unfolding import Occurs, Unfolding
from brownfield.errors import DeclarationError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from brownfield.data.decoded import Decoded
    from brownfield.data.formats.unfolding import Unfolded

__all__ = ["Copybook", "RecordFormat"]

RecordFormat = Literal["F", "FB", "V", "VB", "D"]
_BATCH_BYTES = 1 << 26
_BLOCK_BYTES = 32_760


@dataclass(frozen=True)
class Copybook:
    """Records laid out by a copybook.

    Parameters
    ----------
    layout
        The compiled copybook.
    record_format
        ``F``, ``FB``: records of fixed length without separators, or of the length that their counters say;
        ``V``: each behind a record descriptor word; ``VB``: these in blocks behind block descriptor words;
        ``D``: text lines.
    code_page
        Character set of the texts, and of the digits of zoned numbers.
    native_endian
        Byte order of the machine that wrote native binary numbers (COMP-5); must be given when there are any.
    is_rdw_big_endian, rdw_adjustment
        How record descriptor words are written: the byte order, and the bytes to add to the length that they say
        (-4 where they count themselves, as on the mainframe; 0 where they do not).
    is_bdw_big_endian, bdw_adjustment
        The same of block descriptor words.
    variable_size_occurs
        Where the room of absent entries of OCCURS DEPENDING ON is: ``max_size``, ``shift_record`` or ``pad_record``
        (:class:`Unfolding`); must be given when there are such tables.
    redefine_rule
        When a branch of REDEFINES is read, by its name.
    field_code_pages
        Character sets of texts that have another than the rest, by the field's name.
    float_format
        How COMP-1 and COMP-2 are written: ``ibm`` (hexadecimal) or ``ieee``; must be given when there are any.
    is_binary_big_endian
        Byte order of binary numbers that are not native (COMP).
    binary_truncate
        Whether these have no more digits than their picture; otherwise they use all their bits.

    Raises
    ------
    DeclarationError
        When the code page is unknown, when the layout needs an option that is not given, or a rule does not fit it.

    Examples
    --------
    >>> import io, pyarrow as pa
    >>> from brownfield.data.formats.copybook_source import compile_copybook
    >>> prices = Copybook(compile_copybook("01 R. 05 STORE-ID PIC 9(3) COMP-3. 05 PRICE PIC S9(3)V99."))
    >>> file = io.BytesIO(bytes.fromhex("367C F0F1F2F3D4") + bytes.fromhex("36AC F0F1F2F3D4"))
    >>> (decoded,) = prices.decode(file, pa.schema([("store_id", pa.int64()), ("price", pa.float64())]))
    >>> decoded.batch.to_pylist(), str(decoded.rejects[0].code), decoded.rejects[0].position
    ([{'store_id': 367, 'price': -12.34}], 'BF-DEC-013', 'record 2, byte 7')

    Records of varying length, each behind its descriptor word:

    >>> basket = Copybook(
    ...     compile_copybook("01 R. 05 N PIC 9. 05 ITEM PIC 99 OCCURS 0 TO 9 DEPENDING ON N."),
    ...     record_format="V", variable_size_occurs="shift_record",
    ... )
    >>> batch = pa.record_batch({"item": [[7, 42], []]})
    >>> b"".join(basket.encode([batch])).hex(" ", 1)
    '00 09 00 00 f2 f0 f7 f4 f2 00 05 00 00 f0'
    """

    layout: Layout
    record_format: RecordFormat = "F"
    code_page: str = "cp037"
    native_endian: Literal["big", "little"] | None = None
    is_rdw_big_endian: bool = True
    rdw_adjustment: int = -4
    is_bdw_big_endian: bool = True
    bdw_adjustment: int = -4
    variable_size_occurs: Occurs | None = None
    redefine_rule: Mapping[str, Choice] = field(default_factory=dict)
    field_code_pages: Mapping[str, str] = field(default_factory=dict)
    float_format: Literal["ibm", "ieee"] | None = None
    is_binary_big_endian: bool = True
    binary_truncate: bool = True

    def __post_init__(self) -> None:
        page = code_page(self.code_page)
        self._check_fields()
        self._check_machine()
        if self.variable_size_occurs is None and self.layout.tables:
            raise DeclarationError(
                path="variable_size_occurs", got="none",
                expected="max_size, shift_record or pad_record, for the copybook has OCCURS DEPENDING ON",
                next_step="IBM's compilers write shift_record.",
            )  # fmt: skip
        if self.record_format == "D" and not self._is_text:
            raise DeclarationError(
                path="record_format",
                expected="F, FB, V or VB, for text lines hold no binary or packed numbers",
                got="D",
            )
        if self.record_format == "D" and not page.has_ascii:
            raise DeclarationError(
                path="code_page", expected="a character set with ASCII in it, for text lines", got=self.code_page
            )
        self._unfolding  # noqa: B018 (the rules are checked when it is made)

    def _check_fields(self) -> None:
        texts = {item.name for item in self.layout.items if item.usage == "text"}
        for name, page in self.field_code_pages.items():
            if name not in texts:
                raise DeclarationError(path=f"field_code_pages.{name}", expected="a text of the copybook", got="none")
            if code_page(page).is_ebcdic != code_page(self.code_page).is_ebcdic:
                raise DeclarationError(
                    path=f"field_code_pages.{name}", expected="a code page of the same family", got=page
                )

    def _check_machine(self) -> None:
        floats = any(item.usage == "float" for item in self.layout.items)
        if self.float_format is None and floats:
            raise DeclarationError(
                path="float_format", expected="ibm or ieee, for the copybook has COMP-1 or COMP-2", got="none",
                next_step="Mainframes write ibm, all else ieee.",
            )  # fmt: skip
        native = any(item.native for item in self.layout.items) or (floats and self.float_format == "ieee")
        if self.native_endian is None and native:
            raise DeclarationError(
                path="native_endian", expected="big or little, for the copybook has COMP-5 or IEEE fields", got="none",
                next_step="Mainframes and AIX write big, PCs little.",
            )  # fmt: skip

    def decode(self, stream: BinaryIO, wanted: "pa.Schema", batch_rows: int = BATCH_ROWS) -> "Iterator[Decoded]":
        """Read a stream to its end; bytes behind the last whole record are one reject (:class:`Format`).

        Raises
        ------
        FormatError
            Also when the next record cannot be found, because a descriptor word or a counter is none.
        """
        plan = self._plan(wanted)
        for records in self.records(stream, batch_rows):
            yield plan.decode(records)

    def encode(self, batches: "Iterable[pa.RecordBatch]") -> Iterator[bytes]:
        """Write records (:class:`Format`); fields that the batch lacks are blanks, counters are those of the lists."""
        for batch in batches:
            matrix, counts = self._plan(batch.schema).encode(batch)
            if self._unfolding.is_trivial and self.record_format in ("F", "FB"):
                yield matrix.tobytes()
            else:
                yield self._join(self._unfolding.fold(matrix, counts))

    def records(self, stream: BinaryIO, batch_rows: int = BATCH_ROWS) -> "Iterator[Unfolded]":
        """Cut a stream into records and bring them to their full length, without decoding a field."""
        rows = max(1, min(batch_rows, _BATCH_BYTES // self.layout.record_bytes))
        for frames in self._frames(stream, rows):
            yield self._unfolding.unfold(frames)

    @property
    def blank(self) -> int:
        """The byte of a blank."""
        return code_page(self.code_page).space

    @cached_property
    def _is_text(self) -> bool:
        return all(item.usage in ("text", "zoned") for item in self.layout.items)

    @cached_property
    def _writing(self) -> Writing:
        return Writing(
            ebcdic=code_page(self.code_page).is_ebcdic,
            little_endian=self.native_endian == "little",
            binary_little_endian=not self.is_binary_big_endian,
            truncates=self.binary_truncate,
            float_format=self.float_format or "ieee",
        )

    def _page(self, name: str) -> CodePage:
        """Character set of a field."""
        return code_page(self.field_code_pages.get(name, self.code_page))

    @cached_property
    def _unfolding(self) -> Unfolding:
        return Unfolding(
            self.layout,
            self._page,
            self._writing,
            self.variable_size_occurs or "max_size",
            self.redefine_rule,
            self.blank,
            is_exact=self.record_format != "D",
            may_end_early=self.record_format in ("V", "VB"),
        )

    @property
    def _record_word(self) -> Descriptor:
        return Descriptor(self.is_rdw_big_endian, self.rdw_adjustment)

    @property
    def _block_word(self) -> Descriptor:
        return Descriptor(self.is_bdw_big_endian, self.bdw_adjustment, is_block=True)

    def _frames(self, stream: BinaryIO, rows: int) -> Iterator[Frames]:
        if self.record_format == "V":
            return framing.variable(stream, self._record_word, None, rows)
        if self.record_format == "VB":
            return framing.variable(stream, self._record_word, self._block_word, rows)
        if self.record_format == "D":
            return framing.lines(stream, self.layout.record_bytes, rows)
        if self.layout.tables and self.variable_size_occurs == "shift_record":
            return framing.measured(stream, self._unfolding.counting.measure, rows)
        return framing.fixed(stream, self.layout.record_bytes, rows)

    def _join(self, records: list[bytes]) -> bytes:
        if self.record_format == "D":
            return b"".join(self._line(record) for record in records)
        if self.record_format not in ("V", "VB"):
            return b"".join(records)
        described = [self._record_word.write(len(record)) + record for record in records]
        return b"".join(described if self.record_format == "V" else self._blocked(described))

    def _line(self, record: bytes) -> bytes:
        if LINE_END in record or b"\r" in record:
            raise FormatError(expected="texts without line ends", got="one with a line end")
        return record.rstrip(b" ") + LINE_END

    def _blocked(self, described: list[bytes]) -> Iterator[bytes]:
        """Put records into blocks of the size that mainframe tapes and disks have."""
        block = b""
        for record in described:
            if block and len(block) + len(record) + 4 > _BLOCK_BYTES:
                yield self._block_word.write(len(block)) + block
                block = b""
            block += record
        if block:
            yield self._block_word.write(len(block)) + block

    def _plan(self, wanted: "pa.Schema") -> Plan:
        return Plan.bind(self.layout, wanted, self._page, self._writing, "copybook", self._unfolding)
