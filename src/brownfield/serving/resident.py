"""One model of a workspace as it is held: whether it runs, what it takes, what it is worth, what is told of it."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from brownfield.serving.loading import Loaded
from brownfield.serving.plan import Placement, State
from brownfield.serving.workers.keeper import WorkerState

__all__ = ["DEMAND_FADES_S", "Resident"]

DEMAND_FADES_S = 300.0
_STAYS_LOADS = 10  # a model that was loaded stays for so many times what that took, unless it is worth far less
_FAR_LESS = 0.5
_LEAK_SHARE = 0.9  # of its memory that a process may take before it is replaced, where it began with notably less
_LEAK_GROWTH_SHARE = 0.1
_STATES: Mapping[WorkerState, State] = {
    WorkerState.STARTING: "loading",
    WorkerState.READY: "ready",
    WorkerState.PAUSING: "restarting",
    WorkerState.QUARANTINED: "quarantined",
    WorkerState.STOPPED: "unloaded",
}
_REASONS: Mapping[State, str] = {
    "loading": "its process is being started",
    "restarting": "its process ended and is started again",
    "quarantined": "its process ended too often and is not started again",
}
_CHANGED: Mapping[State, str] = {
    "restarting": "its process ended, and its bundle has changed on disk since it was verified: ",
    "quarantined": "its process ended and is not started again, for its bundle has changed on disk: ",
}
_MAY_BE_WANTED = frozenset({"unloaded", "loading", "ready", "failed"})


@dataclass(eq=False)
class Resident:
    """One model and what is known of it.

    Attributes
    ----------
    held
        Who unloaded it by hand; it is not loaded on demand then.
    reason
        Why it is not loaded.
    failures, paused
        Loads in a row that failed, and whether nobody may have it tried again just now.
    resuming
        Ends its pause where what it lacked was memory: there may be enough sooner.
    rate_per_s
        Requests a second when they were last counted, older ones counting less.
    loads, evictions
        How often it was loaded and evicted.
    loaded_at_s, evicted_at_s
        When that was last so, by the residence's clock.
    pss_mib
        Memory of its process as last measured; what it took is remembered after its end.
    data_mib, first_data_mib
        What counts of it against its declared bound, and what that was when it was first measured.
    recycles
        How often its process was replaced because it kept taking memory.
    restarts_before
        How often those of the versions before were replaced after their end.
    """

    loaded: Loaded
    held: str = ""
    reason: str = ""
    failures: int = 0
    paused: bool = False
    rate_per_s: float = 0.0
    loads: int = 0
    evictions: int = 0
    pss_mib: float = 0.0
    data_mib: float = 0.0
    first_data_mib: float = 0.0
    recycles: int = 0
    restarts_before: int = 0
    loaded_at_s: float = -math.inf
    evicted_at_s: float = -math.inf
    counted_at_s: float = 0.0
    measured_pid: int = 0
    resuming: asyncio.TimerHandle | None = field(default=None, repr=False)
    loading: "asyncio.Task[None] | None" = field(default=None, repr=False)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def is_up(self) -> bool:
        """Whether its process runs, or is being replaced."""
        keeper = self.loaded.keeper
        return keeper is not None and keeper.state not in {WorkerState.STOPPED, WorkerState.QUARANTINED}

    @property
    def is_stopped(self) -> bool:
        """Whether it has no process, and none is being started."""
        return self.loaded.keeper is not None and self.loaded.keeper.state is WorkerState.STOPPED

    @property
    def may_go(self) -> bool:
        """Whether it may be evicted at all; not while it is loaded, renewed or ended."""
        return self.is_up and not (self.loaded.keep_loaded or self.loading is not None or self.turn.locked())

    def follow(self, old: "Resident") -> None:
        """Go on with the counts of the version before: what is told of an integration does not fall."""
        self.loads, self.evictions, self.recycles = old.loads, old.evictions, old.recycles
        self.restarts_before = old.restarts

    @property
    def restarts(self) -> int:
        """How often its process was replaced after its end, those of the versions before included."""
        return self.restarts_before + (self.loaded.keeper.restarts if self.loaded.keeper else 0)

    def demand_per_s(self, now_s: float) -> float:
        """Give the requests a second as they count now."""
        faded = math.exp(-(now_s - self.counted_at_s) / DEMAND_FADES_S) if self.counted_at_s else 0.0
        return self.rate_per_s * faded

    def cost(self, now_s: float) -> float:
        """Give what it costs to be without: seconds of loading per second of demand."""
        keeper = self.loaded.keeper
        return (keeper.load_s if keeper else 0.0) * self.demand_per_s(now_s)

    def stays_s(self, wanted: "Resident", now_s: float) -> float:
        """Give the seconds for which it stays although another is wanted that does not fit beside it.

        So models that evict each other in turns do not keep the machine loading: at most an eleventh of the time.
        """
        if self.cost(now_s) <= _FAR_LESS * wanted.cost(now_s):
            return 0.0
        took_s = self.loaded.keeper.load_s if self.loaded.keeper else 0.0
        return max(self.loaded_at_s + _STAYS_LOADS * took_s - now_s, 0.0)

    @property
    def need_mib(self) -> float:
        """Memory that loading it will take: as measured before, else as when it was tried."""
        return self.pss_mib or self.loaded.need_mib

    @property
    def leaks(self) -> bool:
        """Whether its process has taken nearly all the memory it may, and not at its start."""
        limit_mib = self.loaded.memory_mib
        if limit_mib is None or self.placement.state != "ready":
            return False
        grown_mib = self.data_mib - self.first_data_mib
        return self.data_mib >= _LEAK_SHARE * limit_mib and grown_mib >= _LEAK_GROWTH_SHARE * limit_mib

    @property
    def placement(self) -> Placement:
        """What the gateways are told."""
        loaded, keeper = self.loaded, self.loaded.keeper
        state: State = "none"
        if keeper is not None:
            state = _STATES[keeper.state]
            if state == "unloaded" and self.failures:
                state = "failed"
        elif loaded.reason:
            state = "failed"
        bundle = loaded.bundle
        said = loaded.reason or _REASONS.get(state, self.reason if state in {"unloaded", "failed"} else "")
        return Placement(
            integration=loaded.integration,
            state=state,
            reason="".join((_CHANGED[state], *loaded.not_started))
            if loaded.not_started and state in _CHANGED
            else said,
            fingerprint=loaded.fingerprint if keeper is not None else "",
            bundle=str(bundle.folder) if bundle is not None else "",
            digest=bundle.digest if bundle is not None else "",
            version=bundle.version if bundle is not None else "",
            shares_batches=loaded.shares_batches,
            cost_curve_us=loaded.probe.cost_curve_us if loaded.probe is not None else {},
            sockets=(keeper.socket,) if keeper is not None and keeper.socket else (),
            on_demand=not (loaded.keep_loaded or self.held or self.paused) and state in _MAY_BE_WANTED,
            load_s=keeper.load_s if keeper is not None else 0.0,
        )
