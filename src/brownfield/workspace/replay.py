"""Refused records of a workspace's feeds, tried again or closed; who did it is in the audit log."""

import getpass
from pathlib import Path

from brownfield.data.pipeline import ReplayReport, discard_quarantined, replay_quarantined
from brownfield.errors import NotFound
from brownfield.integration import IntegrationSpec, WorkspaceSpec, load_workspace
from brownfield.store import open_store

__all__ = ["find_integration", "replay"]


def replay(  # noqa: PLR0913 (what a person may choose)
    workspace: Path,
    source: str,
    *,
    integration: str | None = None,
    code: str | None = None,
    min_age_h: float = 0.0,
    discard: bool = False,
    apply: bool = False,
) -> ReplayReport:
    """Try the refused records of a feed again under the contract of today, or close them; a dry run unless `apply`.

    Parameters
    ----------
    workspace
        Its folder.
    source
        The feed.
    integration
        Needed where the workspace has more than one.
    code
        Only records whose first reason has this rejection code.
    min_age_h
        Only records first seen at least so many hours ago.
    discard
        Close them instead.
    apply
        Do it.

    Raises
    ------
    NotFound
        When there is no such integration, or no store yet.
    """
    spec = load_workspace(workspace)
    chosen = find_integration(spec, integration)
    path = workspace / "var" / "brownfield.db"
    if not path.exists():
        raise NotFound("this workspace has no store yet", where=str(path), next_step="It begins with the first run.")
    with open_store(path) as store:
        if discard:
            return discard_quarantined(
                chosen, store, source=source, code=code, min_age_h=min_age_h, apply=apply, actor=_actor()
            )
        return replay_quarantined(
            chosen,
            spec.connections,
            store,
            workspace / "var" / "data" / chosen.name,
            source=source,
            code=code,
            min_age_h=min_age_h,
            apply=apply,
            actor=_actor(),
        )


def find_integration(workspace: WorkspaceSpec, name: str | None) -> IntegrationSpec:
    """Give the integration of this name, or the only one.

    Raises
    ------
    NotFound
        When there is none of this name, or more than one to choose from.
    """
    names = ", ".join(workspace.integrations)
    if name is None and len(workspace.integrations) == 1:
        return next(iter(workspace.integrations.values()))
    if name is None or name not in workspace.integrations:
        raise NotFound(
            "say which integration" if name is None else f"there is no integration {name}",
            where=str(workspace.folder),
            next_step=f"There are {names}.",
        )
    return workspace.integrations[name]


def _actor() -> str:
    try:
        return f"user:{getpass.getuser()}"
    except (OSError, KeyError):  # no such user in this container
        return "user:unknown"
