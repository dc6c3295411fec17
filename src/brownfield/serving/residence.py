"""Which models are loaded now: on demand, within the memory there is, the least worth its memory evicted first.

A model that is kept loaded is never evicted. Of the others the one goes that costs least to be without: the time that
loading it takes, times how often it is asked for. To evict is to end its process, so its memory comes back whole.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from brownfield.clock import Clock, SystemClock
from brownfield.errors import BrownfieldError, NotFound, Unavailable
from brownfield.host import available_mib, data_mib, pss_mib
from brownfield.serving.loading import Loaded
from brownfield.serving.plan import Placement
from brownfield.serving.resident import DEMAND_FADES_S, Resident
from brownfield.serving.room import Room
from brownfield.serving.thrash import WITHIN_S, Thrash
from brownfield.serving.workers.keeper import WorkerState

__all__ = ["Residence"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 5.0  # after a load that failed, before the next request may have it tried again
_LONGEST_PAUSE_S = 300.0
_SHORTEST_STAY_S = 1.0
_WELL_WITHIN_SHARE = 0.05  # of what all may take is free again: to take too much would be news


class _NoRoom(Unavailable):
    """There is no memory for a model."""


class _NotYet(_NoRoom):
    """There will be memory for a model when others have been there for a while.

    Parameters
    ----------
    wait_s
        How long that takes at least.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(
            f"there is no memory for it beside models that were loaded just before, which stay {wait_s:.0f} s more",
            next_step="Keep fewer models loaded, or give the workspace more memory (serving.memory_mib).",
        )
        self.wait_s = wait_s


class Residence:
    """The models of one workspace.

    Parameters
    ----------
    publish
        Tells the gateways what is the case now, and waits until they know.
    used_mib
        Memory of all our processes.
    cap_mib
        Most that they may use; None for what the machine has.
    free_mib
        Says how much memory the machine has left.

    Attributes
    ----------
    room
        Memory that models may still take.
    reloads
        How often a model was loaded soon after it was evicted.
    """

    def __init__(
        self,
        publish: Callable[[], Awaitable[None]],
        *,
        used_mib: Callable[[], float],
        cap_mib: float | None = None,
        free_mib: Callable[[], float] = available_mib,
        clock: Clock | None = None,
    ) -> None:
        self.models: dict[str, Resident] = {}
        self.room = Room(lambda: self.held_mib, used_mib, free_mib, cap_mib=cap_mib)
        self.reloads = 0
        self._publish = publish
        self._now_ns = (clock or SystemClock()).monotonic_ns
        self._making_room = asyncio.Lock()
        self._said_exceeded = False
        self._thrash = Thrash()
        self._beside: list[Loaded] = []  # whose processes run and are not held: not yet, or not any more

    @property
    def thrashing(self) -> bool:
        """Whether several models came back soon after they were evicted, or had to wait, within the last minute."""
        return self._thrash.is_so(self._now_s())

    @property
    def held_mib(self) -> float:
        """Memory of the processes that run; room for one that is being loaded is reserved already."""
        up = {name: one for name, one in self.models.items() if one.is_up}
        held_mib = sum(one.need_mib for name, one in up.items() if not self._is_loading(name, one))
        counted = {id(one.loaded.keeper) for one in up.values()}
        others = {id(one.keeper): one for one in (*(each.loaded for each in self.models.values()), *self._beside)}
        return held_mib + sum(_lingering_mib(one) for number, one in others.items() if number not in counted)

    def _is_loading(self, name: str, one: Resident) -> bool:
        keeper = one.loaded.keeper
        return name in self.room.reserved_mib and keeper is not None and keeper.state is WorkerState.STARTING

    def replace(self, loaded: Mapping[str, Loaded]) -> None:
        """Hold other models from now on; what is known of those that stay is kept."""
        before, self.models = self.models, {}
        for name, one in loaded.items():
            if one.keeper is not None:
                one.keeper.longest_call_s = one.deadline_s
            old = before.get(name)
            if old is not None and old.loaded.keeper is one.keeper:
                old.loaded = one
                self.models[name] = old
            else:
                self.models[name] = Resident(one, reason="" if one.keep_loaded else "nobody has asked for it yet")
                if old is not None:
                    self.models[name].follow(old)
                if self.models[name].is_up:
                    self.models[name].loads, self.models[name].loaded_at_s = self.models[name].loads + 1, self._now_s()

    def preview(self, loaded: Mapping[str, Loaded]) -> tuple[Placement, ...]:
        """Give what the gateways would be told if these models were held."""
        found = []
        for name, one in loaded.items():
            old = self.models.get(name)
            kept = old is not None and old.loaded.keeper is one.keeper
            found.append(Resident(one, held=old.held, reason=old.reason) if old is not None and kept else Resident(one))
        return tuple(each.placement for each in found)

    def placements(self) -> tuple[Placement, ...]:
        """Give what the gateways are told of every model."""
        return tuple(one.placement for one in self.models.values())

    def count(self, asked: Mapping[str, int]) -> None:
        """Take in how many requests each model had since this was last told."""
        now_s = self._now_s()
        for name, requests in asked.items():
            one = self.models.get(name)
            if one is not None:
                one.rate_per_s = one.demand_per_s(now_s) + requests / DEMAND_FADES_S
                one.counted_at_s = now_s

    def want(self, name: str) -> None:
        """Load a model because a request asks for it; what was unloaded by hand stays so."""
        one = self.models.get(name)
        if one is not None and not (one.held or one.paused or one.is_up) and one.loading is None:
            self._begin_load(one)

    def _begin_load(self, one: Resident) -> "asyncio.Task[None]":
        one.loading = task = asyncio.get_running_loop().create_task(self._load_wanted(one))
        return task

    async def load_kept(self) -> None:
        """Load what is to be kept loaded and is not; a reload brings back what was unloaded by hand."""
        for one in tuple(self.models.values()):
            was_held, one.held = one.held, ""
            if one.loaded.keep_loaded and one.is_stopped:
                await self._load_wanted(one)
            elif was_held:
                await self._publish()  # a request may have it loaded again

    async def load_failed(self) -> None:
        """Try those again that are to be kept loaded and could not be loaded: no request asks for them."""
        failed = (one for one in self.models.values() if one.loaded.keep_loaded and one.failures and one.is_stopped)
        await asyncio.gather(*(self._begin_load(one) for one in failed if not (one.held or one.paused or one.loading)))

    async def begin_beside(self, loaded: Loaded) -> None:
        """Start the process of a model that is not held yet, if there is memory for it beside all others.

        Else it comes when it is asked for, and one that is kept loaded when the one before it has ended.

        Raises
        ------
        WorkerUnavailable, BundleRefused
            It does not start.
        """
        if loaded.keeper is None:
            return
        if loaded.need_mib > (room_mib := self.room.left_mib()):
            if loaded.keep_loaded:
                extra = {"event": "BF-SRV-NOT-BESIDE", "integration": loaded.integration}
                _log.warning(
                    "there is no memory for a model beside the one before it, which a reload ends first",
                    extra={**extra, "need_mib": round(loaded.need_mib), "room_mib": round(room_mib)},
                )
            return
        await self._begin(loaded)

    async def begin_first(self, loaded: Loaded) -> None:
        """Start the process of a model of a start, if there is memory for it; else it is left for :meth:`load_left`.

        Raises
        ------
        WorkerUnavailable, BundleRefused
            It does not start.
        """
        if self.room.has(loaded.need_mib):
            await self._begin(loaded)

    async def _begin(self, loaded: Loaded) -> None:
        """Start the process of a model that is not held yet."""
        if loaded.keeper is None:
            return
        place = f"{loaded.integration} (beside)"
        self.room.reserve(place, loaded.need_mib)
        try:
            await loaded.keeper.begin()
            self.count_beside(loaded)
        finally:
            self.room.release(place)

    def count_beside(self, *others: Loaded) -> None:
        """Count processes that run and are not held, until they end: a reload holds others, or they come to be held."""
        known = (*self._beside, *others)
        self._beside = [one for one in known if one.keeper is not None and one.keeper.process is not None]

    async def load_left(self, name: str) -> None:
        """Load one that is to be kept loaded and was left; without memory still, it is told and tried again."""
        one = self.models[name]
        if one.loaded.keep_loaded and one.is_stopped and not (one.held or one.loaded.reason):
            await self._load_wanted(one)

    async def load(self, name: str) -> None:
        """Load a model by hand.

        Raises
        ------
        NotFound
            There is no model of that name.
        Unavailable
            It cannot be loaded; the text says why.
        """
        one = self._of(name)
        one.held = ""
        if one.loading is not None:
            await asyncio.wait([one.loading])
        await self._load(one, at_once=True)

    async def unload(self, name: str, who: str) -> None:
        """Unload a model by hand: its process ends, and it stays so until it is loaded by hand or by a reload."""
        one = self._of(name)
        if one.loading is not None:
            await asyncio.wait([one.loading])
        self.hold(name, who or "an operator")
        await self._end(one)
        await self.try_again()

    def hold(self, name: str, who: str) -> None:
        """Take note of who unloaded a model by hand."""
        one = self.models[name]
        one.held, one.reason = who, f"it was unloaded by {who}"

    async def try_again(self) -> None:
        """Let models be asked for that lacked memory: some became free."""
        waiting = [one for one in self.models.values() if one.resuming is not None]
        for one in waiting:
            _end_pause(one)
        if waiting:
            await self._publish()

    def measure(self) -> None:
        """Measure the memory of every process; called in a thread."""
        for one in tuple(self.models.values()):
            keeper = one.loaded.keeper
            process = keeper.process if keeper is not None and keeper.state is WorkerState.READY else None
            if process is not None:
                pid = process.pid
                one.pss_mib, one.data_mib = pss_mib(pid) or one.pss_mib, data_mib(pid)
                if pid != one.measured_pid:
                    one.measured_pid, one.first_data_mib = pid, one.data_mib

    async def replace_leaking(self) -> None:
        """Begin anew with processes that keep taking memory; each answers what it was asked before it is ended.

        Where there is memory for both, the new one takes over from the old one; else fallbacks answer in between.
        """
        for one in tuple(self.models.values()):
            if not one.leaks:
                continue
            extra = {"event": "BF-SRV-RECYCLED", "integration": one.loaded.integration, "data_mib": round(one.data_mib)}
            _log.warning("a model's process keeps taking memory and is replaced", extra=extra)
            one.recycles += 1
            if await self._renewed(one):
                continue
            one.reason = "its process kept taking memory and is replaced"
            await self._end(one)
            await self._load_wanted(one)

    async def _renewed(self, one: Resident) -> bool:
        """Whether another process took the place of a model's, which takes memory for both for a while."""
        keeper, name, need_mib = one.loaded.keeper, one.loaded.integration, one.loaded.need_mib
        async with one.turn:
            if keeper is None or need_mib > self.room.left_mib():
                return False
            self.room.reserve(name, need_mib)
            try:
                await keeper.renew(self._publish)
            except BrownfieldError as error:
                _log.error(
                    "another process for a model could not be started beside its own",
                    extra={"event": "BF-SRV-NOT-LOADED", "integration": name, "reason": str(error)},
                )
                return False
            finally:
                self.room.release(name)
            await asyncio.to_thread(self.measure)
        return True

    async def _load_wanted(self, one: Resident) -> None:
        try:
            await self._load(one, at_once=one.loaded.keep_loaded)
        except _NotYet:
            pass  # its reason is told, and so is the thrashing
        except BrownfieldError as error:
            _log.error(
                "a model that was asked for, or is to be kept loaded, is not loaded",
                extra={"event": "BF-SRV-NOT-LOADED", "integration": one.loaded.integration, "reason": str(error)},
            )
        finally:
            one.loading = None

    async def _load(self, one: Resident, *, at_once: bool) -> None:
        """Load a model; at once, or when those that were loaded before it have been there for a while."""
        keeper = one.loaded.keeper
        if keeper is None:
            raise Unavailable(one.loaded.reason or "no bundle of it could be opened")
        async with one.turn:
            if one.is_up:
                return
            name = one.loaded.integration
            try:
                async with self._making_room:
                    await self._make_room(one, at_once=at_once)
                    if self.models.get(name) is not one:
                        raise Unavailable("a reload took its place meanwhile", next_step="Ask once more.")
                    self.room.reserve(name, one.need_mib)
                await keeper.begin()
            except _NotYet as error:
                self._note_thrash(one, waits_s=error.wait_s)
                await self._put_off(one, error, error.wait_s)
                raise
            except BrownfieldError as error:
                one.failures += 1
                pause_s = min(_FIRST_PAUSE_S * 2 ** min(one.failures - 1, 16), _LONGEST_PAUSE_S)
                await self._put_off(one, error, pause_s)
                raise Unavailable(one.reason) from error
            finally:
                self.room.release(name)
            _end_pause(one)
            one.reason, one.failures = "", 0
            one.loaded.reason, one.loaded.for_now = "", False
            one.loads, one.loaded_at_s = one.loads + 1, self._now_s()
            if one.loaded_at_s - one.evicted_at_s <= WITHIN_S:
                self.reloads += 1
                self._note_thrash(one)
            await asyncio.to_thread(self.measure)
        await self._publish()

    async def _put_off(self, one: Resident, error: BrownfieldError, pause_s: float) -> None:
        """Let nobody have a model tried again for a while."""
        _end_pause(one)
        one.reason, one.paused = f"it could not be loaded: {error}", True
        resuming = asyncio.get_running_loop().call_later(pause_s, self._resume, one)
        one.resuming = resuming if isinstance(error, _NoRoom) else None
        await self._publish()

    def _resume(self, one: Resident) -> None:
        _end_pause(one)
        self._telling = asyncio.get_running_loop().create_task(self._publish_again())

    async def _publish_again(self) -> None:
        await self._publish()

    async def _make_room(self, wanted: Resident, *, at_once: bool) -> None:
        """Evict what is worth least until there is memory; what was loaded only just now stays, unless it is urgent."""
        while (missing_mib := wanted.need_mib - self.room.left_mib()) > 0:
            now_s = self._now_s()
            stay_s = {one: 0.0 if at_once else one.stays_s(wanted, now_s) for one in self.models.values() if one.may_go}
            idle = [one for one, for_s in stay_s.items() if not for_s]
            short_mib = missing_mib - sum(one.need_mib for one in idle)
            if not idle or short_mib > 0:  # nobody goes for one that does not fit all the same
                passing = [one for one in self.models.values() if one.is_up and not one.loaded.keep_loaded]
                if not at_once and missing_mib <= sum(one.need_mib for one in passing):
                    raise _NotYet(max(min(filter(None, stay_s.values()), default=0.0), _SHORTEST_STAY_S))
                raise _NoRoom(
                    f"there is not enough memory: it takes {wanted.need_mib:.0f} MiB, {short_mib:.0f} are missing",
                    next_step="Keep fewer models loaded, or give the workspace more memory (serving.memory_mib).",
                )
            least = min(idle, key=lambda one: one.cost(now_s))
            await self._evict(least, f"to load {wanted.loaded.integration}", to_load=wanted.loaded.integration)

    async def keep_within(self) -> None:
        """Evict what is worth least while all together take more than they may: they grew, or may take less now."""
        async with self._making_room:
            while self.room.cap_mib is not None:
                over_mib = self.room.over_mib()
                idle = [one for one in self.models.values() if one.may_go]
                if over_mib <= 0 or not idle:
                    self._say_exceeded(over_mib)
                    return
                now_s = self._now_s()
                least = min(idle, key=lambda one: one.cost(now_s))
                await self._evict(least, "for all together took more than serving.memory_mib", over_mib=round(over_mib))

    def _say_exceeded(self, over_mib: float) -> None:
        """Say once that what stays takes more than all together may: nobody is ended for it."""
        cap_mib = self.room.cap_mib
        if cap_mib is None or any(one.is_up and not one.loaded.keep_loaded for one in self.models.values()):
            return
        if over_mib > 0 and not self._said_exceeded:
            self._said_exceeded = True
            extra = {"event": "BF-SRV-MEMORY-EXCEEDED", "used_mib": round(cap_mib + over_mib)}
            _log.error(
                "models that are kept loaded take more than serving.memory_mib, and nothing can be evicted for them",
                extra={**extra, "memory_mib": cap_mib},
            )
        elif over_mib < -_WELL_WITHIN_SHARE * cap_mib:
            self._said_exceeded = False

    async def _evict(self, one: Resident, why: str, **extra: object) -> None:
        one.reason = f"it was evicted {why}"
        one.evictions += 1
        one.evicted_at_s = self._now_s()
        said = {"event": "BF-SRV-EVICTED", "integration": one.loaded.integration, **extra}
        _log.info("a model is evicted", extra=said)
        await self._end(one)

    async def _end(self, one: Resident) -> None:
        """End a process; the gateways stop asking it first."""
        keeper = one.loaded.keeper
        if keeper is None:
            return
        async with one.turn:
            keeper.retire()
            await self._publish()
            begun_again = keeper.state is not WorkerState.STOPPED  # its process ended by itself meanwhile
            await keeper.end()
            if begun_again:
                await self._publish()

    def _note_thrash(self, one: Resident, waits_s: float = 0.0) -> None:
        if self._thrash.note(self._now_s(), waits_s=waits_s):
            _log.error(
                "models evict each other: they need more memory than there is",
                extra={"event": "BF-SRV-THRASH", "integration": one.loaded.integration, "reloads": self.reloads},
            )

    def _of(self, name: str) -> Resident:
        try:
            one = self.models[name]
        except KeyError:
            raise NotFound("there is no integration of that name") from None
        if one.loaded.bundle is None and not one.loaded.reason:
            raise NotFound("this integration declares no model")
        return one

    def _now_s(self) -> float:
        return self._now_ns() / 1e9


def _end_pause(one: Resident) -> None:
    if one.resuming is not None:
        one.resuming.cancel()
    one.paused, one.resuming = False, None


def _lingering_mib(one: Loaded) -> float:
    """Memory of a process that nobody is sent to, and that lives as long as it answers what it was asked before."""
    if one.keeper is None or one.keeper.state not in {WorkerState.READY, WorkerState.STOPPED}:
        return 0.0
    process = one.keeper.process
    return 0.0 if process is None else pss_mib(process.pid)
