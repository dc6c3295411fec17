"""Blocks of a journal's segment: each is one message of an Arrow stream, and carries a checksum in its metadata.

In: the bytes of a message, or of a whole segment. Out: the message with its checksum, or where the blocks lie that are
as they were written. A block is found by its own mark, so that a damaged one costs those after it nothing; a checksum
starts from that of the segment's head, which it needs to be read.
"""

import re
import zlib
from collections.abc import Iterator

__all__ = ["END", "MARKED", "UNSEALED", "head_of", "sealed", "verified"]

END = b"\xff\xff\xff\xff\0\0\0\0"  # of every stream
MARKED = {"brownfield-blocks": "crc32"}
"""Metadata of the schema of a segment whose blocks carry checksums."""
UNSEALED = {"seal": "brownfield-block 00000000 0000000000 000000"}
"""Metadata of a block: checksum, bytes of the block, and where in it this stands; hexadecimal."""

_MARK = b"brownfield-block"
_SEAL = re.compile(rb"brownfield-block ([0-9a-f]{8}) ([0-9a-f]{10}) ([0-9a-f]{6})")
_SUM_AT = len(_MARK) + 1
_SUM_END = _SUM_AT + 8


def sealed(block: bytes, head: bytes) -> bytes:
    """Give a block with its checksum; it came with ``UNSEALED`` as its metadata."""
    at = block.index(_MARK)
    before = block[: at + _SUM_AT]
    after = b" %010x %06x" % (len(block), at)
    after += block[at + _SUM_END + len(after) :]
    return b"".join((before, b"%08x" % zlib.crc32(after, zlib.crc32(before, zlib.crc32(head))), after))


def head_of(segment: bytes) -> bytes | None:
    """Give what stands before the first block; None where that is no segment whose blocks carry checksums."""
    if _MARK not in segment:
        return None
    return segment[: 8 + int.from_bytes(segment[4:8], "little")]  # a message without a body: the schema


def verified(segment: bytes, head: bytes) -> Iterator[tuple[int, int]]:
    """Give where each block begins and ends that is as it was written under this head."""
    whole, start = zlib.crc32(head), 0
    view = memoryview(segment)
    place = _SEAL.search(segment)
    while place:
        begin = place.start() - int(place[3], 16)
        end = begin + int(place[2], 16)
        next_at = place.start() + 1
        if start <= begin and place.end() <= end <= len(segment):
            before = zlib.crc32(view[begin : place.start() + _SUM_AT], whole)
            if zlib.crc32(view[place.start() + _SUM_END : end], before) == int(place[1], 16):
                yield begin, end
                start = next_at = end
        place = _SEAL.search(segment, next_at)
