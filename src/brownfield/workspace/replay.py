"""Refused records of a workspace's feeds, tried again or closed; who did it is in the audit log."""

from pathlib import Path

from brownfield.data.pipeline import ReplayReport, discard_quarantined, replay_quarantined
from brownfield.errors import NotFound
from brownfield.integration import load_workspace
from brownfield.store import open_store
from brownfield.workspace.pull import actor, find_integration

__all__ = ["replay"]


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
        Only records of which any reason has this rejection code.
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
                chosen, store, source=source, code=code, min_age_h=min_age_h, apply=apply, actor=actor()
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
            actor=actor(),
        )
