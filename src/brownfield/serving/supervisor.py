"""One running workspace: holds the port and the lock, and keeps its gateways and their manager running.

This process does nothing else, so that nothing can end it: it has one thread, reads no request and starts no model. It
forks the gateways and the manager from the declaration in its memory, so a killed one is back in milliseconds, with the
declaration that is in force whatever the files say by then; callers who come meanwhile wait on the port.

SIGTERM and SIGINT drain: readiness goes first, requests in flight are finished, the exit status is 0; a second one
shortens that. SIGHUP goes to the manager, which reloads the declaration whole or not at all; while there is none, or it
loads still, that waits. SIGUSR1 and SIGUSR2, which rotators of logs send, change nothing. A child whose event
loop turns no more is killed, and started again like one that ended.
"""

import contextlib
import ctypes
import gc
import logging
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from brownfield.clock import Clock, SystemClock
from brownfield.endings import how_it_ended
from brownfield.errors import BrownfieldError, DeclarationError
from brownfield.host import read_host
from brownfield.integration import WorkspaceSpec
from brownfield.memory import give_back_freed, give_back_libraries, keep_large_blocks_apart, keep_small_pages
from brownfield.model import reopen_bundle
from brownfield.serving.budget import check_budgets
from brownfield.serving.children import Child
from brownfield.serving.declared import check_folder, check_readable, read_declared
from brownfield.serving.front import Front, principals
from brownfield.serving.listeners import Listeners
from brownfield.serving.local import run_folder
from brownfield.serving.lookups import Lookups
from brownfield.serving.manager import Manager
from brownfield.serving.signals import NotedSignals, forget_signals
from brownfield.serving.tls import load_certificate, server_context
from brownfield.store import workspace_lock

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_GRACE_S = 15.0  # beyond the drain, before what does not end by itself is killed
_LOADING_GRACE_S = 3.0  # for a manager that loads still: nobody asks any more, and a load may take a minute
_PR_SET_NAME = 15


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
        Called with the address, such as ``http://127.0.0.1:8080``, once every model was tried.

    Attributes
    ----------
    front_class
        What a gateway is made of; another one may answer in its own way.
    """

    front_class: type[Front] = Front

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
        self._host = spec.serving.host if host is None else host
        self._port = spec.serving.port if port is None else port
        self._drain_s = drain_s
        self._on_ready = on_ready
        self._clock = clock or SystemClock()
        self._signals: list[int] = []
        self._held: dict[str, str] = {}
        self._reload_asked_of: int | None = None  # the manager that has not taken it yet, if there is one
        self._look_at_s = 0.0

    def run(self) -> int:
        """Serve until a signal ends it; the exit status.

        Raises
        ------
        DeclarationError
            The folder's path is no text, the listener is open to others and no token is declared, a fallback chain is
            not as declared, a bundle may not be read, the models do not fit this machine, or the port is taken.
        StoreError
            The workspace is being served already.
        """
        spec = self._spec
        check_folder(spec.folder)
        if not self._host:  # the kernel would take it for every address
            raise DeclarationError(where="--host", expected="an address or a name", got="nothing")
        principals(spec, self._host, self._clock)
        self._tls = server_context(spec.serving.tls, spec.folder)
        check_budgets(spec, read_host())
        self._declared = read_declared(spec)
        check_readable(spec)
        self._try_lookups()
        with workspace_lock(spec.folder), contextlib.ExitStack() as held:
            self._listeners = held.enter_context(Listeners(self._host, self._port, spec.serving.health_port))
            self._run = held.enter_context(run_folder(spec.folder))
            return self._supervise()

    def _try_lookups(self) -> None:
        """Refuse lookups that no gateway could make."""
        lookups = Lookups(self._spec, self._clock)
        try:
            for spec in self._spec.integrations.values():
                lookups.enrichment(spec)
        finally:
            lookups.end()

    # --- its children ---

    def _supervise(self) -> int:
        self._life, self._lives = os.pipe()  # closes with this process: its children watch the other end
        self._ears, self._mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ears.setblocking(False)
        gateways = [
            Child(f"bf-gateway-{index}", lambda index=index: self._gateway(index))  # type: ignore[misc]  # bound now
            for index in range(self._spec.serving.gateways)
        ]
        self._manager = Child("bf-manager", self._manage)
        self._children = [*gateways, self._manager]
        self._ending_s, self._told = 0.0, False
        _log.info("listening", extra={"event": "BF-SRV-LISTENING", "address": self._url()})
        gc.collect()
        give_back_freed()
        gc.freeze()  # pages that the collector does not write are shared with every child
        with NotedSignals(self._signals) as woken:
            try:
                while self._children:
                    self._start_due()
                    self._wait(woken)
                    self._handle_signals()
                    self._reap()
                    self._end_hung()
                    self._end_by_and_by()
            finally:
                self._kill_all()
                os.close(self._life)
                os.close(self._lives)
                self._ears.close()
                self._mouth.close()
        return 0

    def _gateway(self, index: int) -> int:
        keep_small_pages()
        keep_large_blocks_apart()
        front = self.front_class(
            index,
            self._declared,
            self._run,
            host=self._host,
            tls=self._tls,
            drain_s=self._drain_s,
            alive=self._tell_alive,
            clock=self._clock,
        )
        return front.run(self._listeners.door, self._life, self._listeners.health)

    def _manage(self) -> int:
        self._listeners.close()
        manager = Manager(
            self._declared,
            self._run,
            drain_s=self._drain_s,
            tell=self._tell_from_manager,
            alive=self._tell_alive,
            held=self._held,
            clock=self._clock,
        )
        return manager.run(self._life)

    def _tell_from_manager(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._mouth.send(msgspec.json.encode(message))

    def _tell_alive(self) -> None:
        with contextlib.suppress(OSError):  # also where the supervisor is late: the next one will do
            self._mouth.send(msgspec.json.encode({"alive": os.getpid()}), socket.MSG_DONTWAIT)

    def _start_due(self) -> None:
        """Fork what does not run and may be started."""
        if self._ending_s:
            return
        for child in self._children:
            if not child.pid and time.monotonic() >= child.start_at_s:
                self._start(child)

    def _start(self, child: Child) -> None:
        """Fork a child; where the system has no room for a process, it is tried again later."""
        child.begin()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # none is lost on the way
        try:
            child.pid = os.fork()
        except OSError as error:
            child.put_off()
            extra = {"event": "BF-SRV-CHILD-NOT-STARTED", "child": child.name, "reason": error.strerror}
            _log.error("a process of the workspace could not be started and is tried again", extra=extra)
        else:
            if not child.pid:
                self._become(child)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _become(self, child: Child) -> NoReturn:
        """Be a child from now on, whatever happens."""
        status = 1
        try:
            os.close(self._lives)
            self._ears.close()
            forget_signals()
            ctypes.CDLL(None).prctl(_PR_SET_NAME, child.name.encode(), 0, 0, 0)
            status = child.main()
        except BaseException:  # noqa: BLE001 (a child never returns into the supervisor's own code)
            _log.exception(
                "a process of the workspace failed", extra={"event": "BF-SRV-CHILD-FAILED", "child": child.name}
            )
        finally:
            logging.shutdown()
            os._exit(status)

    def _reap(self) -> None:
        """Take note of what has ended, and say when it is started again."""
        for child in [each for each in self._children if each.pid]:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            self._hear_all()  # its last words, which none of its successors said
            child.pid = 0
            if self._ending_s:
                self._children.remove(child)
                continue
            self._listeners.begin_again()
            child.put_off()
            code = os.waitstatus_to_exitcode(status)
            extra = {"event": "BF-SRV-CHILD-ENDED", "child": child.name, "ended": how_it_ended(code)}
            _log.error("a process of the workspace ended and is started again", extra=extra)
            if child.reloads > 0:  # and is not made by the next, whom it may end as well
                _log.error("a reload was not made: ask for it once more", extra={"event": "BF-SRV-RELOAD-LOST"})
            if child is self._manager and self._reload_asked_of == pid:
                self._ask_for_reload()

    def _end_hung(self) -> None:
        """Kill a child whose loop turns no more; its end is taken note of as any other."""
        now_s = time.monotonic()
        if self._ending_s or now_s < self._look_at_s:
            return
        self._look_at_s = now_s + _LOOK_EVERY_S
        for child in self._children:
            if child.hangs():
                extra = {"event": "BF-SRV-CHILD-HUNG", "child": child.name}
                _log.error("a process of the workspace hangs and is replaced", extra=extra)
                child.send(signal.SIGKILL)

    def _wait(self, woken: int) -> None:
        """Wait for a signal, for the manager, or until something may be started or must be ended."""
        due_s = [self._look_at_s, *(child.start_at_s for child in self._children if not child.pid)]
        if self._ending_s:
            due_s = [self._ending_s]
        left_s = max(0.0, min(due_s) - time.monotonic())
        heard: list[Any] = [woken, self._ears]
        readable, _, _ = select.select(heard, [], [], left_s)
        if woken in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
        if self._ears in readable:
            self._hear_all()

    def _hear_all(self) -> None:
        """Hear what was told so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._hear(msgspec.json.decode(self._ears.recv(2**20)))

    def _hear(self, message: Mapping[str, Any]) -> None:
        """Take over what is in force: what is forked from now on begins with it."""
        for child in self._children:
            if child.pid == message.get("alive", -1):
                child.hear()
        self._held = message.get("held", self._held)
        self._manager.reloads += message.get("reloading", 0)
        if message.get("reloading", 0) > 0:
            self._reload_asked_of = None
        try:
            if message.get("declaration", self._declared.digest) != self._declared.digest:
                self._take_over(message["declaration"])
            if "bundle" in message:
                folder, digest = message["bundle"]
                self._declared.bundles[digest] = reopen_bundle(Path(folder), digest)
        except (BrownfieldError, OSError) as error:
            extra = {"event": "BF-SRV-NOT-TAKEN-OVER", "reason": str(error)}
            _log.error("the supervisor could not read again what is in force", extra=extra)
        if message.get("ready"):
            self._manager.ready = True
            self._say_ready()
            if self._reload_asked_of not in (None, self._manager.pid):
                self._ask_for_reload()

    def _take_over(self, digest: str) -> None:
        """Read the declaration again; one that was edited since the reload is left, and so is the one in memory."""
        fresh = read_declared(self._spec.folder)
        if fresh.digest != digest:
            raise DeclarationError("the declaration was edited since it was reloaded")
        self._declared = fresh
        if self._tls is not None and fresh.spec.serving.tls is not None:
            load_certificate(self._tls, fresh.spec.serving.tls, fresh.spec.folder)

    def _say_ready(self) -> None:
        count = len(self._declared.spec.integrations)
        address, port = self._listeners.address
        extra = {"event": "BF-SRV-SERVING", "address": address, "port": port, "integrations": count}
        _log.info("serving", extra=extra)
        on_ready, self._on_ready = self._on_ready, lambda _: None
        on_ready(self._url())
        give_back_libraries()  # loading them took their pages, and waiting takes few of them

    # --- its end ---

    def _handle_signals(self) -> None:
        while self._signals:  # one at a time: another may come at any moment
            number = self._signals.pop(0)
            if number == signal.SIGHUP:
                self._ask_for_reload()
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._end()

    def _ask_for_reload(self) -> None:
        """Have the manager reload, once it is ready; where it does not take that, for it ends, the next one does."""
        if self._ending_s:
            return
        hears = bool(self._manager.pid) and self._manager.ready
        self._reload_asked_of = self._manager.pid if hears else 0
        if hears:
            self._manager.send(signal.SIGHUP)
        else:
            _log.warning("a reload waits until the manager is ready", extra={"event": "BF-SRV-RELOAD-WAITS"})

    def _end(self) -> None:
        """Drain on the first signal, shorten it on the second: gateways first, then what they need."""
        self._left_s = 0.0 if self._ending_s else self._drain_s
        self._ending_s = min(self._ending_s or math.inf, time.monotonic() + self._left_s + _GRACE_S)
        self._listeners.close()  # the gateways hold them as long as they accept
        self._children = [each for each in self._children if each.pid]
        for child in self._children:
            if child is not self._manager:
                child.send(signal.SIGTERM)

    def _end_by_and_by(self) -> None:
        if not self._ending_s:
            return
        if self._children == [self._manager] and not self._told:
            self._told = True
            self._manager.send(signal.SIGTERM)
            grace_s = self._left_s + _GRACE_S if self._manager.ready else _LOADING_GRACE_S
            self._ending_s = time.monotonic() + grace_s
        if time.monotonic() >= self._ending_s:
            self._kill_all()

    def _kill_all(self) -> None:
        for child in self._children:
            child.send(signal.SIGKILL)
        for child in self._children:
            if child.pid:
                os.waitpid(child.pid, 0)
                child.pid = 0
        self._children = []

    def _url(self) -> str:
        address, port = self._listeners.address
        shown = f"[{address}]" if ":" in address else address
        return f"{'https' if self._tls else 'http'}://{shown}:{port}"
