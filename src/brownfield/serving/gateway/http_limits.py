"""What one HTTP connection may bring, and how long it may take."""

from typing import NamedTuple

__all__ = ["SINGLE_FIELDS", "HttpLimits", "joined", "most_chunks"]

_LISTS = frozenset({b"cache-control", b"connection"})
_BYTES_PER_CHUNK = 512
_FREE_CHUNKS = 1000

SINGLE_FIELDS = frozenset(
    {
        b"authorization",
        b"brownfield-priority",
        b"brownfield-timeout-ms",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"inference-header-content-length",
        b"transfer-encoding",
    }
)
"""Header fields that change what a request means: standing there twice, two readers could read two requests."""


class HttpLimits(NamedTuple):
    """Bounds of the door; the longest body is the handler's own (:class:`~brownfield.serving.gateway.Limits`).

    Parameters
    ----------
    connections
        Most connections at a time; fewer where the process may not open so many descriptors.
    head_bytes, target_bytes, fields
        Longest head of a request in bytes (trailers included), longest request target in it, most header fields.
    header_s
        Seconds from the first byte of a request to the end of its head.
    body_s
        Seconds from there to the end of its body, and a second more for every ``slowest_bytes_per_s`` received.
    write_s
        Seconds for which a caller may leave an answer unread, and a second more for every ``slowest_bytes_per_s`` read.
    idle_s
        Seconds for which a connection is kept without a request, a new one too: callers open them ahead of need.
    slowest_bytes_per_s
        Rate below which a caller is not waited for.
    kept_bytes
        Most memory that requests half sent and answers unread may take together; beyond it, who has been at it the
        longest is ended.
    """

    connections: int = 8192
    head_bytes: int = 32 * 1024
    target_bytes: int = 8 * 1024
    fields: int = 100
    header_s: float = 5.0
    body_s: float = 10.0
    write_s: float = 30.0
    idle_s: float = 75.0
    slowest_bytes_per_s: int = 16 * 1024
    kept_bytes: int = 256 * 2**20

    @property
    def tick_s(self) -> float:
        """How often the door looks for what is overdue: twice a second, more often only under short limits."""
        return min(0.5, self.header_s / 4, self.body_s / 4, self.write_s / 4, self.idle_s / 4)


def most_chunks(body_bytes: int) -> int:
    """Most chunks of a body: one of that length may come in chunks of half a kilobyte, and any in some more."""
    return _FREE_CHUNKS + body_bytes // _BYTES_PER_CHUNK


def joined(name: bytes, before: bytes, value: bytes) -> bytes:
    """Value of a header field that comes again: of those that are lists all that was said, of others the last.

    Examples
    --------
    >>> joined(b"cache-control", b"no-store", b"max-age=5"), joined(b"accept", b"a/b", b"c/d")
    (b'no-store, max-age=5', b'c/d')
    """
    return before + b", " + value if name in _LISTS else value
