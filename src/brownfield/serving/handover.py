"""What changes hands at a start and at a reload: which processes are used on, which are ended, and when."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from brownfield.serving.loading import Loaded
from brownfield.serving.workers.keeper import WorkerState

if TYPE_CHECKING:
    from brownfield.serving.residence import Residence

__all__ = ["answers", "end_unused", "leave_it", "linger_s", "models_of", "unused", "without_room"]

_LEAST_LINGER_S, _MOST_LINGER_S = 1.0, 30.0  # for requests that were opened before the swap


def models_of(residence: "Residence") -> dict[str, Loaded]:
    """Give what is held, by name."""
    return {name: one.loaded for name, one in residence.models.items()}


async def leave_it(_: Loaded) -> None:
    """Leave a model's process unstarted."""


def without_room(old: Mapping[str, Loaded], fresh: Mapping[str, Loaded]) -> dict[str, Loaded]:
    """Give those of ``old`` whose successors are to be kept loaded, and wait for their memory."""
    waiting = (name for name, one in fresh.items() if one.keep_loaded and one.keeper is not None and not _runs(one))
    return {name: old[name] for name in waiting if name in old}


def _runs(one: Loaded) -> bool:
    return one.keeper is not None and one.keeper.state is not WorkerState.STOPPED


def answers(one: Loaded | None) -> bool:
    """Whether its process is ready."""
    return one is not None and one.keeper is not None and one.keeper.state is WorkerState.READY


def unused(old: Mapping[str, Loaded], kept: Mapping[str, Loaded]) -> list[Loaded]:
    """Give those of ``old`` whose processes ``kept`` does not use."""
    used = {id(one.keeper) for one in kept.values()}
    return [one for one in old.values() if one.keeper is not None and id(one.keeper) not in used]


def linger_s(old: Mapping[str, Loaded], kept: Mapping[str, Loaded]) -> float:
    """Say how long requests may still wait for processes that are to be ended."""
    longest_s = max((one.deadline_s for one in unused(old, kept)), default=0.0)
    return min(max(_LEAST_LINGER_S, longest_s), _MOST_LINGER_S)


async def end_unused(old: Mapping[str, Loaded], kept: Mapping[str, Loaded], *, grace_s: float | None = None) -> None:
    """End the processes of ``old`` that ``kept`` does not use; requests in flight are answered first."""
    await asyncio.gather(*(one.keeper.end(grace_s) for one in unused(old, kept) if one.keeper is not None))
