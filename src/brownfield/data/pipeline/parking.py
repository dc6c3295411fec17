"""Order kept within a key: while a record of a key is in quarantine, later records of that key wait behind it."""

import hashlib
import re
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from brownfield.errors import RejectionCode, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    import pyarrow as pa

    from brownfield.data.decoded import Reject
    from brownfield.integration import ParkSpec
    from brownfield.store import Parked

__all__ = ["Parking", "in_order", "park_key"]

PARKED_RULE = "park"
_NUMBERS = re.compile(r"([0-9]+)")


def park_key(identity: str, values: Sequence[Any]) -> str:
    """Digest of a key of a feed; empty where a part of it is missing, for then it is the key of nothing.

    Examples
    --------
    >>> park_key("shop.sales", [7]) == park_key("shop.sales", ["7"]), park_key("shop.sales", [None])
    (True, '')
    """
    if any(value is None for value in values):
        return ""
    text = "\0".join([identity, *(str(value).rstrip() for value in values)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def in_order(position: str) -> list[tuple[int, str]]:
    """Give a key by which positions of one source sort as its records came: numbers by their value.

    Examples
    --------
    >>> sorted(["record 10, byte 90", "record 9, byte 81"], key=in_order)
    ['record 9, byte 81', 'record 10, byte 90']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBERS.split(position)]


class Parking:
    """The keys of one feed that wait.

    Parameters
    ----------
    identity
        Of the feed; part of every digest.
    spec
        As declared.
    waiting
        Keys that have open records, from the runs before.
    """

    def __init__(self, identity: str, spec: "ParkSpec", waiting: "Mapping[str, Parked]") -> None:
        self.identity = identity
        self.spec = spec
        self.blocked = set(waiting)
        self.parked = sum(each.records for each in waiting.values())
        self.since_utc = min((each.since_utc for each in waiting.values()), default=None)

    def hold(
        self,
        batch: "pa.RecordBatch",
        refused: "Iterable[int]",
        place: "Callable[[int], str]",
        undecoded: "Iterable[Reject]",
    ) -> tuple[dict[int, str], list[int], list[str]]:
        """Go through a batch in its order: a refused record blocks its key, later rows of a blocked key wait.

        Parameters
        ----------
        batch
            Rows as they were decoded.
        refused
            Rows that the contract refuses.
        place
            Position of a row.
        undecoded
            Records of the same reading that do not decode; a key is known of those whose bytes are a JSON object.

        Returns
        -------
        tuple
            The keys of the refused and of the waiting rows, the rows that wait, and the keys of the undecoded records.
        """
        bad = set(refused)
        rejects = [(in_order(each.position), self._key_of(each.raw)) for each in undecoded]
        before = deque(sorted(each for each in rejects if each[1]))
        keys: dict[int, str] = {}
        waiting: list[int] = []
        for row, values in enumerate(self._values(batch) if bad or before or self.blocked else ()):
            while before and before[0][0] < in_order(place(row)):
                self.blocked.add(before.popleft()[1])
            key = park_key(self.identity, values)
            if row in bad:
                keys[row] = key
                self.blocked.add(key)
                self.blocked.discard("")
            elif key in self.blocked:
                keys[row] = key
                waiting.append(row)
        self.blocked.update(key for _, key in before)
        self.parked += len(waiting)
        return keys, waiting, [key for _, key in rejects]

    def _values(self, batch: "pa.RecordBatch") -> "Iterator[tuple[Any, ...]]":
        return zip(*(batch.column(name).to_pylist() for name in self.spec.keys), strict=True)

    def _key_of(self, raw: bytes) -> str:
        """Read the key of a record that does not decode."""
        try:
            record = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
        if not isinstance(record, dict):
            return ""
        return park_key(self.identity, [record.get(name) for name in self.spec.keys])

    def beyond(self, now_utc: "datetime") -> str:
        """Say what waits longer, or is more, than declared; empty while neither is the case."""
        if self.parked > self.spec.max_records:
            return f"{self.parked:,} records wait behind refused ones; at most {self.spec.max_records:,} may"
        if self.since_utc is not None and now_utc - self.since_utc > timedelta(hours=self.spec.max_age_h):
            return f"records wait since {self.since_utc:%Y-%m-%d %H:%M} UTC; at most {self.spec.max_age_h:g} h may pass"
        return ""

    @staticmethod
    def reason() -> Violation:
        """Give the reason of a record that waits."""
        return Violation("", PARKED_RULE, RejectionCode.PARKED)
