"""When the gateway itself is the bottleneck: what it lets in, so that nobody waits where no deadline is looked at.

What is not read yet has waited in the kernel, or at its caller for a connection that is still being answered. For how
long cannot be seen, but for how long at most: since the loop last found nothing ready. While that happens again and
again there is no backlog. A loop that was busy for two deadlines on end, with more requests at a time than it answers
in a quarter of one, is *pressed*; with twice as many it takes half as long. It goes on in rounds (``rounds.py``). A
pause of a deadline ends it, or 25 deadlines in which hardly anybody had to be turned away.

None of this is a count or a time of one machine: what a request costs is learned from the turns of the loop in which
all were let in. The shares of a deadline were chosen by measurement; ``docs/explanation/tried.md`` has it.

A stall of the machine is no load: what gathered in it is let in by a loop that is not pressed, as long as reading it
all leaves half of the deadline, and the first requests of a turn always.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from brownfield.serving.gateway.priority import Priority
from brownfield.serving.gateway.rounds import Rounds, Verdict

__all__ = ["Pressure"]

_ALWAYS: Final = 32  # requests of a turn that are let in by a loop that is not pressed, however long it takes
_TURN_SHARE: Final = 1 / 2  # of the deadline: longest whole turn of such a loop
_SHED_SHARE: Final = 1 / 8  # of that: for how long the fallbacks answer beyond it
_CROWD_SHARE: Final = 1 / 4  # of the deadline: in which as many are answered as make a crowd
_FEW_SHARE: Final = 1 / 8  # of the deadline: in which so few are answered that no pause is looked for
_SHORT_SHARE: Final = 1 / 64  # of the deadline: a shorter turn has hardly anything in it, and a shorter pause is none
_PRESSED_AFTER: Final = 2  # deadlines of work for a crowd without a pause; for two crowds, half as many
_CALM_AFTER: Final = 25  # deadlines in which hardly anybody was turned away
_HARDLY_SHARE: Final = 1 / 16  # of the requests of that time
_MOST_WORK: Final = 1.5  # of a turn, in answers to its requests: what it took beyond that was a stall
_FEWEST_TO_LEARN: Final = 16  # requests of a turn
_WEIGHT_LESS: Final = 1 / 4  # of one turn in the smoothed cost
_WEIGHT_MORE: Final = 1 / 32  # where it took longer: that was perhaps a stall
_WHOLE: Final = Priority.INTERACTIVE.share


class Pressure:
    """The turns of the event loop since it last had nothing to do.

    Parameters
    ----------
    now_ns
        Gives the monotonic time in nanoseconds.

    Attributes
    ----------
    pressed
        Whether the loop is the bottleneck.
    answer_ns
        Smoothed nanoseconds of the loop for a request that is let in, all of it included.
    began_ns
        When the last turn that had a request began.
    """

    __slots__ = (
        "_before", "_deadline_ns", "_idle_ns", "_lately", "_lately_away", "_lately_ns", "_looked", "_now_ns",
        "_requests", "_rounds", "_there", "_turned_away", "_under_way", "_worked_ns", "answer_ns", "began_ns",
        "pressed",
    )  # fmt: skip

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.pressed = False
        self.answer_ns = 40_000.0
        self._rounds = Rounds()
        # This turn.
        self.began_ns = 0
        self._deadline_ns = 0  # of its first request
        self._requests = 0
        self._under_way = 0  # requests let in by earlier ones and not answered when it began
        self._turned_away = 0
        # The last turn, and those before it since the loop had nothing to do.
        self._before = 0  # its requests
        self._there = 0  # and those under way when it began
        self._looked = False  # whether it was looked after it if anything was ready
        self._idle_ns = 0  # when nothing was; 0 when something was
        self._worked_ns = 0.0  # for a crowd, without a pause; times their number, for several
        # Since a pressed loop was last looked at as a whole.
        self._lately_ns = 0
        self._lately = 0  # requests
        self._lately_away = 0  # and those turned away

    def judge(self, now_ns: int, deadline_ns: int, priority: Priority, caller: str = "", under_way: int = 0) -> Verdict:
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
        under_way
            Requests that were let in and are not answered yet.
        """
        if not self._requests:
            self._begin(now_ns, deadline_ns, under_way)
        self._requests += 1
        self._lately += 1
        share_ns = priority.share / _WHOLE * deadline_ns
        if self.pressed:
            work_ns = (self._under_way + self._requests) * self.answer_ns
            verdict = self._rounds.judge(now_ns, deadline_ns, share_ns, work_ns, caller)
        elif self._requests <= _ALWAYS or now_ns - self.began_ns <= _TURN_SHARE * share_ns:
            verdict = Verdict.ASK
        else:
            over_ns = now_ns - self.began_ns - _TURN_SHARE * share_ns
            verdict = Verdict.SHED if over_ns <= _SHED_SHARE * _TURN_SHARE * share_ns else Verdict.REFUSE
        if verdict is not Verdict.ASK:
            self._turned_away += 1
            self._lately_away += 1
        return verdict

    def _begin(self, now_ns: int, deadline_ns: int, under_way: int) -> None:
        """Begin a turn, and learn from the one before."""
        asyncio.get_running_loop().call_soon(self._end)
        answered = max(0, self._there - self._turned_away - under_way)  # by that turn, and what came after it
        pause_ns = now_ns - self._idle_ns - answered * self.answer_ns if self._idle_ns else 0.0
        if pause_ns > _SHORT_SHARE * deadline_ns:
            self._worked_ns = 0.0
            self.pressed = self.pressed and pause_ns <= deadline_ns
            self._rounds.begin(now_ns)
        elif self._looked:
            self._go_on(now_ns, deadline_ns, answered)
        else:
            self._worked_ns = 0.0  # few requests: nobody has waited
        if self.pressed and now_ns - self._lately_ns > _CALM_AFTER * deadline_ns:
            if self._lately_away <= _HARDLY_SHARE * self._lately:
                self.pressed, self._worked_ns, self._rounds = False, 0.0, Rounds()
            self._lately_ns, self._lately, self._lately_away = now_ns, 0, 0
        elif not self.pressed and self._worked_ns > _PRESSED_AFTER * deadline_ns:
            self.pressed, self._lately_ns, self._lately, self._lately_away = True, now_ns, 0, 0
            self._rounds.begin(now_ns)
        self._idle_ns, self._looked = 0, False
        self.began_ns, self._deadline_ns, self._under_way, self._turned_away = now_ns, deadline_ns, under_way, 0

    def _go_on(self, now_ns: int, deadline_ns: int, answered: int) -> None:
        """Take in a turn that another follows without a pause: what a request costs, and how long a crowd is there."""
        turn_ns = now_ns - self.began_ns
        if not self._turned_away and self._before >= _FEWEST_TO_LEARN:
            change_ns = 2 * turn_ns / (self._before + answered) - self.answer_ns  # read once and answered once
            self.answer_ns += min(change_ns, self.answer_ns) * (_WEIGHT_LESS if change_ns < 0 else _WEIGHT_MORE)
        crowd = self._there * self.answer_ns / (_CROWD_SHARE * deadline_ns)
        if crowd > 1:
            self._worked_ns += crowd * min(turn_ns, _MOST_WORK * self.answer_ns * self._before)
        if self._rounds.refusing and turn_ns < _SHORT_SHARE * deadline_ns:
            self._rounds.begin(now_ns)

    def _end(self) -> None:
        """End a turn, once all that was ready in it is read; look for a pause where that matters."""
        self._before, self._requests = self._requests, 0
        self._there = self._under_way + self._before
        if self.pressed or self._there * self.answer_ns > _FEW_SHARE * self._deadline_ns:
            self._looked = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Note whether nothing was ready: the loop does not wait for anything before it calls this."""
        if not self._requests:
            self._idle_ns = self._now_ns()
