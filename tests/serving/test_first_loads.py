"""Who is loaded at a start where there is memory for some: those declared first, whoever was tried first."""

import asyncio
from types import SimpleNamespace

import pytest

from brownfield.serving.first_loads import FirstLoads
from brownfield.serving.loading import Loaded


def spec(memory_mib=None, *, keep=True):
    """A declaration of a model."""
    return SimpleNamespace(model=SimpleNamespace(keep_loaded=keep), constraints=SimpleNamespace(memory_mib=memory_mib))


class Memory:
    """So many MiB, of which each process that begins takes what it needs."""

    def __init__(self, mib):
        self.mib = mib
        self.begun = []

    def has_room(self, need_mib):
        """Whether there is as much."""
        return need_mib <= self.mib

    async def begin(self, loaded):
        """Take it, or leave it."""
        if self.has_room(loaded.need_mib):
            self.mib -= loaded.need_mib
            await asyncio.sleep(0)
            self.begun.append(loaded.integration)


def started(memory, specs, tried):
    """Who began, where models were tried in this order."""

    async def run():
        first = FirstLoads(specs, has_room=memory.has_room, begin=memory.begin)

        async def load(name, at):
            await asyncio.sleep(at / 100)
            if name not in refused:
                await first.begin(Loaded(name, probe=SimpleNamespace(peak_mib=100.0)))
            await first.decided(name)

        refused = {name for name in specs if name == "refused"}
        async with asyncio.timeout(10):
            await asyncio.gather(*(load(name, at) for at, name in enumerate(tried)))
        return memory.begun

    return asyncio.run(run())


@pytest.mark.parametrize("tried", ["abcde", "edcba", "cadbe"])
def test_where_three_of_five_fit_those_declared_first_are_loaded(tried):
    """Whichever of them was tried first."""
    assert sorted(started(Memory(350), {name: spec() for name in "abcde"}, tried)) == ["a", "b", "c"]


def test_where_all_fit_nobody_waits_for_those_declared_before():
    """The last that was declared begins first, as it was tried first."""
    assert started(Memory(800), {name: spec() for name in "abcde"}, "edcba") == ["e", "d", "c", "b", "a"]


def test_who_is_refused_or_comes_on_demand_keeps_nobody_waiting():
    """The memory that they declare is not waited for once they are refused, or not at all."""
    specs = {"refused": spec(10_000), "demand": spec(10_000, keep=False), "a": spec(), "none": spec()}
    specs["none"].model = None
    assert started(Memory(150), specs, ["a", "refused"]) == ["a"]
