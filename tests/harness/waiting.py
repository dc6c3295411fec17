"""Waiting for what will be: never for a time, always for a condition."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["eventually", "until"]

Found = TypeVar("Found")


def until(condition: Callable[[], Found], timeout_s: float = 60.0, tell: Callable[[], object] = str) -> Found:
    """Wait until something is the case, and give what the condition gave; the limit is for what never comes.

    ``tell`` says, when the limit is over, what was the case instead.
    """
    ends_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < ends_s, tell()
        time.sleep(0.02)
    return found


async def eventually(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Let a loop work until something is the case."""
    ends_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_s
        await asyncio.sleep(0.001)
