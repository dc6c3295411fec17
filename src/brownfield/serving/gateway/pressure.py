"""When the gateway itself is the bottleneck: requests of one turn of the loop beyond what can be answered in time.

What is ready to be read in a turn of the event loop has waited in the kernel, where nobody can look at its deadline.
A request waits there for a turn, is read in the next and answered in one after that, so a whole turn may take a quarter
of the deadline. What a turn has no time for is refused before its body is looked at, for a small part of an answer's
cost; how much it has time for is learned from how long full turns take, refusals and answers included.
"""

import asyncio

from brownfield.errors import Unavailable
from brownfield.serving.gateway.messages import Response
from brownfield.serving.gateway.problem import problem, v2_error
from brownfield.serving.gateway.waiting import Priority

__all__ = ["Pressure", "busy"]

_ALWAYS = 32  # requests of one turn that are never refused: a stall of the machine is no load
_TURN_SHARE = 1 / 4  # of the deadline: longest whole turn
_LEAST_SHARE = 1 / 64


class Pressure:
    """The work of this turn of the event loop.

    Attributes
    ----------
    share
        Part of the deadline that a turn may spend before it refuses.
    """

    __slots__ = ("_before_ns", "_began_ns", "_requests", "_was_full", "share")

    def __init__(self) -> None:
        self.share = _TURN_SHARE
        self._began_ns = 0
        self._before_ns = 0
        self._requests = 0
        self._was_full = False

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
        requests = self._requests
        if not requests:
            self._before_ns, self._began_ns = self._began_ns, now_ns
            asyncio.get_running_loop().call_soon(self._turn_over)
        self._requests = requests + 1
        if requests < _ALWAYS:
            return True
        if requests == _ALWAYS:
            self._adapt(deadline_ns)
        return now_ns - self._began_ns <= priority.share * self.share * deadline_ns

    def _adapt(self, deadline_ns: int) -> None:
        """Learn from the last turn, when it was full as well, so that the loop was not idle between."""
        if self._was_full:
            turn_ns = max(1, self._began_ns - self._before_ns)
            wanted = self.share * _TURN_SHARE * deadline_ns / turn_ns
            self.share = min(_TURN_SHARE, max(_LEAST_SHARE, (self.share + wanted) / 2))
        else:
            self.share = _TURN_SHARE

    def _turn_over(self) -> None:
        self._was_full = self._requests > _ALWAYS
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
