"""Which records of a long body are refused, without a strict reading of those that are fine.

Stretches of the body are read fast, and halved where they are not admitted; a record that is refused alone is read
strictly. What is not a matter of single records is left to the strict reading of the whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from brownfield.contract.strict_json import JsonLimits, read_strictly
from brownfield.errors import InputRefused, Violation
from brownfield.types import Record

__all__ = ["sift"]

_STRETCH = 32
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


def sift(
    body: bytes,
    limits: JsonLimits,
    admits: Callable[[bytes], bool],
    breaks_of: Callable[[Record], Sequence[Violation]],
    most: int,
) -> list[Violation]:
    """Name what records of a body break, in order; nothing when the whole must be read strictly.

    Parameters
    ----------
    body
        A JSON array of objects.
    limits
        Bounds on the body.
    admits
        Whether an array of records is fine beyond doubt.
    breaks_of
        What one record breaks.
    most
        Violations after which no more are looked for.
    """
    try:
        records = _ITEMS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    inner = replace(limits, depth=limits.depth - 1)
    found: list[Violation] = []
    left = [(start, min(start + _STRETCH, len(records))) for start in range(0, len(records), _STRETCH)][::-1]
    try:
        while left:
            start, end = left.pop()
            stretch = b"[%s]" % b",".join(records[start:end])
            if admits(stretch):
                continue
            if len(found) >= most:
                read_strictly(stretch, limits)  # another fault of the document itself comes before all else
            elif end - start > 1:
                middle = (start + end) // 2
                left += ((middle, end), (start, middle))
            else:
                record = read_strictly(bytes(records[start]), inner)
                if not isinstance(record, dict):
                    return []
                found += (replace(each, row=start) for each in breaks_of(record))
    except InputRefused:
        return []
    return found[:most]
