"""The signals of a supervisor: noted one by one while it waits, and forgotten by what it starts."""

import contextlib
import os
import signal

__all__ = ["NotedSignals", "forget_signals"]


class NotedSignals(contextlib.AbstractContextManager[int]):
    """Notes the signals that matter, and gives a descriptor that becomes readable with each.

    Parameters
    ----------
    noted
        Takes the numbers, as they come.
    """

    _NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    _IGNORED = (signal.SIGUSR1, signal.SIGUSR2)  # by all that is started as well; they would end it without a drain

    def __init__(self, noted: list[int]) -> None:
        self._noted = noted

    def __enter__(self) -> int:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.signal(number, self._note) for number in self._NUMBERS}
        self._before |= {number: signal.signal(number, signal.SIG_IGN) for number in self._IGNORED}
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*self._NUMBERS, *self._IGNORED})  # what came since the start counts
        return self._reader

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, _frame: object) -> None:
        self._noted.append(number)


def forget_signals() -> None:
    """Take none of the supervisor's signals for a child's own; Ctrl-C is for the supervisor alone."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
