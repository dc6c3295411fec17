"""When the gateway itself is the bottleneck: requests of one turn of the loop beyond what can be answered in time.

What is ready to be read in a turn of the event loop has waited in the kernel, where nobody can look at its deadline.
A request waits there for a turn, is read in the next and answered in one after that, so a whole turn may take a quarter
of the deadline. What the turn has no time to ask the model for is shed: the fallbacks answer at once. They read the
body too, so they have a part of that time again, and what comes after it is refused unread, for a small part of an
answer's cost. How much a turn has time for is learned from how long full turns take, all of that included.

Behind a full turn callers are told apart: whoever asks for no more than its share of what that turn let in is let in,
also when others have used the time up.
"""

import asyncio
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from brownfield.serving.gateway.waiting import Priority

__all__ = ["Pressure", "Verdict"]

_ALWAYS: Final = 32  # requests of one turn that are never refused: a stall of the machine is no load
_TURN_SHARE: Final = 1 / 4  # of the deadline: longest whole turn
_LEAST_SHARE: Final = 1 / 64
_SHED_SHARE: Final = 1 / 4  # more of the turn's time in which fallbacks answer
_GRACE_SHARE: Final = 1 / 2  # of the deadline: until when a caller has its share, whatever others did


class Verdict(IntEnum):
    """What is to be done with a request."""

    REFUSE = 0
    SHED = 1
    ASK = 2


class Pressure:
    """The work of this turn of the event loop.

    Attributes
    ----------
    share
        Part of the deadline that a turn may spend before it sheds.
    """

    __slots__ = ("_asked", "_before_ns", "_began_ns", "_fair", "_let_in", "_requests", "_was_full", "share")

    def __init__(self) -> None:
        self.share = _TURN_SHARE
        self._began_ns = 0
        self._before_ns = 0
        self._requests = 0
        self._was_full = False
        self._asked: dict[str, int] = {}  # requests of a turn behind a full one, by caller
        self._let_in = 0  # of them
        self._fair = 0  # that each caller has in this turn; 0 where nobody is told apart

    def judge(self, now_ns: int, deadline_ns: int, priority: Priority, caller: str = "") -> Verdict:
        """Count a request of this turn, and say what is to be done with it.

        Parameters
        ----------
        now_ns
            Monotonic time in nanoseconds.
        deadline_ns
            Declared for its integration.
        priority
            As far as it is known before the body is read; a lower one is shed sooner.
        caller
            Name of the principal; empty where none is told from another.
        """
        requests = self._requests
        if not requests:
            self._before_ns, self._began_ns = self._began_ns, now_ns
            asyncio.get_running_loop().call_soon(self._turn_over)
            if self._was_full:
                self._learn(deadline_ns)
        self._requests = requests + 1
        if self._was_full:
            return self._judge_apart(now_ns, deadline_ns, priority, caller)
        if requests < _ALWAYS:
            return Verdict.ASK
        if requests == _ALWAYS:
            self.share = _TURN_SHARE
        return _verdict(now_ns - self._began_ns, priority.share * self.share * deadline_ns)

    def _judge_apart(self, now_ns: int, deadline_ns: int, priority: Priority, caller: str) -> Verdict:
        asked = self._asked[caller] = self._asked.get(caller, 0) + 1
        if self._requests <= _ALWAYS:
            verdict = Verdict.ASK
        else:
            share = _GRACE_SHARE if asked <= self._fair else self.share
            verdict = _verdict(now_ns - self._began_ns, priority.share * share * deadline_ns)
        self._let_in += verdict is Verdict.ASK
        return verdict

    def _learn(self, deadline_ns: int) -> None:
        """Learn from the last turn, which was full, so that the loop was not idle between."""
        longest_ns, turn_ns = _TURN_SHARE * deadline_ns, max(1, self._began_ns - self._before_ns)
        wanted = self.share * longest_ns / turn_ns
        self.share = min(_TURN_SHARE, max(_LEAST_SHARE, (self.share + wanted) / 2))
        asked, self._asked = self._asked, {}
        let_in, self._let_in = self._let_in, 0
        self._fair = _fair_share(asked.values(), let_in * min(1.0, longest_ns / turn_ns)) if len(asked) > 1 else 0

    def _turn_over(self) -> None:
        self._was_full = self._requests > _ALWAYS
        self._requests = 0
        if not self._was_full and self._asked:
            self._asked, self._let_in = {}, 0


def _verdict(spent_ns: float, limit_ns: float) -> Verdict:
    if spent_ns <= limit_ns:
        return Verdict.ASK
    return Verdict.SHED if spent_ns <= (1 + _SHED_SHARE) * limit_ns else Verdict.REFUSE


def _fair_share(asked: Iterable[int], there: float) -> int:
    """Most that each may have of what is there, so that who asks for less has it all; 0 when all have what they ask."""
    wishes = sorted(asked)
    for at, wish in enumerate(wishes):
        share = there / (len(wishes) - at)
        if wish > share:
            return int(share)
        there -= wish
    return 0
