"""DDL that a declaration needs in the legacy database: text for its owner, never run by us."""

from pathlib import Path

from brownfield.errors import DeclarationError
from brownfield.integration import load_workspace

__all__ = ["owners_ddl"]


def owners_ddl(folder: Path, source: str) -> str:
    """Give the DDL of the change table of a declared feed.

    Parameters
    ----------
    folder
        The workspace.
    source
        ``INTEGRATION.SOURCE``.

    Raises
    ------
    DeclarationError
        When the declaration has mistakes, or there is no such feed of changes.
    """
    from brownfield.data.pipeline.bind_changes import declared_ddl  # brings Arrow with it

    workspace = load_workspace(folder)
    name, _, feed = source.partition(".")
    integration = workspace.integrations.get(name)
    if integration is None:
        known = ", ".join(workspace.integrations) or "none"
        raise DeclarationError(path="--ddl", expected=f"INTEGRATION.SOURCE, of {known}", got=repr(source))
    return declared_ddl(integration, feed, workspace.connections)
