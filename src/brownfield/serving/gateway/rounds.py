"""Rounds in which a pressed gateway lets requests in: a little for everybody, then nobody until none is left waiting.

A round lets requests in for a sixteenth of a deadline, and goes on while few are there. Then it leaves a few to the
fallbacks and refuses the rest unread, for a small part of an answer's cost. Whoever sees that nothing is ready, or
hardly anything, begins the next one: then nobody waits anywhere. Where even refusing does not keep up, it begins after
a deadline, so that some are answered.

Behind a round that turned somebody away callers are told apart: whoever asks for no more than its share of what was
let in is let in, also when others have used the time up.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

__all__ = ["Rounds", "Verdict"]

_LET_IN_SHARE: Final = 1 / 16  # of the deadline: for how long a round lets in
_FEW_SHARE: Final = 1 / 8  # of the deadline: in which so many are answered as are too few to be refused
_SHED_SHARE: Final = 1 / 8  # of those let in by a round: answered by the fallbacks beyond them
_REFUSE_SHARE: Final = 1.0  # of the deadline: for how long a round refuses at most
_LEAST_FREE: Final = 1 / 16


class Verdict(IntEnum):
    """What is to be done with a request."""

    REFUSE = 0
    SHED = 1
    ASK = 2


class Rounds:
    """The round that goes on, and what it learned from the last one.

    Attributes
    ----------
    refusing
        Whether it has begun to turn requests away.
    """

    __slots__ = ("_asked", "_began_ns", "_extra", "_fair", "_free", "_in_time", "_shed", "refusing")

    def __init__(self) -> None:
        self.refusing = False
        self._began_ns = 0
        self._in_time = 0  # let in before it refused
        self._extra = 0  # let in after that, as shares
        self._shed = 0
        self._asked: dict[str, int] = {}  # requests by caller
        self._fair = 0  # that each caller has; 0 where nobody is told apart
        self._free = 1.0  # part of the round's time that is not kept for shares

    def judge(self, now_ns: int, deadline_ns: int, share_ns: float, work_ns: float, caller: str) -> Verdict:
        """Say what is to be done with a request.

        Parameters
        ----------
        now_ns
            Monotonic time in nanoseconds.
        deadline_ns
            Declared for its integration.
        share_ns
            The part of it that its priority may count on.
        work_ns
            What the loop needs for all that are there.
        caller
            Name of the principal; empty where none is told from another.
        """
        spent_ns = now_ns - self._began_ns
        if spent_ns > (_LET_IN_SHARE + _REFUSE_SHARE) * deadline_ns:
            self.begin(now_ns)
            spent_ns = 0
        asked = self._asked[caller] = self._asked.get(caller, 0) + 1
        if spent_ns <= _LET_IN_SHARE * self._free * share_ns:
            self._in_time += 1
            return Verdict.ASK
        if asked <= self._fair:
            self._extra += 1
            return Verdict.ASK
        if not self.refusing:
            if work_ns <= _FEW_SHARE * self._free * share_ns:
                self._in_time += 1
                return Verdict.ASK
            self.refusing = True
        self._shed += 1
        return Verdict.SHED if self._shed <= _SHED_SHARE * self._in_time else Verdict.REFUSE

    def begin(self, now_ns: int) -> None:
        """Let in anew, and learn what each caller may have from what the last round let in."""
        self._began_ns = now_ns
        asked = self._asked
        self._fair, free = 0, 1.0
        if self.refusing and len(asked) > 1:
            there = self._in_time / self._free  # as many as there would be time for
            self._fair = _fair_share(asked.values(), there)
            free = 1 - self._extra / there if there else 0.0
        self._free = max(_LEAST_FREE, (self._free + free) / 2)
        self.refusing = False
        self._in_time = self._extra = self._shed = 0
        if asked:
            self._asked = {}


def _fair_share(asked: Iterable[int], there: float) -> int:
    """Most that each may have of what is there, so that who asks for less has it all; 0 when all have what they ask."""
    wishes = sorted(asked)
    for at, wish in enumerate(wishes):
        share = there / (len(wishes) - at)
        if wish > share:
            return int(share)
        there -= wish
    return 0
