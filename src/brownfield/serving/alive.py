"""That the event loop of a process turns: told by the process itself, every other second, to the supervisor.

It is told whether or not anything else is to be done, and never waited for: what blocks the loop stops it as well.
"""

import asyncio
from collections.abc import Callable

__all__ = ["ALIVE_EVERY_S", "keep_telling"]

ALIVE_EVERY_S = 2.0


async def keep_telling(alive: Callable[[], None]) -> None:
    """Call ``alive`` for as long as the loop turns."""
    while True:
        alive()
        await asyncio.sleep(ALIVE_EVERY_S)
