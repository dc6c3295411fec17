"""What a caller may say of its request: for how long it waits, and how much it matters.

A wish only ever lowers: the deadline is at most the declared one, the priority at most that of the door and that of the
caller's token. What is no number of milliseconds, or no known priority, is refused.
"""

import re
from typing import TYPE_CHECKING, NoReturn, Protocol

from brownfield.errors import InputRefused, RejectionCode, Violation
from brownfield.serving.gateway.priority import Priority

if TYPE_CHECKING:
    from brownfield.serving.gateway.asks import Ask
    from brownfield.serving.gateway.messages import Headers
    from brownfield.serving.gateway.served import Served

__all__ = ["PRIORITY_HEADER", "TIMEOUT_HEADER", "Caller", "apply", "known"]

TIMEOUT_HEADER = b"brownfield-timeout-ms"
PRIORITY_HEADER = b"brownfield-priority"


class Caller(Protocol):
    """Who asks."""

    @property
    def name(self) -> str:
        """Whose share of the model the request takes."""
        ...

    @property
    def priority(self) -> str:
        """Highest priority of its requests, by name."""
        ...


_LONGEST_MS = 600_000
_DECIMAL = re.compile(rb"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_TIMEOUT = f"a number of milliseconds above 0, at most {_LONGEST_MS}"
_BY_NUMBER = tuple(Priority)
_BY_NAME = {priority.name.lower(): priority for priority in _BY_NUMBER}
_BY_HEADER = {name.encode(): priority for name, priority in _BY_NAME.items()}


def apply(ask: "Ask", headers: "Headers", timeout_ns: int = 0, priority: int = 0) -> None:
    """Enter what is wished for into an ask.

    Parameters
    ----------
    ask
        Of this request, with the priority that its head gives it.
    headers
        ``Brownfield-Timeout-Ms`` and ``Brownfield-Priority`` are looked at.
    timeout_ns, priority
        The same wishes as V2 parameters: nanoseconds, and Triton's number of a priority (1 is the highest, 2 is batch,
        from 3 on shadow); 0 where there is none.

    Raises
    ------
    InputRefused
        A wish that cannot be read.
    """
    text = headers.get(TIMEOUT_HEADER)
    if text is not None:
        header_ns = _timeout_ns(text)
        timeout_ns = min(timeout_ns, header_ns) if timeout_ns else header_ns
    if timeout_ns:
        ask.deadline_ns = ask.split.started_ns + timeout_ns
    named = headers.get(PRIORITY_HEADER)
    if named is not None and named not in _BY_HEADER:
        _refuse("header.brownfield_priority", f"one of {', '.join(each.decode() for each in _BY_HEADER)}")
    if priority:
        ask.priority = max(ask.priority, _BY_NUMBER[min(priority, len(_BY_NUMBER)) - 1])


def known(served: "Served", headers: "Headers", caller: "Caller | None") -> Priority:
    """Give the priority of a request as far as its head tells it."""
    highest = served.priority
    if caller is not None:
        highest = max(highest, _BY_NAME[caller.priority])
    named = headers.get(PRIORITY_HEADER)
    if named is not None:
        highest = max(highest, _BY_HEADER.get(named, highest))
    return highest


def _timeout_ns(text: bytes) -> int:
    timeout_ms = float(text) if _DECIMAL.fullmatch(text) else 0.0
    if not 0 < timeout_ms <= _LONGEST_MS:
        _refuse("header.brownfield_timeout_ms", _TIMEOUT)
    return max(1, round(timeout_ms * 1e6))


def _refuse(rule: str, expected: str) -> NoReturn:
    raise InputRefused([Violation("", rule, RejectionCode.REQUEST_PARAMETER, 0, expected)])
