"""What heads of requests mean, and which may not stand; heads that were parsed once and come again need no parser.

Heads of answers are written here as well.

A head is known by all its bytes, from the method to the empty line, so what it means cannot have changed. Who may ask,
and what is served, is decided anew for every request.
"""

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

from brownfield.serving.gateway.problem import HttpFault, MethodNotAllowed

if TYPE_CHECKING:
    from brownfield.serving.gateway.messages import Response

__all__ = [
    "METHODS",
    "Head",
    "Heads",
    "begun_answer",
    "check_head",
    "length_of",
    "path_of",
    "told_malformed",
    "without_upgrade",
]

METHODS = {method.encode(): method for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")}
"""Names of the methods as text."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_LONGEST_BYTES = 1024
_LONGEST_WHOLE_BYTES = 64 * 1024
_MOST = 1024
_UNUSUAL = {b"expect", b"transfer-encoding", b"upgrade"}
_DIGITS = 18  # of a length: thousands of digits are no number to Python, and one to llhttp where they begin with zeros
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} \S{1,8192} HTTP/1\.[01]\r\n")


class Head:
    """What the bytes of a head mean.

    Parameters
    ----------
    text
        All of them, the empty line included.
    method, path, headers
        As the handler takes them; the headers are shared by all requests with this head and not to be changed.
    whole_bytes
        Length of the request, head and body.
    """

    __slots__ = ("headers", "method", "path", "text", "whole_bytes")

    def __init__(self, text: bytes, method: str, path: bytes, headers: dict[bytes, bytes], whole_bytes: int) -> None:
        self.text = text
        self.method = method
        self.path = path
        self.headers = headers
        self.whole_bytes = whole_bytes


class Heads:
    r"""Known heads; at most 1024 short ones, begun anew when there are more.

    Examples
    --------
    >>> heads = Heads()
    >>> request = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    >>> heads.learn(request, b"POST", b"/", {b"content-length": b"2"}, 2)
    >>> known = heads.find(request)
    >>> known.path, request[len(known.text) :]
    (b'/', b'{}')
    >>> heads.find(request + b"x")
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> Head | None:
        """Give the head of a request when ``data`` is exactly one request of known head."""
        head = self._known.get(data[: data.find(b"\r\n\r\n", 0, _LONGEST_BYTES) + 4])
        return head if head is not None and len(data) == head.whole_bytes else None

    def learn(self, data: bytes, method: bytes, target: bytes, headers: dict[bytes, bytes], body_bytes: int) -> None:
        """Remember the head of a request that kept its connection, unless there is anything unusual about it.

        Parameters
        ----------
        data
            What came in one piece while nothing else was under way.
        method, target, headers, body_bytes
            What the parser read in it.
        """
        begin = data.find(b"\r\n\r\n", 0, _LONGEST_BYTES) + 4
        whole = begin + body_bytes == len(data) <= _LONGEST_WHOLE_BYTES
        plain = data.startswith(b"%b %b HTTP/1.1\r\n" % (method, target)) and not _UNUSUAL & headers.keys()
        if not (whole and plain and method in METHODS):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        text = data[:begin]
        self._known[text] = Head(text, METHODS[method], path_of(target), headers, len(data))


def check_head(
    method: bytes, version: str, headers: dict[bytes, bytes], *, repeated: bool
) -> HttpFault | MethodNotAllowed | None:
    """Refuse a head that two readers could read in two ways, or that asks for what is not given."""
    if version not in {"1.1", "1.0"}:
        return HttpFault("Speak HTTP/1.1 or HTTP/1.0.", 505, rule="http.version")
    if repeated:
        return HttpFault("Send every header field that can have one value once.")
    if version == "1.1" and b"host" not in headers:
        return HttpFault("Send exactly one Host field.")
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.strip().lower() != b"chunked"):
        return HttpFault("Send no transfer coding but chunked, and that in HTTP/1.1.")
    if version == "1.1" and headers.get(b"expect", b"100-continue").strip().lower() != b"100-continue":
        return HttpFault("Expect 100-continue or nothing.", 417, rule="http.expect")
    return MethodNotAllowed("GET, HEAD, POST") if method == b"CONNECT" else None


def length_of(text: bytes) -> int:
    """Read a Content-Length.

    Raises
    ------
    HttpFault
        It is no number, or one of more digits than any body has bytes.

    Examples
    --------
    >>> length_of(b"42 ")
    42
    """
    digits = text.strip()
    if len(digits) > _DIGITS or not digits.isdigit():
        raise HttpFault(f"Send the length of the body as a number of at most {_DIGITS} digits.", rule="http.length")
    return int(digits)


def begun_answer(response: "Response", date_line: bytes, *, ends: bool, old: bool) -> list[bytes]:
    """Give the parts of an answer up to its body; ``old`` callers are told that the connection is kept."""
    parts = [_STATUS_LINES[response.status], date_line]
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    if ends:
        parts.append(b"connection: close\r\n")
    elif old:
        parts.append(b"connection: keep-alive\r\n")
    parts.append(b"content-length: %d\r\n\r\n" % len(response.body))
    return parts


def told_malformed(error: httptools.HttpParserError, start: bytes) -> HttpFault | MethodNotAllowed:
    """Refuse what is no HTTP: an unknown verb is told apart where the whole line of the request is at hand."""
    if isinstance(error, httptools.HttpParserInvalidMethodError) and _REQUEST_LINE.match(start.lstrip(b"\r\n")):
        return MethodNotAllowed("GET, HEAD, POST")
    return HttpFault("Send well-formed HTTP/1.1.")


def without_upgrade(method: bytes, target: bytes, version: str, headers: dict[bytes, bytes]) -> bytes:
    """Give the head as a caller would send it who wants no upgrade: of one who does, the parser skips the body."""
    headers = dict(headers)
    del headers[b"upgrade"]
    connection = {option.strip().lower() for option in headers.pop(b"connection", b"").split(b",")} - {b"upgrade"}
    lines = [method + b" " + target + b" HTTP/" + version.encode()]
    lines += [name + b": " + value for name, value in headers.items()]
    lines.append(b"connection: " + b", ".join(sorted(connection)))
    return b"\r\n".join([*lines, b"", b""])


def path_of(target: bytes) -> bytes:
    """Path of a request target, raw as it came; of ``http://host/path`` as well."""
    if target[:1] == b"/":
        if b"?" in target or b"#" in target:
            return target.partition(b"#")[0].partition(b"?")[0]
        return target
    try:
        return httptools.parse_url(target).path or b"/"
    except httptools.HttpParserInvalidURLError:
        return target
