"""Refusals as HTTP: which status an error has, and its body as RFC 9457 problem or as V2 error.

Bodies name fields, rules and codes; never a value of a record, a path, a socket or a stack.
"""

from collections.abc import Mapping

import msgspec

from brownfield.errors import (
    BrownfieldError,
    Forbidden,
    InputRefused,
    NotFound,
    RejectionCode,
    Unauthenticated,
    Unavailable,
    Violation,
)
from brownfield.serving.gateway.messages import Response
from brownfield.types import Decision

__all__ = ["HttpFault", "MethodNotAllowed", "problem", "status_of", "v2_error"]

RETRY_AFTER_S = 1
_PROBLEM_TYPE = ((b"content-type", b"application/problem+json"),)
_JSON_TYPE = ((b"content-type", b"application/json"),)

TITLES: Mapping[int, str] = {
    400: "The request cannot be read",
    401: "A valid token is needed",
    403: "This request is not granted",
    404: "There is nothing of that name",
    405: "The method does not apply here",
    408: "The request came too slowly",
    413: "The request is too large",
    415: "The media type or encoding is not supported",
    417: "The expectation cannot be met",
    422: "The records break the contract",
    500: "The platform failed",
    503: "No answer can be given just now",
    505: "This version of HTTP is not spoken",
}

_STATUS_BY_CODE: Mapping[RejectionCode, int] = {
    RejectionCode.REQUEST_TOO_LARGE: 413,
    RejectionCode.REQUEST_TOO_MANY_ROWS: 413,
    RejectionCode.REQUEST_MEDIA_TYPE: 415,
    RejectionCode.REQUEST_PARAMETER: 400,
}


class MethodNotAllowed(BrownfieldError):
    """The path exists and does not take this method.

    Parameters
    ----------
    allowed
        The methods it takes.
    """

    code = "BF-ERR-METHOD"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"this path takes {allowed}")
        self.allowed = allowed


class HttpFault(InputRefused):
    """A request that breaks HTTP or a bound of the door; the connection ends with its refusal.

    Parameters
    ----------
    next_step
        What to send instead, as a full sentence.
    status
        HTTP status of the refusal.
    rule
        What was broken.

    Examples
    --------
    >>> HttpFault("Send exactly one Host field.").status
    400
    """

    def __init__(self, next_step: str, status: int = 400, *, rule: str = "http.head") -> None:
        super().__init__([Violation("", rule, RejectionCode.REQUEST_PARAMETER)], next_step=next_step)
        self.status = status


def status_of(error: BrownfieldError) -> int:
    """HTTP status of an error.

    Examples
    --------
    >>> status_of(InputRefused([Violation("", "body", RejectionCode.JSON_EMPTY)]))
    400
    >>> status_of(InputRefused([Violation("age", "age.range", RejectionCode.RULE_RANGE)]))
    422
    """
    if isinstance(error, HttpFault):
        return error.status
    if isinstance(error, InputRefused):
        return min(_status_of_violation(violation) for violation in error.violations)
    for kind, status in _STATUS_BY_ERROR:
        if isinstance(error, kind):
            return status
    return 500


_STATUS_BY_ERROR: tuple[tuple[type[BrownfieldError], int], ...] = (
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (MethodNotAllowed, 405),
    (Unavailable, 503),
)


def _status_of_violation(violation: Violation) -> int:
    status = _STATUS_BY_CODE.get(violation.code)
    if status is not None:
        return status
    return 400 if violation.code.startswith(("BF-JSON", "BF-TEN")) else 422


def problem(error: BrownfieldError) -> Response:
    """Refusal as ``application/problem+json``: type, title, status, code, detail, violations, decision."""
    status = status_of(error)
    body: dict[str, object] = {
        "type": f"urn:brownfield:error:{error.code}",
        "title": TITLES[status],
        "status": status,
        "code": error.code,
        "detail": _detail(error, status),
    }
    if isinstance(error, InputRefused):
        body["violations"] = error.violations
    decision = getattr(error, "decision", None)
    if isinstance(decision, Decision):
        body["decision"] = decision
    return Response(status, [*_PROBLEM_TYPE, *_extra_headers(error, status)], msgspec.json.encode(body))


def v2_error(error: BrownfieldError) -> Response:
    """Refusal as the Open Inference Protocol wants it: an object with the single key ``error``."""
    status = status_of(error)
    text = _detail(error, status)
    if isinstance(error, InputRefused):
        shown = "; ".join(map(_in_words, error.violations[:8]))
        text = f"{TITLES[status]}: {shown}" + (f". {error.next_step}" if error.next_step else "")
    return Response(status, [*_JSON_TYPE, *_extra_headers(error, status)], msgspec.json.encode({"error": text}))


def _in_words(violation: Violation) -> str:
    asked = f", expected {violation.expected}" if violation.expected else ""
    return f"{violation.field or 'request'}: {violation.rule} ({violation.code}){asked}"


def _detail(error: BrownfieldError, status: int) -> str:
    """Say what may be said outside: our own words for refusals, nothing of the inside for failures."""
    if status == 500:  # noqa: PLR2004 (an HTTP status)
        return "The failure was logged for the operator."
    return str(error)


def _extra_headers(error: BrownfieldError, status: int) -> list[tuple[bytes, bytes]]:
    if status == 401:  # noqa: PLR2004 (an HTTP status)
        return [(b"www-authenticate", b"Bearer")]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", error.allowed.encode())]
    if status == 503:  # noqa: PLR2004 (an HTTP status)
        decision = getattr(error, "decision", None)
        decided = [(b"brownfield-decision", decision.id.encode())] if isinstance(decision, Decision) else []
        return [(b"retry-after", str(RETRY_AFTER_S).encode()), *decided]
    return []
