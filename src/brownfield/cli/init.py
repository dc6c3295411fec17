"""``brownfield init``."""

from pathlib import Path

import typer

from brownfield.cli.output import print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("init", epilog="Example: brownfield init shop --model model.onnx")(_init)


def _init(
    folder: Path = typer.Argument(..., metavar="DIR", help="Folder that becomes the workspace."),
    model: Path | None = typer.Option(None, "--model", metavar="FILE", help="ONNX model to draft the contract from."),
    name: str | None = typer.Option(None, "--name", help="Name of the integration instead of the folder's."),
    sample: Path | None = typer.Option(None, "--sample", metavar="FILE", help="JSON records for the golden set."),
    deploy: bool = typer.Option(False, "--deploy", help="Write a systemd unit and a Containerfile too."),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Write a starting workspace: a contract and a fallback that serve at once, or one drafted from a model."""
    from brownfield.workspace.init import init

    result = init(folder, model=model, name=name, sample=sample, deploy=deploy)
    if as_json:
        print_json(result)
        return
    for written in result.written:
        typer.echo(f"wrote {written}")
    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"Next: brownfield check {folder} && brownfield serve {folder}")
