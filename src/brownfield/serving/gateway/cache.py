"""Answers of one model version that may be given again: bounded in age and memory, asked for once at a time.

A cache belongs to one version, so another bundle (its features are part of it) never sees its entries. The key is the
contract and the checked values of the key fields, never the bytes of a request or its identifier: the same record has
the same key on every door. Fallbacks and refusals are never kept, nor what was made where lookups said less than they
could.
"""

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from brownfield.contract import Checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.serving.gateway.enrich import LookupNote
    from brownfield.serving.gateway.flights import Flight
    from brownfield.serving.gateway.served import Served

__all__ = ["Cache", "Cached", "input_digest"]

_ENTRIES = 10_000
_KEPT_ELEMENTS = 4096
_ALL_ELEMENTS = 2**20  # some 8 MiB as arrays, 32 as lists
_LETTERS = 8  # of a text, which take as much memory as a number


class Cached(NamedTuple):
    """One kept answer.

    Parameters
    ----------
    response
        Its checked columns.
    made_ns
        Monotonic time in nanoseconds at which the model gave it.
    notes
        What lookups said then.
    elements
        Values in it.
    """

    response: "Checked"
    made_ns: int
    notes: "tuple[LookupNote, ...]" = ()
    elements: int = 0


class Cache:
    """Answers of one model version.

    Parameters
    ----------
    ttl_s
        Seconds for which an answer may be given again.
    key_fields
        Request fields that make the key; all when empty.
    entries
        Most answers; the one that was asked for least recently goes first, also where all together are too large.

    Attributes
    ----------
    flights
        Questions that the model is being asked on behalf of all who have them, by key.
    """

    def __init__(self, ttl_s: float, key_fields: "Sequence[str]" = (), entries: int = _ENTRIES) -> None:
        self.flights: dict[bytes, Flight] = {}
        self._ttl_ns = round(ttl_s * 1e9)
        self._key_fields = tuple(key_fields)
        self._entries = entries
        self._kept: OrderedDict[bytes, Cached] = OrderedDict()
        self._elements = 0

    def __len__(self) -> int:
        return len(self._kept)

    def key(self, served: "Served", checked: "Checked") -> bytes:
        """Digest of what the answer depends on."""
        return input_digest(served, checked, self._key_fields)

    def get(self, key: bytes, now_ns: int) -> Cached | None:
        """Give the answer of a key, unless it is too old."""
        cached = self._kept.get(key)
        if cached is None:
            return None
        if now_ns - cached.made_ns > self._ttl_ns:
            self._elements -= self._kept.pop(key).elements
            return None
        self._kept.move_to_end(key)
        return cached

    def put(self, key: bytes, response: "Checked", now_ns: int, notes: "tuple[LookupNote, ...]" = ()) -> None:
        """Keep an answer of the model, with what lookups said."""
        elements = sum(map(_elements, response.columns.values()))
        if elements > _KEPT_ELEMENTS:
            return  # one large answer would take the place of many
        columns = {name: _owned(values) for name, values in response.columns.items()}
        kept = Checked(response.rows, columns, response.single, response.whole)
        before = self._kept.pop(key, None)
        self._kept[key] = Cached(kept, now_ns, notes, elements)
        self._elements += elements - (before.elements if before is not None else 0)
        while len(self._kept) > self._entries or self._elements > _ALL_ELEMENTS:
            self._elements -= self._kept.popitem(last=False)[1].elements


def input_digest(served: "Served", checked: "Checked", fields: "Sequence[str]" = ()) -> bytes:
    """Digest of the contract and the checked values of some fields; of all by default, in whichever order they came."""
    digest = hashlib.blake2b(served.contract.digest.encode(), digest_size=16)
    tensors = {field.name for field in served.request.fields if field.kind == "tensor"}
    for name in fields or sorted(checked.columns):
        digest.update(name.encode() + b"\0")
        digest.update(_canonical(checked.columns.get(name), whole=name in tensors))
    return digest.digest()


def _elements(values: Any) -> int:
    """Count the values in lists of whatever depth, those of each row in its own number; an empty list is one.

    A long text counts as the numbers that would take its place.
    """
    if isinstance(values, np.ndarray):
        if values.dtype != object:
            return values.size
        values = values.tolist()
    if isinstance(values, list):
        return sum(map(_elements, values)) or 1
    return 1 + len(values) // _LETTERS if isinstance(values, str) else 1


def _owned(values: Any) -> Any:
    """Copy a view: it would keep all that the model's process sent, for all callers of a call and with all outputs."""
    return values.copy() if isinstance(values, np.ndarray) and values.base is not None else values


def _canonical(values: Any, *, whole: bool) -> bytes:
    """Bytes that are equal for equal values, in whichever form they came."""
    if isinstance(values, np.ndarray):
        if whole and values.dtype != object:
            return f"{values.dtype.str}{values.shape}".encode() + values.tobytes()
        values = values.tolist()
    return _encode(values)


_encode = msgspec.msgpack.Encoder(enc_hook=lambda value: value.tolist()).encode
