"""Named-fields JSON: one record as an object, or many as an array, in; the same with the decision out."""

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.serving.gateway.answer import Answer

if TYPE_CHECKING:
    from brownfield.contract import Checked
    from brownfield.serving.gateway.messages import Headers
    from brownfield.serving.gateway.served import Served

__all__ = ["decode", "encode", "plain"]


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


def decode(served: "Served", headers: "Headers", body: bytes) -> "Checked":
    """Check a body against the request schema.

    Raises
    ------
    InputRefused
        Another media type than JSON, or anything that the contract does not admit.
    """
    media_type = headers.get(b"content-type", b"application/json").split(b";", 1)[0].strip().lower()
    if media_type != b"application/json":
        raise InputRefused(
            [Violation("", "content_type", RejectionCode.REQUEST_MEDIA_TYPE)],
            next_step="Send Content-Type: application/json.",
        )
    return served.request.rows.decode(body)


def encode(asked: "Checked", answer: Answer) -> bytes:
    """Body of the answer: ``prediction`` or, for an array, ``predictions``; the ``decision``; what ``lookups`` said."""
    response = answer.checked
    lookups = {"lookups": [note.plain() for note in answer.lookups]} if answer.lookups else {}
    if asked.single:
        return _encoder.encode({"prediction": response.record(0), "decision": answer.decision, **lookups})
    records = [response.record(row) for row in range(response.rows)]
    return _encoder.encode({"predictions": records, "decision": answer.decision, **lookups})
