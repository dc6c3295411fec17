"""What uvicorn's HTTP front leaves open: a bound on the head of a request, and a typed refusal of what is no HTTP.

Such a request never becomes a call, so nothing of it is known but that it was wrong; nothing of it is repeated.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.serving.gateway.problem import problem

__all__ = ["MAX_HEAD_BYTES", "Front"]

MAX_HEAD_BYTES = 64 * 1024
"""Longest target and header fields of one request together."""

_REFUSAL = problem(
    InputRefused(
        [Violation("", "http.head", RejectionCode.REQUEST_PARAMETER)],
        next_step=f"Send well-formed HTTP/1.1 with a head of at most {MAX_HEAD_BYTES} bytes.",
    )
)


class Front(HttpToolsProtocol):
    """Uvicorn's connection with a bounded head; what cannot be parsed is refused as ``application/problem+json``."""

    _head_bytes = 0

    def on_message_begin(self) -> None:
        """Begin to count anew."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the target."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field."""
        self._count(name + value)
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's own words, in plain text)
        """Refuse and hang up."""
        fields = [*_REFUSAL.headers, (b"content-length", b"%d" % len(_REFUSAL.body)), (b"connection", b"close")]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (head, _REFUSAL.body))
        self.transport.close()

    def _count(self, part: bytes) -> None:
        self._head_bytes += len(part)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too long")
