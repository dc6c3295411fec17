"""A circuit breaker that fits quiet systems: a few calls are enough to open it, and it finds its way back alone."""

from collections import deque

__all__ = ["Breaker"]

_SECOND_NS = 1_000_000_000


class Breaker:
    """Says whether a model version may be asked, from the outcomes of its last calls.

    Closed, it opens when at least ``minimum_calls`` of the last ``window`` calls fell into the last ``within_s``
    seconds and at least half of those failed. At thousands of calls a second such a window is over in a blink, and one
    stall of the machine is no reason: so failures must also have come for ``sustained_s`` seconds, counted from the
    last time when these seconds of the window held none. Open, it lets one call through after ``open_s`` seconds; that
    call closes it, or opens it for twice as long, up to ``longest_open_s``. It reads no clock: every method takes the
    time.

    Parameters
    ----------
    window
        Calls that are remembered.
    minimum_calls
        Fewest calls to judge by.
    within_s
        Age in seconds beyond which a call no longer counts; see :meth:`keep_up_with`.
    sustained_s
        Shortest time in seconds from the first of these failures to the one that opens it.
    open_s, longest_open_s
        First and longest time in seconds for which nothing is let through.

    Examples
    --------
    >>> breaker = Breaker(minimum_calls=2, sustained_s=0)
    >>> breaker.failed(0), breaker.failed(1)
    (None, None)
    >>> breaker.allows(2), breaker.allows(5_000_000_002), breaker.allows(5_000_000_003)
    (False, True, False)
    >>> breaker.succeeded(5_000_000_004)
    >>> breaker.allows(5_000_000_005)
    True
    """

    __slots__ = (
        "_calls",
        "_least_within_ns",
        "_longest_open_ns",
        "_minimum_calls",
        "_open_ns",
        "_opened_for_ns",
        "_probing",
        "_retry_ns",
        "_since_ns",
        "_sustained_ns",
        "_within_ns",
        "openings",
    )

    def __init__(
        self,
        *,
        window: int = 20,
        minimum_calls: int = 5,
        within_s: float = 10.0,
        sustained_s: float = 0.25,
        open_s: float = 5.0,
        longest_open_s: float = 60.0,
    ) -> None:
        self._calls: deque[tuple[int, bool]] = deque(maxlen=window)
        self._minimum_calls = minimum_calls
        self._within_ns = self._least_within_ns = round(within_s * _SECOND_NS)
        self._sustained_ns = round(sustained_s * _SECOND_NS)
        self._open_ns = round(open_s * _SECOND_NS)
        self._longest_open_ns = round(longest_open_s * _SECOND_NS)
        self._since_ns = 0
        self._opened_for_ns = 0
        self._retry_ns = 0
        self._probing = False
        self.openings = 0

    @property
    def closed(self) -> bool:
        """Whether calls pass freely."""
        return self._opened_for_ns == 0

    def keep_up_with(self, call_ns: int) -> None:
        """Count calls for longer where one may take so long that the fewest to judge by would be too old.

        Examples
        --------
        >>> breaker = Breaker()
        >>> breaker.keep_up_with(30_000_000_000)
        >>> for at_s in range(30, 151, 30):
        ...     breaker.failed(at_s * 1_000_000_000)
        >>> breaker.closed
        False
        """
        self._within_ns = max(self._least_within_ns, self._minimum_calls * call_ns)

    def allows(self, now_ns: int) -> bool:
        """Whether a call may be made now; while open, True once per trial, whose outcome must be reported."""
        if self._opened_for_ns == 0:
            return True
        if self._probing or now_ns < self._retry_ns:
            return False
        self._probing = True
        return True

    def would_allow(self, now_ns: int) -> bool:
        """Whether a call might be made now: it is closed, or due for a trial; looking is none."""
        return self._opened_for_ns == 0 or now_ns >= self._retry_ns

    def succeeded(self, now_ns: int) -> None:
        """Report a call that was answered well."""
        if self._opened_for_ns and self._probing:
            self._close()
        self._calls.append((now_ns, True))

    def failed(self, now_ns: int) -> None:
        """Report a call that failed through no fault of the caller."""
        if self._opened_for_ns:
            if self._probing:
                self._open(now_ns, min(2 * self._opened_for_ns, self._longest_open_ns))
            return
        if all(well or now_ns - at_ns > self._within_ns for at_ns, well in self._calls):
            self._since_ns = now_ns
        self._calls.append((now_ns, False))
        recent = [well for at_ns, well in self._calls if now_ns - at_ns <= self._within_ns]
        mostly_bad = len(recent) >= self._minimum_calls and 2 * recent.count(False) >= len(recent)
        if mostly_bad and now_ns - self._since_ns >= self._sustained_ns:
            self._open(now_ns, self._open_ns)

    def abandoned(self) -> None:
        """Report a call that came to no outcome (the caller left, or it was refused before it ran)."""
        self._probing = False

    def retry_now(self) -> None:
        """Let the next call through as the trial: the cause may be gone, such as after a worker was replaced."""
        self._retry_ns = 0
        self._probing = False

    def _open(self, now_ns: int, for_ns: int) -> None:
        self._opened_for_ns = for_ns
        self._retry_ns = now_ns + for_ns
        self._probing = False
        self._calls.clear()
        self.openings += 1

    def _close(self) -> None:
        self._opened_for_ns = 0
        self._probing = False
        self._calls.clear()
