"""The audit log of a workspace, verified before it is shown."""

from pathlib import Path

from brownfield.errors import NotFound, StoreError
from brownfield.integration import WORKSPACE_FILE
from brownfield.store import AuditEntry, open_store

__all__ = ["audit_log"]

_PAGE = 1000


def audit_log(workspace: Path) -> list[AuditEntry]:
    """Verify the whole chain, then return its entries, oldest first.

    Raises
    ------
    NotFound
        When there is no workspace, or it has no store yet.
    StoreError
        When an entry is not what was written; the message names the first.
    """
    path = workspace / "var" / "brownfield.db"
    if not path.exists():
        if not (workspace / WORKSPACE_FILE).exists():
            begin = "Name the folder of a workspace, or begin one with brownfield init."
            raise NotFound("this is no workspace", where=str(workspace), next_step=begin)
        raise NotFound("this workspace has no store yet", where=str(path), next_step="It begins with the first run.")
    with open_store(path) as store:
        verdict = store.audit.verify()
        if not verdict.sound:
            raise StoreError(
                f"entry {verdict.first_bad} was tampered with: {verdict.problem}",
                where=str(path),
                next_step=f"Trust the first {verdict.entries} entries; compare with a copy kept elsewhere.",
            )
        entries: list[AuditEntry] = []
        while page := store.audit.entries(after=len(entries), limit=_PAGE):
            entries += page
    return entries
