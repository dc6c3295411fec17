"""Lines of a stream, each with its place, in bounded memory: a line beyond the limit is cut and marked, not kept."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["LINE_END", "Line", "read_lines"]

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
