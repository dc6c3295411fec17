"""One gateway process: answers requests on the port, asks the workers that the plan names, and knows no store.

It is forked with the declaration in memory, and told by the manager what is loaded. While the manager is being
replaced it goes on with what it knows. It ends when it is told to drain (SIGTERM), or when the supervisor has gone.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from brownfield.clock import Clock, SystemClock
from brownfield.errors import DeclarationError, Unavailable
from brownfield.model.process import local_address
from brownfield.security import Principals, authorize
from brownfield.serving.alive import keep_telling
from brownfield.serving.board import Board
from brownfield.serving.declared import Declared, read_declared
from brownfield.serving.gateway import Dataplane, Door, Handler, HttpLimits, Limits, Origins
from brownfield.serving.gateway.routes import HEALTH
from brownfield.serving.journals import Journals
from brownfield.serving.link import Link
from brownfield.serving.local import CONTROL
from brownfield.serving.lookups import Lookups
from brownfield.serving.plan import Plan
from brownfield.serving.tls import check_certificate, load_certificate
from brownfield.serving.watchdog import Watchdog
from brownfield.wake import DEVICE, WakeBound

if TYPE_CHECKING:
    from brownfield.integration import WorkspaceSpec

__all__ = ["Front", "http_limits"]

_log = logging.getLogger(__name__)

_NOTICE_S = 1.0  # between readiness going false and the listener closing: callers move on by themselves, slow ones too
_LOOK_EVERY_S = 0.5
_COUNT_EVERY_S = 1.0
_AWAKE_S = 1.0  # after the last request
_CONNECT_EVERY_S = 0.2
_LINGER_S = 1.0  # for requests that were opened before the swap
_GC_OBJECTS = 50_000  # more than requests hold while they run: none leaves a cycle, so there is little to look for
_NO_BODY = Limits(body_bytes=0, rows=0)
_HEALTH_LIMITS = HttpLimits(connections=64, idle_s=5.0)
_SWITCH_S = 0.0005  # the thread that writes journals gives way to callers ten times sooner than by default


class _NoPandas:
    """Lets nobody import pandas: where it is installed Arrow would, with its first column; 45 MiB, half a second."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name, name=name)


class Front:
    """One gateway.

    Parameters
    ----------
    index
        Which of the gateways it is, from 0.
    declared
        The declaration in force when it was forked.
    run
        Folder of the sockets.
    host
        Where it listens, as it decides who may come without a token.
    tls
        Context of the listener, or None.
    drain_s
        Longest time in seconds for requests in flight when it is ended.
    alive
        Tells the supervisor, without waiting, that the loop turns.
    """

    def __init__(  # noqa: PLR0913 (what a gateway is given at its birth)
        self,
        index: int,
        declared: Declared,
        run: Path,
        *,
        host: str,
        tls: ssl.SSLContext | None = None,
        drain_s: float = 10.0,
        alive: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self._alive = alive
        self._index = index
        self._declared = declared
        self._host = host
        self._tls = tls
        self._drain_s = drain_s
        self._clock = clock or SystemClock()
        self._run = run
        self._journals = Journals(declared.spec.folder / "var" / "journal", self._clock)
        self._link: Link | None = None
        self._prepared: tuple[Board, Lookups, Principals] | None = None
        self._taking = asyncio.Lock()
        self._counted: dict[str, int] = {}
        self._ending = False

    def run(self, listener: socket.socket, life: int, health: socket.socket | None = None) -> int:
        """Answer on a bound socket until it is told to end; the exit status.

        Parameters
        ----------
        listener
            Bound, not blocking; other gateways answer on it as well.
        life
            Descriptor of a pipe that closes when the supervisor has gone.
        health
            Another one, on which health alone is told; None where that is not declared.
        """
        sys.meta_path.insert(0, _NoPandas())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._serve(listener, life, health))

    async def _serve(self, listener: socket.socket, life: int, health: socket.socket | None) -> int:
        spec = self._declared.spec
        loop = asyncio.get_running_loop()
        self._lookups = Lookups(spec, self._clock)
        self._board = self._draw(self._declared, self._lookups)
        self.handler = Handler(
            Dataplane(self._board.snapshot, self._clock),
            authorize=partial(authorize, principals(spec, self._host, self._clock)),
            origins=origins(spec, self._host),
            limits=request_limits(spec),
            title=spec.name,
            clock=self._clock,
            backstage=_Backstage(self),
        )
        self._health = Handler(
            self.handler.dataplane,
            authorize=self.handler.authorize,
            limits=_NO_BODY,
            clock=self._clock,
            routes=HEALTH,
        )
        self._handlers = (self.handler, self._health)
        for each in self._handlers:
            each.starting = True
        self._ended = asyncio.Event()
        loop.add_reader(life, self._orphaned)
        loop.add_signal_handler(signal.SIGTERM, self._end)
        kept = (
            *(self._keep_linked(), self._journals.keep_flushing(), self._keep_looking(), self._keep_telling()),
            *(self._keep_awake(spec.serving.cpu_wake_us), keep_telling(self._alive)),
        )
        tasks = [loop.create_task(each) for each in kept]
        Watchdog().watch()
        sys.setswitchinterval(_SWITCH_S)
        gc.set_threshold(_GC_OBJECTS)
        health_door = Door(self._health, limits=_HEALTH_LIMITS)
        try:
            if health is not None:
                await health_door.start(health)
            await self.listen(listener)
            if health is not None:
                await health_door.drain(0.0)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(self._lookups.end)
            await asyncio.to_thread(self._journals.close)
        return 0

    async def listen(self, listener: socket.socket) -> None:
        """Answer until the end; what is under way then is answered still."""
        self._door = Door(self.handler, limits=http_limits(self._declared.spec), tls=self._tls)
        await self._door.start(listener)
        await self._ended.wait()
        await self._door.drain(self._drain_s)

    def _draw(self, declared: Declared, lookups: Lookups, earlier: Board | None = None) -> Board:
        return Board(
            declared,
            self._run,
            tell=self._tell,
            record_for=self._journals.record_for,
            enrichment_for=lookups.enrichment,
            earlier=earlier,
        )

    # --- its end ---

    def _end(self) -> None:
        """Drain on the first signal, shorten it on the second."""
        if self._ending:
            self._ended.set()
            if hasattr(self, "_door"):
                self._door.abort()
            return
        self._ending = True
        for each in self._handlers:
            each.draining = True
        extra = {"event": "BF-SRV-DRAINING", "gateway": self._index, "in_flight": self.handler.in_flight}
        _log.info("draining", extra=extra)
        asyncio.get_running_loop().call_later(_NOTICE_S, self._ended.set)

    def _orphaned(self) -> None:
        """End at once: the supervisor has gone, and with it the workers."""
        try:
            self._journals.close()
        finally:
            os._exit(1)

    # --- the manager ---

    async def _keep_linked(self) -> None:
        """Stay connected to the manager, also to the one that takes its place."""
        while True:
            try:
                with local_address(self._run / CONTROL) as address:
                    reader, writer = await asyncio.open_unix_connection(address)
            except OSError:
                await asyncio.sleep(_CONNECT_EVERY_S)
                continue
            self._link = link = Link(reader, writer, on_told=self._told, on_asked=self._asked)
            self._board.want_anew()
            link.tell("here", {"gateway": self._index, "pid": os.getpid(), "declaration": self._declared.digest})
            await link.run()
            self._link = None
            await asyncio.sleep(_CONNECT_EVERY_S)

    def _tell(self, subject: str, content: Any) -> None:
        if self._link is not None:
            self._link.tell(subject, content)

    @property
    def gateways(self) -> int:
        """How many answer on its port."""
        return self._declared.spec.serving.gateways

    async def ask(self, subject: str, content: Any = None, *, timeout_s: float = 10.0) -> Any:
        """Ask the manager; :class:`~brownfield.errors.Unavailable` while there is none."""
        if self._link is None:
            raise Unavailable("the manager is being started again", next_step="Try again in a moment.")
        return await self._link.ask(subject, content, timeout_s=timeout_s)

    def _told(self, subject: str, content: Any) -> None:
        if subject == "poison":
            self._board.learn(*content)

    async def _asked(self, subject: str, content: Any) -> Any:
        match subject:
            case "plan":
                await self._take(msgspec.convert(content, Plan))
            case "prepare":
                await self._prepare(msgspec.convert(content, Plan))
            case "commit":
                await self._commit()
            case "abort":
                await self._abort()
            case "metrics":
                return self.handler.own_metrics(self._journals.lines())
            case "statistics":
                return self.handler.own_statistics()
            case "blocked":
                return self._board.blocked()
            case "block":
                self._board.block(*content)
            case "ping":
                return None
            case _:
                raise Unavailable(f"a gateway is not asked for {subject}")
        return None

    async def _take(self, plan: Plan) -> None:
        async with self._taking:
            if plan.declaration != self._board.declared.digest:
                return  # of a declaration that is about to be prepared
            await self._board.take(plan)
            self._publish(self._board)
            self._board.let_go()
            if self.handler.starting and plan.started:
                for each in self._handlers:
                    each.starting = False
                gc.collect()
                gc.freeze()  # what is loaded stays: looking through it again and again cost pauses of tens of ms
                gc.set_threshold(_GC_OBJECTS)

    def _publish(self, board: Board) -> None:
        for each in self._handlers:
            each.publish(board.snapshot)

    async def _prepare(self, plan: Plan) -> None:
        """Read the declaration again and make all that it takes to serve it, without serving it yet."""
        async with self._taking:
            await self._let_go()
            declared = await asyncio.to_thread(read_declared, self._declared.spec.folder)
            if declared.digest != plan.declaration:
                raise DeclarationError("the declaration changed while it was being reloaded")
            let_in = principals(declared.spec, self._host, self._clock)
            placed = {each.digest for each in plan.placements}
            declared.bundles.update({d: bundle for d, bundle in self._declared.bundles.items() if d in placed})
            lookups = Lookups(declared.spec, self._clock)
            try:
                board = self._draw(declared, lookups, self._board)
                await board.take(plan)
                if self._tls is not None and declared.spec.serving.tls is not None:
                    check_certificate(declared.spec.serving.tls, declared.spec.folder)
            except BaseException:
                await asyncio.to_thread(lookups.end)
                raise
            self._prepared = board, lookups, let_in

    async def _commit(self) -> None:
        async with self._taking:
            if self._prepared is None:
                raise Unavailable("nothing was prepared")
            (board, lookups, let_in), self._prepared = self._prepared, None
            old_lookups, self._lookups = self._lookups, lookups
            self._board, self._declared = board, board.declared
            spec = board.declared.spec
            board.renew_caches()
            for each in self._handlers:
                each.authorize = partial(authorize, let_in)
            self.handler.origins = origins(spec, self._host)
            self.handler.limits = request_limits(spec)
            self._publish(board)
            board.let_go()
            loop = asyncio.get_running_loop()
            loop.call_later(_LINGER_S, lambda: loop.run_in_executor(None, old_lookups.end))
            if self._tls is not None and spec.serving.tls is not None:
                load_certificate(self._tls, spec.serving.tls, spec.folder)

    async def _abort(self) -> None:
        async with self._taking:  # what is being prepared still is let go as well
            await self._let_go()

    async def _let_go(self) -> None:
        """End what was prepared and not committed; a manager that was killed meanwhile leaves it behind."""
        if self._prepared is not None:
            (_, lookups, _), self._prepared = self._prepared, None
            await asyncio.to_thread(lookups.end)

    # --- what it does by itself ---

    async def _keep_looking(self) -> None:
        """Keep the tables of lookups fresh."""
        while True:
            await self._lookups.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _keep_telling(self) -> None:
        """Tell the manager how often models are asked that may be evicted."""
        while True:
            await asyncio.sleep(_COUNT_EVERY_S)
            now = dict(self._board.on_demand())
            asked = {name: max(0, n - self._counted.get(name, n)) for name, n in now.items()}
            self._counted |= now
            if any(asked.values()):
                self._tell("counted", {name: n for name, n in asked.items() if n})

    async def _keep_awake(self, longest_us: int | None) -> None:
        """Bound how long idle CPUs may take to wake, as long as requests come."""
        if longest_us is None:
            return
        try:
            with contextlib.closing(WakeBound(longest_us, DEVICE)) as bound:
                while True:
                    await asyncio.sleep(_LOOK_EVERY_S)
                    if self._clock.monotonic_ns() - self.handler.pressure.began_ns < _AWAKE_S * 1e9:
                        bound.hold()
                    else:
                        bound.release()
        except OSError as error:
            extra = {"event": "BF-SRV-CPU-WAKE", "gateway": self._index, "path": str(DEVICE), "reason": error.strerror}
            _log.warning("how long idle CPUs take to wake cannot be bounded; let this user write there", extra=extra)


class _Backstage:
    """What a handler asks of the manager (:class:`~brownfield.serving.gateway.backstage.Backstage`)."""

    def __init__(self, front: Front) -> None:
        self._front = front

    @property
    def gateways(self) -> int:
        return self._front.gateways

    async def metrics(self) -> str:
        return str(await self._front.ask("metrics"))

    async def statistics(self) -> Sequence[Mapping[str, Any]]:
        return await self._front.ask("statistics")  # type: ignore[no-any-return]  # as it was sent

    async def pipeline(self, integration: str) -> Mapping[str, Any]:
        return await self._front.ask("pipeline", integration)  # type: ignore[no-any-return]  # as it was sent

    async def index(self) -> Sequence[Mapping[str, str]]:
        return await self._front.ask("index")  # type: ignore[no-any-return]  # as it was sent

    async def load(self, integration: str, who: str) -> None:
        await self._front.ask("load", [integration, who], timeout_s=300)

    async def unload(self, integration: str, who: str) -> None:
        await self._front.ask("unload", [integration, who], timeout_s=60)


def principals(spec: "WorkspaceSpec", host: str, clock: Clock) -> Principals:
    """Give those who are let in; refused is a listener that is open to others without a token."""
    return Principals.from_spec(spec.access, folder=spec.folder, host=host, clock=clock)


def origins(spec: "WorkspaceSpec", host: str) -> Origins | None:
    """Say which hosts a request may name; any where a token is asked for, which no foreign page has."""
    return None if spec.access.tokens else Origins([host, *spec.serving.host_names])


def request_limits(spec: "WorkspaceSpec") -> Limits:
    """Give what one request may bring."""
    return Limits(body_bytes=round(spec.serving.max_body_mib * 2**20))


def http_limits(spec: "WorkspaceSpec") -> HttpLimits:
    """Give what one connection may bring."""
    declared = spec.serving.limits
    return HttpLimits(
        connections=declared.connections,
        head_bytes=round(declared.head_kib * 1024),
        target_bytes=round(declared.target_kib * 1024),
        fields=declared.header_fields,
        header_s=declared.header_s,
        body_s=declared.body_s,
        write_s=declared.write_s,
        idle_s=declared.idle_s,
        slowest_bytes_per_s=round(declared.slowest_kib_per_s * 1024),
        kept_bytes=round(spec.serving.kept_mib * 2**20),
    )
