"""``brownfield audit``."""

from pathlib import Path

import typer

from brownfield.cli.output import print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("audit", epilog="Example: brownfield audit shop --json")(_audit)


def _audit(
    folder: Path = typer.Argument(Path(), metavar="DIR", help="The workspace."),
    as_json: bool = typer.Option(False, "--json", help="Print the entries as JSON."),
) -> None:
    """Verify the hash chain of the audit log and list what was changed, when and by whom."""
    from brownfield.workspace.audit import audit_log

    entries = audit_log(folder)
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        typer.echo(f"{entry.at_utc}  {entry.actor}  {entry.action}  {entry.subject}")
    typer.echo(f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}, chain verified")
