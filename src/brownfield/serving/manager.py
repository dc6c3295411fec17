"""What runs behind the gateways of a workspace: model processes, pipelines, readers of lookups, and the reload.

It is forked by the supervisor and started again when it ends; the gateways go on without it meanwhile. SIGHUP reads the
declaration again: a changed bundle is loaded and tried beside the old one, every gateway prepares, and then all swap;
when anything is refused, everything stays as it was and the log says why. SIGTERM ends all that it started.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from brownfield.clock import Clock, SystemClock
from brownfield.errors import BrownfieldError, NotFound, Unavailable
from brownfield.host import pss_mib, read_host
from brownfield.integration import WorkspaceSpec, load_workspace
from brownfield.model import Environments
from brownfield.serving.alive import keep_telling
from brownfield.serving.budget import check_budgets
from brownfield.serving.clerk import Clerk
from brownfield.serving.clock_jumps import ClockJumps
from brownfield.serving.deaths import Deaths
from brownfield.serving.declared import Declared, digest_of, lasting
from brownfield.serving.figures import index_row, manager_lines
from brownfield.serving.first_loads import FirstLoads
from brownfield.serving.fleet import Fleet, Gateway
from brownfield.serving.gateway import PipelineStatus
from brownfield.serving.gateway.pipeline import pipeline_lines
from brownfield.serving.gateway.summing import Figures
from brownfield.serving.handover import answers, end_unused, leave_it, linger_s, models_of, unused, without_room
from brownfield.serving.history import enter_clock, enter_history, enter_move
from brownfield.serving.loading import Loaded, Loader
from brownfield.serving.local import CONTROL, remove_sockets
from brownfield.serving.lookups import Lookups
from brownfield.serving.pipelines import Pipelines
from brownfield.serving.plan import Placement, Plan
from brownfield.serving.previous import earlier_of, with_previous
from brownfield.serving.residence import Residence
from brownfield.serving.tasks import Tasks
from brownfield.serving.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from brownfield.integration import IntegrationSpec

__all__ = ["Manager"]

_log = logging.getLogger(__name__)

_MEASURE_EVERY_S = 5.0
_LOOK_EVERY_S = 0.5
_CLERK_IDLE_S = 2.0
_FAILED_EVERY_S, _REFUSED_EVERY_S = 2.0, 30.0
_GATEWAY_PATIENCE_S = 10.0  # an event loop that was blocked for some seconds is no hung process
_UNHEARD_S = 1.0  # for a call that nobody waits for any more


class Manager:
    """The process behind the gateways.

    Parameters
    ----------
    declared
        The declaration in force.
    run
        Folder of the sockets.
    drain_s
        Longest time in seconds for what is under way when it is ended.
    tell
        Tells the supervisor which declaration and bundles are in force, who unloaded which model by hand, and when all
        is ready.
    alive
        Tells it, without waiting, that the loop turns.
    held
        Who unloaded which model by hand, as the manager before this one told.
    """

    def __init__(  # noqa: PLR0913 (what it is given at its birth)
        self,
        declared: Declared,
        run: Path,
        *,
        drain_s: float,
        tell: "Callable[[Mapping[str, Any]], None]",
        alive: "Callable[[], None]" = lambda: None,
        held: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._spec = self._first_spec = declared.spec
        self._drain_s = drain_s
        self._tell_supervisor = tell
        self._alive = alive
        self._held = dict(held or {})
        self._clock = clock or SystemClock()
        self._var, self._run = declared.spec.folder / "var", run
        self._clerk = Clerk(self._var / "brownfield.db")
        self._jumps, self._figures = ClockJumps(self._clock), Figures()
        self._started = self._failed = False
        self._supervisor = os.getppid()

    def run(self, life: int) -> int:
        """Manage until it is told to end; the exit status.

        Parameters
        ----------
        life
            Descriptor of a pipe that closes when the supervisor has gone.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(self._manage(life))
            logging.shutdown()
            os._exit(status)  # to close it would wait for every thread in which a model is being loaded

    async def _manage(self, life: int) -> int:
        loop = asyncio.get_running_loop()
        Watchdog().watch()
        self._ended = asyncio.Event()
        self._reloads = asyncio.Lock()
        self._publishing = asyncio.Lock()
        self._tasks = Tasks()
        self._pipelines = Pipelines(self._clock)
        self._lookups = Lookups(self._spec, self._clock)
        self._fleet = Fleet(on_here=self._welcome, on_told=self._told, on_asked=self._asked)
        self._deaths = Deaths(lambda news: self._fleet.announce("poison", news))
        self._loader = Loader(
            self._run,
            clerk=self._clerk,
            environments=Environments(self._var / "environments"),
            on_change=self._publish_soon,
            clock=self._clock,
        )
        self._residence = Residence(self._publish, used_mib=self._used_mib, clock=self._clock)
        self._residence.room.cap_mib = self._spec.serving.memory_mib
        self._loading = [Placement(integration=name, state="loading") for name in self._spec.integrations]
        loop.add_reader(life, self._orphaned)
        loop.add_signal_handler(signal.SIGTERM, self._ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)
        remove_sockets(self._run)  # those of models whose manager was killed
        await self._fleet.listen(self._run / CONTROL)
        try:
            self._tasks.begin(keep_telling(self._alive))
            self._tasks.keep_on(self._fleet.keep_listening, _LOOK_EVERY_S)
            self._tasks.keep_on(self._keep_reader, _LOOK_EVERY_S)
            self._tasks.keep_on(self._measure, _MEASURE_EVERY_S)
            self._tasks.keep_on(self._end_hung_gateways, _LOOK_EVERY_S)
            self._tasks.keep_on(self._residence.load_failed, _FAILED_EVERY_S)
            self._tasks.keep_on(self._load_refused, _REFUSED_EVERY_S)
            starting = self._tasks.begin(self._start_or_end())
            await self._ended.wait()
            starting.cancel()
        finally:
            self._fleet.close()
            self._tasks.cancel()
            await self._pipelines.end(self._drain_s)
            await asyncio.to_thread(self._lookups.end)
            await self._end_all()
            await self._end_helper(self._loader.close)
            await self._end_helper(self._clerk.rest)
        return int(self._failed)

    async def _start_or_end(self) -> None:
        """Start; when that goes wrong this process ends, and the supervisor starts another."""
        try:
            await self._start()
        except Exception:  # noqa: BLE001 (it is said, and another process begins anew)
            _log.exception("the start went wrong and is tried again", extra={"event": "BF-SRV-START-FAILED"})
            self._failed = True
            self._ended.set()

    async def _start(self) -> None:
        """Load every model, several at a time; then the workspace is ready."""
        loaded: dict[str, Loaded] = {}
        specs = await self._specs(self._spec)
        first = FirstLoads(specs, has_room=self._residence.room.has, begin=self._residence.begin_first)

        async def load(name: str) -> None:
            who = self._held.get(name)
            loaded[name] = one = await self._loader.load(specs[name], begin=leave_it if who else first.begin)
            self._residence.replace({**models_of(self._residence), name: one})
            if who and one.keeper is not None:
                self._residence.hold(name, who)
            await first.decided(name)
            await self._residence.load_left(name)
            self._loading = [each for each in self._loading if each.integration != name]
            await self._publish()

        await asyncio.gather(*(load(name) for name in specs))
        await self._enter_history("workspace.served")
        await self._pipelines.follow(self._spec, self._drain_s)
        self._started = True
        await asyncio.to_thread(self._residence.measure)
        await self._publish()
        self._tell_in_force()
        self._tell_supervisor({"ready": True})

    async def _load_refused(self) -> None:
        """Try models again that were refused for what the host lacked just then; a reload does not wait for that."""
        held = self._residence.models if self._started else {}
        refused = {name: one.loaded for name, one in held.items() if one.loaded.for_now and not (one.is_up or one.held)}
        specs = await self._specs(self._spec) if refused else {}
        for name in [name for name in refused if name in specs]:
            one = await self._loader.load(specs[name], begin=self._residence.begin_first)
            async with self._reloads:
                now = self._residence.models.get(name)
                if now is None or now.loaded is not refused[name] or now.is_up or now.held:
                    await end_unused({name: one}, {})  # an operator or a reload was quicker
                    continue
                self._residence.replace({**models_of(self._residence), name: one})
            await self._residence.load_left(name)
            await self._publish()
            if not one.reason:
                self._tell_in_force()
                await self._enter_history("workspace.served")

    def _asked_to_reload(self) -> None:
        self._tell_supervisor({"reloading": 1})
        self._tasks.begin(self.reload())

    async def reload(self) -> bool:
        """Read the declaration again and serve it, whole or not at all; whether it is served now."""
        async with self._reloads:
            fresh: dict[str, Loaded] = {}
            before = models_of(self._residence)
            try:
                if not self._started:
                    raise Unavailable("models are still being loaded", next_step="Reload again when it is ready.")
                spec = await asyncio.to_thread(load_workspace, self._spec.folder)
                check_budgets(spec, await asyncio.to_thread(read_host))
                fresh = await self._load_beside(spec, before)
                plan = Plan(declaration=digest_of(spec), started=True, placements=self._residence.preview(fresh))
                await self._fleet.require_all("prepare", plan)
            except (BrownfieldError, OSError) as error:
                await self._fleet.tell_all("abort")
                await self._publish()  # who had prepared already knows the plan that is not to be
                _log.error(
                    "the reload was refused; everything stays as it was",
                    extra={"event": "BF-SRV-RELOAD-REFUSED", "reason": str(error)},
                )
                self._tell_supervisor({"reloading": -1})
                await end_unused(fresh, before)
                return False
            begun, after = lasting(self._first_spec), lasting(spec)
            if changed := [f"serving.{key}" for key, value in after.items() if value != begun[key]]:
                extra = {"event": "BF-SRV-RESTART-NEEDED", "keys": ", ".join(changed)}
                _log.warning("what changed holds after a restart", extra=extra)
            await self._swap(spec, plan, fresh, before)
            return True

    async def _load_beside(self, spec: WorkspaceSpec, before: Mapping[str, Loaded]) -> dict[str, Loaded]:
        """Load what is declared now beside what answers; all of it, or what was begun is ended again."""
        fresh: dict[str, Loaded] = {}

        async def load(name: str) -> None:
            strict = name in spec.integrations
            earlier = earlier_of(specs[name], before)
            begin = self._residence.begin_beside
            fresh[name] = one = await self._loader.load(specs[name], earlier, strict=strict, begin=begin)
            if strict and answers(earlier) and not (one.keep_loaded or answers(one)):
                await self._residence.begin_beside(one)

        specs = await self._specs(spec)
        tried = await asyncio.gather(*(load(name) for name in specs), return_exceptions=True)
        for each in tried:
            if isinstance(each, BaseException):
                await end_unused(fresh, before)
                raise each
        return {name: fresh[name] for name in specs}

    async def _specs(self, spec: WorkspaceSpec) -> "dict[str, IntegrationSpec]":
        """Give all that is to be loaded: every integration, and the bundles before where chains ask for them."""
        return await asyncio.to_thread(with_previous, spec, self._clerk.admitted)

    async def _swap(
        self, spec: WorkspaceSpec, plan: Plan, fresh: dict[str, Loaded], before: Mapping[str, Loaded]
    ) -> None:
        """Let all gateways swap; then what runs beside them follows."""
        loads = [one.loading for one in self._residence.models.values() if one.loading is not None]
        self._spec = spec
        self._residence.room.cap_mib = spec.serving.memory_mib
        self._residence.replace(fresh)
        self._residence.count_beside(*unused(before, fresh))
        await asyncio.gather(*(self._commit(each, plan) for each in self._fleet.gateways))
        self._tell_in_force()
        self._tell_supervisor({"reloading": -1})
        await self._publish()
        await end_unused(without_room(before, fresh), fresh)
        await self._residence.load_kept()
        self._tell_held()
        old_lookups, self._lookups = self._lookups, Lookups(spec, self._clock)
        await asyncio.to_thread(old_lookups.end)
        await self._pipelines.follow(spec, self._drain_s)
        await self._enter_history("workspace.reloaded")
        _log.info("reloaded", extra={"event": "BF-SRV-RELOADED", "integrations": len(fresh)})
        await asyncio.sleep(linger_s(before, fresh))
        await asyncio.gather(*loads)  # a process that is being started is ended after its start
        await end_unused(before, fresh)
        await self._residence.try_again()

    async def _commit(self, gateway: Gateway, plan: Plan) -> None:
        """Have a gateway swap; one that came in the middle of the reload has not prepared yet."""
        if not await self._fleet.tell(gateway, "commit"):
            await self._fleet.tell(gateway, "prepare", plan)
            await self._fleet.tell(gateway, "commit")

    # --- the gateways ---

    def _welcome(self, gateway: Gateway) -> None:
        self._tasks.begin(self._brief(gateway))

    async def _brief(self, gateway: Gateway) -> None:
        """Tell a new gateway what is the case; one that was forked under another declaration reads it again.

        Where it cannot, and the supervisor has what is in force here, it is forked anew: a manager that was killed in
        the middle of a reload leaves gateways that know more than its successor.
        """
        async with self._publishing:
            plan = self._plan()
            if gateway.declaration != plan.declaration:
                prepared = await self._fleet.tell(gateway, "prepare", plan)
                if not prepared and self._spec is self._first_spec:
                    _replace(gateway)  # it is forked with this declaration
                    return
                await self._fleet.tell(gateway, "commit")
            await self._fleet.tell(gateway, "plan", plan)
        for blocked in (await self._fleet.gather("blocked")).values():
            for one in blocked:
                await self._fleet.tell(gateway, "block", one)

    def _plan(self) -> Plan:
        placements = (*self._residence.placements(), *self._loading)
        return Plan(declaration=digest_of(self._spec), started=self._started, placements=placements)

    def _publish_soon(self) -> None:
        self._tasks.begin(self._publish())

    async def _publish(self) -> None:
        """Tell every gateway what is the case now, and wait until they know."""
        async with self._publishing:
            await self._fleet.tell_all("plan", self._plan())

    def _told(self, subject: str, content: Any) -> None:
        if subject == "want":
            self._residence.want(content)
        elif subject == "counted":
            self._residence.count(content)
        elif subject == "poison":
            self._deaths.take(*content)
        elif subject == "suspect":
            for one in self._residence.models.values():
                keeper = one.loaded.keeper
                if keeper is not None and keeper.socket == content:
                    keeper.suspect()

    async def _asked(self, subject: str, content: Any) -> Any:
        match subject:
            case "metrics":
                return await self._metrics()
            case "statistics":
                return await self._statistics()
            case "index":
                without = {name for name, one in self._spec.integrations.items() if one.model is None}
                return [index_row(each) for each in self._plan().placements if each.integration not in without]
            case "pipeline":
                return self._pipelines.status.get(content, PipelineStatus(state="none"))
            case "load" | "unload":
                await self._move(subject, *content)
                return None
        raise NotFound(f"the manager is not asked for {subject}")

    async def _move(self, action: str, name: str, who: str) -> None:
        if any(each.integration == name for each in self._loading):
            raise Unavailable("its bundle is being tried still", next_step="Try again when the workspace is ready.")
        if action == "load":
            await self._residence.load(name)
        else:
            await self._residence.unload(name, who)
        self._tell_held()
        await asyncio.to_thread(enter_move, self._clerk, f"model.{action}ed", name, who)

    # --- figures ---

    async def _metrics(self) -> str:
        told = await self._fleet.gather("metrics")
        own = [*pipeline_lines(self._pipelines.status), *manager_lines(self._residence, self._memory(), len(told))]
        return self._figures.exposition(told, self._fleet.gateways, own)

    async def _statistics(self) -> list[dict[str, Any]]:
        told = self._figures.statistics(await self._fleet.gather("statistics"), self._fleet.gateways)
        for each in told:
            resident = self._residence.models.get(each["name"])
            if resident is not None and resident.is_up and resident.pss_mib:
                each["memory_usage"] = [{"type": "CPU", "id": 0, "byte_size": round(resident.pss_mib * 2**20)}]
        return told

    def _memory(self) -> dict[str, float]:
        """Proportional memory of each kind of process but those of models, in MiB."""
        return {
            "supervisor": pss_mib(self._supervisor),
            "manager": pss_mib(os.getpid()),
            "gateways": sum(pss_mib(each.pid) for each in self._fleet.gateways),
            "zygote": pss_mib(self._loader.zygote_pid) if self._loader.zygote_pid else 0.0,
            "clerk": pss_mib(self._clerk.pid) if self._clerk.pid else 0.0,
        }

    def _used_mib(self) -> float:
        self._residence.measure()
        return self._residence.held_mib + sum(self._memory().values())

    # --- what it keeps going ---

    async def _keep_reader(self) -> None:
        self._lookups.keep_reader()

    async def _measure(self) -> None:
        await asyncio.to_thread(self._residence.measure)
        await self._residence.replace_leaking()
        await self._residence.keep_within()
        await asyncio.to_thread(self._clerk.rest, idle_s=_CLERK_IDLE_S)
        await self._look_at_clock()

    async def _look_at_clock(self) -> None:
        """Tell and enter that somebody set the machine's clock."""
        set_s = self._jumps.look()
        if set_s:
            extra = {"event": "BF-SRV-CLOCK-SET", "seconds": round(set_s)}
            _log.warning("the machine's clock was set: times before and after are not one scale", extra=extra)
            await asyncio.to_thread(enter_clock, self._clerk, set_s)

    async def _end_hung_gateways(self) -> None:
        """End gateways that hang: the supervisor starts them again."""
        for gateway in await self._fleet.silent(_GATEWAY_PATIENCE_S):
            extra = {"event": "BF-SRV-GATEWAY-HUNG", "gateway": gateway.index}
            _log.error("a gateway hangs and is replaced", extra=extra)
            _replace(gateway)

    async def _enter_history(self, action: str) -> None:
        await asyncio.to_thread(enter_history, self._clerk, action, self._spec, models_of(self._residence))
        await asyncio.to_thread(self._clerk.rest)

    def _tell_in_force(self) -> None:
        """Tell the supervisor what it forks gateways with: a message each, for they are datagrams."""
        self._tell_supervisor({"declaration": digest_of(self._spec)})
        for one in models_of(self._residence).values():
            if one.bundle is not None:
                self._tell_supervisor({"bundle": (str(one.bundle.folder), one.bundle.digest)})

    def _tell_held(self) -> None:
        """Tell the supervisor what was unloaded by hand: the next manager leaves it so."""
        self._tell_supervisor({"held": {name: one.held for name, one in self._residence.models.items() if one.held}})

    async def _end_all(self) -> None:
        """End every model's process: at once where the gateways, and so all who asked, have gone.

        Those that are being started are not waited for: they end when this process does.
        """
        held = {name: one for name, one in models_of(self._residence).items() if one.keeper and not one.keeper.starting}
        await end_unused(held, {}, grace_s=None if self._fleet.gateways else _UNHEARD_S)

    async def _end_helper(self, end: "Callable[[], None]") -> None:
        """End a process that others are started or verified by; one that is at it ends when this one does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_UNHEARD_S):
                await asyncio.to_thread(end)

    def _orphaned(self) -> None:
        """End at once: the supervisor has gone; the model processes end when this one does."""
        os._exit(1)


def _replace(gateway: Gateway) -> None:
    """Kill a gateway: the supervisor starts it again."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(gateway.pid, signal.SIGKILL)
