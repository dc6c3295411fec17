"""``brownfield bundle``."""

from pathlib import Path

import typer

from brownfield.cli.output import print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("bundle", epilog="Example: brownfield bundle shop/integrations/shop/bundles/shop --probe")(_bundle)


def _bundle(  # noqa: PLR0913, PLR0917 (one argument for each option)
    folder: Path = typer.Argument(..., metavar="BUNDLE", help="Folder of the bundle."),
    probe: bool = typer.Option(False, "--probe", help="Run its golden records in a sandboxed child process."),
    model: str | None = typer.Option(
        None, "--model", metavar="FILE", help="Make the bundle: an ONNX file, or MODULE.py:CLASS."
    ),
    version: str = typer.Option("1", "--version", help="Version of the bundle that is made."),
    file: list[Path] = typer.Option([], "--file", metavar="FILE", help="File that the class loads; repeatable."),
    lock: Path | None = typer.Option(
        None, "--lock", metavar="FILE", help="Requirements with hashes: the environment that the model runs in."
    ),
    build_environment: bool = typer.Option(
        False, "--build-environment", help="Build the environment of the bundle's lock on this host."
    ),
    wheels: Path | None = typer.Option(
        None, "--wheels", metavar="DIR", file_okay=False, exists=True, help="Build it from these wheels alone."
    ),
    online: bool = typer.Option(False, "--online", help="Build it from the package index."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Verify a bundle: every digest, the model's structure and, with --probe, its golden records; or make one."""
    from brownfield.workspace.bundles import examine_bundle

    if model is not None:
        from brownfield.workspace.brought import read_brought
        from brownfield.workspace.make_bundle import make_bundle

        make_bundle(folder, read_brought(model, file, lock), version=version, wheels=wheels, online=online)
    elif file or lock is not None:
        raise typer.BadParameter("files and a lock belong to a model: give --model too")
    elif (wheels is not None or online) and not build_environment:
        raise typer.BadParameter("nothing is to be built: give --model or --build-environment too")
    if build_environment:
        from brownfield.workspace.make_bundle import build_environment as build

        build(folder, wheels=wheels, online=online)
    result = examine_bundle(folder, probe=probe)
    if as_json:
        print_json(result)
    else:
        typer.echo(str(result))
