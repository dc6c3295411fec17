"""``brownfield doctor``."""

import sys
from pathlib import Path

import typer

from brownfield.cli.output import EXIT_FINDING, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor", epilog="Example: brownfield doctor shop --backup shop-backup.zip")(_doctor)


def _doctor(
    folder: Path = typer.Argument(Path(), metavar="DIR", help="The workspace."),
    backup: Path | None = typer.Option(None, "--backup", metavar="FILE", help="Write a backup of the workspace."),
    restore: Path | None = typer.Option(None, "--restore", metavar="FILE", help="Put a backup back in place."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Say what this host can do and how the store is; back a workspace up, or restore it."""
    from brownfield.workspace import doctor

    if backup is not None and restore is not None:
        raise typer.BadParameter("either --backup or --restore")
    result: object
    findings = False
    if backup is not None:
        result = doctor.backup(folder, backup)
    elif restore is not None:
        result = doctor.restore(folder, restore)
    else:
        from brownfield.workspace.capabilities import probe_capabilities

        result = examined = doctor.examine(folder, probe_capabilities())
        findings = bool(examined.findings)
    if as_json:
        print_json(result)
    else:
        typer.echo(str(result))
    sys.exit(EXIT_FINDING if findings else 0)
