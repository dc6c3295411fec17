"""Where one record ends and the next begins: fixed lengths, descriptor words (RDW, BDW), text lines.

Records come in batches that share one buffer, so that records of one length become a matrix without being copied.
A chain of descriptor words that breaks stops the reading, for nothing says where the next record would begin.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from brownfield.data.formats.lines import read_lines
from brownfield.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Descriptor", "Frames", "fixed", "lines", "measured", "variable"]

CHUNK_BYTES = 1 << 22
_WORD = 4
_EXTENDED = 0x80
_MAX_SHORT = 0xFFFF


@dataclass(frozen=True, eq=False)
class Frames:
    """Records read together.

    Parameters
    ----------
    data
        The bytes that hold them.
    starts, lengths
        First byte of each record in ``data``, and its number of bytes.
    places
        First byte of each record in the file.
    first
        Number of the first one, from 0.
    word
        What a record is called in a position.
    is_cut
        Whether the file ends inside the last one.
    """

    data: bytes
    starts: "NDArray[np.int64]"
    lengths: "NDArray[np.int64]"
    places: "NDArray[np.int64]"
    first: int
    word: str = "record"
    is_cut: bool = False

    def position(self, row: int) -> str:
        """Where a record stands in its file."""
        return f"{self.word} {self.first + row + 1}, byte {self.places[row]}"

    def raw(self, row: int) -> bytes:
        """Bytes of a record, without descriptor words and line ends."""
        start = self.starts[row]
        return self.data[start : start + self.lengths[row]]

    def matrix(self, width: int, fill: int) -> "NDArray[np.uint8]":
        """Lay the records one below the other, shape ``(records, width)``; a short one is filled, a long one cut."""
        flat = np.frombuffer(self.data, dtype=np.uint8)
        count = len(self.starts)
        steps = np.diff(self.starts)
        if count and (self.lengths == width).all() and (count == 1 or (steps == steps[0]).all()):
            step = int(steps[0]) if count > 1 else width
            return np.lib.stride_tricks.as_strided(
                flat[self.starts[0] :], shape=(count, width), strides=(step, 1), writeable=False
            )
        matrix = np.full((count, width), fill, dtype=np.uint8)
        kept = np.minimum(self.lengths, width)
        before = np.cumsum(kept) - kept
        index = np.arange(int(kept.sum())) + np.repeat(self.starts - before, kept)
        matrix[np.arange(width) < kept[:, None]] = flat[index]
        return matrix


class Descriptor(NamedTuple):
    """A word of four bytes before a record (RDW) or a block (BDW) that says how long it is.

    Parameters
    ----------
    is_big_endian
        The length stands first, big-endian, as on the mainframe; otherwise last, little-endian.
    adjustment
        Bytes to add to what the word says; -4 where the word counts itself.
    is_block
        Whether it describes a block; the length then may take four bytes, marked by the first bit.
    """

    is_big_endian: bool = True
    adjustment: int = -4
    is_block: bool = False

    def read(self, word: bytes) -> int | None:
        """Bytes behind the word; None when it is no descriptor word."""
        if self.is_big_endian:
            if self.is_block and word[0] & _EXTENDED:
                length = int.from_bytes(word, "big") & 0x7FFF_FFFF
            elif word[2] or word[3]:
                return None
            else:
                length = word[0] << 8 | word[1]
        elif word[0] or word[1]:
            return None
        else:
            length = word[3] << 8 | word[2]
        length += self.adjustment
        return length if length > 0 else None

    def write(self, length: int) -> bytes:
        """Write the word before so many bytes.

        Raises
        ------
        FormatError
            When they are more than it can say.
        """
        said = length - self.adjustment
        if not 0 < said <= _MAX_SHORT:
            raise FormatError(expected=f"records of up to {_MAX_SHORT + self.adjustment} bytes", got=str(length))
        word = said.to_bytes(2, "big" if self.is_big_endian else "little")
        return word + b"\0\0" if self.is_big_endian else b"\0\0" + word


def fixed(stream: BinaryIO, size: int, rows: int) -> Iterator[Frames]:
    """Cut a stream into records of one length."""
    first = 0
    while data := stream.read(size * rows):
        starts = np.arange(0, len(data), size, dtype=np.int64)
        rest = len(data) % size
        lengths = np.full(len(starts), size, dtype=np.int64)
        lengths[-1] = rest or size
        yield Frames(data, starts, lengths, starts + first * size, first, is_cut=bool(rest))
        first += len(starts)


def lines(stream: BinaryIO, limit: int, rows: int) -> Iterator[Frames]:
    """Cut a stream into text lines; of a longer one the first ``limit + 1`` bytes are kept."""
    source = read_lines(stream, limit + 1)
    while taken := list(islice(source, rows)):
        lengths = np.array([len(line.raw) for line in taken], dtype=np.int64)
        places = np.array([line.byte for line in taken], dtype=np.int64)
        data = b"".join([line.raw for line in taken])
        yield Frames(data, np.cumsum(lengths) - lengths, lengths, places, taken[0].number - 1, "line")


def variable(stream: BinaryIO, record: Descriptor, block: Descriptor | None, rows: int) -> Iterator[Frames]:
    """Cut a stream into records that descriptor words announce.

    Raises
    ------
    FormatError
        When a word is none, or a record reaches over the end of its block.
    """
    left = 0  # bytes of the block that are still to come

    def step(data: bytes, at: int, place: int) -> "_Piece | None":
        nonlocal left
        rest = left
        if block is not None and rest == 0:
            if len(data) < at + _WORD:
                return None
            rest = _length(block, data[at : at + _WORD], place + at)
            at += _WORD
        if len(data) < at + _WORD:
            return None
        length = _length(record, data[at : at + _WORD], place + at)
        if block is not None and (rest := rest - _WORD - length) < 0:
            raise FormatError(
                where=f"byte {place + at}", expected="records that end with their block", got="a longer one"
            )
        if len(data) < at + _WORD + length:
            return None
        left = rest
        return at + _WORD, length

    is_cut = False
    for frames in _cut(stream, step, rows):
        is_cut = frames.is_cut
        yield frames
    if left and not is_cut:
        raise FormatError("the file ends inside a block", next_step="Was it copied whole?")


def measured(stream: BinaryIO, measure: Callable[[bytes, int], int | None], rows: int) -> Iterator[Frames]:
    """Cut a stream into records that say themselves how long they are.

    Parameters
    ----------
    measure
        Gives the length of the record that begins at a byte of the data; None when it needs more data.
    """

    def step(data: bytes, at: int, place: int) -> "_Piece | None":  # noqa: ARG001 (a step knows its place)
        length = measure(data, at)
        return None if length is None or len(data) < at + length else (at, length)

    return _cut(stream, step, rows)


_Piece = tuple[int, int]
"""First byte in the data, and number of bytes."""
_Step = Callable[[bytes, int, int], "_Piece | None"]


def _length(descriptor: Descriptor, word: bytes, place: int) -> int:
    length = descriptor.read(word)
    if length is None:
        raise FormatError(
            where=f"byte {place}",
            expected="a block descriptor word" if descriptor.is_block else "a record descriptor word",
            got="other bytes",
            next_step="Do record_format, the byte order and the adjustment fit the file?",
        )
    return length


def _cut(stream: BinaryIO, step: _Step, rows: int) -> Iterator[Frames]:
    """Take pieces off a stream; bytes at its end that are no whole piece are a last one, cut short."""
    data, place, first = b"", 0, 0
    while chunk := stream.read(max(CHUNK_BYTES, len(data))):
        data += chunk
        at = 0
        pieces: list[_Piece] = []
        while at < len(data) and (piece := step(data, at, place)) is not None:
            pieces.append(piece)
            at = piece[0] + piece[1]
            if len(pieces) == rows:
                yield _frames(data, pieces, place, first)
                first += len(pieces)
                pieces = []
        if pieces:
            yield _frames(data, pieces, place, first)
            first += len(pieces)
        data, place = data[at:], place + at
    if data:
        yield _frames(data, [(0, len(data))], place, first, is_cut=True)


def _frames(data: bytes, pieces: list[_Piece], place: int, first: int, *, is_cut: bool = False) -> Frames:
    starts, lengths = np.array(pieces, dtype=np.int64).T
    return Frames(data, starts, lengths, starts + place, first, is_cut=is_cut)
