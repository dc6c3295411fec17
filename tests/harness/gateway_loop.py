"""A gateway's event loop as a model: an open load over so many connections, and what reading and answering costs."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from brownfield.serving.gateway.pressure import Pressure
from brownfield.serving.gateway.priority import Priority
from brownfield.serving.gateway.rounds import Verdict

__all__ = ["Loop"]

_CALL_S = 100e-6  # of the model, for all of a turn


@dataclass
class Loop:
    """Turns of the loop, each of which reads all that is ready and answers what was let in before.

    Attributes
    ----------
    took_s
        By verdict, seconds from the moment at which a request was due to its answer, and that moment.
    """

    read_s: float = 13e-6
    answer_s: float = 20e-6
    shed_s: float = 24e-6
    refuse_s: float = 14e-6
    connections: int = 512
    deadline_s: float = 0.02
    stall_every_s: float = float("inf")
    stall_s: float = 0.0
    now_s: float = 0.0
    took_s: dict[Verdict, list[tuple[float, float]]] = field(default_factory=lambda: {each: [] for each in Verdict})

    def __post_init__(self) -> None:
        self.pressure = Pressure(lambda: round(self.now_s * 1e9))

    @property
    def capacity(self) -> float:
        """Requests a second that can be let in."""
        return 1 / (self.read_s + self.answer_s)

    def run(self, *phases: tuple[float, float]) -> "Loop":
        """Bear phases of so many requests a second for so many seconds each; a caller asks when it is due, or later."""
        draw, due, begin_s = np.random.default_rng(0), [], 0.0
        for rate, seconds in phases:
            count = round(rate * seconds)
            due += sorted((begin_s + seconds * draw.random(count)).tolist())
            begin_s += seconds
        asyncio.run(self._run(deque(due)))
        return self

    async def _run(self, due: deque[float]) -> None:
        stalls_at_s, free = self.stall_every_s, self.connections
        kernel: deque[float] = deque()
        called: deque[tuple[float, list[float]]] = deque()
        while due or kernel or called:
            while due and due[0] <= self.now_s and free:
                kernel.append(due.popleft())
                free -= 1
            if self.now_s > stalls_at_s:
                self.now_s += self.stall_s
                stalls_at_s += self.stall_every_s
                continue
            if not kernel and not (called and called[0][0] <= self.now_s):
                await asyncio.sleep(0)  # the loop looks, and finds nothing
                await asyncio.sleep(0)
                next_s = [called[0][0]] if called else []
                self.now_s = max(self.now_s + 1e-9, min([*next_s, *([due[0]] if due and free else [])]))
                continue
            while called and called[0][0] <= self.now_s:
                for each in called.popleft()[1]:
                    self.now_s += self.answer_s
                    self.took_s[Verdict.ASK].append((self.now_s - each, each))
                    free += 1
            under_way, let_in = sum(len(group) for _, group in called), []
            for _ in range(len(kernel)):
                each = kernel.popleft()
                verdict = self.pressure.judge(
                    round(self.now_s * 1e9) + 1, round(self.deadline_s * 1e9), Priority.INTERACTIVE, "", under_way
                )
                self.now_s += (self.refuse_s, self.shed_s, self.read_s)[verdict]
                if verdict is Verdict.ASK:
                    let_in.append(each)
                else:
                    self.took_s[verdict].append((self.now_s - each, each))
                    free += 1
            if let_in:
                called.append((self.now_s + _CALL_S, let_in))
            self.now_s += 10e-6
            await asyncio.sleep(0)  # what the turn put off

    def p99_s(self, verdict: Verdict, since_s: float = 0.0) -> float:
        """Give the 99th percentile of the times of those that were due since then."""
        return float(np.percentile([took_s for took_s, due_s in self.took_s[verdict] if due_s >= since_s], 99))

    def rate(self, verdict: Verdict, since_s: float, until_s: float) -> float:
        """Give how many of those that were due between then and then had it, per second."""
        return sum(since_s <= due_s < until_s for _, due_s in self.took_s[verdict]) / (until_s - since_s)
