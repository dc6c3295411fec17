"""Frames on the socket between a gateway and a model process: tensors in, tensors out, nothing executable.

Comes in: numpy arrays, or bytes in pieces of any size. Goes out: buffers for one write, or complete frames.
Refused with :class:`FrameError`: a length over the cap (before anything is allocated), and every frame whose parts
do not add up. Shared by both sides: this file uses the standard library and numpy alone.

A frame is a header of 32 bytes, descriptors, data; everything little-endian and aligned to 8 bytes::

    u32 frame bytes | u32 descriptor bytes | u64 request id | u64 stamp | u8 kind | u8 0 | u16 tensors | u32 call rows
    per tensor: u8 type (as in ONNX) | u8 dimensions | u16 0 | u32 data bytes | u32 per dimension | padding
    per tensor: raw data | padding           (strings: u32 length and UTF-8 bytes per element)

``stamp`` is the deadline of a request (nanoseconds of the machine's monotonic clock, 0 for none), and of an answer
the microseconds spent waiting (upper half) and in the engine (lower half). ``call rows`` of an answer are all that the
engine had in that call, those of other requests included; 0 otherwise. ``HELLO`` and ``ERROR`` carry JSON.
"""

import json
import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = [
    "ERROR",
    "HELLO",
    "MAX_FRAME_BYTES",
    "REQUEST",
    "RESPONSE",
    "TYPES",
    "Decoder",
    "Frame",
    "FrameError",
    "FrameTooLarge",
    "Layout",
    "encode_message",
    "encode_tensors",
]

Tensor: TypeAlias = NDArray[Any]
Buffer: TypeAlias = bytes | memoryview

HELLO, REQUEST, RESPONSE, ERROR = 1, 2, 3, 4
MAX_FRAME_BYTES = 256 * 2**20

_HEADER = struct.Struct("<IIQQBxHI")
_DESCRIPTOR = struct.Struct("<BBHI")
_LENGTH = struct.Struct("<I")
_MAX_DIMENSIONS = 16
_MAX_TENSORS = 0xFFFF
_MAX_MESSAGE_BYTES = 2**20  # as JSON is read at once: some 10 ms
_MAX_ELEMENTS = 2**40
_COPY_BELOW_BYTES = 32 * 1024
_MAX_CACHED = 1024
_STRING = 8
_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    4: np.dtype("<u2"),
    5: np.dtype("<i2"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    9: np.dtype("?"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
    12: np.dtype("<u4"),
    13: np.dtype("<u8"),
}
TYPES: dict[str, np.dtype[Any] | None] = {"str": None, **{dtype.name: dtype for dtype in _TYPES.values()}}
"""Types as a :class:`Layout` has them, by the names that a greeting uses."""
_CODES = {dtype: code for code, dtype in _TYPES.items()}


class FrameError(ValueError):
    """Bytes that are no frame, or arrays that cannot travel in one."""


class FrameTooLarge(FrameError):
    """Arrays that no frame can hold, for their size alone."""


class Layout:
    """Where the tensors lie in a frame; equal descriptors share one layout.

    ``key`` is equal for requests that may share a batch (same types, same shapes behind the first dimension);
    ``rows`` is the common first dimension, or -1 when there is none. ``is_known`` is for the receiver, who looks at a
    layout once instead of at every frame.
    """

    __slots__ = ("frame_bytes", "is_known", "key", "rows", "tensors")

    def __init__(self, descriptors: bytes, count: int) -> None:
        tensors: list[tuple[np.dtype[Any] | None, tuple[int, ...], int, int]] = []
        at = 0
        start = _HEADER.size + len(descriptors)
        while at < len(descriptors):
            if len(tensors) == count:
                raise FrameError("a description of more tensors than there are")
            dtype, shape, data_bytes, at = _read_descriptor(descriptors, at)
            tensors.append((dtype, shape, start, start + data_bytes))
            start += data_bytes + -data_bytes % 8
        self.tensors = tuple(tensors)
        self.frame_bytes = start
        self.is_known = False
        firsts = {shape[0] if shape else -1 for _, shape, _, _ in tensors}
        self.rows = firsts.pop() if len(firsts) == 1 else -1
        self.key: Hashable = descriptors
        if self.rows >= 0:
            self.key = tuple((dtype, shape[1:]) for dtype, shape, _, _ in tensors)


class Frame:
    """One complete frame; its arrays are views of the received bytes.

    Attributes
    ----------
    kind, request_id, stamp, call_rows
        As in the header.
    layout
        Types, shapes and places of the tensors.
    """

    __slots__ = ("_view", "call_rows", "kind", "layout", "request_id", "stamp")

    def __init__(
        self, kind: int, request_id: int, stamp: int, call_rows: int, layout: Layout, view: memoryview
    ) -> None:
        self.kind = kind
        self.request_id = request_id
        self.stamp = stamp
        self.call_rows = call_rows
        self.layout = layout
        self._view = view

    def tensors(self) -> list[Tensor]:
        """Return the arrays in the order in which they were sent (read-only views; strings are copied)."""
        return [
            _unpack_strings(self._view[start:stop], shape)
            if dtype is None
            else np.frombuffer(self._view[start:stop], dtype).reshape(shape)
            if stop > start
            else np.empty(shape, dtype)
            for dtype, shape, start, stop in self.layout.tensors
        ]

    def data(self, index: int) -> memoryview:
        """Return the raw bytes of one tensor."""
        _, _, start, stop = self.layout.tensors[index]
        return self._view[start:stop]

    def message(self) -> dict[str, Any]:
        """Return the JSON object of a ``HELLO`` or ``ERROR`` frame."""
        try:
            document = json.loads(bytes(self._view[_HEADER.size :]))
            json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair could not be sent on
        except (ValueError, RecursionError) as error:
            raise FrameError("a message that is not JSON") from error
        if not isinstance(document, dict):
            raise FrameError("a message that is not a JSON object")
        return document


class Decoder:
    """Turns received bytes into frames, whatever the pieces in which they come.

    Parameters
    ----------
    max_frame_bytes
        Longest frame that is admitted; memory is only taken for bytes that have arrived.

    Attributes
    ----------
    max_tensors
        Most tensors of a frame; to be set as soon as it is known how many may come, as each takes time to read.

    Examples
    --------
    >>> sent = b"".join(encode_tensors(REQUEST, 7, 0, [np.ones((2, 3), "f4")]))
    >>> decoder = Decoder()
    >>> decoder.feed(sent[:40])
    []
    >>> [frame] = decoder.feed(sent[40:])
    >>> frame.request_id, frame.tensors()[0].sum()
    (7, np.float32(6.0))
    """

    __slots__ = ("_layouts", "_max_frame_bytes", "_pending", "_wanted", "max_tensors")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_tensors = _MAX_TENSORS
        self._max_frame_bytes = max_frame_bytes
        self._layouts: dict[bytes, Layout] = {}
        self._pending = bytearray()
        self._wanted = _HEADER.size

    @property
    def begun(self) -> bool:
        """Whether a part of a frame has come, and not yet all of it."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes.

        Raises
        ------
        FrameError
            When the bytes are no frames; the connection is of no use any more.
        """
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted:
                return []
            view = memoryview(self._pending)
            self._pending = bytearray()
        else:
            view = memoryview(data)
        frames: list[Frame] = []
        at = 0
        end = len(view)
        self._wanted = _HEADER.size
        while end - at >= _HEADER.size:
            frame_bytes, meta_bytes, request_id, stamp, kind, count, call_rows = _HEADER.unpack_from(view, at)
            if not _HEADER.size <= frame_bytes <= self._max_frame_bytes or frame_bytes % 8:
                raise FrameError("a frame of an inadmissible length")
            if end - at < frame_bytes:
                self._wanted = frame_bytes
                break
            frame = view[at : at + frame_bytes]
            layout = self._layout(frame, meta_bytes, kind, count)
            frames.append(Frame(kind, request_id, stamp, call_rows, layout, frame))
            at += frame_bytes
        if at < end:
            self._pending += view[at:]
        return frames

    def _layout(self, frame: memoryview, meta_bytes: int, kind: int, count: int) -> Layout:
        if kind in (HELLO, ERROR):
            if len(frame) > _MAX_MESSAGE_BYTES:
                raise FrameError("a message that is too long")
            return _NO_TENSORS
        if kind not in (REQUEST, RESPONSE) or meta_bytes > len(frame) - _HEADER.size:
            raise FrameError("a frame of an unknown kind or with too long a description")
        descriptors = bytes(frame[_HEADER.size : _HEADER.size + meta_bytes])
        layout = self._layouts.get(descriptors)
        if layout is None:
            if count > self.max_tensors:
                raise FrameError("a frame of more tensors than may come")
            layout = Layout(descriptors, count)
            if len(self._layouts) >= _MAX_CACHED:
                self._layouts.clear()
            self._layouts[descriptors] = layout
        if layout.frame_bytes != len(frame) or len(layout.tensors) != count:
            raise FrameError("a frame whose tensors do not fill it")
        return layout


def encode_tensors(
    kind: int, request_id: int, stamp: int, arrays: Sequence[Tensor], call_rows: int = 0
) -> list[Buffer]:
    """Buffers of one frame, to be joined or written one after another; large arrays are not copied.

    Parameters
    ----------
    kind
        ``REQUEST`` or ``RESPONSE``.
    request_id
        Identifier that the answer repeats, ``0 <= request_id < 2**64``.
    stamp
        See the module.
    arrays
        Numbers and booleans in the machine's (little-endian) order; strings as object, ``U`` or ``S`` arrays.
    call_rows
        See the module.

    Raises
    ------
    FrameError
        When a type cannot travel or the frame would be longer than ``MAX_FRAME_BYTES``.
    """
    blobs: list[Buffer] = []
    key: list[tuple[np.dtype[Any], tuple[int, ...], int]] = []
    for array in arrays:
        blob = _raw(array)
        blobs.append(blob)
        key.append((array.dtype, array.shape, len(blob)))
    known = tuple(key)
    head = _heads.get(known)
    if head is None:
        head = _describe(known)
        if len(_heads) >= _MAX_CACHED:
            _heads.clear()
        _heads[known] = head
    descriptors, frame_bytes = head
    buffers: list[Buffer] = [
        _HEADER.pack(frame_bytes, len(descriptors), request_id, stamp, kind, len(blobs), call_rows) + descriptors
    ]
    for blob in blobs:
        buffers.append(blob)
        if len(blob) % 8:
            buffers.append(_PADDING[len(blob) % 8])
    return buffers


def encode_message(kind: int, request_id: int, document: dict[str, Any]) -> bytes:
    """Frame of a JSON object: ``HELLO``, or ``ERROR`` with ``code`` and ``message``.

    Examples
    --------
    >>> [frame] = Decoder().feed(encode_message(ERROR, 3, {"code": "run", "message": "INVALID_ARGUMENT"}))
    >>> frame.request_id, frame.message()["code"]
    (3, 'run')
    """
    body = json.dumps(document).encode()
    body += b" " * (-len(body) % 8)
    return _HEADER.pack(_HEADER.size + len(body), 0, request_id, 0, kind, 0, 0) + body


_NO_TENSORS = Layout(b"", 0)
_PADDING = [b"\0" * (-n % 8) for n in range(8)]
_heads: dict[tuple[tuple[np.dtype[Any], tuple[int, ...], int], ...], tuple[bytes, int]] = {}


def _describe(tensors: tuple[tuple[np.dtype[Any], tuple[int, ...], int], ...]) -> tuple[bytes, int]:
    descriptors = b""
    data_bytes = 0
    for dtype, shape, size in tensors:
        code = _STRING if dtype.kind in "OUS" else _CODES.get(dtype)
        if code is None:
            raise FrameError(f"a tensor of type {dtype} cannot travel in a frame")
        if len(shape) > _MAX_DIMENSIONS or size > MAX_FRAME_BYTES or any(dimension >= 2**32 for dimension in shape):
            raise FrameTooLarge("a tensor too large for a frame")
        descriptors += _DESCRIPTOR.pack(code, len(shape), 0, size) + struct.pack(f"<{len(shape)}I", *shape)
        descriptors += b"\0" * (-len(descriptors) % 8)
        data_bytes += size + -size % 8
    frame_bytes = _HEADER.size + len(descriptors) + data_bytes
    if frame_bytes > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"tensors of {frame_bytes} bytes are too large for one frame")
    return descriptors, frame_bytes


def _read_descriptor(meta: bytes, at: int) -> tuple[np.dtype[Any] | None, tuple[int, ...], int, int]:
    if len(meta) - at < _DESCRIPTOR.size:
        raise FrameError("a description that is cut short")
    code, dimensions, _, data_bytes = _DESCRIPTOR.unpack_from(meta, at)
    at += _DESCRIPTOR.size
    if dimensions > _MAX_DIMENSIONS or len(meta) - at < 4 * dimensions:
        raise FrameError("a description that is cut short")
    shape = struct.unpack_from(f"<{dimensions}I", meta, at)
    at += 4 * (dimensions + dimensions % 2)
    if at > len(meta) or math.prod(max(1, dimension) for dimension in shape) > _MAX_ELEMENTS:
        raise FrameError("a description of an impossible tensor")
    elements = math.prod(shape)
    if code == _STRING:
        if data_bytes < 4 * elements:
            raise FrameError("strings that are cut short")
        return None, shape, data_bytes, at
    dtype = _TYPES.get(code)
    if dtype is None or elements * dtype.itemsize != data_bytes:
        raise FrameError("a tensor whose size does not match its shape")
    return dtype, shape, data_bytes, at


def _raw(array: Tensor) -> Buffer:
    if array.dtype.kind in "OUS":
        return _pack_strings(array)
    if array.nbytes < _COPY_BELOW_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).data.cast("B")


def _pack_strings(array: Tensor) -> bytes:
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        if not isinstance(element, str | bytes):
            raise FrameError("a string tensor holds something that is no text")
        try:
            text = element.encode() if isinstance(element, str) else element
        except UnicodeEncodeError:  # a lone half of a surrogate pair; the error itself holds the text
            raise FrameError("text that is not UTF-8") from None
        parts += (_LENGTH.pack(len(text)), text)
    return b"".join(parts)


def _unpack_strings(view: memoryview, shape: tuple[int, ...]) -> Tensor:
    array = np.empty(math.prod(shape), dtype=object)
    at = 0
    for index in range(len(array)):
        if at + _LENGTH.size > len(view):
            raise FrameError("strings that are cut short")
        (length,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        if at + length > len(view):
            raise FrameError("strings that are cut short")
        try:
            array[index] = str(view[at : at + length], "utf-8")
        except UnicodeDecodeError as error:
            raise FrameError("text that is not UTF-8") from error
        at += length
    if at != len(view):
        raise FrameError("strings that do not fill their place")
    return array.reshape(shape)
