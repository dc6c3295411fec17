"""One run: every source is read on from where it was left, checked, and its rows added to the declared tables.

A feed goes on from its committed position; a lookup is pulled whole and replaces what was known of it. Counts,
quarantine, positions and the list of the tables' files commit in one transaction: a run that fails, or is killed
anywhere, leaves all as it was, and the next one does the work once.
"""

from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.clock import Clock, SystemClock
from brownfield.data.pipeline.begun import begin, settle_all
from brownfield.data.pipeline.custody import Custody
from brownfield.data.pipeline.delivery import check_nothing_waits, deliver, full_backlogs, merged
from brownfield.data.pipeline.guards import Guard
from brownfield.data.pipeline.parts import one_run
from brownfield.data.pipeline.plan import reading_order
from brownfield.data.pipeline.report import PipelineReport
from brownfield.data.pipeline.running import Progress, Run, silent
from brownfield.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from brownfield.integration import ConnectionSpec, IntegrationSpec
    from brownfield.store import Store

__all__ = ["run_pipeline"]


def run_pipeline(  # noqa: PLR0913 (what a run is made of)
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    output: Path,
    progress: Progress | None = None,
    *,
    rebuild: bool = False,
    accept: Collection[Guard] = (),
    actor: str = "local",
    patient: bool = False,
    lock_wait_s: float = 0.0,
    clock: Clock | None = None,
    custody: Custody | None = None,
) -> PipelineReport:
    """Bring what is new in the silos of one integration into its tables.

    Parameters
    ----------
    integration
        The integration, in ``integrations/<name>`` of its workspace.
    connections
        Of the workspace.
    store
        Takes counts, quarantine, positions and the list of the tables' files.
    output
        Folder of the tables, such as ``var/data/<integration>``; each is a folder of Parquet files of its name.
    progress
        Told after every batch.
    rebuild
        Read every feed from its beginning and make the tables anew; what a feed no longer holds is then lost.
    accept
        Guards that a person lets pass in this run: ``refused``, ``shape``, ``volume``; what they found is audited.
    actor
        Who runs it, for the audit log.
    patient
        Leave a sink that failed alone for a while; without it every sink is tried.
    lock_wait_s
        How long to wait for another process that is writing these tables.
    clock
        The system's unless given.
    custody
        How refused records are kept; without it those with classified fields lose their bytes.

    Raises
    ------
    SourceUnavailable
        When a source cannot be read, unless its tolerance is ``all``.
    SourceChanged
        When fields of a source are other than in the run before.
    RunPaused
        When a source has fewer records, or more refused or waiting ones, than is declared.
    QuarantineFull
        When the refused records do not fit.
    DeclarationError
        When the declaration does not fit what is there, or the tables as they were begun.
    InputRefused
        When a source as a whole breaks its contract (row counts).
    Unavailable
        When another process is writing these tables.
    """
    clock = clock or SystemClock()
    started = clock.monotonic_ns()
    order = reading_order(integration)
    with one_run(output, lock_wait_s):
        if not rebuild:
            settle_all(output, store.parts.listed(integration.name))
        earlier = deliver(integration, connections, store, output, clock=clock, patient=patient)
        paused = full_backlogs(integration, store)
        if rebuild:
            check_nothing_waits(integration, store)
        begun = begin(integration, store, "pipeline")
        try:
            with ExitStack() as writers:
                run = Run(
                    integration,
                    store,
                    output,
                    begun=begun,
                    rebuild=rebuild,
                    accept=accept,
                    clock=clock,
                    writers=writers,
                    keeps_copies=True,
                    custody=custody,
                )
                _read_all(run, order, connections, paused, progress or silent)
                run.commit(actor)
        except BaseException:
            with suppress(StoreError):  # what went wrong first is what is told
                store.ledger.finish_run(begun.run_id, "failed")
            raise
        run.publish()
        delivered = deliver(integration, connections, store, output, clock=clock, patient=True)
        run.compact()
    return PipelineReport(
        run_id=begun.run_id,
        integration=integration.name,
        contract=integration.contract.reference,
        sources={name: run.sources[name].report() for name in order},
        tables={name: table.report() for name, table in run.tables.items()},
        expired=run.expired,
        write_back=merged(earlier, delivered),
        seconds=(clock.monotonic_ns() - started) / 1e9,
    )


def _read_all(
    run: Run,
    order: "Sequence[str]",
    connections: "Mapping[str, ConnectionSpec]",
    paused: "Mapping[str, str]",
    progress: Progress,
) -> None:
    for name in order:
        if name in paused:
            run.pause(name, paused[name])
        else:
            run.read(name, run.binding(name, connections), progress)
