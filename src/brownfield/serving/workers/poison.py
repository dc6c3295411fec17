"""Which requests end a model's workers: suspected when they were there, tried alone, blocked when it happens again.

A worker that dies takes with it all requests that it held; one of them may be the cause, and most are not. So each of
them is a suspect, known by a digest of its input. When a suspect comes again it is let through alone, with nothing else
on the workers: an answer clears it, and after two deaths alone it is blocked for a while. A death that no request
caused (an operator's kill, a machine without memory) makes suspects that the next answers clear.

A hung worker is a death too: what was not answered in time is suspected once the worker has been replaced.
Time is told by the caller; nothing is kept of a request but its digest.

Where several gateways ask the same workers, each reports what happened to its own requests, and learns who was guilty
for all of them: what is alone here may have been in company there.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

__all__ = ["News", "Poison", "Report"]

News: TypeAlias = Literal["lost", "lost alone", "answered", "rest"]
"""What became of requests, for all gateways: suspected, guilty of a death, cleared, to be tried one after another."""

Report: TypeAlias = Literal["lost", "alone", "on trial", "answered"]
"""What became of requests of one gateway; alone, or as a suspect alone, there is one."""

_log = logging.getLogger(__name__)

_SUSPECTS = 1024
_BLOCKED = 4096
_LATE = 16  # as many calls as a worker may hold
_LATE_FOR_NS = 60_000_000_000
_BLOCK_S = 600.0
_DEATHS_ALONE = 2
_REST_NS = 2_000_000_000


class Poison:
    """What is known of the requests of one model version.

    Parameters
    ----------
    label
        For log lines, such as the version.
    block_s
        How long a guilty one is refused, counted from the last time that it killed.

    Attributes
    ----------
    watching
        Whether any request is suspected or blocked: only then has a new one to be looked up.
    late_calls
        The first calls that were not answered in time since a worker answered anything: later ones wait behind them.
    found
        How many were found guilty.
    on_report
        Told what became of requests here; who was guilty is learned then (:meth:`learn`). None to judge by itself.

    Examples
    --------
    >>> poison = Poison()
    >>> poison.lost([b"good", b"bad"], 0)
    >>> poison.is_suspect(b"bad"), poison.is_blocked(b"bad", 1)
    (True, False)
    >>> poison.answered([b"good"])
    >>> poison.lost([b"bad"], 2, alone=True)
    >>> poison.lost([b"bad"], 3, alone=True)
    >>> poison.is_blocked(b"bad", 4), poison.is_suspect(b"bad"), poison.is_suspect(b"good")
    (True, False, False)
    """

    __slots__ = ("_block_ns", "_blocked", "_label", "_suspects", "found", "late_calls", "on_report", "watching")

    def __init__(self, label: str = "", *, block_s: float = _BLOCK_S) -> None:
        self._label = label
        self.watching = False
        self.found = 0
        self.on_report: Callable[[Report, list[bytes]], None] | None = None
        self.late_calls: list[tuple[int, Callable[[], Iterable[bytes]], bool]] = []
        self._block_ns = round(block_s * 1e9)
        self._suspects: OrderedDict[bytes, int] = OrderedDict()  # digest to deaths alone, oldest first
        self._blocked: OrderedDict[bytes, int] = OrderedDict()  # digest to when the block ends

    def is_suspect(self, digest: bytes) -> bool:
        """Whether a request is to be tried alone."""
        return digest in self._suspects

    def is_blocked(self, digest: bytes, now_ns: int) -> bool:
        """Whether a request is refused now."""
        until_ns = self._blocked.get(digest)
        if until_ns is None:
            return False
        if now_ns < until_ns:
            return True
        del self._blocked[digest]
        self._look()
        return False

    def lost(self, digests: Iterable[bytes], now_ns: int, *, alone: bool = False) -> None:
        """Take in requests whose worker died under them; ``alone`` when it held nothing else."""
        if self.on_report is None:
            self._suspect(digests, now_ns, alone=alone)
            return
        these = list(digests)
        on_trial = alone and these[0] in self._suspects
        self._suspect(these, now_ns, alone=False)
        self.on_report("on trial" if on_trial else "alone" if alone else "lost", these)

    def late(self, digests: Callable[[], Iterable[bytes]], now_ns: int, *, alone: bool = False) -> None:
        """Keep in mind a call that was not answered in time; its digests are asked for when its worker is replaced."""
        if len(self.late_calls) < _LATE:
            self.late_calls.append((now_ns, digests, alone and not self.late_calls))

    def replaced(self, now_ns: int) -> None:
        """Take in that a worker was replaced: what was late before that had hung it, as far as can be known."""
        late, self.late_calls = self.late_calls, []
        for at_ns, digests, alone in late:
            if now_ns - at_ns <= _LATE_FOR_NS:
                self.lost(digests(), now_ns, alone=alone)

    def answered(self, digests: Iterable[bytes]) -> None:
        """Clear requests that a worker answered, in whatever way."""
        cleared = self._clear(digests)
        if cleared and self.on_report is not None:
            self.on_report("answered", cleared)

    def learn(self, news: News, digests: Sequence[bytes], now_ns: int) -> None:
        """Take in what became of requests of all gateways."""
        if news == "answered":
            self._clear(digests)
        elif news == "rest":
            self.block({digest: now_ns + turn * _REST_NS for turn, digest in enumerate(digests, 1)})
        else:
            self._suspect(digests, now_ns, alone=news == "lost alone")

    def blocked(self, now_ns: int) -> dict[bytes, int]:
        """Give what is refused now, and until when: what a gateway that has just begun cannot have seen."""
        return {digest: until_ns for digest, until_ns in self._blocked.items() if now_ns < until_ns}

    def block(self, until_ns: Mapping[bytes, int]) -> None:
        """Refuse these as well, each until its time."""
        self._blocked.update(until_ns)
        self._bound()

    def _suspect(self, digests: Iterable[bytes], now_ns: int, *, alone: bool) -> None:
        """Suspect them, or block who killed often enough."""
        for digest in digests:
            if self.is_blocked(digest, now_ns):
                continue
            deaths_alone = self._suspects.pop(digest, 0) + alone
            if deaths_alone >= _DEATHS_ALONE:
                self._blocked[digest] = now_ns + self._block_ns
                self.found += 1
                _log.error(
                    "a request ends the model's processes and is blocked",
                    extra={"event": "BF-WRK-POISON", "worker": self._label, "found": self.found},
                )
            else:
                self._suspects[digest] = deaths_alone
        self._bound()

    def _clear(self, digests: Iterable[bytes]) -> list[bytes]:
        cleared = [digest for digest in digests if self._suspects.pop(digest, None) is not None]
        self._look()
        return cleared

    def _bound(self) -> None:
        while len(self._suspects) > _SUSPECTS:
            self._suspects.popitem(last=False)
        while len(self._blocked) > _BLOCKED:
            self._blocked.popitem(last=False)
        self._look()

    def _look(self) -> None:
        self.watching = bool(self._suspects or self._blocked)
