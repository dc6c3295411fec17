"""How a process ended, in words."""

import signal

__all__ = ["how_it_ended"]


def how_it_ended(code: int) -> str:
    """Say how a process ended.

    Parameters
    ----------
    code
        Its exit code, or the negative number of the signal that ended it.

    Examples
    --------
    >>> how_it_ended(3), how_it_ended(-9), how_it_ended(-37)
    ('exit 3', 'SIGKILL', 'signal 37')
    """
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # most real-time signals have no name
        return f"signal {-code}"
