"""Named-fields JSON: one record as an object, or many as an array, in; the same with the decision out."""

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.serving.gateway.answer import Answer
from brownfield.serving.gateway.openings import too_many_rows

if TYPE_CHECKING:
    from brownfield.contract import Checked
    from brownfield.serving.gateway.messages import Headers
    from brownfield.serving.gateway.served import Served

__all__ = ["decode", "encode", "plain"]

_SHORTEST_BYTES = 3  # of a record, with its comma
_BRACE = 0x7B
_TYPES = frozenset({b"", b"application/json"})  # an empty one says no more than none
_records = msgspec.json.Decoder(list[msgspec.Raw]).decode


def plain(value: Any) -> Any:
    """Plain form of what JSON does not know: arrays as nested lists, NumPy numbers as numbers.

    Examples
    --------
    >>> plain(np.float32(0.5)), plain(np.arange(4).reshape(2, 2))
    (0.5, [[0, 1], [2, 3]])
    """
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"no plain form of {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=plain)


def decode(served: "Served", headers: "Headers", body: bytes, most_rows: int) -> "Checked":
    """Check a body of at most so many records against the request schema.

    Raises
    ------
    InputRefused
        Another media type than JSON, more records, or anything that the contract does not admit.
    """
    media_type = headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    if media_type not in _TYPES:
        expected = "Content-Type: application/json"
        raise InputRefused([Violation("", "content_type", RejectionCode.REQUEST_MEDIA_TYPE, 0, expected)])
    if len(body) > _SHORTEST_BYTES * most_rows and _has_more(body, most_rows):
        raise too_many_rows(most_rows)
    return served.request.rows.decode(body)


def _has_more(body: bytes, rows: int) -> bool:
    """Whether a body has more records than that, for a small part of what reading them costs.

    As many braces as records, and some in texts: mostly the beginning tells, up to where the record after next begins.
    """
    if np.count_nonzero(np.frombuffer(body, np.uint8) == _BRACE) <= rows:
        return False
    behind = body.split(b"{", rows + 2)[-1]
    beginning = body[: len(body) - len(behind) - 1].rstrip(b", \t\r\n") + b"]"
    return _counts_more(beginning, rows) or _counts_more(body, rows)


def _counts_more(body: bytes, rows: int) -> bool:
    try:
        return len(_records(body)) > rows
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False  # no array, or none that can be read: what is wrong with it is said by whoever reads it


def encode(asked: "Checked", answer: Answer) -> bytes:
    """Body of the answer: ``prediction`` or, for an array, ``predictions``; the ``decision``; what ``lookups`` said."""
    response = answer.checked
    lookups = {"lookups": [note.plain() for note in answer.lookups]} if answer.lookups else {}
    if asked.single:
        return _encoder.encode({"prediction": response.record(0), "decision": answer.decision, **lookups})
    records = [response.record(row) for row in range(response.rows)]
    return _encoder.encode({"predictions": records, "decision": answer.decision, **lookups})
