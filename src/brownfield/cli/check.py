"""``brownfield check``."""

import sys
from pathlib import Path

import msgspec
import typer

from brownfield.cli.output import EXIT_DECLARATION, print_json, printable

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check", epilog="Example: brownfield check shop --json")(_check)


def _check(
    folder: Path = typer.Argument(Path(), metavar="DIR", help="The workspace."),
    schema: bool = typer.Option(False, "--schema", help="Print the JSON Schema of the declaration for editors."),
    ddl: str | None = typer.Option(
        None, "--ddl", metavar="INTEGRATION.SOURCE", help="Print the DDL of a change table, for its owner to run."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Lint the workspace, its declarations and contracts; reads everything, changes nothing."""
    if schema:
        from brownfield.integration import declaration_schema

        print_json(declaration_schema())
        return
    if ddl is not None:
        from brownfield.workspace.ddl import owners_ddl

        typer.echo(owners_ddl(folder, ddl), nl=False)
        return
    from brownfield.workspace.check import check

    report = check(folder)
    if as_json:
        print_json(msgspec.json.decode(report.to_json()))
    else:
        for finding in report.findings:
            typer.echo(printable(str(finding)))
        for delivery in report.deliveries:
            typer.echo(printable(str(delivery)))
        verdict = "passes" if report.passed else "has errors"
        counts = f"integrations: {len(report.integrations)}, findings: {len(report.findings)}"
        typer.echo(f"{report.folder}: {verdict} ({counts})")
    sys.exit(0 if report.passed else EXIT_DECLARATION)
