"""A gateway's side of the plan: what it serves under one declaration, connected to the processes that the plan names.

A plan comes in; a snapshot goes out. A version stays as long as its fingerprint does, with its breaker, its counts and
its connections, also over a reload: what does not concern it changes nothing for its callers.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brownfield.errors import BrownfieldError, WorkerUnavailable
from brownfield.integration import HttpDoor
from brownfield.model import Bundle, golden_record, reopen_bundle
from brownfield.model.process import ModelChannel
from brownfield.serving.gateway import Served, Snapshot, Version
from brownfield.serving.gateway.cache import Cache
from brownfield.serving.gateway.costs import CostCurve, curve_of
from brownfield.serving.gateway.metrics import Meter
from brownfield.serving.gateway.priority import Priority
from brownfield.serving.loading import BATCH_ROWS
from brownfield.serving.previous import base_of, place_of
from brownfield.serving.workers.budget import RetryBudget
from brownfield.serving.workers.pool import WorkerPool
from brownfield.serving.workers.sentinel import Sentinel

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec
    from brownfield.serving.declared import Declared
    from brownfield.serving.gateway.enrich import Enrichment
    from brownfield.serving.gateway.served import Record
    from brownfield.serving.plan import Placement, Plan
    from brownfield.serving.workers.poison import News

__all__ = ["Board"]

_log = logging.getLogger(__name__)

_SUSPECT_EVERY_S = 0.5
_TRY_SOON_S = 0.05
_TRY_EVERY_S = 2.0
_FIRST_GREETING_S = 5.0
_GREETING_S = 60.0
_NOBODY = frozenset({"ConnectionRefusedError", "FileNotFoundError"})
"""What it is to connect where no process listens; by name, as compiled code gives no cause of an error."""


@dataclass(eq=False)
class _Asked:
    """One model version with the sockets that the last plan names, its connections and its tries to get one again."""

    fingerprint: str
    version: Version
    pool: WorkerPool
    sockets: tuple[str, ...] = ()
    channels: dict[str, ModelChannel] = field(default_factory=dict)
    tries: dict[str, asyncio.TimerHandle | asyncio.Task[None]] = field(default_factory=dict)


class Board:
    """What one gateway serves under one declaration.

    Parameters
    ----------
    declared
        The declaration.
    runtime_folder
        Where the sockets of model processes lie.
    tell
        Tells the manager: ``want`` an integration, ``suspect`` a socket, ``poison`` of what became of requests.
    record_for
        Gives the function that keeps an integration's decisions.
    enrichment_for
        Gives what lookups add to its requests, or None.
    earlier
        The board that this one is to take the place of.
    """

    def __init__(
        self,
        declared: "Declared",
        runtime_folder: Path,
        *,
        tell: Callable[[str, Any], None],
        record_for: "Callable[[IntegrationSpec], Record | None]" = lambda _: None,
        enrichment_for: "Callable[[IntegrationSpec], Enrichment | None]" = lambda _: None,
        earlier: "Board | None" = None,
    ) -> None:
        self.declared = declared
        self._runtime_folder = runtime_folder
        self._tell = tell
        self._suspected_at_s: dict[str, float] = {}
        self._asked: dict[str, _Asked] = dict(earlier._asked) if earlier is not None else {}  # noqa: SLF001 (one of its own kind)
        self._dropped: list[_Asked] = []
        self._served: dict[str, Served] = {}
        for name, spec in declared.spec.integrations.items():
            before = earlier._served.get(name) if earlier is not None else None  # noqa: SLF001 (likewise)
            self._served[name] = Served(
                name=name,
                contract=spec.contract,
                deadline_ms=spec.fallback.deadline_ms,
                fallbacks=declared.chains[name],
                purpose=spec.purpose or "",
                record=record_for(spec),
                enrichment=enrichment_for(spec),
                priority=_priority(spec),
                meter=before.meter if before is not None else Meter(),
            )

    @property
    def snapshot(self) -> Snapshot:
        """What is served now."""
        return Snapshot(self._served)

    def on_demand(self) -> list[tuple[str, int]]:
        """Give the integrations whose models may be evicted, and how many requests each has had."""
        return [
            (name, sum(self._served[name].meter.answers.values()))
            for name, one in self._asked.items()
            if one.pool.on_demand is not None and name in self._served
        ]

    async def take(self, plan: "Plan") -> None:
        """Serve by a plan from now on: connect to the processes that it names, and ask no others any more."""
        placements = [each for each in plan.placements if base_of(each.integration) in self._served]
        asked = {each.integration: one for each in placements if (one := self._version(each)) is not None}
        await asyncio.gather(
            *(self._connect(asked[one.integration], one) for one in placements if one.integration in asked)
        )
        for placement in placements:
            served, one = self._served[base_of(placement.integration)], asked.get(placement.integration)
            version = None if one is None else one.version
            if placement.integration == served.name:
                served.reason, served.champion = placement.reason, version
            elif (place := place_of(served)) is not None:
                place.version = version
            if one is not None:
                self._settle(one, placement)
        self._dropped += [one for name, one in self._asked.items() if asked.get(name) is not one]
        self._asked = asked

    def let_go(self) -> None:
        """Let nobody wait for versions that this plan, now in force, does not name: what is loaded is another."""
        for one in self._dropped:
            one.pool.on_demand = None
            one.pool.fail_arrival()
        self._dropped.clear()

    def want_anew(self) -> None:
        """Forget which models were asked for: there is another manager, who does not know of it."""
        for one in self._asked.values():
            one.pool.fail_arrival()

    def renew_caches(self) -> None:
        """Begin with empty caches, as declared: a reload may have changed what an answer depends on."""
        for name, one in self._asked.items():
            one.version.cache = _cache(self.declared.spec.integrations[base_of(name)])

    def learn(self, name: str, fingerprint: str, news: "News", digests: Sequence[bytes]) -> None:
        """Take in what became of requests of a version, at all gateways."""
        one = self._asked.get(name)
        if one is not None and one.fingerprint == fingerprint:
            one.version.poison.learn(news, digests, time.monotonic_ns())

    def blocked(self) -> list[tuple[str, str, dict[bytes, int]]]:
        """Give what is blocked here: name, fingerprint, and digests with the time until which they are."""
        now_ns = time.monotonic_ns()
        found = [(name, one.fingerprint, one.version.poison.blocked(now_ns)) for name, one in self._asked.items()]
        return [each for each in found if each[2]]

    def block(self, name: str, fingerprint: str, until_ns: Mapping[bytes, int]) -> None:
        """Block what another gateway does."""
        one = self._asked.get(name)
        if one is not None and one.fingerprint == fingerprint:
            one.version.poison.block(until_ns)

    def _version(self, placement: "Placement") -> _Asked | None:
        if not placement.fingerprint:
            return None
        earlier = self._asked.get(placement.integration)
        spec = self.declared.spec.integrations[base_of(placement.integration)]
        if earlier is not None and earlier.fingerprint == placement.fingerprint:
            earlier.version.keep_within(_deadline_ns(spec))
            return earlier
        bundles = self.declared.bundles
        try:
            bundle = bundles.get(placement.digest) or reopen_bundle(Path(placement.bundle), placement.digest)
        except (BrownfieldError, OSError) as error:
            extra = {"event": "BF-SRV-BUNDLE-GONE", "integration": placement.integration, "reason": str(error)}
            _log.error("a gateway cannot read a bundle that is served", extra=extra)
            return None
        bundles[placement.digest] = bundle
        name, fingerprint = placement.integration, placement.fingerprint
        retries = RetryBudget()
        pool = WorkerPool(retries, sentinel=_sentinel(bundle, placement), label=f"{name} {bundle.version}")
        version = _made(bundle, pool, spec, placement, retries)
        if self.declared.spec.serving.gateways > 1:  # a single one sees all, and judges at once
            version.poison.on_report = lambda report, digests: self._tell(
                "poison", (os.getpid(), name, fingerprint, report, digests)
            )
        return _Asked(fingerprint, version, pool)

    async def _connect(self, one: _Asked, placement: "Placement") -> None:
        one.sockets = placement.sockets
        for name in placement.sockets:
            known = name in one.channels or name in one.tries
            if not known and not await self._join(one, name, _FIRST_GREETING_S):
                self._try_again(one, name)

    async def _join(self, one: _Asked, name: str, timeout_s: float) -> bool:
        """Connect to a process and ask it from now on; False where another try may succeed."""

        def lose() -> None:
            channel = one.channels.pop(name, None)
            if channel is not None:
                one.pool.leave(channel)
                self._try_again(one, name)

        try:
            channel = await ModelChannel.connect(self._runtime_folder / name, timeout_s=timeout_s, on_lost=lose)
        except WorkerUnavailable as error:
            return error.got in _NOBODY  # it has ended; the next plan names another
        if not channel.connected:
            return False
        one.channels[name] = channel
        one.pool.join(channel, self._suspecting(name))
        one.version.worker_joined()
        return True

    def _try_again(self, one: _Asked, name: str, pause_s: float = _TRY_SOON_S) -> None:
        """Connect to a process that is still to be asked, in a moment."""
        if name in one.sockets:
            one.tries[name] = asyncio.get_running_loop().call_later(pause_s, self._begin_try, one, name, pause_s)

    def _begin_try(self, one: _Asked, name: str, pause_s: float) -> None:
        one.tries[name] = asyncio.get_running_loop().create_task(self._try(one, name, pause_s))

    async def _try(self, one: _Asked, name: str, pause_s: float) -> None:
        """Wait long, as a busy process greets late; where that fails, try again after a longer pause."""
        joined = await self._join(one, name, _GREETING_S)
        del one.tries[name]
        if not joined:
            self._try_again(one, name, min(2 * pause_s, _TRY_EVERY_S))

    def _settle(self, one: _Asked, placement: "Placement") -> None:
        """Ask no process that is not named any more; what it was asked before it still answers."""
        name = placement.integration
        one.pool.load_s = placement.load_s
        one.pool.on_demand = (lambda: self._tell("want", name)) if placement.on_demand else None
        if placement.state == "failed" or not placement.on_demand:
            one.pool.fail_arrival()
        elif placement.state == "unloaded":
            one.pool.load_again()
        for socket in [socket for socket in one.channels if socket not in placement.sockets]:
            one.pool.leave(one.channels.pop(socket))
        for socket in [socket for socket in one.tries if socket not in placement.sockets]:
            one.tries.pop(socket).cancel()

    def _suspecting(self, socket: str) -> Callable[[], None]:
        """Tell the manager of a process that keeps silent, now and then."""

        def suspect() -> None:
            now_s = asyncio.get_running_loop().time()
            if now_s - self._suspected_at_s.get(socket, -_SUSPECT_EVERY_S) >= _SUSPECT_EVERY_S:
                self._suspected_at_s[socket] = now_s
                self._tell("suspect", socket)

        return suspect


def _made(
    bundle: Bundle, pool: WorkerPool, spec: "IntegrationSpec", placement: "Placement", retries: RetryBudget
) -> Version:
    """Make what the prediction path asks of a bundle."""
    row_cap = _row_cap(bundle, placement)
    curve = placement.cost_curve_us or curve_of(bundle.provenance)  # as it is on this machine, else where it was fitted
    costs = CostCurve(curve, most_rows=row_cap)
    platform = "python" if bundle.python else "openvino" if bundle.session.engine == "openvino" else "onnx"
    cache = _cache(spec)
    made = Version(
        bundle.version,
        bundle.features,
        pool,
        row_cap,
        cache,
        costs=costs,
        retries=retries,
        platform=platform,
        integration=placement.integration,
    )
    made.keep_within(_deadline_ns(spec))
    return made


def _deadline_ns(spec: "IntegrationSpec") -> int:
    return spec.fallback.deadline_ms * 1_000_000


def _row_cap(bundle: Bundle, placement: "Placement") -> int:
    """Most rows of a call that several callers share; 1 where they may not share one."""
    shared = placement.shares_batches and bundle.features.fixed_width
    return bundle.session.rows_within(BATCH_ROWS) if shared else 1


def _sentinel(bundle: Bundle, placement: "Placement") -> Sentinel | None:
    """Take a golden record along where calls are shared; a bundle without one is served as it is."""
    most_rows = _row_cap(bundle, placement)
    golden = golden_record(bundle) if most_rows > 1 else None
    return Sentinel(golden.inputs, golden.outputs, most_rows=most_rows) if golden is not None else None


def _priority(spec: "IntegrationSpec") -> Priority:
    """Give the highest priority of requests at the HTTP door."""
    door = spec.doors.options.get("http")
    return Priority[door.priority.upper()] if isinstance(door, HttpDoor) else Priority.INTERACTIVE


def _cache(spec: "IntegrationSpec") -> Cache | None:
    declared = spec.model.cache if spec.model is not None else None
    return None if declared is None else Cache(declared.ttl_s, declared.key_fields)
