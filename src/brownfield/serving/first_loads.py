"""Who of those that are kept loaded is loaded at a start: those declared first, as far as there is memory.

A model is tried before anybody knows what it takes, and several are at a time. One that would still fit if those before
it took what they declare is not kept waiting for them; any other is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from brownfield.serving.loading import USUAL_MIB, Loaded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brownfield.integration import IntegrationSpec

__all__ = ["FirstLoads"]


class FirstLoads:
    """The models of one start that are kept loaded.

    Parameters
    ----------
    specs
        All that is declared, the first of it first.
    has_room
        Says whether there is memory for so many MiB more.
    begin
        Starts a process if there is memory for it.
    """

    def __init__(
        self,
        specs: "Mapping[str, IntegrationSpec]",
        *,
        has_room: Callable[[float], bool],
        begin: Callable[[Loaded], Awaitable[None]],
    ) -> None:
        kept = {name: one for name, one in specs.items() if one.model is not None and one.model.keep_loaded}
        self._coming_mib = {name: float(one.constraints.memory_mib or USUAL_MIB) for name, one in kept.items()}
        self._order = list(specs)
        self._has_room = has_room
        self._begin = begin
        self._changed = asyncio.Condition()

    async def begin(self, loaded: Loaded) -> None:
        """Start the process of a model that was tried, in its turn, if there is memory for it.

        Raises
        ------
        WorkerUnavailable, BundleRefused
            It does not start.
        """
        name = loaded.integration
        before_mib = self._before_mib(name)
        async with self._changed:
            if before_mib and not self._has_room(loaded.need_mib + before_mib):
                await self._changed.wait_for(lambda: not self._before_mib(name))
            self._coming_mib.pop(name, None)
            self._changed.notify_all()
        await self._begin(loaded)  # which reserves its memory before it waits for anything

    async def decided(self, name: str) -> None:
        """Let nobody wait for this one any more: it is loaded, or will not be now."""
        self._coming_mib.pop(name, None)
        async with self._changed:
            self._changed.notify_all()

    def _before_mib(self, name: str) -> float:
        """Memory that those declared before it may take still; 0 once all of them were decided."""
        before = self._order[: self._order.index(name)]
        return sum(self._coming_mib.get(each, 0.0) for each in before)
