"""What people decide about writing back: look at it, approve it as it is declared, or give up what waits."""

from pathlib import Path

from brownfield.data.pipeline import (
    Progress,
    WriteBackPreview,
    approve_write_back,
    discard_write_back,
    preview_write_back,
)
from brownfield.integration import load_workspace
from brownfield.store import open_store
from brownfield.workspace.pull import actor, find_integration

__all__ = ["approve", "discard", "preview"]


def preview(
    workspace: Path, *, integration: str | None = None, progress: Progress | None = None
) -> list[WriteBackPreview]:
    """Say what a run would write back now, to each sink of one integration; nothing is written or kept.

    Raises
    ------
    NotFound
        When there is no such integration.
    SourceUnavailable, SourceChanged, RunPaused, Unavailable
        As :func:`brownfield.data.pipeline.run_pipeline`.
    """
    spec = load_workspace(workspace)
    chosen = find_integration(spec, integration)
    with open_store(workspace / "var" / "brownfield.db") as store:
        output = workspace / "var" / "data" / chosen.name
        return preview_write_back(chosen, spec.connections, store, output, progress)


def approve(workspace: Path, sink: str, digest: str, *, integration: str | None = None) -> None:
    """Let a sink be written as it is declared now; the audit log says who did.

    Parameters
    ----------
    sink, digest
        Name of the write-back, and the digest that its dry run showed, or the first 12 digits of it.

    Raises
    ------
    NotFound
        When there is no such integration.
    DeclarationError
        When there is no such write-back, or it is declared otherwise by now.
    """
    spec = load_workspace(workspace)
    chosen = find_integration(spec, integration)
    with open_store(workspace / "var" / "brownfield.db") as store:
        approve_write_back(chosen, spec.connections, store, sink=sink, digest=digest, actor=actor())


def discard(workspace: Path, sink: str, *, integration: str | None = None) -> int:
    """Give up the rows that wait for a sink, also one that is no longer declared; how many, as in the audit log.

    Raises
    ------
    NotFound
        When there is no such integration, or nothing waits for the sink.
    Unavailable
        When a run is writing.
    """
    chosen = find_integration(load_workspace(workspace), integration)
    with open_store(workspace / "var" / "brownfield.db") as store:
        output = workspace / "var" / "data" / chosen.name
        return discard_write_back(chosen, store, output, sink=sink, actor=actor())
