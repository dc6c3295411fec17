"""Declarations into what is served: bundles opened and tried, processes started, fallback chains built.

The names of concrete classes meet here and in the supervisor alone. Nothing is served by this module; what it gives is
swapped in as a whole by its caller, or ended again.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.clock import Clock, SystemClock
from brownfield.errors import BrownfieldError, DeclarationError
from brownfield.integration import HttpDoor
from brownfield.model import Bundle, Environments, open_bundle
from brownfield.model.probe import ProbeReport, probe
from brownfield.model.process import ModelProcess
from brownfield.serving.fallback.base import Fallback
from brownfield.serving.fallback.constant import Constant
from brownfield.serving.fallback.table import Table
from brownfield.serving.gateway.cache import Cache
from brownfield.serving.gateway.costs import CostCurve, curve_of
from brownfield.serving.gateway.metrics import Meter
from brownfield.serving.gateway.served import Served, Version
from brownfield.serving.gateway.waiting import Priority
from brownfield.serving.workers.keeper import Keeper, WorkerState
from brownfield.serving.workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from brownfield.integration import IntegrationSpec
    from brownfield.serving.gateway.enrich import Enrichment
    from brownfield.serving.gateway.served import Record

__all__ = ["Loaded", "Loader", "build_chain"]

_log = logging.getLogger(__name__)

_BATCH_ROWS = 32


@dataclass(eq=False)
class Loaded:
    """One integration as it is served, with what must be ended when it is served no more.

    Parameters
    ----------
    served
        For the snapshot.
    keeper
        Of the model's process; None without a model.
    fingerprint
        Equal for equal bundles under equal limits: such a process is kept over a reload.
    bundle, probe
        What answers, and how it did when it was tried; None without a model.
    """

    served: Served
    keeper: Keeper | None = None
    fingerprint: str = ""
    bundle: Bundle | None = None
    probe: ProbeReport | None = None


class Loader:
    """Loads integrations one after another.

    Parameters
    ----------
    runtime_folder
        Where the sockets of model processes lie; private to this user.
    environments
        Built for bundles that bring a lock; none by default.
    record_for
        Gives the function that keeps an integration's decisions, or None.
    enrichment_for
        Gives what lookups add to an integration's requests, or None.
    """

    def __init__(
        self,
        runtime_folder: Path,
        *,
        environments: Environments | None = None,
        record_for: "Callable[[IntegrationSpec], Record | None]" = lambda _: None,
        enrichment_for: "Callable[[IntegrationSpec], Enrichment | None]" = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._runtime_folder = runtime_folder
        self._environments = environments
        self._record_for = record_for
        self.enrichment_for = enrichment_for
        self._clock = clock or SystemClock()
        self._starts = asyncio.Lock()

    async def load(self, spec: "IntegrationSpec", earlier: Loaded | None = None, *, strict: bool = False) -> Loaded:
        """Load one integration; a process of ``earlier`` that fits is used again.

        Parameters
        ----------
        spec
            The declaration.
        earlier
            What is served under this name now.
        strict
            Raise when the model cannot be loaded; otherwise that is logged and the fallback answers alone.

        Raises
        ------
        BrownfieldError
            The fallback chain is not as declared, or (when strict) the model cannot be loaded.
        """
        loaded = Loaded(
            Served(
                name=spec.name,
                contract=spec.contract,
                deadline_ms=spec.fallback.deadline_ms,
                fallbacks=build_chain(spec),
                purpose=spec.purpose or "",
                record=self._record_for(spec),
                enrichment=self.enrichment_for(spec),
                priority=_priority(spec),
                meter=earlier.served.meter if earlier else Meter(),
            )
        )
        if spec.model is not None:
            try:
                await self._load_model(loaded, spec, earlier)
            except BrownfieldError as error:
                if strict:
                    raise
                _log.error(
                    "the model is not served",
                    extra={"event": "BF-SRV-MODEL-REFUSED", "integration": spec.name, "reason": str(error)},
                )
        return loaded

    async def _load_model(self, loaded: Loaded, spec: "IntegrationSpec", earlier: Loaded | None) -> None:
        if spec.model is None or spec.model.path is None:
            raise DeclarationError(
                "there is no registry yet",
                path="model.uri",
                expected="model: {path: bundles/NAME}",
                next_step="Name the bundle's folder.",
            )
        bundle = await asyncio.to_thread(open_bundle, spec.file(spec.model.path))
        _check_contract(bundle, spec)
        memory_mib = spec.constraints.memory_mib
        threads = max(1, min(bundle.session.threads, int(spec.constraints.cpu_cores)))
        loaded.fingerprint = f"{bundle.digest} {memory_mib} {threads}"
        if earlier is not None and earlier.fingerprint == loaded.fingerprint and _is_kept(earlier.keeper):
            loaded.keeper, loaded.served.champion = earlier.keeper, earlier.served.champion
            loaded.bundle, loaded.probe = earlier.bundle, earlier.probe
            if loaded.served.champion is not None:
                loaded.served.champion.cache = _cache(spec)
            return
        program = bundle.program(self._environments)
        report = await asyncio.to_thread(probe, bundle, program=program, memory_mib=memory_mib)
        for warning in report.warnings:
            _log.warning(
                "the model's process is less confined",
                extra={"event": "BF-SRV-CONFINED-LESS", "integration": spec.name, "reason": warning},
            )

        shared = _may_share_batches(bundle, report)

        def start() -> ModelProcess:
            return ModelProcess.start(
                bundle.folder,
                runtime_folder=self._runtime_folder,
                program=program,
                threads=threads,
                memory_mib=memory_mib,
                max_batch_rows=_BATCH_ROWS if shared else 1,
                **bundle.session.started_with,
            )

        pool = WorkerPool()
        row_cap = _BATCH_ROWS if shared and bundle.features.fixed_width else 1
        curve = curve_of(bundle.provenance)
        costs = CostCurve(curve, deadline_ns=spec.fallback.deadline_ms * 1_000_000, most_rows=row_cap)
        version = Version(bundle.version, bundle.features, pool, row_cap, _cache(spec), costs)
        keeper = Keeper(
            start,
            pool,
            label=f"{spec.name} {bundle.version}",
            on_ready=version.worker_joined,
            starts=self._starts,
            clock=self._clock,
        )
        await keeper.begin()
        loaded.keeper, loaded.served.champion = keeper, version
        loaded.bundle, loaded.probe = bundle, report


def _priority(spec: "IntegrationSpec") -> Priority:
    """Give the highest priority of requests at the HTTP door."""
    door = spec.doors.options.get("http")
    return Priority[door.priority.upper()] if isinstance(door, HttpDoor) else Priority.INTERACTIVE


def _cache(spec: "IntegrationSpec") -> Cache | None:
    """Make the declared cache; a new bundle, and a reload, begin with an empty one."""
    declared = spec.model.cache if spec.model is not None else None
    return None if declared is None else Cache(declared.ttl_s, declared.key_fields)


def _may_share_batches(bundle: Bundle, report: ProbeReport) -> bool:
    """Whether requests of different callers may share a batch: it is batched, and neither probe nor fit saw a leak."""
    return bundle.features.batched and report.batch_isolated is not False and not bundle.session.alone


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
            _log.warning(
                "there is no previous version yet", extra={"event": "BF-SRV-NO-PREVIOUS", "integration": spec.name}
            )


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
