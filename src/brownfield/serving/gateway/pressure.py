"""When the gateway itself is the bottleneck: requests of one turn of the loop beyond what can be answered in time.

What is ready to be read in a turn of the event loop has waited in the kernel, where nobody can look at its deadline.
When the turn's work has taken a quarter of the deadline, the rest of the turn would be answered too late, and so would
the next: it is refused before its body is looked at, which costs a small part of an answer.
"""

import asyncio

from brownfield.errors import Unavailable
from brownfield.serving.gateway.messages import Response
from brownfield.serving.gateway.problem import problem, v2_error
from brownfield.serving.gateway.waiting import Priority

__all__ = ["Pressure", "busy"]

_ALWAYS = 32  # requests of one turn that are never refused: a stall of the machine is no load
_SHARE_OF_DEADLINE = 4


class Pressure:
    """The work of this turn of the event loop."""

    __slots__ = ("_began_ns", "_requests")

    def __init__(self) -> None:
        self._began_ns = 0
        self._requests = 0

    def admits(self, now_ns: int, deadline_ns: int, priority: Priority) -> bool:
        """Count a request of this turn, and say whether it is to be looked at.

        Parameters
        ----------
        now_ns
            Monotonic time in nanoseconds.
        deadline_ns
            Declared for its integration.
        priority
            As far as it is known before the body is read; a lower one is refused sooner.
        """
        if not self._requests:
            self._began_ns = now_ns
            asyncio.get_running_loop().call_soon(self._turn_over)
        self._requests += 1
        if self._requests <= _ALWAYS:
            return True
        return now_ns - self._began_ns <= priority.share * deadline_ns / _SHARE_OF_DEADLINE

    def _turn_over(self) -> None:
        self._requests = 0


_TOO_MUCH = Unavailable("more is asked for than can be answered in time", next_step="Try again in a moment.")
_BUSY, _BUSY_V2 = problem(_TOO_MUCH), v2_error(_TOO_MUCH)


def busy(*, v2: bool) -> Response:
    """Refuse for as little as possible: this is said tens of thousands of times a second.

    Examples
    --------
    >>> busy(v2=True).status
    503
    """
    made = _BUSY_V2 if v2 else _BUSY
    return Response(made.status, [*made.headers], made.body)
