"""One running workspace: starts it, serves it, reloads it whole or not at all, drains it, ends it.

SIGTERM and SIGINT drain: readiness goes first, requests in flight are finished, the exit status is 0; a second one
shortens that. SIGHUP reads the declaration again: a changed bundle is loaded and tried beside the old one and then
swapped in; when anything is refused, everything stays as it was and the log says why.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from brownfield.clock import Clock, SystemClock
from brownfield.errors import BrownfieldError, DeclarationError
from brownfield.integration import WorkspaceSpec, load_workspace
from brownfield.model import Environments
from brownfield.security import Principals, authorize
from brownfield.serving.gateway import Dataplane, Door, Handler, Limits, Origins, Snapshot, Split
from brownfield.serving.history import enter_history
from brownfield.serving.loading import Loaded, Loader
from brownfield.serving.lookups import Lookups
from brownfield.serving.pipelines import Pipelines
from brownfield.serving.tls import load_certificate, server_context
from brownfield.store import Journal, workspace_lock

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec
    from brownfield.serving.gateway.served import Record
    from brownfield.types import Columns, Decision

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)

_NOTICE_S = 1.0  # between readiness going false and the listener closing: callers move on by themselves, slow ones too
_FLUSH_EVERY_S = 1.0
_LOOK_EVERY_S = 0.5
_SWITCH_S = 0.0005  # the thread that writes journals gives way to callers ten times sooner than by default
_LINGER_S = 1.0  # for requests that were opened before the swap


class Supervisor:
    """One running workspace.

    Parameters
    ----------
    spec
        The workspace as it was read.
    host, port
        Where to listen; as declared by default, port 0 is a free one.
    drain_s
        Longest time in seconds for requests in flight when it is ended.
    on_ready
        Called with the address, such as ``http://127.0.0.1:8080``, once requests are answered.
    """

    def __init__(
        self,
        spec: WorkspaceSpec,
        *,
        host: str | None = None,
        port: int | None = None,
        drain_s: float = 10.0,
        on_ready: Callable[[str], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._spec = spec
        self._host = host or spec.serving.host
        self._port = spec.serving.port if port is None else port
        self._drain_s = drain_s
        self._on_ready = on_ready
        self._clock = clock or SystemClock()
        self._var = spec.folder / "var"
        self._loaded: dict[str, Loaded] = {}
        self._lookups = Lookups(spec, self._clock)
        self._journals = _Journals(self._var / "journal", self._clock)
        self._pipelines = Pipelines(self._clock)
        self._reloads = asyncio.Lock()
        self._ending = False

    def run(self) -> int:
        """Serve until a signal ends it; the exit status.

        Raises
        ------
        DeclarationError
            The listener is open to others and no token is declared, or a fallback chain is not as declared.
        StoreError
            The workspace is being served already.
        """
        principals = self._principals(self._spec)
        self._tls = server_context(self._spec.serving.tls, self._spec.folder)
        loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        with workspace_lock(self._spec.folder), loop as runner:
            return runner.run(self._serve(principals))

    def _principals(self, spec: WorkspaceSpec) -> Principals:
        return Principals.from_spec(spec.access, folder=spec.folder, host=self._host, clock=self._clock)

    def _origins(self, spec: WorkspaceSpec) -> Origins | None:
        """Say which hosts a request may name; any where a token is asked for, which no foreign page has."""
        return None if spec.access.tokens else Origins([self._host, *spec.serving.host_names])

    async def _serve(self, principals: Principals) -> int:
        self._loader = Loader(
            self._var / "run",
            environments=Environments(self._var / "environments"),
            record_for=self._journals.record_for,
            enrichment_for=self._lookups.enrichment,
            clock=self._clock,
        )
        flushing = asyncio.create_task(self._journals.keep_flushing())
        looking = asyncio.create_task(self._keep_looking())
        try:
            await self._load_all()
            self._handler = Handler(
                Dataplane(self._snapshot(), self._clock),
                authorize=partial(authorize, principals),
                origins=self._origins(self._spec),
                limits=_limits(self._spec),
                title=self._spec.name,
                clock=self._clock,
                pipelines=self._pipelines.status,
            )
            await self._listen()
        finally:
            flushing.cancel()
            await self._pipelines.end(self._drain_s)
            looking.cancel()
            await asyncio.to_thread(self._lookups.end)
            await asyncio.gather(*(one.keeper.end() for one in self._loaded.values() if one.keeper))
            await asyncio.to_thread(self._journals.close)
        return 0

    async def _keep_looking(self) -> None:
        """Keep the tables of lookups fresh."""
        while True:
            await self._lookups.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _load_all(self) -> None:
        for spec in self._spec.integrations.values():
            self._loaded[spec.name] = await self._loader.load(spec)
        await self._enter_history("workspace.served")

    async def _enter_history(self, action: str) -> None:
        store = self._var / "brownfield.db"
        await asyncio.to_thread(enter_history, store, action, self._spec, self._loaded, self._clock)

    def _snapshot(self) -> Snapshot:
        return Snapshot({name: one.served for name, one in self._loaded.items()})

    async def _listen(self) -> None:
        listener = _bind(self._host, self._port)
        address, port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        _log.info(
            "serving",
            extra={"event": "BF-SRV-SERVING", "address": address, "port": port, "integrations": len(self._loaded)},
        )
        self._door = Door(self._handler, tls=self._tls)
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        sys.setswitchinterval(_SWITCH_S)
        gc.collect()
        gc.freeze()  # what was loaded stays: looking through it again and again cost pauses of tens of milliseconds
        await self._door.start(listener)
        await self._pipelines.follow(self._spec, self._drain_s)
        self._on_ready(f"{'https' if self._tls else 'http'}://{shown}:{port}")
        await self._ended.wait()
        await self._door.drain(self._drain_s)

    def _end(self) -> None:
        """Drain on the first signal, shorten it on the second."""
        if self._ending:
            self._ended.set()
            self._door.abort()
            return
        self._ending = True
        self._handler.draining = True
        _log.info("draining", extra={"event": "BF-SRV-DRAINING", "in_flight": self._handler.in_flight})
        asyncio.get_running_loop().call_later(_NOTICE_S, self._ended.set)

    def _reload_soon(self) -> None:
        self._reload_task = asyncio.get_running_loop().create_task(self.reload())

    async def reload(self) -> bool:
        """Read the declaration again and serve it, whole or not at all; whether it is served now."""
        async with self._reloads:
            fresh: dict[str, Loaded] = {}
            lookups = self._lookups
            try:
                spec = await asyncio.to_thread(load_workspace, self._spec.folder)
                lookups = Lookups(spec, self._clock)
                principals = self._principals(spec)
                self._loader.enrichment_for = lookups.enrichment
                for one in spec.integrations.values():
                    fresh[one.name] = await self._loader.load(one, self._loaded.get(one.name), strict=True)
                if self._tls is not None and spec.serving.tls is not None:
                    load_certificate(self._tls, spec.serving.tls, spec.folder)
            except (BrownfieldError, OSError) as error:
                _log.error(
                    "the reload was refused; everything stays as it was",
                    extra={"event": "BF-SRV-RELOAD-REFUSED", "reason": str(error)},
                )
                self._loader.enrichment_for = self._lookups.enrichment
                if lookups is not self._lookups:
                    await asyncio.to_thread(lookups.end)
                await self._end_unused(fresh, self._loaded)
                return False
            if _listener(spec) != _listener(self._spec):
                _log.warning("another address takes a restart", extra={"event": "BF-SRV-RESTART-NEEDED"})
            before, self._loaded, self._spec = self._loaded, fresh, spec
            old_lookups, self._lookups = self._lookups, lookups
            self._handler.authorize = partial(authorize, principals)
            self._handler.origins = self._origins(spec)
            self._handler.limits = _limits(spec)
            self._handler.publish(self._snapshot())
            await self._pipelines.follow(spec, self._drain_s)
            await self._enter_history("workspace.reloaded")
            _log.info("reloaded", extra={"event": "BF-SRV-RELOADED", "integrations": len(fresh)})
            await asyncio.sleep(_LINGER_S)
            await asyncio.to_thread(old_lookups.end)
            await self._end_unused(before, fresh)
            return True

    async def _end_unused(self, old: dict[str, Loaded], kept: dict[str, Loaded]) -> None:
        """End the processes of ``old`` that ``kept`` does not use; requests in flight are answered first."""
        used = {id(one.keeper) for one in kept.values()}
        await asyncio.gather(*(one.keeper.end() for one in old.values() if one.keeper and id(one.keeper) not in used))


class _Journals:
    """The journals of every integration, flushed by one task."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._open: dict[tuple[str, str], Journal] = {}

    def record_for(self, spec: "IntegrationSpec") -> "Record":
        """Give the function that keeps the decisions of an integration under its contract."""
        key = (spec.name, spec.contract.digest)
        journal = self._open.get(key)
        if journal is None:
            folder = self._folder / spec.name
            journal = Journal(folder, integration=spec.name, contract=spec.contract, clock=self._clock)
            self._open[key] = journal
        append = journal.append

        def record(decision: "Decision", split: Split, rows: int, columns: "Columns | None") -> None:
            append(decision, split.in_us, rows, columns)

        return record

    async def keep_flushing(self) -> None:
        """Write what was kept, every second."""
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            await asyncio.to_thread(self._each, Journal.flush)

    def close(self) -> None:
        """Write what is left."""
        self._each(Journal.close)

    def _each(self, action: Callable[[Journal], None]) -> None:
        for journal in tuple(self._open.values()):
            action(journal)


def _listener(spec: WorkspaceSpec) -> tuple[str, int, bool]:
    """Give what takes a restart to change."""
    return spec.serving.host, spec.serving.port, spec.serving.tls is not None


def _limits(spec: WorkspaceSpec) -> Limits:
    return Limits(body_bytes=round(spec.serving.max_body_mib * 2**20))


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise DeclarationError(
            where="brownfield.yaml",
            path="serving",
            expected="a free address and port",
            got=f"{host}:{port} ({error.strerror})",
            next_step="Name another port with --port, or end what listens there.",
        ) from error
    listener.setblocking(False)
    return listener
