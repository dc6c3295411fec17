"""``brownfield score``."""

from enum import StrEnum
from pathlib import Path

import typer

from brownfield.cli.output import print_json, printable, progress

__all__ = ["register"]


class _Guard(StrEnum):
    KEYS = "keys"
    NULLS = "nulls"
    PARKED = "parked"
    REFUSED = "refused"
    SHAPE = "shape"
    VOLUME = "volume"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("score", epilog="Example: brownfield score shop --pull")(_score)


def _score(
    folder: Path = typer.Argument(Path(), metavar="[DIR]", help="The workspace."),
    pull: bool = typer.Option(..., "--pull", help="Bring what is new in the silos into the tables, and end there."),
    integration: str | None = typer.Option(
        None, "--integration", metavar="NAME", help="The integration, where there is more than one."
    ),
    rebuild: bool = typer.Option(False, "--rebuild", help="Read every feed from its beginning, make the tables anew."),
    accept: list[_Guard] = typer.Option(
        [],
        "--accept",
        metavar="GUARD",
        help="Let a guard pass once: keys, nulls, parked, refused, shape or volume.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Bring the records of the silos into the unified tables, each checked, joined and counted."""
    from brownfield.workspace.pull import pull as bring_in

    if not pull:
        raise typer.BadParameter("--pull is needed: scoring a table is not part of this release")
    with progress(quiet=as_json) as show:
        report = bring_in(
            folder, integration=integration, rebuild=rebuild, accept=[each.value for each in accept], progress=show
        )
    if as_json:
        print_json(report.to_dict())
        return
    for name, part in {**report.sources, **report.tables}.items():
        typer.echo(f"{name}: {part.rows_in:,} in, {part.accepted:,} accepted, {part.quarantined:,} in quarantine")
        for rule, rows in part.by_rule.items():
            typer.echo(printable(f"    {rule}: {rows:,}"))
        if part.unavailable:
            typer.echo(printable(f"    not read: {part.unavailable}"))
