"""V2 requests with many numbers: their JSON is read by simdjson, without an object for each number.

Comes in: a body. Goes out: a request whose tensors are arrays of 64-bit numbers. Whatever is not made of flat numbers
alone is left to other readers.
"""

from typing import Any, Final

import numpy as np
import simdjson
from msgspec import UNSET

from brownfield.serving.gateway.v2_messages import InferRequest

__all__ = ["UNREAD_NUMBERS", "NumbersTensor", "count_of", "decode_numbers"]

UNREAD_NUMBERS: Final = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)
"""What decoding raises for what is not such a request; the last, where another thread reads one at this moment."""


class NumbersTensor:
    """One entry of ``inputs``.

    Parameters
    ----------
    name, datatype, shape
        As they were sent; of the shape it is known that they are whole numbers.
    numbers
        All that stood in ``data``, as FP64 or INT64.
    """

    __slots__ = ("datatype", "name", "numbers", "shape")

    def __init__(self, name: str, datatype: str, shape: list[int], numbers: np.ndarray[Any, Any]) -> None:
        self.name, self.datatype, self.shape, self.numbers = name, datatype, shape, numbers


def decode_numbers(body: bytes) -> InferRequest:
    """Read a request whose inputs all have flat numbers.

    It is the caller who makes sure that no key stands twice, and that there are none but those that are read here.

    Parameters
    ----------
    body
        JSON without escapes.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError, RuntimeError
        It is not such a request, or not JSON.
    """
    document: Any = _parser.parse(body)
    tensors: list[Any] = [_tensor(tensor) for tensor in document["inputs"]]
    if count_of(body, _BRACKET) != 1 + 2 * len(tensors):
        raise ValueError("an array in an array, or a bracket in a text")
    request_id = document.get("id", UNSET)
    if body[0] == _BYTE_ORDER_MARK or (request_id is not UNSET and type(request_id) is not str):
        raise TypeError("a byte order mark, or an identifier that is no text")
    return InferRequest(inputs=tensors, id=request_id)


def _tensor(tensor: Any) -> NumbersTensor:
    name, datatype, shape = tensor["name"], tensor["datatype"], tensor["shape"].as_list()
    for size in shape:
        if type(size) is not int:
            raise TypeError("a size that is no whole number")
    if type(name) is not str:
        raise TypeError("a name that is no text")
    kind, dtype = _KINDS[datatype]
    return NumbersTensor(name, datatype, shape, np.frombuffer(tensor["data"].as_buffer(of_type=kind), dtype))


def count_of(body: bytes, character: bytes) -> int:
    """Count an ASCII character, at the speed of NumPy where the text is long."""
    if len(body) <= _SHORT_BYTES:
        return body.count(character)
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == character[0]))


_parser: Final = simdjson.Parser()  # it keeps some seven bytes for each one of the longest text
_KINDS: Final = {
    "FP32": ("d", np.dtype("<f8")),
    "FP64": ("d", np.dtype("<f8")),
    "INT32": ("i", np.dtype("<i8")),
    "INT64": ("i", np.dtype("<i8")),
}
_BRACKET: Final = b"["
_SHORT_BYTES: Final = 8192  # up to which NumPy costs more
_BYTE_ORDER_MARK: Final = 0xEF
