"""What one physical system can bear from us, kept in every second across threads, processes and restarts.

Two small files in the workspace's ``var`` hold the state: when the next rows may be asked for, when the next connection
may be tried, and which connections are open. A process that is killed leaves its connections' locks to the kernel and
the times to its successor, so a storm of restarts gets no more than one process would. It also leaves a mark in its
slot, for the server notices the end of a killed one later than the kernel does: such a slot rests before it is used.
"""

import fcntl
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from brownfield.errors import SourceUnavailable

__all__ = ["Budget", "BudgetSpent", "Quiet"]

_CONNECT_SPACING_S = 0.1
_LONGEST_BACK_OFF_S = 60.0
_PATIENCE_S = 5.0
"""Longest wait for a free connection or the next try; after it the caller is told."""
_LOOK_AGAIN_S = 0.05
_PAGES_PER_S = 50
_SETTLING_S = 2.0
"""Time for which a slot rests whose holder was killed; PostgreSQL sessions are told to look for us every second."""
_HELD = b"held"


class BudgetSpent(SourceUnavailable):
    """The caller would wait longer for our own budget than it may; this says nothing of the system, nor costs it."""

    code = "BF-ERR-BUDGET"


@dataclass(frozen=True, slots=True)
class Quiet:
    """Times of day at which a system is left alone.

    Parameters
    ----------
    zone
        Of the times.
    windows
        From (inclusive) and to (exclusive); a window whose end is not later than its begin goes past midnight.

    Examples
    --------
    >>> night = Quiet.parse("Europe/Berlin", ["22:00-02:00"])
    >>> night.until(datetime(2026, 11, 21, 0, 30, tzinfo=UTC)), night.until(datetime(2026, 11, 21, 9, tzinfo=UTC))
    ('02:00 Europe/Berlin', None)
    """

    zone: ZoneInfo
    windows: tuple[tuple[time_of_day, time_of_day], ...]

    @classmethod
    def parse(cls, zone: str, windows: "list[str] | tuple[str, ...]") -> "Quiet":
        """Read windows such as ``08:00-10:00``."""
        pairs = (window.partition("-") for window in windows)
        return cls(
            ZoneInfo(zone),
            tuple((time_of_day.fromisoformat(begin), time_of_day.fromisoformat(end)) for begin, _, end in pairs),
        )

    def until(self, moment: datetime) -> str | None:
        """Tell when the quiet time ends in which a moment lies; None outside."""
        local = moment.astimezone(self.zone).time()
        for begin, end in self.windows:
            inside = begin <= local < end if begin < end else local >= begin or local < end
            if inside:
                return f"{end:%H:%M} {self.zone.key}"
        return None


@dataclass(frozen=True)
class Budget:
    """What one physical system can bear.

    Parameters
    ----------
    folder
        Where the state is kept; it is made when it is not there.
    system
        Names the physical system: all connections to one server share what it can bear.
    max_connections
        Connections at one time.
    rows_per_s
        Rows in any one second.
    quiet
        Times of day without reading.
    now, sleep
        The machine's unless given. ``now`` is seconds since 1970, for it must hold across processes.
    patience_s
        How long the caller would wait from now on, in seconds: without an end unless given. What it would not wait for
        is not reserved either, so that who gives up takes nothing from those who come next.
    """

    folder: Path
    system: str
    max_connections: int = 2
    rows_per_s: int = 20_000
    quiet: Quiet | None = None
    now: Callable[[], float] = field(default=time.time, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    patience_s: Callable[[], float] = field(default=lambda: math.inf, repr=False)

    @property
    def page_rows(self) -> int:
        """Most rows that one statement may ask for, so that no second gets more than its share."""
        return max(1, self.rows_per_s // _PAGES_PER_S)

    @contextmanager
    def rows(self, rows: int) -> Iterator[None]:
        """Wait until so many rows may be asked for, and let them be asked for.

        Pages of ``n`` rows are ``n / (rows_per_s - 2 n)`` seconds apart: any second holds at most ``rows_per_s`` rows,
        even when one page is late.

        Raises
        ------
        BudgetSpent
            When their turn is further off than the caller would wait; nothing is reserved then.
        """
        self.heed_quiet_hours()
        spacing_s = rows / max(self.rows_per_s - 2 * self.page_rows, 1)
        with self._state() as state:
            now = self.now()
            due = max(now, min(state.get("rows_at", now), now + _LONGEST_BACK_OFF_S))
            self._bear(due - now)
            state["rows_at"] = due + spacing_s
        if due > now:
            self.sleep(due - now)
        yield
        with self._state() as state:
            state["rows_at"] = max(state.get("rows_at", 0.0), self.now() + spacing_s)

    def heed_quiet_hours(self) -> None:
        """Refuse to go on within the quiet hours.

        Raises
        ------
        SourceUnavailable
            Until when.
        """
        if self.quiet is None:
            return
        until = self.quiet.until(datetime.fromtimestamp(self.now(), UTC))
        if until is not None:
            raise SourceUnavailable(
                f"it is left alone until {until}",
                where=self.system,
                next_step="These are its quiet hours; reading goes on after them.",
            )

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Hold one of the connections while it is open; the kernel frees it when the process is killed.

        A slot whose holder was killed is taken last, and not before the server had time to notice.

        Raises
        ------
        BudgetSpent
            When all are in use for too long.
        """
        self.heed_quiet_hours()
        with os.fdopen(self._free_slot(), "r+b", 0) as slot:
            if (rest_s := self._rest(slot.fileno())) > 0:
                self._bear(rest_s)
                self.sleep(rest_s)
            _note(slot.fileno(), _HELD)
            try:
                yield
            finally:  # the session was closed on the way out; what kills the process leaves the mark
                _note(slot.fileno(), b"")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Try to connect: not too soon after the last try, and later and later while it fails.

        Raises
        ------
        SourceUnavailable
            When it was out of reach, and the next try is further off than a caller would wait.
        BudgetSpent
            When only the tries of others come first; nothing is reserved in either case.
        """
        with self._state() as state:
            now = self.now()
            due = max(now, min(state.get("connect_at", now), now + _LONGEST_BACK_OFF_S))
            if due - now > min(_PATIENCE_S, self.patience_s()) and state.get("failures"):
                raise SourceUnavailable(
                    f"it was out of reach, and the next try is in {due - now:.1f} s",
                    where=self.system,
                    next_step="It is spared until then; look whether the server runs.",
                )
            self._bear(due - now, _PATIENCE_S)
            state["connect_at"] = due + _CONNECT_SPACING_S
        if due > now:
            self.sleep(due - now)
        try:
            yield
        except Exception:
            with self._state() as state:
                state["failures"] = min(state.get("failures", 0) + 1, 16)
                longest = min(_CONNECT_SPACING_S * 2 ** state["failures"], _LONGEST_BACK_OFF_S)
                state["connect_at"] = self.now() + longest * random.uniform(0.5, 1.0)  # noqa: S311 (jitter)
            raise
        with self._state() as state:
            state["failures"] = 0

    def _bear(self, wait_s: float, longest_s: float = math.inf) -> None:
        """Refuse a wait that the caller would not see the end of."""
        if wait_s > min(max(self.patience_s(), 0.0), longest_s):
            raise BudgetSpent(
                f"its budget is used up for now, and the next turn is in {wait_s:.2f} s",
                where=self.system,
                next_step="Wait longer, or raise the connection's budget with the system's owner.",
            )

    def _free_slot(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        give_up_at = self.now() + _PATIENCE_S
        while (free := self._best_slot()) is None:
            if self.now() >= give_up_at or self.patience_s() < _LOOK_AGAIN_S:
                raise BudgetSpent(
                    f"all {self.max_connections} connections of its budget are in use",
                    where=self.system,
                    next_step="Wait for the other runs, or raise budget.max_connections with the system's owner.",
                )
            self.sleep(_LOOK_AGAIN_S)
        return free

    def _best_slot(self) -> int | None:
        """Lock the slot that needs rest least; None when all are in use."""
        found: list[tuple[float, int]] = []
        for slot in range(self.max_connections):
            descriptor = os.open(self._file(f"connection-{slot}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                found.append((self._rest(descriptor), descriptor))
        found.sort()
        for _, descriptor in found[1:]:
            os.close(descriptor)
        return found[0][1] if found else None

    def _rest(self, descriptor: int) -> float:
        """Seconds that a locked slot must rest yet; they begin when somebody first sees that its holder was killed."""
        mark = os.pread(descriptor, 64, 0)
        if not mark:
            return 0.0
        now = self.now()
        try:
            seen_at = float(mark)
        except ValueError:
            seen_at = now
            _note(descriptor, repr(now).encode())
        return min(max(seen_at + _SETTLING_S - now, 0.0), _SETTLING_S)

    @contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        """Read the state and write it back, alone; what is not understood counts as none."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._file("state"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            state: dict[str, Any] = {}
            with suppress(ValueError, AttributeError):
                state = {name: value for name, value in json.load(file).items() if isinstance(value, int | float)}
            yield state
            file.seek(0)
            file.write(json.dumps(state).ljust(200))
            file.truncate()

    def _file(self, what: str) -> Path:
        plain = "".join(c if c.isalnum() or c in ".-" else "_" for c in self.system)
        return self.folder / f"{plain}.{what}"


def _note(descriptor: int, mark: bytes) -> None:
    """Write what is known of a slot's holder: nothing, that there is one, or when its end was first seen."""
    os.pwrite(descriptor, mark, 0)
    os.ftruncate(descriptor, len(mark))
