"""Processes that others start and end: each may have gone in the moment in which it is looked at."""

import psutil

__all__ = ["CLERK", "MODEL", "ZYGOTE", "command_of", "descendants"]

MODEL, ZYGOTE, CLERK = "child/__main__.py", "child/__warm__.py", "serving.clerk"
"""Words in the commands of the processes of a served workspace."""


def command_of(process: psutil.Process) -> str:
    """Command line of a process; empty when it has ended, whether or not it was waited for."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def descendants(pid: int, part: str = "") -> list[psutil.Process]:
    """Processes that descend from one and run, with a part in their command; none when it has gone itself."""
    try:
        found = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [each for each in found if (command := command_of(each)) and part in command]
