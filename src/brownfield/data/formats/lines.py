"""Lines of a stream, each with its place, in bounded memory: a line beyond the limit is cut and marked, not kept."""

from collections.abc import Iterator
from itertools import accumulate
from typing import BinaryIO, NamedTuple

__all__ = ["LINE_END", "Line", "LineBatch", "read_line_batches", "read_lines"]

LINE_END = b"\n"


class Line(NamedTuple):
    """One line.

    Parameters
    ----------
    number
        From 1.
    byte
        Where it begins in the stream.
    raw
        Its bytes without the line end, cut after the limit.
    end
        Its line end: LF, CR LF, or nothing at the end of the stream.
    is_cut
        Whether it is longer than the limit.
    """

    number: int
    byte: int
    raw: bytes
    end: bytes
    is_cut: bool

    @property
    def position(self) -> str:
        """Where it stands, as people say it."""
        return f"line {self.number}, byte {self.byte}"


def read_lines(stream: BinaryIO, limit: int) -> Iterator[Line]:
    r"""Read a stream line by line.

    Parameters
    ----------
    limit
        Bytes of the longest admitted line.

    Examples
    --------
    >>> import io
    >>> [(line.raw, line.byte, line.is_cut) for line in read_lines(io.BytesIO(b"ab\r\nabcdef\nabc"), 3)]
    [(b'ab', 0, False), (b'abc', 4, True), (b'abc', 11, False)]
    """
    number = byte = 0
    while raw := stream.readline(limit + 2):
        number += 1
        start = byte
        byte += len(raw)
        end = b"\r\n" if raw.endswith(b"\r\n") else LINE_END if raw.endswith(LINE_END) else b""
        content = raw.removesuffix(end)
        if not end and len(content) > limit:
            while rest := stream.readline(limit + 2):
                byte += len(rest)
                if rest.endswith(LINE_END):
                    break
        yield Line(number, start, content[:limit], end, len(content) > limit)


class LineBatch:
    """Records as they came: their bytes and places, and which of them were cut for their length.

    Parameters
    ----------
    word
        What a record is called in a position.
    first
        Records before the first one.
    """

    def __init__(self, word: str, first: int) -> None:
        self.word = word
        self.first = first
        self.raws: list[bytes] = []
        self.places: list[int] = []
        self.cut: set[int] = set()

    def position(self, row: int) -> str:
        """Where a record stands, as people say it."""
        return f"{self.word} {self.first + row + 1}, byte {self.places[row]}"

    def extend(
        self, lines: list[bytes], place: int, dropped: int, limit: int, *, ended: bool = True, has_returns: bool = True
    ) -> int:
        """Add lines that follow each other; give the place behind them.

        Parameters
        ----------
        lines
            Without their line feeds.
        place
            First byte of the first one.
        dropped
            Bytes of the first one that were not kept, because it is too long.
        limit
            Bytes of the longest admitted line.
        ended
            Whether each had a line feed.
        has_returns
            Whether a carriage return may stand before it.
        """
        lengths = [len(line) + ended for line in lines]
        lengths[0] += dropped
        places = list(accumulate(lengths, initial=place))
        behind = places.pop()
        if ended and has_returns:
            lines = [line.removesuffix(b"\r") for line in lines]
        if max(map(len, lines)) > limit:
            count = len(self.raws)
            self.cut.update(count + index for index, line in enumerate(lines) if len(line) > limit)
            lines = [line[:limit] for line in lines]
        self.raws += lines
        self.places += places
        return behind

    def take(self, rows: int) -> "LineBatch":
        """Take the first records away."""
        taken = LineBatch(self.word, self.first)
        taken.raws, self.raws = self.raws[:rows], self.raws[rows:]
        taken.places, self.places = self.places[:rows], self.places[rows:]
        taken.cut, self.cut = {row for row in self.cut if row < rows}, {row - rows for row in self.cut if row >= rows}
        self.first += len(taken.raws)
        return taken


_CHUNK_BYTES = 1 << 20


def read_line_batches(stream: BinaryIO, limit: int, rows: int) -> Iterator[LineBatch]:
    r"""Read the same lines as :func:`read_lines`, many together.

    Parameters
    ----------
    limit
        Bytes of the longest admitted line.
    rows
        Lines that are read together.

    Examples
    --------
    >>> import io
    >>> (batch,) = read_line_batches(io.BytesIO(b"ab\r\nabcdef\nabc"), 3, 10)
    >>> batch.raws, batch.cut, batch.position(2)
    ([b'ab', b'abc', b'abc'], {1}, 'line 3, byte 11')
    """
    found, rest, place, dropped = LineBatch("line", 0), b"", 0, 0
    while chunk := stream.read(_CHUNK_BYTES):
        data = rest + chunk
        *lines, rest = data.split(LINE_END)
        if lines:
            place = found.extend(lines, place, dropped, limit, has_returns=b"\r" in data)
            dropped = 0
        dropped += max(0, len(rest) - limit - 2)
        rest = rest[: limit + 2]
        while len(found.raws) >= rows:
            yield found.take(rows)
    if rest:
        found.extend([rest], place, dropped, limit, ended=False)
    while found.raws:
        yield found.take(rows)
