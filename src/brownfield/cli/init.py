"""``brownfield init``."""

from pathlib import Path
from shlex import quote

import typer

from brownfield.cli.output import print_json

__all__ = ["register"]

_WORKSPACE_FILE = "brownfield.yaml"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("init", epilog="Example: brownfield init shop --model model.onnx")(_init)


def _init(  # noqa: PLR0913, PLR0917 (one argument for each option)
    folder: Path = typer.Argument(..., metavar="DIR", help="Folder that becomes the workspace."),
    model: str | None = typer.Option(
        None, "--model", metavar="FILE", help="Model to draft the contract from: an ONNX file, or MODULE.py:CLASS."
    ),
    weights: Path | None = typer.Option(
        None, "--weights", metavar="FILE", exists=True, dir_okay=False, help="Weights of a PyTorch module, FILE.py."
    ),
    file: list[Path] = typer.Option([], "--file", metavar="FILE", help="File that the class loads; repeatable."),
    lock: Path | None = typer.Option(
        None, "--lock", metavar="FILE", help="Requirements with hashes: the environment that the model runs in."
    ),
    wheels: Path | None = typer.Option(
        None, "--wheels", metavar="DIR", file_okay=False, exists=True, help="Build it from these wheels alone."
    ),
    online: bool = typer.Option(False, "--online", help="Build it from the package index."),
    name: str | None = typer.Option(None, "--name", help="Name of the integration instead of the folder's."),
    sample: Path | None = typer.Option(
        None, "--sample", metavar="FILE", exists=True, dir_okay=False, help="JSON records for the golden set."
    ),
    origin: list[str] = typer.Option(
        [], "--from", metavar="CONNECTION", help="Draft an integration of what lies behind this connection; repeatable."
    ),
    layout: list[Path] = typer.Option(
        [], "--layout", metavar="FILE", exists=True, dir_okay=False, help="Copybook of files behind --from; repeatable."
    ),
    accept: bool = typer.Option(False, "--accept", help="Approve the mapping files of --name, which you have read."),
    deploy: bool = typer.Option(
        False, "--deploy", help="Write a systemd unit and a Containerfile; alone where DIR is a workspace."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Write a starting workspace: a contract and a fallback that serve at once, or one drafted from a model."""
    from brownfield.workspace.init import init_empty, init_from_model

    if layout and not origin:
        raise typer.BadParameter("a layout is of files behind a connection: give --from too")
    _check_beside(model, alone=[sample, *file, weights, lock], weights=weights, built=lock, build=wheels or online)
    if origin or accept:
        _from_silos(folder, origin, name, layout, accept=accept, as_json=as_json)
        return
    if deploy and model is None and sample is None and name is None and (folder / _WORKSPACE_FILE).is_file():
        _deploy(folder, as_json=as_json)
        return
    if model is not None:
        from brownfield.workspace.brought import read_brought

        brought = read_brought(model, file, lock)
        begun = init_from_model(folder, brought, name, sample, wheels=wheels, online=online, weights=weights)
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


def _check_beside(
    model: str | None, *, alone: list[Path | None], weights: Path | None, built: Path | None, build: object
) -> None:
    """Refuse what would not be looked at: options whose model, lock or module is not there."""
    if model is None and any(each is not None for each in alone):
        raise typer.BadParameter("a sample, files, weights and a lock belong to a model: give --model too")
    if weights is not None and not str(model).endswith(".py"):
        raise typer.BadParameter("weights belong to a PyTorch module, --model FILE.py; what a class loads is a --file")
    if build and built is None:
        raise typer.BadParameter("wheels and the package index are for the packages of a lock: give --lock too")


def _deploy(folder: Path, *, as_json: bool) -> None:
    """Write the deployment files of a workspace that is there."""
    from brownfield.workspace.deploy import write_deploy_files

    written = write_deploy_files(folder)
    if as_json:
        print_json({"written": written})
    else:
        typer.echo(f"Wrote {', '.join(map(str, written))}.")


def _from_silos(
    folder: Path, origin: list[str], name: str | None, layouts: list[Path], *, accept: bool, as_json: bool
) -> None:
    """Draft an integration from what is there, or approve its mapping files."""
    from brownfield.workspace.discover import accept_mappings, discover

    if name is None or (origin and accept):
        raise typer.BadParameter("name the integration with --name, and read what --from wrote before --accept")
    if accept:
        accepted = accept_mappings(folder, name)
        if as_json:
            print_json({"accepted": accepted})
        else:
            typer.echo(f"Approved {', '.join(accepted) or 'nothing: every mapping file was approved already'}.")
        return
    found = discover(folder, origin, name, layouts=layouts)
    if as_json:
        print_json(found.to_dict())
        return
    for problem in found.problems:
        typer.echo(f"warning: {problem}", err=True)
    for source, profiles in found.sources.items():
        typer.echo(f"{source}: {len(profiles)} columns, {profiles[0].rows if profiles else 0:,} rows looked at")
    for column, values in found.suspects.items():
        typer.echo(f"{column}: {', '.join(map(repr, values))} may stand for a missing value")
    for join in found.joins[:5]:
        typer.echo(f"{join.left} -> {join.right}: {join.sentence}")
    typer.echo(
        f"Drafted {found.folder}. Read its files, then: brownfield init {quote(str(folder))} --accept --name {name}"
    )
