"""What the head of a request means to what is served now: who answers it, what it takes, what its caller wishes.

Comes in: header fields, and the route they lead to. Heads of requests come again and again, so what does not change
between two requests with the same head is found once and kept with it; who asks is looked at for each request anew.
"""

from typing import TYPE_CHECKING, NamedTuple

from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.serving.gateway import wishes
from brownfield.serving.gateway.http_heads import length_of
from brownfield.serving.gateway.priority import Priority

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from brownfield.serving.gateway.messages import Headers, Response
    from brownfield.serving.gateway.served import Served
    from brownfield.serving.gateway.wishes import Caller

__all__ = ["JSON_LENGTH_HEADER", "Bound", "Opening", "check_head", "too_large", "too_many_rows"]

JSON_LENGTH_HEADER = b"inference-header-content-length"


class Bound(NamedTuple):
    """A route for one integration and version.

    Parameters
    ----------
    permission
        What it takes; None where it is open to everyone.
    function
        Answers a call at once, or gives None and replies later.
    served
        The integration, where the route is one's.
    """

    permission: str | None
    function: "Callable[[Any, bytes], Response | None]"
    served: "Served | None"


class Opening:
    """The head of an admitted request, under one state of what is served.

    Parameters
    ----------
    bound
        The route.
    path, headers
        As they came.

    Attributes
    ----------
    authorization, json_length
        Values of header fields; None where they are not there.
    fresh
        Whether the caller wants no kept answer, and none kept.
    has_wishes
        Whether a header field asks for a deadline or a priority.
    """

    __slots__ = (
        "_caller",
        "_priority",
        "authorization",
        "bound",
        "fresh",
        "has_wishes",
        "headers",
        "json_length",
        "path",
    )

    def __init__(self, bound: Bound, path: bytes, headers: "Headers") -> None:
        self.bound = bound
        self.path = path
        self.headers = headers
        self.authorization = headers.get(b"authorization")
        self.json_length = headers.get(JSON_LENGTH_HEADER)
        control = headers.get(b"cache-control", b"").lower()
        self.fresh = b"no-store" in control or b"no-cache" in control
        self.has_wishes = wishes.TIMEOUT_HEADER in headers or wishes.PRIORITY_HEADER in headers
        self._caller: Caller | None = None
        self._priority: Priority | None = None

    def priority(self, served: "Served", caller: "Caller | None") -> Priority:
        """Give the priority of a caller's request, as far as its head tells it."""
        if self._priority is None or caller is not self._caller:
            self._priority, self._caller = wishes.known(served, self.headers, caller), caller
        return self._priority


_V2_TYPES = frozenset({b"", b"application/json", b"application/octet-stream"})


def check_head(headers: "Headers", cap_bytes: int, *, is_v2: bool = False) -> None:
    """Refuse by the header fields what need not be read: compressed bodies, and longer ones than the cap.

    Of V2 requests also those of another media type; what named fields say of theirs is judged with the body.

    Raises
    ------
    InputRefused
        With the code of what is refused.
    """
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in {b"", b"identity"}:
        expected = "a body without Content-Encoding"
        raise InputRefused([Violation("", "content_encoding", RejectionCode.REQUEST_MEDIA_TYPE, 0, expected)])
    if is_v2 and headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower() not in _V2_TYPES:
        expected = "Content-Type: application/json, or application/octet-stream with binary tensors"
        raise InputRefused([Violation("", "content_type", RejectionCode.REQUEST_MEDIA_TYPE, 0, expected)])
    length = headers.get(b"content-length")
    if length is not None and length_of(length) > cap_bytes:
        raise too_large(cap_bytes)


def too_large(cap_bytes: int) -> InputRefused:
    """Say that a body is longer than is taken."""
    expected = f"a body of at most {cap_bytes} bytes"
    return InputRefused([Violation("", "body_bytes", RejectionCode.REQUEST_TOO_LARGE, 0, expected)])


def too_many_rows(most: int) -> InputRefused:
    """Say that a request has more records than are taken."""
    expected = f"at most {most} records in one request"
    return InputRefused([Violation("", "rows", RejectionCode.REQUEST_TOO_MANY_ROWS, 0, expected)])
