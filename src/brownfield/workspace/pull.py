"""What is new in a workspace's silos, brought into its tables by hand."""

import getpass
from collections.abc import Collection
from pathlib import Path

from brownfield.data.pipeline import Guard, PipelineReport, Progress, custody_of, run_pipeline
from brownfield.errors import NotFound, there_are
from brownfield.integration import IntegrationSpec, WorkspaceSpec, load_workspace
from brownfield.store import open_store

__all__ = ["actor", "find_integration", "pull"]

_LOCK_WAIT_S = 10.0
"""A served workspace may be in the middle of a run of its own."""


def pull(
    workspace: Path,
    *,
    integration: str | None = None,
    rebuild: bool = False,
    accept: Collection[Guard] = (),
    progress: Progress | None = None,
) -> PipelineReport:
    """Read what is new in the silos of one integration and add it to its tables in ``var/data``.

    Parameters
    ----------
    workspace
        Its folder.
    integration
        Needed where the workspace has more than one.
    rebuild, accept, progress
        As :func:`brownfield.data.pipeline.run_pipeline` takes them.

    Raises
    ------
    NotFound
        When there is no such integration.
    """
    spec = load_workspace(workspace)
    chosen = find_integration(spec, integration)
    with open_store(workspace / "var" / "brownfield.db") as store:
        return run_pipeline(
            chosen,
            spec.connections,
            store,
            workspace / "var" / "data" / chosen.name,
            progress,
            rebuild=rebuild,
            accept=accept,
            actor=actor(),
            custody=custody_of(spec),
            lock_wait_s=_LOCK_WAIT_S,
        )


def find_integration(workspace: WorkspaceSpec, name: str | None) -> IntegrationSpec:
    """Give the integration of this name, or the only one.

    Raises
    ------
    NotFound
        When there is none of this name, or more than one to choose from.
    """
    if name is None and len(workspace.integrations) == 1:
        return next(iter(workspace.integrations.values()))
    if name is None or name not in workspace.integrations:
        raise NotFound(
            "say which integration" if name is None else f"there is no integration {name}",
            where=str(workspace.folder),
            next_step=there_are(workspace.integrations),
        )
    return workspace.integrations[name]


def actor() -> str:
    """Name the person at the keyboard, for the audit log."""
    try:
        return f"user:{getpass.getuser()}"
    except (OSError, KeyError):  # no such user in this container
        return "user:unknown"
