"""``brownfield replay``."""

from pathlib import Path

import typer

from brownfield.cli.output import print_json, printable

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("replay", epilog="Example: brownfield replay shop --source sales --code BF-RUL-008 --apply")(_replay)


def _replay(  # noqa: PLR0913, PLR0917 (the options of the verb)
    folder: Path = typer.Argument(Path(), metavar="[DIR]", help="The workspace."),
    source: str = typer.Option(..., "--source", metavar="NAME", help="The feed whose refused records are tried."),
    integration: str | None = typer.Option(
        None, "--integration", metavar="NAME", help="The integration, where there is more than one."
    ),
    code: str | None = typer.Option(None, "--code", help="Only records with this code among their reasons."),
    min_age_h: float = typer.Option(0.0, "--min-age-h", help="Only records refused at least so many hours ago."),
    discard: bool = typer.Option(False, "--discard", help="Close them instead of trying them."),
    apply: bool = typer.Option(False, "--apply", help="Do it; without this option nothing is changed."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Try refused records again under the contract of today; says what would happen unless told to apply it."""
    from brownfield.workspace.replay import replay

    report = replay(
        folder, source, integration=integration, code=code, min_age_h=min_age_h, discard=discard, apply=apply
    )
    if as_json:
        print_json(report.to_dict())
        return
    if discard:
        typer.echo(f"{source}: {report.discarded:,} {'discarded' if apply else 'would be discarded'}")
    else:
        typer.echo(
            f"{source}: {report.selected:,} tried, {report.accepted:,} {'accepted' if apply else 'would be accepted'}, "
            f"{report.still_bad:,} still bad, {report.unreadable:,} not readable, "
            f"{report.already_applied:,} already applied"
        )
        for rule, records in sorted(report.by_rule.items()):
            typer.echo(printable(f"    {rule}: {records:,}"))
    if not apply:
        typer.echo("nothing was changed; --apply does it", err=True)
