"""When the gateway itself is the bottleneck: what it lets in, so that nobody waits where no deadline is looked at.

What is not read yet has waited in the kernel, or at its caller for a connection that is still being answered. How long
cannot be seen, but for how long at most: since the loop last found nothing ready. While that happens again and again
there is no backlog. A loop that stays busy for two deadlines on end, with more requests at a time than it answers in a
quarter of one, is *pressed*. From then on it lets requests in for a quarter of a deadline and refuses what comes after,
unread and for a small part of an answer's cost, until once nothing is ready: then nobody waits anywhere, and it lets in
anew. Where even refusing does not keep up it lets in anew after a deadline, so that some are answered. Half a second in
which nobody had to be turned away ends it, and so do few requests at a time: a few callers who ask again as soon as
they have an answer keep a loop busy, and none of them waits long.

Calm or pressed, what is ready in one turn of the loop is answered after all of that turn is read, so a turn may take a
quarter of the deadline. What is just beyond a limit is left to the fallbacks, which cost less than the model.

A stall of the machine is no load: the first requests of a calm turn are always let in, and a turn counts towards the
two deadlines by its requests, however long it took.

Where a pressed loop has requests of several callers, whoever asks for no more than its share of what was let in before
is let in, also when others have used the time up.
"""

import asyncio
from collections.abc import Iterable
from enum import IntEnum

from brownfield.serving.gateway.waiting import Priority

__all__ = ["Pressure", "Verdict"]

_ALWAYS = 32  # requests of one calm turn that are never refused
_TURN_SHARE = 1 / 4  # of the deadline: longest whole turn, and for how long a pressed loop lets in
_SHED_SHARE = 1 / 4  # more of that time in which fallbacks answer
_PRESSED_AFTER = 2  # deadlines without a pause
_CALM_SHARE = 1 / 8  # of the deadline: a round trip with which a pressed loop lets everybody in again
_REFUSE_SHARE = 1.0  # of the deadline: for how long a pressed loop refuses on end
_CALM_AFTER_NS = 500_000_000  # without anybody turned away
_MOST_PER_REQUEST_NS = 100_000  # of a turn that count as work
_LOOK_AFTER_NS = 1_000_000  # of work, before the loop looks whether anything is left to do
_LEAST_SHARE = 1 / 16
_WEIGHT = 1 / 8  # of one turn in the smoothed number of requests that are there at a time


class Verdict(IntEnum):
    """What is to be done with a request."""

    REFUSE = 0
    SHED = 1
    ASK = 2


class Pressure:
    """The work of the event loop since it last had nothing to do.

    Attributes
    ----------
    pressed
        Whether the loop is the bottleneck.
    """

    __slots__ = (
        "_answer_ns",
        "_asked",
        "_at_a_time",
        "_began_ns",
        "_before",
        "_busy_ns",
        "_busy_requests",
        "_extra",
        "_fair",
        "_idle",
        "_in_time",
        "_refused_ns",
        "_requests",
        "_round_ns",
        "_share",
        "_under_way",
        "pressed",
    )

    def __init__(self) -> None:
        self.pressed = False
        self._began_ns = 0  # this turn
        self._round_ns = 0  # since the loop had nothing to do, or lets in anew
        self._requests = 0  # of this turn
        self._before = 0  # of the last one
        self._under_way = 0  # when this turn began
        self._busy_ns = 0  # at work since the loop had nothing to do
        self._busy_requests = 0  # in that time
        self._at_a_time = 0.0  # requests that are there together, read or not, smoothed
        self._answer_ns = 0.0  # of work for one of them, when nobody was turned away
        self._idle = True  # whether it had nothing to do after the last turn
        self._refused_ns = 0  # when somebody was turned away last
        self._asked: dict[str, int] = {}  # requests of this round, by caller
        self._in_time = 0  # let in while there was time
        self._extra = 0  # and later, as a share
        self._fair = 0  # that each caller has of a round; 0 where nobody is told apart
        self._share = 1.0  # of the time of a round that is free to all

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
            Requests that were let in and have no answer yet.
        """
        requests = self._requests
        if not requests:
            self._under_way = under_way
            self._begin_turn(now_ns, deadline_ns)
        self._requests = requests + 1
        if self.pressed:
            return self._judge_pressed(now_ns, deadline_ns, priority, caller)
        if requests < _ALWAYS:
            return Verdict.ASK
        return _verdict(now_ns - self._began_ns, priority.share * _TURN_SHARE * deadline_ns)

    def _judge_pressed(self, now_ns: int, deadline_ns: int, priority: Priority, caller: str) -> Verdict:
        spent_ns, limit_ns = now_ns - self._round_ns, _TURN_SHARE * deadline_ns
        if spent_ns > limit_ns + _REFUSE_SHARE * deadline_ns:
            self._begin_round(now_ns)
            spent_ns = 0
        asked = self._asked[caller] = self._asked.get(caller, 0) + 1
        verdict = _verdict(spent_ns, priority.share * self._share * limit_ns)
        if verdict is Verdict.ASK:
            self._in_time += 1
        elif asked <= self._fair and priority is Priority.INTERACTIVE:
            self._extra += 1
            return Verdict.ASK
        else:
            self._refused_ns = now_ns
        return verdict

    def _begin_turn(self, now_ns: int, deadline_ns: int) -> None:
        asyncio.get_running_loop().call_soon(self._end_turn)
        if self._idle:
            self._idle = False
            self._busy_ns = self._busy_requests = 0
            self._begin_round(now_ns)
        else:
            self._busy_ns += min(now_ns - self._began_ns, self._before * _MOST_PER_REQUEST_NS)
            self._busy_requests += self._before
        if self.pressed:
            if now_ns - self._refused_ns > _CALM_AFTER_NS or self._round_trip_ns < _CALM_SHARE * deadline_ns:
                self.pressed = False
                self._busy_ns = self._busy_requests = 0
        elif self._busy_ns > _PRESSED_AFTER * deadline_ns:
            self._answer_ns = self._busy_ns / self._busy_requests
            if self._round_trip_ns > _TURN_SHARE * deadline_ns:
                self.pressed = True
                self._refused_ns = now_ns
                self._begin_round(now_ns)
        self._began_ns = now_ns

    @property
    def _round_trip_ns(self) -> float:
        """How long a caller waits who asks again and again, if all who are there are let in."""
        return self._at_a_time * self._answer_ns

    def _end_turn(self) -> None:
        self._before, self._requests = self._requests, 0
        self._at_a_time += _WEIGHT * (self._under_way + self._before - self._at_a_time)
        if self.pressed or self._busy_ns > _LOOK_AFTER_NS:
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Note whether the poll since the last turn brought a request; it did not wait for one."""
        self._idle = not self._requests

    def _begin_round(self, now_ns: int) -> None:
        """Let in anew, and learn what each caller may have from what was let in before."""
        self._round_ns = now_ns
        asked = self._asked
        if len(asked) > 1:
            there = self._in_time / self._share  # as many as there would be time for
            self._fair = _fair_share(asked.values(), there)
            free = 1 - self._extra / there if there else _LEAST_SHARE
            self._share = max(_LEAST_SHARE, (self._share + free) / 2)
        else:
            self._fair, self._share = 0, 1.0
        if asked:
            self._asked = {}
        self._in_time = self._extra = 0


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
