"""``brownfield init``."""

from pathlib import Path
from shlex import quote

import typer

from brownfield.cli.output import print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("init", epilog="Example: brownfield init shop --model model.onnx")(_init)


def _init(
    folder: Path = typer.Argument(..., metavar="DIR", help="Folder that becomes the workspace."),
    model: Path | None = typer.Option(
        None, "--model", metavar="FILE", exists=True, dir_okay=False, help="ONNX model to draft the contract from."
    ),
    name: str | None = typer.Option(None, "--name", help="Name of the integration instead of the folder's."),
    sample: Path | None = typer.Option(
        None, "--sample", metavar="FILE", exists=True, dir_okay=False, help="JSON records for the golden set."
    ),
    deploy: bool = typer.Option(False, "--deploy", help="Write a systemd unit and a Containerfile too."),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Write a starting workspace: a contract and a fallback that serve at once, or one drafted from a model."""
    from brownfield.workspace.init import init_empty, init_from_model

    if model is not None:
        begun = init_from_model(folder, model, name, sample)
    elif sample is not None:
        raise typer.BadParameter("a sample is for the golden records of a model: give --model too")
    else:
        begun = init_empty(folder, name)
    if deploy:
        from brownfield.workspace.deploy import write_deploy_files

        write_deploy_files(folder)
    if as_json:
        print_json(begun)
        return
    for warning in begun.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"Began {folder} with the integration {begun.name}.")
    quoted = quote(str(folder))
    typer.echo(f"Next: brownfield check {quoted} && brownfield serve {quoted}")
