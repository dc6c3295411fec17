"""Callers who come back at once with every fallback: they are answered in beats, for the model needs the cores.

Who waits for each answer before asking again asks as fast as it is answered, and what the fallbacks answer takes next
to no time. A few such callers ask tens of thousands of times a second; that slows the model down, so that it cannot
take them, although it could if they waited for it, and its neighbours, where it is broken. In such a flood, which is
many times more than an overload, most of those who are turned away wait for the end of a beat: because of overload, an
open breaker or a process that is being replaced. Who has less time than that, and whom the version before could answer,
does not.
"""

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from brownfield.serving.gateway.asks import Ask

__all__ = ["Pacing"]

_BEAT_SHARE: Final = 1 / 32  # of the deadline
_SHORTEST_BEAT_NS: Final = 1_000_000  # of models so quick that the gateway is what there is too little of, see pressure
_LONGEST_BEAT_NS: Final = 5_000_000
_FLOOD_TIMES: Final = 32  # as many as the model could answer in a beat
_FLOOD_LEAST: Final = 32  # in a beat, however slow the model is, or broken
_FEW_TIMES: Final = 2  # as many are answered at once while a flood lasts
_FEW_LEAST: Final = 1
_LASTS_BEATS: Final = 32  # after each sign of it


class Pacing:
    """Those turned away from one model version who are to wait for the end of a beat."""

    __slots__ = ("_began_ns", "_count", "_flood_ns", "_held")

    def __init__(self) -> None:
        self._began_ns = 0
        self._count = 0
        self._flood_ns = 0  # until when it lasts
        self._held: list[Ask] = []

    def holds(self, ask: "Ask", cause: str, now_ns: int, row_ns: float, release: "Callable[[list[Ask]], None]") -> bool:
        """Count one that is turned away, and say whether it is held: then ``release`` is told later, of all at once.

        Parameters
        ----------
        ask
            That the model cannot take.
        cause
            Why not, in a word; the ask has it when it is held.
        now_ns
            Monotonic time in nanoseconds.
        row_ns
            That the model needs for a record; 0 while that is not known.
        release
            Called in the loop at the end of the beat.
        """
        beat_ns = min(round(_BEAT_SHARE * ask.served.deadline_ns), _LONGEST_BEAT_NS)
        if beat_ns < _SHORTEST_BEAT_NS or not row_ns or (cause != "overload" and ask.served.may_ask_previous):
            return False
        if now_ns - self._began_ns >= beat_ns and not self._held:
            self._began_ns, self._count = now_ns, 0
        self._count += 1
        if ask.deadline_ns < self._began_ns + beat_ns:
            return False
        rows = beat_ns / row_ns
        if now_ns < self._flood_ns:
            if self._count <= max(_FEW_LEAST, _FEW_TIMES * rows):
                return False
        elif self._count <= max(_FLOOD_LEAST, _FLOOD_TIMES * rows):
            return False
        else:
            self._flood_ns = now_ns + _LASTS_BEATS * beat_ns
        if not self._held:
            delay_s = max(0, self._began_ns + beat_ns - now_ns) / 1e9
            asyncio.get_running_loop().call_later(delay_s, self._end, release)
        ask.cause = cause
        self._held.append(ask)
        return True

    def _end(self, release: "Callable[[list[Ask]], None]") -> None:
        held, self._held = self._held, []
        release(held)
