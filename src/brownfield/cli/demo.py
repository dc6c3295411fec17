"""``brownfield demo``."""

from pathlib import Path

import typer

from brownfield.cli.output import print_json, progress

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo", epilog="Example: brownfield demo var/demo --keep")(_demo)


def _demo(
    folder: Path = typer.Argument(Path("var/demo"), metavar="DIR", help="Folder that becomes the workspace."),
    keep: bool = typer.Option(False, "--keep", help="Go on serving afterwards, until interrupted."),
    port: int = typer.Option(8080, "--port", min=0, max=65535, help="Port on loopback."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Carry a recommender into an old grocery system, kill it in mid-traffic, and show what happened."""
    from brownfield.workspace.demo import run_demo

    with progress(quiet=False) as show:
        summary = run_demo(folder, port=port, progress=show)
    if as_json:
        print_json(summary)
    else:
        from brownfield.cli.demo_summary import print_summary

        print_summary(summary, folder)
    if keep:
        from brownfield.cli.serve import serve

        serve(folder, host=None, port=port)
