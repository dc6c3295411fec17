"""Declarations into models that can be asked: bundles opened and tried, processes made ready to be kept.

Nothing is served by this module; what it gives is told to the gateways by its caller, or ended again.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.clock import Clock, SystemClock
from brownfield.errors import BrownfieldError, BundleRefused, DeclarationError, Unavailable
from brownfield.host import available_mib
from brownfield.model import Bundle, Environments, reopen_bundle
from brownfield.model.files import marks_of
from brownfield.model.probe import ProbeReport, probe, warm_up
from brownfield.model.process import ModelProcess, Zygote
from brownfield.serving.clerk import Clerk
from brownfield.serving.fallback.base import Fallback
from brownfield.serving.fallback.constant import Constant
from brownfield.serving.fallback.previous_version import PreviousVersion
from brownfield.serving.fallback.table import Table
from brownfield.serving.workers.keeper import Keeper, WorkerState

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec

__all__ = ["BATCH_ROWS", "USUAL_MIB", "LoadGate", "Loaded", "Loader", "build_chain"]

_log = logging.getLogger(__name__)

BATCH_ROWS = 512
USUAL_MIB = 128
"""Memory of a model of which nothing is known yet."""
_LEAST_PATIENCE_S = 10.0
_FOR_NOW = {"probe-timeout", "probe-memory", "probe-crash"}


@dataclass(eq=False)
class Loaded:
    """The model of one integration, with what must be ended when it is served no more.

    Parameters
    ----------
    integration
        Whose it is.
    keeper
        Of the model's process; None without a model.
    fingerprint
        Equal for equal bundles under equal limits: such a process is kept over a reload.
    bundle, probe
        What answers, and how it did when it was tried; None without a model.
    shares_batches
        Whether requests of different callers may share one call.
    keep_loaded
        Whether it is loaded at the start and never evicted.
    deadline_s
        Longest time for an answer.
    threads, memory_mib
        Limits of its process.
    reason
        Why there is no model although one is declared.
    for_now
        Whether that may be what the host lacked just then, so that it is worth another try.
    not_started
        Why its files were refused when its process was last to be started; empty once they are admitted. It is one for
        all that hold the same keeper.
    """

    integration: str
    keeper: Keeper | None = None
    fingerprint: str = ""
    bundle: Bundle | None = None
    probe: ProbeReport | None = None
    shares_batches: bool = False
    keep_loaded: bool = True
    deadline_s: float = 0.0
    threads: int = 1
    memory_mib: int | None = None
    reason: str = ""
    for_now: bool = False
    not_started: list[str] = field(default_factory=list)

    @property
    def need_mib(self) -> float:
        """Memory that its process is expected to take: measured when it was tried, else declared."""
        return self.probe.peak_mib if self.probe is not None else float(self.memory_mib or USUAL_MIB)


class LoadGate:
    """How many models load at a time: as many as there are cores, and fewer while memory is short.

    Parameters
    ----------
    at_once
        Most at a time; the usable cores by default.
    free_mib
        Says how much memory is free now.
    """

    def __init__(self, at_once: int = 0, free_mib: Callable[[], float] = available_mib) -> None:
        self._at_once = at_once or len(os.sched_getaffinity(0))
        self._free_mib = free_mib
        self._taken_mib: list[float] = []
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def enter(self, need_mib: float) -> AsyncIterator[None]:
        """Wait for a turn; one alone always has it, for nothing else would free memory."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(need_mib))
            self._taken_mib.append(need_mib)
        try:
            yield
        finally:
            async with self._changed:
                self._taken_mib.remove(need_mib)
                self._changed.notify_all()

    def _has_room(self, need_mib: float) -> bool:
        if not self._taken_mib:
            return True
        return len(self._taken_mib) < self._at_once and sum(self._taken_mib) + need_mib <= self._free_mib()


class Loader:
    """Opens and tries bundles, and makes the keepers of their processes.

    Parameters
    ----------
    runtime_folder
        Where the sockets of model processes lie; private to this user.
    clerk
        Verifies bundles.
    environments
        Built for bundles that bring a lock; none by default.
    on_change
        Called each time a process has become ready or has gone.
    """

    def __init__(
        self,
        runtime_folder: Path,
        *,
        clerk: Clerk,
        environments: Environments | None = None,
        on_change: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self._runtime_folder = runtime_folder
        self._clerk = clerk
        self._environments = environments
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._gate = LoadGate()
        self._reading = asyncio.Lock()  # the clerk reads one bundle at a time: the others wait without a thread
        self._zygote = Zygote()

    @property
    def zygote_pid(self) -> int:
        """Process that models' processes are forked from; 0 while there is none."""
        return self._zygote.pid

    def close(self) -> None:
        """End what processes are forked from; those themselves are their keepers' to end."""
        self._zygote.close()

    async def load(
        self,
        spec: "IntegrationSpec",
        earlier: Loaded | None = None,
        *,
        strict: bool = False,
        begin: Callable[[Loaded], Awaitable[None]] | None = None,
    ) -> Loaded:
        """Open and try the model of one integration; a process of ``earlier`` that fits is used again.

        Parameters
        ----------
        spec
            The declaration.
        earlier
            What is served under this name now.
        strict
            Raise when the model cannot be loaded; otherwise that is logged and the fallback answers alone.
        begin
            Starts the process of a model that is kept loaded, or leaves that for later; at once by default.

        Raises
        ------
        BrownfieldError
            The model cannot be loaded (when strict).
        """
        loaded = Loaded(spec.name)
        if spec.model is not None:
            refused: BrownfieldError | None = None
            try:
                await self._load_model(loaded, spec, earlier, begin)
            except BrownfieldError as error:
                refused = error
            except Exception as error:  # noqa: BLE001 (whatever one model raises, the others are served)
                refused = Unavailable(f"the model could not be loaded: {type(error).__name__}: {error}")
            if refused is not None:
                if strict:
                    raise refused
                loaded.reason, loaded.for_now = str(refused), _is_for_now(refused)
                _log.error(
                    "the model is not served",
                    extra={"event": "BF-SRV-MODEL-REFUSED", "integration": spec.name, "reason": loaded.reason},
                )
        return loaded

    async def _load_model(
        self,
        loaded: Loaded,
        spec: "IntegrationSpec",
        earlier: Loaded | None,
        begin: Callable[[Loaded], Awaitable[None]] | None,
    ) -> None:
        if spec.model is None or spec.model.path is None:
            raise DeclarationError(
                "there is no registry yet",
                path="model.uri",
                expected="model: {path: bundles/NAME}",
                next_step="Name the bundle's folder.",
            )
        async with self._reading:
            bundle = await asyncio.to_thread(self._open, spec.file(spec.model.path))
        _check_contract(bundle, spec)
        memory_mib = spec.constraints.memory_mib
        threads = max(1, min(bundle.session.threads, int(spec.constraints.cpu_cores)))
        loaded.fingerprint = f"{bundle.digest} {memory_mib} {threads}"
        loaded.bundle, loaded.threads, loaded.memory_mib = bundle, threads, memory_mib
        loaded.keep_loaded = spec.model.keep_loaded
        loaded.deadline_s = spec.fallback.deadline_ms / 1000
        if earlier is not None and _is_same(earlier, loaded) and _is_kept(earlier.keeper):
            loaded.keeper, loaded.probe, loaded.shares_batches = earlier.keeper, earlier.probe, earlier.shares_batches
            loaded.not_started = earlier.not_started
        else:
            keeper = await self._try(loaded, bundle)
            if loaded.keep_loaded and begin is not None:
                await begin(loaded)
            elif loaded.keep_loaded:
                await keeper.begin()

    def _open(self, folder: Path) -> Bundle:
        """Have all of a bundle verified by a process that ends, and read of it what starting it takes."""
        marks = marks_of(folder)  # before: what is changed from here on is verified again before it is started
        return reopen_bundle(folder, self._clerk.check(folder), to_start=True, marks=marks)

    async def _try(self, loaded: Loaded, bundle: Bundle) -> Keeper:
        """Probe a bundle, and make the keeper of its process."""
        program = bundle.program(self._environments)
        async with self._gate.enter(loaded.need_mib):
            await asyncio.to_thread(_check_files, loaded, bundle)
            report = await asyncio.to_thread(
                probe,
                bundle,
                program=program,
                memory_mib=loaded.memory_mib,
                threads=loaded.threads,
                zygote=self._zygote,
                runtime_folder=self._runtime_folder,
            )
        _warn_of_what_was_seen(loaded, report)
        loaded.probe = report
        _warn_of_unproven(loaded, bundle, report)
        shared = loaded.shares_batches = _may_share_batches(bundle, report)

        def start() -> ModelProcess:
            _check_files(loaded, bundle)
            process = ModelProcess.start(
                bundle.folder,
                runtime_folder=self._runtime_folder,
                program=program,
                threads=loaded.threads,
                memory_mib=loaded.memory_mib,
                max_batch_rows=bundle.session.rows_within(BATCH_ROWS) if shared else 1,
                zygote=self._zygote,
                **bundle.session.started_with,
            )
            try:
                _warn_of_threads(loaded, process.hello.pools)
                warm_up(bundle, process)
                _check_files(loaded, bundle)  # what was put in their place since it was checked is not to answer
            except BaseException:
                process.kill()
                raise
            return process

        loaded.keeper = keeper = Keeper(
            start,
            label=f"{loaded.integration} {bundle.version}",
            on_change=self._on_change,
            starts=lambda: self._gate.enter(loaded.need_mib),
            patience_s=max(_LEAST_PATIENCE_S, 10 * report.answer_s),
            clock=self._clock,
        )
        keeper.load_s = report.load_s  # as far as is known: who has less time does not wait for the first start
        return keeper


def _check_files(loaded: Loaded, bundle: Bundle) -> None:
    """Hold a bundle's files to what was verified; its state and the log tell of a change."""
    try:
        bundle.check_files()
    except BundleRefused as error:
        if loaded.not_started != [str(error)]:  # tries of a start that find the same are told once
            loaded.not_started[:] = [str(error)]
            extra = {"event": "BF-SRV-BUNDLE-CHANGED", "integration": loaded.integration, "rule": error.rule}
            _log.error("a model's files are not those that were verified", extra={**extra, "reason": str(error)})
        raise
    loaded.not_started.clear()


def _warn_of_threads(loaded: Loaded, pools: dict[str, int]) -> None:
    """Say that a library was not left with the threads it was told: models then take each other's cores."""
    for pool, threads in pools.items():
        if threads > loaded.threads:
            extra = {"event": "BF-SRV-THREADS", "integration": loaded.integration, "pool": pool, "threads": threads}
            _log.warning("a library of the model would use more threads than are declared", extra=extra)


def _may_share_batches(bundle: Bundle, report: ProbeReport) -> bool:
    """Whether requests of different callers may share a batch: the probe saw that its rows do not feel one another.

    What the graph calls its rows proves nothing, as a mean over them has the same names.
    """
    return bundle.features.batched and report.batch_isolated is True and not bundle.session.alone


def _warn_of_what_was_seen(loaded: Loaded, report: ProbeReport) -> None:
    """Say what trying the model showed, what the host lacks of the sandbox apart."""
    lacking = report.hello.sandbox["warnings"]
    for warning in report.warnings:
        extra = {"event": "BF-SRV-MODEL-TRIED", "integration": loaded.integration, "reason": warning}
        if warning in lacking:
            _log.warning("the model's process is less confined", extra=extra | {"event": "BF-SRV-CONFINED-LESS"})
        else:
            _log.warning("trying the model showed something", extra=extra)


def _warn_of_unproven(loaded: Loaded, bundle: Bundle, report: ProbeReport) -> None:
    """Say that calls are not shared for want of golden records: each caller waits for those before it."""
    if bundle.features.batched and report.hello.batched and report.batch_isolated is None and not bundle.session.alone:
        extra = {"event": "BF-SRV-NOT-SHARED", "integration": loaded.integration}
        _log.warning(
            "callers share no calls: only golden records that differ show that rows are told apart", extra=extra
        )


def _is_for_now(refused: BrownfieldError) -> bool:
    return isinstance(refused, Unavailable) or (isinstance(refused, BundleRefused) and refused.rule in _FOR_NOW)


def _is_same(earlier: Loaded, loaded: Loaded) -> bool:
    """Whether a process of the one will do for the other: it is started anew from its own folder, whenever it ends."""
    folders = {one.bundle.folder for one in (earlier, loaded) if one.bundle is not None}
    return earlier.fingerprint == loaded.fingerprint and len(folders) == 1


def _is_kept(keeper: Keeper | None) -> bool:
    return keeper is not None and keeper.state is not WorkerState.QUARANTINED


def build_chain(spec: "IntegrationSpec") -> tuple[Fallback, ...]:
    """Build the declared fallback chain of one integration, in order.

    Raises
    ------
    DeclarationError
        A table cannot be read, or an answer in it breaks the contract.
    """
    return tuple(_chain(spec))


def _chain(spec: "IntegrationSpec") -> Iterable[Fallback]:
    request, response = spec.contract.schema("request"), spec.contract.schema("response")
    for step in spec.fallback.chain:
        if step.table is not None:
            yield Table.from_csv(spec.file(step.table), request, response)
        elif step.constant is not None:
            yield Constant(step.constant, response)
        else:
            yield PreviousVersion()


def _check_contract(bundle: Bundle, spec: "IntegrationSpec") -> None:
    """Hold a bundle to the contract version that it was made for; a changed text of that is only warned about."""
    bundle.check_contract(spec.contract)
    known = spec.features_request.names
    for feature in bundle.features.inputs:
        if feature.field not in known:
            raise DeclarationError(
                where=str(spec.folder),
                path="enrich",
                expected=f"a field of the request, or one that a lookup adds ({', '.join(known)})",
                got=feature.field,
                next_step="The bundle's features need it: join the lookup that has it.",
            )
    if bundle.contract_digest != spec.contract.digest:
        _log.warning(
            "the contract's text changed since the bundle was made",
            extra={"event": "BF-SRV-CONTRACT-TEXT", "integration": spec.name},
        )
