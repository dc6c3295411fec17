"""``brownfield bundle``."""

from pathlib import Path

import typer

from brownfield.cli.output import print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("bundle", epilog="Example: brownfield bundle shop/integrations/shop/bundles/shop --probe")(_bundle)


def _bundle(
    folder: Path = typer.Argument(..., metavar="BUNDLE", help="Folder of the bundle."),
    probe: bool = typer.Option(False, "--probe", help="Run its golden records in a sandboxed child process."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Verify a bundle: every digest, the graph's structure and, with --probe, its golden records."""
    from brownfield.workspace.bundles import examine_bundle

    result = examine_bundle(folder, probe=probe)
    if as_json:
        print_json(result)
    else:
        typer.echo(str(result))
